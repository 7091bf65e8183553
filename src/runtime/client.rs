//! The way of a screen to a fleet, local or remote: a [`Client`] holds the newest snapshot and
//! sends requests, so that a session is the same in this process, through a socket and through SSH.
//!
//! ```text
//!   tui, cli: Client ── ClientRequest ──▶ ClientBackend ──▶ Handle            (Client::local)
//!                                                       └──▶ socket to afk up  (serve::attach::client)
//!             Client ◀── snapshots, transcripts, notices, connection ── ClientBackend
//! ```

use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tokio::sync::{broadcast, mpsc, oneshot, watch};

use super::breakglass::console::Console;
use super::rights::Rights;
use super::{Handle, Snapshot};
use crate::breakglass::key_file::Passphrase;
use crate::config::Config;
use crate::core::model::breakglass::ShellId;
use crate::core::model::command::{Command, CommandEnvelope, Refusal, Reply, Role};
use crate::core::model::id::{Actor, RunId};
use crate::core::model::time::Timestamp;
use crate::journal::transcript::Store;
use crate::notify::terminal::TerminalNotice;

/// Requests of one client that may wait for its backend.
const REQUEST_QUEUE: usize = 64;
/// Notices that a client may lag behind before it misses the oldest.
const NOTICE_QUEUE: usize = 64;

/// Why the shells of a session end with its role.
const REVOKED: &str = "the session is not an operator's any more";

/// Whether the snapshots of a client are current.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ConnectionState {
    /// Snapshots arrive as they are published.
    Live,
    /// The connection is lost, and the last snapshot stays.
    Lost {
        /// When the connection was lost.
        since: Timestamp,
        /// The cause, and when the client tries again.
        why: String,
    },
}

/// An attached client, as every other client sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attached {
    /// The authenticated name of its user.
    pub actor: Actor,
    /// Its permissions: operator or viewer.
    pub role: Role,
    /// Where it connects from: `tty`, `socket`, `ssh 192.0.2.7`.
    pub origin: String,
    /// Columns and rows of its terminal.
    pub size: (u16, u16),
    /// When the client attached.
    pub since: Timestamp,
}

/// A request of a client, with the sender of its reply.
#[derive(Debug)]
pub(crate) enum ClientRequest {
    /// An action of the operator; the client's backend adds actor, role and origin.
    Command(Command, oneshot::Sender<Reply>),
    /// The diff of a run since its base commit.
    Diff(RunId, oneshot::Sender<Result<String, String>>),
    /// The client's end of a breakglass shell that the core allowed.
    Console(ShellId, oneshot::Sender<Result<Console, String>>),
    /// A passphrase for key files of breakglass; the reply has the files that are still locked.
    Unlock(Option<Passphrase>, oneshot::Sender<Result<Vec<PathBuf>, String>>),
    /// The new columns and rows of the client's terminal.
    Resize(u16, u16),
}

/// A screen's view of a fleet and its way to act on it. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Client {
    /// The newest published snapshot.
    pub snapshots: watch::Receiver<Arc<Snapshot>>,
    /// Grows with each write to a transcript.
    pub transcripts: watch::Receiver<u64>,
    /// Whether the two above are current.
    pub(crate) connection: watch::Receiver<ConnectionState>,
    /// The transcripts of runs, local or as far as they were fetched.
    pub store: Arc<Store>,
    /// The configuration of the screen: theme, keys and the operator's name.
    pub config: Arc<Config>,
    /// The authenticated name of its user.
    pub actor: Actor,
    /// Its permissions: operator or viewer.
    pub role: Role,
    /// Leaving the screen keeps the runtime running.
    pub detaches: bool,
    requests: mpsc::Sender<ClientRequest>,
    notices: broadcast::Sender<TerminalNotice>,
}

/// The other end of a [`Client`]: it publishes to the client and replies to its requests.
#[derive(Debug)]
pub(crate) struct ClientBackend {
    /// Publishes snapshots to the client.
    pub snapshots: watch::Sender<Arc<Snapshot>>,
    /// Counts writes to transcripts.
    pub transcripts: watch::Sender<u64>,
    /// Publishes whether the connection is up.
    pub connection: watch::Sender<ConnectionState>,
    /// The requests to reply to.
    pub requests: mpsc::Receiver<ClientRequest>,
    /// Passes notices on to the client.
    pub notices: broadcast::Sender<TerminalNotice>,
}

impl Client {
    /// A client that shows `first` until its backend publishes a newer snapshot.
    pub(crate) fn new(
        first: Arc<Snapshot>,
        store: Arc<Store>,
        config: Arc<Config>,
        (actor, role): (Actor, Role),
        detaches: bool,
    ) -> (Self, ClientBackend) {
        let (publish, snapshots) = watch::channel(first);
        let (transcripts_sender, transcripts) = watch::channel(0);
        let (connection, connected) = watch::channel(ConnectionState::Live);
        let (requests_sender, requests) = mpsc::channel(REQUEST_QUEUE);
        let (notices, _) = broadcast::channel(NOTICE_QUEUE);
        let client = Self {
            snapshots,
            transcripts,
            connection: connected,
            store,
            config,
            actor,
            role,
            detaches,
            requests: requests_sender,
            notices: notices.clone(),
        };
        let backend = ClientBackend {
            snapshots: publish,
            transcripts: transcripts_sender,
            connection,
            requests,
            notices,
        };
        (client, backend)
    }

    /// A client of a runtime in this process, listed as attached until its last clone is dropped.
    pub(crate) fn local(
        handle: &Handle,
        actor: Actor,
        role: Role,
        origin: &str,
        size: (u16, u16),
    ) -> Self {
        Self::with_rights(handle, actor, Rights::fixed(role), origin, size)
    }

    /// The same for a session whose rights can shrink while it lasts.
    pub(crate) fn with_rights(
        handle: &Handle,
        actor: Actor,
        rights: Rights,
        origin: &str,
        size: (u16, u16),
    ) -> Self {
        let role = rights.role();
        let first = handle.snapshots.borrow().clone();
        let (mut client, backend) = Self::new(
            first,
            handle.store.clone(),
            handle.config.clone(),
            (actor.clone(), role),
            false,
        );
        client.snapshots = handle.snapshots.clone();
        client.transcripts = handle.transcripts.clone();
        client.notices = handle.notices.clone();
        let since = super::clock::wall();
        let attached = Attached { actor, role, origin: origin.to_owned(), size, since };
        tokio::spawn(serve_local(handle.clone(), attached, rights, backend));
        client
    }

    /// Sends a command and returns the reply once the events it led to are durable.
    ///
    /// # Errors
    /// The core's [`Refusal`], or why no reply came.
    pub(crate) async fn command(&self, action: Command) -> Reply {
        let (reply, answer) = oneshot::channel();
        match self.requests.send(ClientRequest::Command(action, reply)).await {
            Ok(()) => answer.await.unwrap_or(Err(Refusal::Unanswered)),
            Err(_) => Err(Refusal::ShuttingDown),
        }
    }

    /// A run's changes since its base commit, as a unified diff.
    ///
    /// # Errors
    /// A line that says why there is no diff.
    pub(crate) async fn diff(&self, run: RunId) -> Result<String, String> {
        let (reply, answer) = oneshot::channel();
        let gone = || "the connection is lost".to_owned();
        self.requests.send(ClientRequest::Diff(run, reply)).await.map_err(|_| gone())?;
        answer.await.unwrap_or_else(|_| Err(gone()))
    }

    /// Claims a breakglass shell that the core allowed to this client.
    ///
    /// # Errors
    /// A line that says why the client can't have it.
    pub(crate) async fn console(&self, shell: ShellId) -> Result<Console, String> {
        let (reply, answer) = oneshot::channel();
        let gone = || "the connection is lost".to_owned();
        self.requests.send(ClientRequest::Console(shell, reply)).await.map_err(|_| gone())?;
        answer.await.unwrap_or_else(|_| Err(gone()))
    }

    /// Decrypts the key files of breakglass that a passphrase fits, in the memory of the runtime, and
    /// returns those that are still locked.
    ///
    /// # Errors
    /// A line that says why nothing can be decrypted.
    pub(crate) async fn unlock_keys(
        &self,
        passphrase: Option<Passphrase>,
    ) -> Result<Vec<PathBuf>, String> {
        let (reply, answer) = oneshot::channel();
        let gone = || "the connection is lost".to_owned();
        let request = ClientRequest::Unlock(passphrase, reply);
        self.requests.send(request).await.map_err(|_| gone())?;
        answer.await.unwrap_or_else(|_| Err(gone()))
    }

    /// Reports the new size of its terminal.
    pub(crate) fn resize(&self, columns: u16, rows: u16) {
        // Only other clients see the size, so a full queue may lose it.
        let _ = self.requests.try_send(ClientRequest::Resize(columns, rows));
    }

    /// Subscribes to notices for terminals.
    pub(crate) fn notices(&self) -> broadcast::Receiver<TerminalNotice> {
        self.notices.subscribe()
    }
}

/// Replies to the requests of a local client until its last clone is dropped.
async fn serve_local(
    handle: Handle,
    attached: Attached,
    mut rights: Rights,
    mut backend: ClientBackend,
) {
    let (actor, origin) = (attached.actor.clone(), attached.origin.clone());
    let mut attachment = handle.attach(attached).await;
    let mut id = 0;
    // The shells that this client has claimed.
    let mut shells = Vec::new();
    loop {
        let request = tokio::select! {
            request = backend.requests.recv() => request,
            role = rights.changed() => {
                attachment.set_role(role).await;
                if role == Role::Viewer {
                    shells.drain(..).for_each(|shell| handle.close_shell(shell, REVOKED));
                    handle.revoke_breakglass(&actor).await;
                }
                continue;
            }
        };
        let Some(request) = request else { break };
        match request {
            ClientRequest::Command(action, reply) => {
                id += 1;
                // Here and not in the task, so that commands stay in their order.
                rights.refresh().await;
                let (actor, role, origin) = (actor.clone(), rights.role(), origin.clone());
                let command = CommandEnvelope { id, actor, role, origin, command: action };
                let (handle, rights) = (handle.clone(), rights.clone());
                tokio::spawn(async move {
                    // The client may have gone away.
                    let _ = reply.send(handle.command_with(command, rights).await);
                });
            }
            ClientRequest::Diff(run, reply) => {
                let handle = handle.clone();
                tokio::spawn(async move {
                    let _ = reply.send(handle.diff(run).await);
                });
            }
            ClientRequest::Console(shell, reply) => {
                rights.refresh().await;
                shells.push(shell);
                let (handle, actor, role) = (handle.clone(), actor.clone(), rights.role());
                let origin = origin.clone();
                tokio::spawn(async move {
                    let console = if role == Role::Operator {
                        handle.console(shell, &actor).await
                    } else {
                        Err(Refusal::Viewer.to_string())
                    };
                    if let Err(why) = &console {
                        handle.refuse_console(&actor, &origin, why);
                    }
                    // The client may have gone away.
                    let _ = reply.send(console);
                });
            }
            ClientRequest::Unlock(passphrase, reply) => {
                rights.refresh().await;
                let (handle, role) = (handle.clone(), rights.role());
                tokio::spawn(async move {
                    let done = match role {
                        Role::Operator => handle.unlock_keys(passphrase).await,
                        Role::Viewer => Err(Refusal::Viewer.to_string()),
                    };
                    // The client may have gone away.
                    let _ = reply.send(done);
                });
            }
            ClientRequest::Resize(columns, rows) => attachment.resize(columns, rows).await,
        }
    }
    attachment.leave().await;
}
