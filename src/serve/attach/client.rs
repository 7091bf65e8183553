//! The client's side of the protocol: a [`Client`] that is filled from a socket, and filled again
//! after the connection was lost.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::BufReader;
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{sleep, timeout};

use super::line::send_line;
use super::{FromClient, Hello, TELL_LIMIT, ToClient, VERSION, check, path};
use crate::config::Config;
use crate::core::model::breakglass::ShellId;
use crate::core::model::command::{Command, Refusal, Reply, Role};
use crate::journal::transcript::Store;
use crate::process::output::read_line;
use crate::runtime::breakglass::console::Console;
use crate::runtime::client::{Client, ClientBackend, ClientRequest, ConnectionState};
use crate::runtime::{Snapshot, clock};

/// Longest time until the first snapshot is there.
const ATTACH: Duration = Duration::from_secs(30);
/// Between two tries to reach it again, at most.
const AGAIN: Duration = Duration::from_secs(5);

/// Why a client could not attach.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// Nobody listens.
    #[error("no afk runs on {}", .0.display())]
    Nobody(PathBuf),
    /// It does not want this client.
    #[error("{0}")]
    Refused(String),
    /// The connection.
    #[error("the connection to the running afk failed")]
    Io(#[from] io::Error),
}

/// What a client says of itself.
#[must_use]
pub fn hello(config: &Config, role: Role, origin: &str, size: (u16, u16)) -> Hello {
    Hello {
        version: VERSION,
        program: env!("CARGO_PKG_VERSION").into(),
        actor: config.operator(),
        role,
        origin: origin.into(),
        size,
        blind: false,
        make_room: false,
    }
}

struct Wire {
    from: mpsc::Receiver<ToClient>,
    to: OwnedWriteHalf,
}

/// Connects and is let in.
async fn connect(state: &Path, hello: &Hello) -> Result<Wire, AttachError> {
    let socket = path(state);
    match check(&socket) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(AttachError::Nobody(state.to_owned()));
        }
        other => other?,
    }
    let stream = match UnixStream::connect(&socket).await {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            return Err(AttachError::Nobody(state.to_owned()));
        }
        other => other?,
    };
    if stream.peer_cred()?.uid() != rustix::process::getuid().as_raw() {
        return Err(io::Error::from(io::ErrorKind::PermissionDenied).into());
    }
    let (from, mut to) = stream.into_split();
    send_line(&mut to, &FromClient::Hello(hello.clone())).await?;
    // Reading is a task of its own: a select that drops a half-read line would lose it.
    let (lines, mut read) = mpsc::channel(64);
    tokio::spawn(read_all(from, lines));
    match read.recv().await {
        Some(ToClient::Welcome { .. }) => Ok(Wire { from: read, to }),
        Some(ToClient::Refused { why }) => Err(AttachError::Refused(why)),
        _ => Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
    }
}

async fn read_all(from: OwnedReadHalf, lines: mpsc::Sender<ToClient>) {
    let mut from = BufReader::with_capacity(64 * 1024, from);
    let mut line = Vec::new();
    while let Ok(Some(false)) = read_line(&mut from, TELL_LIMIT, &mut line).await {
        match serde_json::from_slice(&line) {
            Ok(read) => {
                if lines.send(read).await.is_err() {
                    break;
                }
            }
            Err(error) => {
                tracing::error!(%error, "a line of the running afk can't be read");
                break;
            }
        }
        if line.capacity() > 1024 * 1024 {
            line = Vec::new();
        }
    }
}

/// Attaches to the afk that has a state folder. The client shows the fleet at once, and goes on
/// trying when the connection is lost.
///
/// # Errors
/// [`AttachError`].
pub async fn attach(state: &Path, config: Config, hello: Hello) -> Result<Client, AttachError> {
    let first = async {
        let mut wire = connect(state, &hello).await?;
        match wire.from.recv().await {
            Some(ToClient::Snapshot(snapshot)) => Ok((wire, Arc::new(*snapshot))),
            _ => Err(AttachError::Io(io::ErrorKind::UnexpectedEof.into())),
        }
    };
    let (wire, snapshot) = timeout(ATTACH, first).await.map_err(io::Error::from)??;
    let store = Arc::new(Store::open(state)?);
    let (client, ends) =
        Client::new(snapshot, store, Arc::new(config), (hello.actor.clone(), hello.role), true);
    tokio::spawn(keep(state.to_owned(), hello, Some(wire), ends));
    Ok(client)
}

/// Attaches as soon as an afk runs, and again whenever one does: for a screen that outlives it.
///
/// # Errors
/// Where the state folder can't be read.
pub fn attach_when_there(state: &Path, config: Config, hello: Hello) -> io::Result<Client> {
    let store = Arc::new(Store::open(state)?);
    let first = Arc::new(Snapshot::default());
    let (client, ends) =
        Client::new(first, store, Arc::new(config), (hello.actor.clone(), hello.role), true);
    tokio::spawn(keep(state.to_owned(), hello, None, ends));
    Ok(client)
}

/// Sends one command; none where no afk runs.
///
/// # Errors
/// [`AttachError`], but not for nobody.
pub async fn send(
    state: &Path,
    hello: Hello,
    action: Command,
) -> Result<Option<Reply>, AttachError> {
    let exchange = async {
        let hello = Hello { blind: true, ..hello };
        let mut wire = match connect(state, &hello).await {
            Err(AttachError::Nobody(_)) => return Ok(None),
            other => other?,
        };
        send_line(&mut wire.to, &FromClient::Act { id: 1, action }).await?;
        loop {
            match wire.from.recv().await {
                Some(ToClient::Reply { reply, .. }) => return Ok(Some(*reply)),
                Some(_) => {}
                None => return Ok(Some(Err(Refusal::Unanswered))),
            }
        }
    };
    timeout(ATTACH, exchange).await.map_err(io::Error::from)?
}

/// Asks the running afk to end, and waits until it has; false where none runs.
///
/// # Errors
/// [`AttachError`], but not for nobody.
pub async fn stop(state: &Path, hello: Hello, limit: Duration) -> Result<bool, AttachError> {
    let exchange = async {
        let hello = Hello { blind: true, ..hello };
        let mut wire = match connect(state, &hello).await {
            Err(AttachError::Nobody(_)) => return Ok(false),
            other => other?,
        };
        send_line(&mut wire.to, &FromClient::Stop).await?;
        while wire.from.recv().await.is_some() {}
        Ok(true)
    };
    timeout(limit, exchange).await.map_err(io::Error::from)?
}

/// Asks the running afk to make room for another: it picks nothing up, ends once nothing is at work,
/// and this waits for that. False where none runs.
///
/// # Errors
/// [`AttachError`], but not for nobody.
pub async fn make_room(state: &Path, hello: Hello) -> Result<bool, AttachError> {
    let hello = Hello { make_room: true, blind: true, ..hello };
    let mut wire = match timeout(ATTACH, connect(state, &hello)).await.map_err(io::Error::from)? {
        Err(AttachError::Nobody(_)) => return Ok(false),
        other => other?,
    };
    while wire.from.recv().await.is_some() {}
    Ok(true)
}

/// Serves a client over one connection after the other.
async fn keep(state: PathBuf, mut hello: Hello, mut wire: Option<Wire>, mut ends: ClientBackend) {
    loop {
        if let Some(wire) = wire.take()
            && follow(&state, wire, &mut ends, &mut hello).await == Gone::Client
        {
            return;
        }
        let why = "the connection to afk is lost; trying to reach it again".to_owned();
        let since = clock::wall();
        if ends.connection.send(ConnectionState::Lost { since, why }).is_err() {
            return;
        }
        let mut pause = Duration::from_millis(100);
        wire = loop {
            // What is asked meanwhile is answered at once: nothing is sent later by surprise.
            while let Ok(ask) = ends.requests.try_recv() {
                refuse(ask);
            }
            if ends.connection.is_closed() {
                return;
            }
            match connect(&state, &hello).await {
                Ok(wire) => break Some(wire),
                Err(AttachError::Refused(why)) => {
                    let _ = ends.connection.send(ConnectionState::Lost { since, why });
                }
                Err(_) => {}
            }
            tokio::select! {
                () = sleep(pause) => pause = (pause * 2).min(AGAIN),
                ask = ends.requests.recv() => match ask {
                    Some(ask) => refuse(ask),
                    None => return,
                },
            }
        };
    }
}

fn refuse(ask: ClientRequest) {
    match ask {
        ClientRequest::Command(_, reply) => drop(reply.send(Err(Refusal::Unreachable))),
        ClientRequest::Diff(_, reply) => drop(reply.send(Err(Refusal::Unreachable.to_string()))),
        ClientRequest::Console(_, reply) => drop(reply.send(Err(Refusal::Unreachable.to_string()))),
        ClientRequest::Resize(..) => {}
    }
}

/// Connects once more, for a shell.
async fn console(state: PathBuf, hello: Hello, shell: ShellId) -> Result<Console, String> {
    let hello = Hello { blind: true, ..hello };
    let connected = timeout(ATTACH, connect(&state, &hello)).await;
    let mut wire = match connected {
        Ok(Ok(wire)) => wire,
        Ok(Err(error)) => return Err(crate::error::chain(&error)),
        Err(_) => return Err("afk does not answer".into()),
    };
    send_line(&mut wire.to, &FromClient::Console { shell })
        .await
        .map_err(|error| error.to_string())?;
    let (to, typed) = mpsc::channel(256);
    let (output, from) = mpsc::channel(8);
    tokio::spawn(super::console::follow(wire.from, wire.to, typed, output));
    Ok(Console { to, from })
}

#[derive(Debug, PartialEq, Eq)]
enum Gone {
    Server,
    Client,
}

/// Follows one connection until it or the client is gone.
async fn follow(state: &Path, mut wire: Wire, ends: &mut ClientBackend, hello: &mut Hello) -> Gone {
    let mut id = 0;
    let mut acts: HashMap<u64, oneshot::Sender<Reply>> = HashMap::new();
    let mut diffs: HashMap<u64, oneshot::Sender<Result<String, String>>> = HashMap::new();
    loop {
        tokio::select! {
            line = wire.from.recv() => {
                let Some(line) = line else { return Gone::Server };
                // What is behind it is there already: one picture for all of it.
                let mut pictures = Vec::new();
                for line in std::iter::once(line).chain(std::iter::from_fn(|| wire.from.try_recv().ok())) {
                    match line {
                        ToClient::Reply { id, reply } => {
                            if let Some(waits) = acts.remove(&id) {
                                let _ = waits.send(*reply);
                            }
                        }
                        ToClient::Diff { id, diff } => {
                            if let Some(waits) = diffs.remove(&id) {
                                let _ = waits.send(diff);
                            }
                        }
                        ToClient::Transcribed => ends.transcripts.send_modify(|count| *count += 1),
                        // Nobody may be looking.
                        ToClient::Notice(shown) => drop(ends.notices.send(shown)),
                        line => pictures.push(line),
                    }
                }
                if !pictures.is_empty() {
                    ends.snapshots.send_modify(|shown| {
                        let snapshot = Arc::make_mut(shown);
                        for line in pictures {
                            take(snapshot, line);
                        }
                    });
                    if *ends.connection.borrow() != ConnectionState::Live {
                        let _ = ends.connection.send(ConnectionState::Live);
                    }
                }
            }
            ask = ends.requests.recv() => {
                let Some(ask) = ask else { return Gone::Client };
                id += 1;
                let line = match ask {
                    ClientRequest::Command(action, reply) => {
                        acts.insert(id, reply);
                        FromClient::Act { id, action }
                    }
                    ClientRequest::Diff(run, reply) => {
                        diffs.insert(id, reply);
                        FromClient::Diff { id, run }
                    }
                    ClientRequest::Console(shell, reply) => {
                        let (state, hello) = (state.to_owned(), hello.clone());
                        tokio::spawn(async move {
                            // The screen may be gone.
                            let _ = reply.send(console(state, hello, shell).await);
                        });
                        continue;
                    }
                    ClientRequest::Resize(columns, rows) => {
                        hello.size = (columns, rows);
                        FromClient::Size { columns, rows }
                    }
                };
                if send_line(&mut wire.to, &line).await.is_err() {
                    return Gone::Server;
                }
            }
        }
    }
}

/// Brings what is shown up to a line.
fn take(snapshot: &mut Snapshot, line: ToClient) {
    match line {
        ToClient::Snapshot(whole) => *snapshot = *whole,
        ToClient::Events { last, events } => {
            for (at, event) in &events {
                snapshot.fleet.apply(*at, event);
            }
            snapshot.seq = last;
        }
        ToClient::Aside { worktrees, problems, clients, watchers, live, unwritten } => {
            snapshot.worktrees = worktrees.into_iter().collect();
            (snapshot.watchers, snapshot.verb_output) = (watchers, live);
            snapshot.breakglass_ahead = unwritten;
            (snapshot.problems, snapshot.clients) = (problems, clients);
        }
        _ => {}
    }
}
