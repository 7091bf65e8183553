//! The runtime's side of the protocol: one task a client, so that a slow one slows nobody.

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

use super::line::send_line;
use super::{ASK_LIMIT, FromClient, Hello, ToClient, VERSION, path};
use crate::core::model::command::{CommandEnvelope, Role};
use crate::process::output::read_line;
use crate::runtime::client::Attached;
use crate::runtime::{Batch, Handle, Snapshot, clock};

/// How long a client may take to say who it is.
const HELLO: Duration = Duration::from_secs(10);
/// Answers that may wait for a client.
const ANSWERS: usize = 64;
/// Clients at once.
const CLIENTS: usize = 64;

/// Listens until the process ends. What lies there from an earlier life is replaced; the journal's
/// lock says that nobody else uses it.
///
/// # Errors
/// Where the socket can't be made.
pub fn start(handle: &Handle, state: &Path) -> io::Result<()> {
    let path = path(state);
    std::fs::set_permissions(state, std::fs::Permissions::from_mode(0o700))?;
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(&path)?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
    let handle = handle.clone();
    let room = Arc::new(tokio::sync::Semaphore::new(CLIENTS));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(place) = room.clone().try_acquire_owned() else { continue };
            let handle = handle.clone();
            tokio::spawn(async move {
                // A client that goes away in the middle is no concern of ours.
                if let Err(error) = serve(stream, handle).await {
                    tracing::debug!(%error, "a client is gone");
                }
                drop(place);
            });
        }
    });
    Ok(())
}

async fn serve(stream: UnixStream, handle: Handle) -> io::Result<()> {
    let peer = stream.peer_cred()?;
    // What afk itself started (agents, tests) has the same user and must not command it.
    if peer.uid() != rustix::process::getuid().as_raw()
        || peer.pid().is_some_and(|pid| handle.is_below(pid))
    {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    let (from, mut to) = stream.into_split();
    let mut from = BufReader::new(from);
    let mut line = Vec::new();
    let first = timeout(HELLO, read_line(&mut from, ASK_LIMIT, &mut line)).await??;
    if first != Some(false) {
        return Ok(());
    }
    let hello = match serde_json::from_slice(&line) {
        Ok(FromClient::Hello(hello)) if hello.make_room && hello.role == Role::Operator => {
            let program = env!("CARGO_PKG_VERSION").into();
            send_line(&mut to, &ToClient::Welcome { program, role: hello.role }).await?;
            make_room(&handle, &hello).await;
            return Ok(());
        }
        Ok(FromClient::Hello(hello)) if hello.version == VERSION => hello,
        Ok(FromClient::Hello(Hello { version, program, .. })) => {
            let why = format!(
                "this afk ({}) speaks version {VERSION} and the client ({program}) {version}: end it with \
                 the older program's `afk stop`, and start the newer one",
                env!("CARGO_PKG_VERSION")
            );
            return send_line(&mut to, &ToClient::Refused { why }).await;
        }
        _ => {
            let why = "the first line should be a hello".into();
            return send_line(&mut to, &ToClient::Refused { why }).await;
        }
    };
    let program = env!("CARGO_PKG_VERSION").into();
    send_line(&mut to, &ToClient::Welcome { program, role: hello.role }).await?;
    let (asks, to_answer) = mpsc::channel(ANSWERS);
    let reader = tokio::spawn(async move {
        let mut line = Vec::new();
        while let Ok(Some(cut)) = read_line(&mut from, ASK_LIMIT, &mut line).await {
            let read = if cut { None } else { serde_json::from_slice::<FromClient>(&line).ok() };
            // One that says what is not known is gone, not guessed at.
            let Some(read) = read else { break };
            if asks.send(read).await.is_err() {
                break;
            }
        }
    });
    let mut to_answer = to_answer;
    let first = if hello.blind { to_answer.recv().await } else { None };
    if let Some(FromClient::Console { shell }) = first {
        let done = super::console::serve(&handle, &hello, shell, to_answer, &mut to).await;
        reader.abort();
        return done;
    }
    let attached = Attached {
        actor: hello.actor.clone(),
        role: hello.role,
        origin: hello.origin.clone(),
        size: hello.size,
        since: clock::wall(),
    };
    // One that only asks is nobody who looks.
    let entry = if hello.blind { None } else { Some(handle.attach(attached).await) };
    let mut talk = Talk { handle, hello, to, entry };
    let done = talk.go_on(first, to_answer).await;
    if let Some(entry) = talk.entry {
        entry.leave().await;
    }
    reader.abort();
    done
}

/// Ends the runtime once nothing is at work; the connection lasts until then.
async fn make_room(handle: &Handle, hello: &Hello) {
    let command = CommandEnvelope {
        id: 0,
        actor: hello.actor.clone(),
        role: hello.role,
        origin: hello.origin.clone(),
        command: crate::core::model::command::Command::Drain,
    };
    if handle.command(command).await.is_err() {
        return;
    }
    let mut snapshots = handle.snapshots.clone();
    // The snapshot that has the drain comes after its answer.
    let drained = |now: &Arc<Snapshot>| now.fleet.draining && now.fleet.permits_used() == 0;
    if snapshots.wait_for(drained).await.is_ok() {
        handle.request_stop();
        // Ended with the process.
        std::future::pending::<()>().await;
    }
}

struct Talk {
    handle: Handle,
    hello: Hello,
    to: OwnedWriteHalf,
    entry: Option<crate::runtime::Attachment>,
}

impl Talk {
    async fn go_on(
        &mut self,
        first: Option<FromClient>,
        mut asks: mpsc::Receiver<FromClient>,
    ) -> io::Result<()> {
        let (answers, mut answered) = mpsc::channel::<ToClient>(ANSWERS);
        if let Some(first) = first {
            self.ask(first, &answers).await;
        }
        let looks = !self.hello.blind;
        let mut batches = self.handle.batches();
        let mut snapshots = self.handle.snapshots.clone();
        let mut transcripts = self.handle.transcripts.clone();
        let mut notices = self.handle.notices();
        let mut seen = Arc::new(Snapshot::default());
        let mut last = i64::MIN;
        if looks {
            (seen, last) = self.snapshot(&mut snapshots).await?;
        }
        loop {
            tokio::select! {
                ask = asks.recv() => match ask {
                    None => return Ok(()),
                    Some(ask) => self.ask(ask, &answers).await,
                },
                Some(answer) = answered.recv() => send_line(&mut self.to, &answer).await?,
                batch = batches.recv(), if looks => match batch {
                    Ok(batch) => last = self.batch(&batch, last).await?,
                    // It fell behind: everything anew, instead of a queue that grows.
                    Err(broadcast::error::RecvError::Lagged(_)) => {
                        (seen, last) = self.snapshot(&mut snapshots).await?;
                    }
                    Err(broadcast::error::RecvError::Closed) => return Ok(()),
                },
                changed = snapshots.changed(), if looks => {
                    if changed.is_err() {
                        return Ok(());
                    }
                    while let Ok(batch) = batches.try_recv() {
                        last = self.batch(&batch, last).await?;
                    }
                    let now = snapshots.borrow_and_update().clone();
                    if now.seq > last {
                        // Something became durable before this client listened.
                        (seen, last) = self.snapshot(&mut snapshots).await?;
                        continue;
                    }
                    if let Some(aside) = aside(&seen, &now) {
                        send_line(&mut self.to, &aside).await?;
                    }
                    seen = now;
                }
                changed = transcripts.changed(), if looks => {
                    if changed.is_ok() {
                        send_line(&mut self.to, &ToClient::Transcribed).await?;
                    }
                }
                notice = notices.recv(), if looks => {
                    if let Ok(shown) = notice {
                        send_line(&mut self.to, &ToClient::Notice(shown)).await?;
                    }
                }
            }
        }
    }

    /// Hands on what of a batch is new, where it goes on from what the client has. After a gap
    /// it does not: the next snapshot has all of it.
    async fn batch(&mut self, batch: &Batch, last: i64) -> io::Result<i64> {
        match newer(batch, last) {
            Some(events) => {
                send_line(&mut self.to, &ToClient::Events { last: batch.last, events }).await?;
                Ok(batch.last)
            }
            None => Ok(last),
        }
    }

    async fn snapshot(
        &mut self,
        snapshots: &mut watch::Receiver<Arc<Snapshot>>,
    ) -> io::Result<(Arc<Snapshot>, i64)> {
        let now = snapshots.borrow_and_update().clone();
        send_line(&mut self.to, &ToClient::Snapshot(Box::new(now.as_ref().clone()))).await?;
        let last = now.seq;
        Ok((now, last))
    }

    async fn ask(&mut self, ask: FromClient, answers: &mpsc::Sender<ToClient>) {
        let (handle, answers) = (self.handle.clone(), answers.clone());
        match ask {
            FromClient::Act { id, action } => {
                let command = CommandEnvelope {
                    id,
                    actor: self.hello.actor.clone(),
                    role: self.hello.role,
                    origin: self.hello.origin.clone(),
                    command: action,
                };
                tokio::spawn(async move {
                    let reply = Box::new(handle.command(command).await);
                    // A client that went away needs no answer.
                    let _ = answers.send(ToClient::Reply { id, reply }).await;
                });
            }
            FromClient::Diff { id, run } => {
                tokio::spawn(async move {
                    let diff = handle.diff(run).await;
                    let _ = answers.send(ToClient::Diff { id, diff }).await;
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

/// The events of a batch that a client has not seen; none where some before them are missing.
fn newer(
    batch: &Batch,
    last: i64,
) -> Option<Vec<(crate::core::model::time::Timestamp, crate::core::model::event::Event)>> {
    let missing = usize::try_from(batch.last.saturating_sub(last)).unwrap_or(0);
    let skip = batch.events.len().saturating_sub(missing);
    let goes_on = missing > 0 && missing <= batch.events.len();
    goes_on.then(|| batch.events[skip..].to_vec())
}

/// What changed beside the fleet; none where nothing did.
fn aside(before: &Snapshot, now: &Snapshot) -> Option<ToClient> {
    let same = before.worktrees == now.worktrees
        && before.problems == now.problems
        && before.clients == now.clients
        && before.watchers == now.watchers
        && before.verb_output == now.verb_output
        && before.breakglass_ahead == now.breakglass_ahead;
    (!same).then(|| ToClient::Aside {
        watchers: now.watchers.clone(),
        live: now.verb_output.clone(),
        unwritten: now.breakglass_ahead.clone(),
        worktrees: now.worktrees.iter().map(|(run, facts)| (*run, *facts)).collect(),
        problems: now.problems.clone(),
        clients: now.clients.clone(),
    })
}
