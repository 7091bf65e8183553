//! The client's side of the protocol: a `Client` whose snapshots come from a socket, and one-shot
//! requests of the command line.
//!
//! A task per client (`serve_client`) owns the connection. It applies the server's lines to the
//! client's snapshot, forwards the client's requests, and connects again after each loss. While the
//! connection is lost it refuses requests at once, so that no command is executed late and by
//! surprise.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::{sleep, timeout};

use super::connection::{AttachError, Connection};
use super::protocol::{FromClient, Hello, ToClient, VERSION};
use crate::config::Config;
use crate::core::model::breakglass::ShellId;
use crate::core::model::command::{Command, Refusal, Reply, Role};
use crate::journal::transcript::Store;
use crate::runtime::breakglass::console::Console;
use crate::runtime::client::{Client, ClientBackend, ClientRequest, ConnectionState};
use crate::runtime::{Snapshot, clock};

/// The longest time from connecting to the first snapshot, or to the answer of a request.
const ATTACH: Duration = Duration::from_secs(30);
/// The longest pause between two attempts to connect again.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// The hello of a client that shows snapshots.
#[must_use]
pub fn hello(config: &Config, role: Role, origin: &str, size: (u16, u16)) -> Hello {
    Hello {
        version: VERSION,
        program: env!("CARGO_PKG_VERSION").into(),
        actor: config.operator(),
        role,
        origin: origin.into(),
        size,
        requests_only: false,
        make_room: false,
    }
}

/// Attaches to the afk that runs on a state folder. The client has a snapshot at once, and connects
/// again whenever the connection is lost.
///
/// # Errors
/// Returns an [`AttachError`] if no afk runs, or if it rejects the client or doesn't answer.
pub async fn attach(state: &Path, config: Config, hello: Hello) -> Result<Client, AttachError> {
    let first = async {
        let mut connection = Connection::open(state, &hello).await?;
        match connection.from.recv().await {
            Some(ToClient::Snapshot(snapshot)) => Ok((connection, *snapshot)),
            _ => Err(AttachError::Io(io::ErrorKind::UnexpectedEof.into())),
        }
    };
    let (connection, snapshot) = timeout(ATTACH, first).await.map_err(io::Error::from)??;
    Ok(start_client(state, config, hello, Some(connection), snapshot)?)
}

/// Attaches as soon as an afk runs, and again whenever another one does: for a dashboard that outlives
/// the runtime.
///
/// # Errors
/// Returns an error if the state folder can't be read.
pub fn attach_when_running(state: &Path, config: Config, hello: Hello) -> io::Result<Client> {
    start_client(state, config, hello, None, Snapshot::default())
}

fn start_client(
    state: &Path,
    config: Config,
    hello: Hello,
    connection: Option<Connection>,
    snapshot: Snapshot,
) -> io::Result<Client> {
    let store = Arc::new(Store::open(state)?);
    let identity = (hello.actor.clone(), hello.role);
    let (client, ends) = Client::new(Arc::new(snapshot), store, Arc::new(config), identity, true);
    tokio::spawn(serve_client(state.to_owned(), hello, connection, ends));
    Ok(client)
}

/// Sends one command and returns the reply; `None` if no afk runs.
///
/// # Errors
/// Returns an [`AttachError`] if the server rejects the client or doesn't answer in time.
pub async fn send_command(
    state: &Path,
    hello: Hello,
    action: Command,
) -> Result<Option<Reply>, AttachError> {
    let exchange = async {
        let Some(mut connection) = Connection::open_for_requests(state, hello).await? else {
            return Ok(None);
        };
        connection.send(&FromClient::Act { id: 1, action }).await?;
        loop {
            match connection.from.recv().await {
                Some(ToClient::Reply { reply, .. }) => return Ok(Some(*reply)),
                Some(_) => {}
                None => return Ok(Some(Err(Refusal::Unanswered))),
            }
        }
    };
    timeout(ATTACH, exchange).await.map_err(io::Error::from)?
}

/// Asks the running afk to end, and waits until it has ended; false if none runs.
///
/// # Errors
/// Returns an [`AttachError`] if the server rejects the client or doesn't end in time.
pub async fn stop(state: &Path, hello: Hello, limit: Duration) -> Result<bool, AttachError> {
    let exchange = async {
        let Some(mut connection) = Connection::open_for_requests(state, hello).await? else {
            return Ok(false);
        };
        connection.send(&FromClient::Stop).await?;
        connection.closed().await;
        Ok(true)
    };
    timeout(limit, exchange).await.map_err(io::Error::from)?
}

/// Asks the running afk to make room for another: it stops pickup and ends once no run is at work.
/// Waits for that without a limit. False if none runs.
///
/// # Errors
/// Returns an [`AttachError`] if the server rejects the client or doesn't answer in time.
pub async fn make_room(state: &Path, hello: Hello) -> Result<bool, AttachError> {
    let hello = Hello { make_room: true, ..hello };
    let opened = timeout(ATTACH, Connection::open_for_requests(state, hello)).await;
    let Some(connection) = opened.map_err(io::Error::from)?? else { return Ok(false) };
    connection.closed().await;
    Ok(true)
}

/// Serves a client over one connection after the other, until the client is dropped.
async fn serve_client(
    state: PathBuf,
    mut hello: Hello,
    mut connection: Option<Connection>,
    mut ends: ClientBackend,
) {
    loop {
        if let Some(connection) = connection.take()
            && serve_connection(&state, connection, &mut ends, &mut hello).await == Closed::ByClient
        {
            return;
        }
        let why = "the connection to afk is lost; trying to reach it again".to_owned();
        let since = clock::wall();
        if ends.connection.send(ConnectionState::Lost { since, why }).is_err() {
            return;
        }
        let mut pause = Duration::from_millis(100);
        connection = loop {
            while let Ok(request) = ends.requests.try_recv() {
                refuse(request);
            }
            if ends.connection.is_closed() {
                return;
            }
            match Connection::open(&state, &hello).await {
                Ok(connection) => break Some(connection),
                Err(AttachError::Refused(why)) => {
                    // Only a dropped client has no receiver, and the next round returns then.
                    let _ = ends.connection.send(ConnectionState::Lost { since, why });
                }
                Err(_) => {}
            }
            tokio::select! {
                () = sleep(pause) => pause = (pause * 2).min(LONGEST_PAUSE),
                request = ends.requests.recv() => match request {
                    Some(request) => refuse(request),
                    None => return,
                },
            }
        };
    }
}

/// Answers a request while the connection is lost.
fn refuse(request: ClientRequest) {
    match request {
        ClientRequest::Command(_, reply) => drop(reply.send(Err(Refusal::Unreachable))),
        ClientRequest::Diff(_, reply) => drop(reply.send(Err(Refusal::Unreachable.to_string()))),
        ClientRequest::Console(_, reply) => drop(reply.send(Err(Refusal::Unreachable.to_string()))),
        ClientRequest::Unlock(_, reply) => drop(reply.send(Err(Refusal::Unreachable.to_string()))),
        ClientRequest::Resize(..) => {}
    }
}

/// Opens another connection for a shell, so that a flood of output delays nothing else.
async fn open_console(state: PathBuf, hello: Hello, shell: ShellId) -> Result<Console, String> {
    let hello = Hello { requests_only: true, ..hello };
    let opened = timeout(ATTACH, Connection::open(&state, &hello)).await;
    let mut connection = match opened {
        Ok(Ok(connection)) => connection,
        Ok(Err(error)) => return Err(error.to_string()),
        Err(_) => return Err(format!("afk did not answer in {} s", ATTACH.as_secs())),
    };
    let opened = connection.send(&FromClient::Console { shell }).await;
    opened.map_err(|error| error.to_string())?;
    let (to, typed) = mpsc::channel(256);
    let (output, from) = mpsc::channel(8);
    tokio::spawn(super::console::carry(connection.from, connection.to, typed, output));
    Ok(Console { to, from })
}

/// The side that ended a connection.
#[derive(Debug, PartialEq, Eq)]
enum Closed {
    ByServer,
    ByClient,
}

/// The requests that wait for an answer of the server, by their ids.
#[derive(Default)]
struct Pending {
    last: u64,
    replies: HashMap<u64, oneshot::Sender<Reply>>,
    diffs: HashMap<u64, oneshot::Sender<Result<String, String>>>,
    unlocks: HashMap<u64, oneshot::Sender<Result<Vec<PathBuf>, String>>>,
}

/// Serves a client over one connection, until the connection breaks or the client is dropped.
async fn serve_connection(
    state: &Path,
    mut connection: Connection,
    ends: &mut ClientBackend,
    hello: &mut Hello,
) -> Closed {
    let mut pending = Pending::default();
    loop {
        tokio::select! {
            line = connection.from.recv() => {
                let Some(line) = line else { return Closed::ByServer };
                // Applies all lines that already arrived, so that the screen redraws once for them.
                let mut lines = vec![line];
                lines.extend(std::iter::from_fn(|| connection.from.try_recv().ok()));
                receive(lines, ends, &mut pending);
            }
            request = ends.requests.recv() => {
                let Some(request) = request else { return Closed::ByClient };
                let line = match request {
                    ClientRequest::Console(shell, reply) => {
                        let (state, hello) = (state.to_owned(), hello.clone());
                        tokio::spawn(async move {
                            // The screen that asked may be closed.
                            let _ = reply.send(open_console(state, hello, shell).await);
                        });
                        continue;
                    }
                    ClientRequest::Resize(columns, rows) => {
                        hello.size = (columns, rows);
                        FromClient::Size { columns, rows }
                    }
                    ClientRequest::Command(action, reply) => {
                        pending.last += 1;
                        pending.replies.insert(pending.last, reply);
                        FromClient::Act { id: pending.last, action }
                    }
                    ClientRequest::Diff(run, reply) => {
                        pending.last += 1;
                        pending.diffs.insert(pending.last, reply);
                        FromClient::Diff { id: pending.last, run }
                    }
                    ClientRequest::Unlock(passphrase, reply) => {
                        pending.last += 1;
                        pending.unlocks.insert(pending.last, reply);
                        FromClient::Unlock { id: pending.last, passphrase }
                    }
                };
                if connection.send(&line).await.is_err() {
                    return Closed::ByServer;
                }
            }
        }
    }
}

/// Delivers answers and notices, and applies the other lines to the snapshot in one update.
fn receive(lines: Vec<ToClient>, ends: &ClientBackend, pending: &mut Pending) {
    let mut updates = Vec::new();
    for line in lines {
        match line {
            ToClient::Reply { id, reply } => {
                if let Some(waiting) = pending.replies.remove(&id) {
                    // The screen that asked may be closed.
                    let _ = waiting.send(*reply);
                }
            }
            ToClient::Diff { id, diff } => {
                if let Some(waiting) = pending.diffs.remove(&id) {
                    let _ = waiting.send(diff);
                }
            }
            ToClient::Locked { id, keys } => {
                if let Some(waiting) = pending.unlocks.remove(&id) {
                    let _ = waiting.send(keys);
                }
            }
            ToClient::TranscriptsGrew => ends.transcripts.send_modify(|count| *count += 1),
            // No screen may be listening.
            ToClient::Notice(shown) => drop(ends.notices.send(shown)),
            line => updates.push(line),
        }
    }
    if updates.is_empty() {
        return;
    }
    ends.snapshots.send_modify(|shown| {
        let snapshot = Arc::make_mut(shown);
        for line in updates {
            apply(snapshot, line);
        }
    });
    if *ends.connection.borrow() != ConnectionState::Live {
        let _ = ends.connection.send(ConnectionState::Live);
    }
}

/// Applies a line of the server to a snapshot.
pub(super) fn apply(snapshot: &mut Snapshot, line: ToClient) {
    match line {
        ToClient::Snapshot(whole) => *snapshot = *whole,
        ToClient::Events { last, events } => {
            for (at, event) in &events {
                snapshot.fleet.apply(*at, event);
            }
            snapshot.seq = last;
        }
        ToClient::SideState {
            worktrees,
            progress,
            problems,
            clients,
            watchers,
            live,
            unwritten,
        } => {
            snapshot.worktrees = worktrees.into_iter().collect();
            snapshot.progress = progress;
            (snapshot.watchers, snapshot.verb_output) = (watchers, live);
            snapshot.breakglass_ahead = unwritten;
            (snapshot.problems, snapshot.clients) = (problems, clients);
        }
        _ => {}
    }
}
