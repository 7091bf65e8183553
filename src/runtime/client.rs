//! A client's way to a fleet, near or far: what it sees, and what it may ask. A session is the
//! same on the runtime's own machine, through a socket, and through SSH.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tokio::sync::{broadcast, mpsc, oneshot, watch};

use super::breakglass::console::Console;
use super::{Handle, Snapshot};
use crate::config::Config;
use crate::core::model::breakglass::ShellId;
use crate::core::model::command::{Command, CommandEnvelope, Refusal, Reply, Role};
use crate::core::model::id::{Actor, RunId};
use crate::core::model::time::Timestamp;
use crate::journal::transcript::Store;
use crate::notify::terminal::TerminalNotice;

/// Questions of one client that may wait.
const ASKS: usize = 64;

/// Whether what is shown is as it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Link {
    /// It is.
    Live,
    /// It is as it was when the connection was lost.
    Lost {
        /// When that was.
        since: Timestamp,
        /// Why, and what is done about it.
        why: String,
    },
}

/// Who is attached, as everybody is shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attached {
    /// Who.
    pub actor: Actor,
    /// As what.
    pub role: Role,
    /// From where: `tty`, `socket`, `ssh 192.0.2.7`.
    pub origin: String,
    /// Columns and rows of its terminal.
    pub size: (u16, u16),
    /// Since when.
    pub since: Timestamp,
}

/// A question to the fleet, with where its answer goes.
#[derive(Debug)]
pub enum Ask {
    /// A command.
    Act(Command, oneshot::Sender<Reply>),
    /// A run's diff.
    Diff(RunId, oneshot::Sender<Result<String, String>>),
    /// A shell that was allowed.
    Console(ShellId, oneshot::Sender<Result<Console, String>>),
    /// The client's terminal has another size.
    Size(u16, u16),
}

/// See the module. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Client {
    /// The newest snapshot.
    pub snapshots: watch::Receiver<Arc<Snapshot>>,
    /// Counts the additions to transcripts.
    pub transcripts: watch::Receiver<u64>,
    /// Whether the two above are fresh.
    pub link: watch::Receiver<Link>,
    /// The transcripts.
    pub store: Arc<Store>,
    /// Looks, keys and the operator's name.
    pub config: Arc<Config>,
    /// Who it is.
    pub actor: Actor,
    /// What it may do.
    pub role: Role,
    /// Leaving it stops nothing.
    pub detaches: bool,
    asks: mpsc::Sender<Ask>,
    notices: broadcast::Sender<TerminalNotice>,
}

/// The other end of a [`Client`]: what fills it and answers it.
#[derive(Debug)]
pub struct Ends {
    /// To be filled.
    pub snapshots: watch::Sender<Arc<Snapshot>>,
    /// To be counted up.
    pub transcripts: watch::Sender<u64>,
    /// To be told.
    pub link: watch::Sender<Link>,
    /// To be answered.
    pub asks: mpsc::Receiver<Ask>,
    /// To be handed on.
    pub notices: broadcast::Sender<TerminalNotice>,
}

impl Client {
    /// A client that shows `first` until its other end tells more.
    #[must_use]
    pub fn new(
        first: Arc<Snapshot>,
        store: Arc<Store>,
        config: Arc<Config>,
        (actor, role): (Actor, Role),
        detaches: bool,
    ) -> (Self, Ends) {
        let (snapshots, seen) = watch::channel(first);
        let (transcripts, counted) = watch::channel(0);
        let (link, linked) = watch::channel(Link::Live);
        let (ask, asks) = mpsc::channel(ASKS);
        let (notices, _) = broadcast::channel(64);
        let client = Self {
            snapshots: seen,
            transcripts: counted,
            link: linked,
            store,
            config,
            actor,
            role,
            detaches,
            asks: ask,
            notices: notices.clone(),
        };
        (client, Ends { snapshots, transcripts, link, asks, notices })
    }

    /// A client of a runtime in this process; it is listed as attached until it is dropped.
    #[must_use]
    pub fn near(handle: &Handle, actor: Actor, role: Role, origin: &str, size: (u16, u16)) -> Self {
        let first = handle.snapshots.borrow().clone();
        let (mut client, ends) = Self::new(
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
        tokio::spawn(answer(handle.clone(), attached, ends));
        client
    }

    /// Sends a command; answered once it is durable.
    ///
    /// # Errors
    /// [`Refusal`].
    pub async fn command(&self, action: Command) -> Reply {
        let (reply, answer) = oneshot::channel();
        match self.asks.send(Ask::Act(action, reply)).await {
            Ok(()) => answer.await.unwrap_or(Err(Refusal::Unanswered)),
            Err(_) => Err(Refusal::ShuttingDown),
        }
    }

    /// A run's changes since it began, as a unified diff.
    ///
    /// # Errors
    /// Why there is none, in a line.
    pub async fn diff(&self, run: RunId) -> Result<String, String> {
        let (reply, answer) = oneshot::channel();
        let gone = || "the connection is lost".to_owned();
        self.asks.send(Ask::Diff(run, reply)).await.map_err(|_| gone())?;
        answer.await.unwrap_or_else(|_| Err(gone()))
    }

    /// The shell that was allowed to this client.
    ///
    /// # Errors
    /// Why there is none, in a line.
    pub async fn console(&self, shell: ShellId) -> Result<Console, String> {
        let (reply, answer) = oneshot::channel();
        let gone = || "the connection is lost".to_owned();
        self.asks.send(Ask::Console(shell, reply)).await.map_err(|_| gone())?;
        answer.await.unwrap_or_else(|_| Err(gone()))
    }

    /// Tells the size of its terminal.
    pub fn size(&self, columns: u16, rows: u16) {
        // Shown to others only; a full queue loses nothing that matters.
        let _ = self.asks.try_send(Ask::Size(columns, rows));
    }

    /// Notices from now on.
    #[must_use]
    pub fn notices(&self) -> broadcast::Receiver<TerminalNotice> {
        self.notices.subscribe()
    }
}

/// Answers a near client until it is gone.
async fn answer(handle: Handle, attached: Attached, mut ends: Ends) {
    let (actor, role, origin) = (attached.actor.clone(), attached.role, attached.origin.clone());
    let mut entry = handle.enter(attached).await;
    let mut id = 0;
    while let Some(ask) = ends.asks.recv().await {
        match ask {
            Ask::Act(action, reply) => {
                id += 1;
                let (actor, origin) = (actor.clone(), origin.clone());
                let command = CommandEnvelope { id, actor, role, origin, action };
                let handle = handle.clone();
                tokio::spawn(async move {
                    // A client that went away needs no answer.
                    let _ = reply.send(handle.command(command).await);
                });
            }
            Ask::Diff(run, reply) => {
                let handle = handle.clone();
                tokio::spawn(async move {
                    let _ = reply.send(handle.diff(run).await);
                });
            }
            Ask::Console(shell, reply) => {
                let (handle, actor) = (handle.clone(), actor.clone());
                tokio::spawn(async move {
                    let console = if role == Role::Operator {
                        handle.console(shell, &actor).await
                    } else {
                        Err(Refusal::Viewer.to_string())
                    };
                    // The screen may be gone.
                    let _ = reply.send(console);
                });
            }
            Ask::Size(columns, rows) => entry.size(columns, rows).await,
        }
    }
    entry.leave().await;
}
