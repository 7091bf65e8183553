//! The runtime's side of the protocol: one task per client, so that a slow client delays no other.
//!
//! A `ClientSession` merges four streams of the runtime (batches of events, snapshots, growth of
//! transcripts, notices) with the client's requests. A client that falls behind receives a new
//! snapshot instead of a queue that grows.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::BufReader;
use tokio::net::unix::OwnedWriteHalf;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{broadcast, mpsc, watch};
use tokio::time::timeout;

use super::protocol::{FromClient, Hello, REQUEST_LIMIT, ToClient, VERSION};
use super::{line, socket_path};
use crate::core::model::command::{Command, Refusal, Role};
use crate::core::model::event::Event;
use crate::core::model::time::Timestamp;
use crate::process::descriptors::Reserve;
use crate::process::output::read_line;
use crate::runtime::client::Attached;
use crate::runtime::{Batch, Handle, Snapshot, clock};
use crate::serve::limits::{ConnectionLimits, ConnectionSlot, accept_failed};

/// The time within which a client must send its hello.
const HELLO: Duration = Duration::from_secs(10);
/// The time within which a client must take a line; then the connection ends.
const WRITE: Duration = Duration::from_secs(15 * 60);
/// The number of answers that may wait for a client.
const ANSWERS: usize = 64;
/// The number of clients that may be connected at once.
const CLIENTS: usize = 64;
/// The number of clients of one process: a cockpit has a connection for each of its shells.
const CLIENTS_OF_A_PROCESS: usize = 20;

/// Listens until the process ends. Replaces the socket of an earlier process: the lock of the journal
/// proves that no other afk uses the state folder.
///
/// # Errors
/// Returns an error if the socket can't be created.
pub fn start(handle: &Handle, state: &Path) -> io::Result<()> {
    let path = socket_path(state);
    std::fs::set_permissions(state, std::fs::Permissions::from_mode(0o700))?;
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(&path)?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
    let handle = handle.clone();
    let limits = ConnectionLimits::new(CLIENTS, CLIENTS_OF_A_PROCESS);
    tokio::spawn(async move {
        loop {
            let stream = match listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    accept_failed("attach", &error).await;
                    continue;
                }
            };
            // A connection that is not admitted is closed at once and costs nothing more.
            let Some(slot) = admit(&limits, &stream) else { continue };
            let handle = handle.clone();
            tokio::spawn(async move {
                if let Err(error) = serve(stream, handle).await {
                    tracing::debug!(%error, "an attached client disconnected");
                }
                drop(slot);
            });
        }
    });
    Ok(())
}

/// Decides whether a new connection has room; `serve` tests its peer.
fn admit(
    limits: &Arc<ConnectionLimits<Option<i32>>>,
    stream: &UnixStream,
) -> Option<ConnectionSlot<Option<i32>>> {
    if !Reserve::Operators.is_free_beyond(stream) {
        return None;
    }
    limits.acquire(stream.peer_cred().ok()?.pid())
}

pub(super) async fn send(to: &mut OwnedWriteHalf, line: &ToClient) -> io::Result<()> {
    line::send(to, line, WRITE).await
}

async fn serve(stream: UnixStream, handle: Handle) -> io::Result<()> {
    let peer = stream.peer_cred()?;
    // Agents and tests run as the same user below afk, and must not command it.
    if peer.uid() != rustix::process::getuid().as_raw()
        || peer.pid().is_some_and(|pid| handle.is_below(pid))
    {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    let (from, mut to) = stream.into_split();
    let mut from = BufReader::new(from);
    let Some(hello) = receive_hello(&mut from, &mut to).await? else { return Ok(()) };
    let program = env!("CARGO_PKG_VERSION").into();
    send(&mut to, &ToClient::Welcome { program, role: hello.role }).await?;
    if hello.make_room && hello.role == Role::Operator {
        make_room(&handle, &hello).await;
        return Ok(());
    }
    let (mut requests, reader) = line::spawn_reader(from, REQUEST_LIMIT);
    let first = if hello.requests_only { requests.recv().await } else { None };
    if let Some(FromClient::Console { shell }) = first {
        let done = super::console::serve(&handle, &hello, shell, requests, &mut to).await;
        reader.abort();
        return done;
    }
    // A client that only sends requests is not shown among those that watch the fleet.
    let entry =
        if hello.requests_only { None } else { Some(handle.attach(attached(&hello)).await) };
    let mut session = ClientSession { handle, hello, to, entry };
    let done = session.run(first, requests).await;
    if let Some(entry) = session.entry {
        entry.leave().await;
    }
    reader.abort();
    done
}

/// Reads the hello, and rejects a client that sends none or uses another version; `None` if the
/// connection is to end.
async fn receive_hello(
    from: &mut BufReader<tokio::net::unix::OwnedReadHalf>,
    to: &mut OwnedWriteHalf,
) -> io::Result<Option<Hello>> {
    let mut line = Vec::new();
    let complete = timeout(HELLO, read_line(from, REQUEST_LIMIT, &mut line)).await??;
    if complete != Some(false) {
        return Ok(None);
    }
    let why = match serde_json::from_slice(&line) {
        // Every version can ask an operator's afk to make room.
        Ok(FromClient::Hello(hello)) if hello.make_room && hello.role == Role::Operator => {
            return Ok(Some(hello));
        }
        Ok(FromClient::Hello(hello)) if hello.version == VERSION => return Ok(Some(hello)),
        Ok(FromClient::Hello(Hello { version, program, .. })) => format!(
            "this afk ({}) uses version {VERSION} of the protocol and the client ({program}) version \
             {version}: end it with the older program's `afk stop`, and start the newer one",
            env!("CARGO_PKG_VERSION")
        ),
        _ => "the first line must be a hello".into(),
    };
    send(to, &ToClient::Refused { why }).await?;
    Ok(None)
}

fn attached(hello: &Hello) -> Attached {
    Attached {
        actor: hello.actor.clone(),
        role: hello.role,
        origin: hello.origin.clone(),
        size: hello.size,
        since: clock::wall(),
    }
}

/// Drains the runtime and ends it. The connection lasts until the process ends, so that the client
/// can wait for that.
async fn make_room(handle: &Handle, hello: &Hello) {
    if handle.command(hello.command(0, Command::Drain)).await.is_err() {
        return;
    }
    let mut snapshots = handle.snapshots.clone();
    // The snapshot that shows the drain comes after the reply.
    let drained = |now: &Arc<Snapshot>| now.fleet.draining && now.fleet.permits_used() == 0;
    if snapshots.wait_for(drained).await.is_ok() {
        handle.request_stop();
        std::future::pending::<()>().await;
    }
}

/// A connected client after its hello.
struct ClientSession {
    handle: Handle,
    hello: Hello,
    to: OwnedWriteHalf,
    /// The client's place in the list of attached clients.
    entry: Option<crate::runtime::Attachment>,
}

impl ClientSession {
    async fn run(
        &mut self,
        first: Option<FromClient>,
        mut requests: mpsc::Receiver<FromClient>,
    ) -> io::Result<()> {
        let (answers, mut answered) = mpsc::channel::<ToClient>(ANSWERS);
        if let Some(first) = first {
            self.execute(first, &answers).await;
        }
        let watches = !self.hello.requests_only;
        let mut batches = self.handle.batches();
        let mut snapshots = self.handle.snapshots.clone();
        let mut transcripts = self.handle.transcripts.clone();
        let mut notices = self.handle.notices();
        // The snapshot that the client has, and the number of its last event.
        let mut shown = Arc::new(Snapshot::default());
        let mut last = i64::MIN;
        if watches {
            (shown, last) = self.send_snapshot(&mut snapshots).await?;
        }
        loop {
            tokio::select! {
                request = requests.recv() => match request {
                    None => return Ok(()),
                    Some(request) => self.execute(request, &answers).await,
                },
                Some(answer) = answered.recv() => send(&mut self.to, &answer).await?,
                batch = batches.recv(), if watches => match batch {
                    Ok(batch) => last = self.send_batch(&batch, last).await?,
                    Err(broadcast::error::RecvError::Lagged(_)) => {
                        (shown, last) = self.send_snapshot(&mut snapshots).await?;
                    }
                    Err(broadcast::error::RecvError::Closed) => return Ok(()),
                },
                changed = snapshots.changed(), if watches => {
                    if changed.is_err() {
                        return Ok(());
                    }
                    while let Ok(batch) = batches.try_recv() {
                        last = self.send_batch(&batch, last).await?;
                    }
                    let now = snapshots.borrow_and_update().clone();
                    if now.seq > last {
                        // An event became durable before this session subscribed to batches.
                        (shown, last) = self.send_snapshot(&mut snapshots).await?;
                        continue;
                    }
                    if let Some(side_state) = side_state_change(&shown, &now) {
                        send(&mut self.to, &side_state).await?;
                    }
                    shown = now;
                }
                changed = transcripts.changed(), if watches => {
                    if changed.is_ok() {
                        send(&mut self.to, &ToClient::TranscriptsGrew).await?;
                    }
                }
                notice = notices.recv(), if watches => {
                    if let Ok(shown) = notice {
                        send(&mut self.to, &ToClient::Notice(shown)).await?;
                    }
                }
            }
        }
    }

    /// Sends the events of a batch that the client lacks, and returns the number of its last event.
    /// Sends nothing after a gap: the next snapshot closes it.
    async fn send_batch(&mut self, batch: &Batch, last: i64) -> io::Result<i64> {
        match missing_events(batch, last) {
            Some(events) => {
                send(&mut self.to, &ToClient::Events { last: batch.last, events }).await?;
                Ok(batch.last)
            }
            None => Ok(last),
        }
    }

    async fn send_snapshot(
        &mut self,
        snapshots: &mut watch::Receiver<Arc<Snapshot>>,
    ) -> io::Result<(Arc<Snapshot>, i64)> {
        let now = snapshots.borrow_and_update().clone();
        send(&mut self.to, &ToClient::Snapshot(Box::new(now.as_ref().clone()))).await?;
        let last = now.seq;
        Ok((now, last))
    }

    /// Executes a request of the client; slow requests run in tasks of their own.
    async fn execute(&mut self, request: FromClient, answers: &mpsc::Sender<ToClient>) {
        let (handle, answers) = (self.handle.clone(), answers.clone());
        match request {
            FromClient::Act { id, action } => {
                let command = self.hello.command(id, action);
                tokio::spawn(async move {
                    let reply = Box::new(handle.command(command).await);
                    // The client may have disconnected.
                    let _ = answers.send(ToClient::Reply { id, reply }).await;
                });
            }
            FromClient::Diff { id, run } => {
                tokio::spawn(async move {
                    let diff = handle.diff(run).await;
                    let _ = answers.send(ToClient::Diff { id, diff }).await;
                });
            }
            FromClient::Unlock { id, passphrase } => {
                let role = self.hello.role;
                tokio::spawn(async move {
                    let keys = match role {
                        Role::Operator => handle.unlock_keys(passphrase).await,
                        Role::Viewer => Err(Refusal::Viewer.to_string()),
                    };
                    let _ = answers.send(ToClient::Locked { id, keys }).await;
                });
            }
            FromClient::Size { columns, rows } => {
                if let Some(entry) = &mut self.entry {
                    entry.resize(columns, rows).await;
                }
            }
            FromClient::Stop if self.hello.role == Role::Operator => self.handle.request_stop(),
            FromClient::Stop
            | FromClient::Hello(_)
            | FromClient::Console { .. }
            | FromClient::Typed(_) => {}
        }
    }
}

/// The events of a batch that a client lacks; `None` if it also lacks events before the batch, or if
/// it lacks none.
fn missing_events(batch: &Batch, last: i64) -> Option<Vec<(Timestamp, Event)>> {
    let missing = usize::try_from(batch.last.saturating_sub(last)).unwrap_or(0);
    let skip = batch.events.len().saturating_sub(missing);
    let follows = missing > 0 && missing <= batch.events.len();
    follows.then(|| batch.events[skip..].to_vec())
}

/// The state beside the fleet, if it changed between two snapshots.
fn side_state_change(before: &Snapshot, now: &Snapshot) -> Option<ToClient> {
    let same = before.worktrees == now.worktrees
        && before.progress == now.progress
        && before.problems == now.problems
        && before.clients == now.clients
        && before.watchers == now.watchers
        && before.verb_output == now.verb_output
        && before.breakglass_ahead == now.breakglass_ahead;
    (!same).then(|| ToClient::SideState {
        watchers: now.watchers.clone(),
        live: now.verb_output.clone(),
        unwritten: now.breakglass_ahead.clone(),
        worktrees: now.worktrees.iter().map(|(run, facts)| (*run, *facts)).collect(),
        progress: now.progress.clone(),
        problems: now.problems.clone(),
        clients: now.clients.clone(),
    })
}
