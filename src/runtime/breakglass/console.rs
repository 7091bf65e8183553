//! Shells between a client and a host. The core allows a shell; the runtime holds the SSH
//! connection, so that keys stay here and the end of an arming closes every shell that it allowed.
//!
//! ```text
//!   breakglass::execute ──▶ open ──▶ LiveShells ──▶ claim ──▶ Console (the client's end)
//!                            │                                   │ ToShell      ▲ FromShell
//!                            └──▶ serve ◀────────────────────────┘──────────────┘
//!                                   │ ssh, Recorder
//!                                   └──▶ Fact::Closed (with the recording)
//! ```

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::timeout;

use crate::breakglass::link::LinkState;
use crate::breakglass::recording::{self, Recorder};
use crate::breakglass::shell::{ToShell, relay, while_open};
use crate::breakglass::ssh::{ConnectError, KeyChange, connect_with, is_hypervisor};
use crate::core::model::breakglass::{BreakglassReport, Recording, ShellId};
use crate::core::model::id::Actor;
use crate::core::model::input::Input;
use crate::core::model::untrusted::Untrusted;
use crate::lock::LockExt;
use crate::runtime::{Context, clock};

/// The longest that a client may take to claim its shell, and to send its terminal's size.
const CLAIM_TIMEOUT: Duration = Duration::from_secs(10);
/// The longest that a client may take to receive the end of its shell.
const END_TIMEOUT: Duration = Duration::from_secs(5);
/// Pieces of typed input that may wait for the host.
const INPUT_QUEUE: usize = 256;
/// Pieces of output that may wait for the client; beyond them the host waits.
const OUTPUT_QUEUE: usize = 8;
/// The largest terminal, in columns and rows, that a host is asked for.
const LARGEST_TERMINAL: (u16, u16) = (500, 300);

/// A message from a shell to its client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum FromShell {
    /// Output of the host, as it came.
    Bytes(Vec<u8>),
    /// The link to the host has changed.
    Link(LinkState),
    /// The end of the shell, after all output.
    Ended(ShellEnd),
}

/// Why a shell ended. The attach protocol carries it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShellEnd {
    /// The reason, as a line for a person.
    pub why: Untrusted,
    /// The host's key, if it differs from the pinned one and a person may accept it.
    pub key: Option<KeyChange>,
}

/// A client's end of a shell.
#[derive(Debug)]
pub struct Console {
    /// Typed input and resizes. Dropping it ends the shell.
    pub(crate) to: mpsc::Sender<ToShell>,
    /// Output, and at last the end of the shell.
    pub(crate) from: mpsc::Receiver<FromShell>,
}

/// A shell that the core allowed.
#[derive(Debug)]
struct LiveShell {
    by: Actor,
    /// The client's end, until the client claims it.
    console: Option<Console>,
    /// Closes the shell, for a reason.
    close: mpsc::Sender<String>,
}

/// The shells that the core allowed and that have not ended.
#[derive(Debug, Default)]
pub(crate) struct LiveShells {
    by_id: Mutex<BTreeMap<ShellId, LiveShell>>,
    opened: Notify,
}

impl LiveShells {
    fn insert(&self, id: ShellId, shell: LiveShell) {
        self.by_id.locked().insert(id, shell);
        self.opened.notify_waiters();
    }

    fn remove(&self, id: ShellId) {
        self.by_id.locked().remove(&id);
    }

    /// Closes one shell.
    pub(in crate::runtime) fn close(&self, id: ShellId, why: &str) {
        if let Some(shell) = self.by_id.locked().get(&id) {
            // If the queue is full, the shell is closing already.
            let _ = shell.close.try_send(why.to_owned());
        }
    }

    /// Closes every shell.
    pub(super) fn close_all(&self, why: &str) {
        for shell in self.by_id.locked().values() {
            // If the queue is full, the shell is closing already.
            let _ = shell.close.try_send(why.to_owned());
        }
    }

    /// Hands a shell to the client that the core allowed it to, and waits until it is open.
    ///
    /// # Errors
    /// A line that says why the client can't have it.
    pub(in crate::runtime) async fn claim(
        &self,
        id: ShellId,
        by: &Actor,
    ) -> Result<Console, String> {
        let wait = async {
            loop {
                let opened = self.opened.notified();
                tokio::pin!(opened);
                opened.as_mut().enable();
                {
                    let mut all = self.by_id.locked();
                    if let Some(shell) = all.get_mut(&id) {
                        if shell.by != *by {
                            return Err(format!("{id} is not yours"));
                        }
                        return shell.console.take().ok_or_else(|| format!("{id} is taken"));
                    }
                }
                opened.await;
            }
        };
        timeout(CLAIM_TIMEOUT, wait)
            .await
            .unwrap_or_else(|_| Err(format!("there is no shell {id}")))
    }
}

/// Opens a shell for its client, and reports its end to the core.
pub(super) fn open(context: &Arc<Context>, id: ShellId, host: String, by: Actor) {
    let (to, typed) = mpsc::channel(INPUT_QUEUE);
    let (output, from) = mpsc::channel(OUTPUT_QUEUE);
    let (close, closing) = mpsc::channel(1);
    let console = Some(Console { to, from });
    context.shells.insert(id, LiveShell { by: by.clone(), console, close });
    let context = context.clone();
    tokio::spawn(async move {
        let (link, links) = watch::channel(LinkState::Live);
        let (end, recording) = tokio::select! {
            done = serve(&context, id, &host, &by, typed, closing, &output, &link) => done,
            never = forward(links, &output) => match never {},
        };
        context.shells.remove(id);
        let why = end.why.clone();
        // The client may have stopped reading.
        let _ = timeout(END_TIMEOUT, output.send(FromShell::Ended(end))).await;
        let fact = BreakglassReport::Closed { shell: id, why, recording };
        context.send_urgent(Input::Breakglass(fact)).await;
    });
}

/// Resolves once the client has left.
async fn left(typed: &mpsc::Receiver<ToShell>) {
    while_open(typed, std::future::pending::<()>()).await;
}

/// Passes the changes of a link on to the client.
async fn forward(
    mut links: watch::Receiver<LinkState>,
    output: &mpsc::Sender<FromShell>,
) -> Infallible {
    while links.changed().await.is_ok() {
        let state = links.borrow_and_update().clone();
        if output.send(FromShell::Link(state)).await.is_err() {
            break;
        }
    }
    std::future::pending().await
}

/// Connects to the host, carries the shell to its end, and records its output.
#[expect(
    clippy::too_many_arguments,
    reason = "the two ends of a shell, and what it is recorded under"
)]
async fn serve(
    context: &Arc<Context>,
    id: ShellId,
    host: &str,
    by: &Actor,
    mut typed: mpsc::Receiver<ToShell>,
    mut closing: mpsc::Receiver<String>,
    output: &mpsc::Sender<FromShell>,
    link: &watch::Sender<LinkState>,
) -> (ShellEnd, Option<Recording>) {
    let over = |why: String| (ShellEnd { why: why.into(), key: None }, None);
    let (most_columns, most_rows) = LARGEST_TERMINAL;
    let size = match timeout(CLAIM_TIMEOUT, typed.recv()).await {
        Ok(Some(ToShell::Size(columns, rows))) => {
            (columns.clamp(2, most_columns), rows.clamp(1, most_rows))
        }
        Ok(_) => return over("the client left before the shell began".into()),
        Err(_) => return over("no client claimed the shell".into()),
    };
    let config = context.config();
    let Some(breakglass) = &config.breakglass else {
        return over("breakglass is not configured".into());
    };
    link.send_replace(LinkState::Opening("connecting".into()));
    let report = |step: &str| {
        link.send_replace(LinkState::Opening(step.to_owned()));
    };
    let session = tokio::select! {
        session = connect_with(breakglass, host, report) => session,
        () = left(&typed) => return over("left".into()),
        Some(why) = closing.recv() => return over(why),
    };
    let session = match session {
        Ok(session) => session,
        Err(error) => {
            let why = crate::error::chain(&error).into();
            let key = match error {
                ConnectError::HostKey(change) if !is_hypervisor(host) => Some(change),
                _ => None,
            };
            return (ShellEnd { why, key }, None);
        }
    };
    let at = clock::wall();
    let file = format!("{}-{id}-{host}.cast", at.0);
    let path = recording::folder(&context.state).join(&file);
    let most = breakglass.recording_mib.saturating_mul(1024 * 1024);
    let mut recorder = Recorder::begin(&path, size, at.0 / 1000, most)
        .inspect_err(|error| tracing::warn!(%error, "the shell can't be recorded"))
        .ok();
    let first = match (&recorder, session.banner.is_empty()) {
        (None, _) => "[not recorded: the disk can't be written]\r\n".to_owned(),
        (Some(_), true) => String::new(),
        (Some(_), false) => format!("{}\r\n", session.banner.clean().replace('\n', "\r\n")),
    };
    let (bytes, mut raw) = mpsc::channel::<Vec<u8>>(1);
    let pump = async {
        if !first.is_empty() {
            // The client may have gone away.
            let _ = output.send(FromShell::Bytes(first.into_bytes())).await;
        }
        while let Some(bytes) = raw.recv().await {
            if output.send(FromShell::Bytes(bytes)).await.is_err() {
                // Dropping `raw` ends `carry`, which then returns the reason.
                break;
            }
        }
    };
    let why = {
        let carried = async {
            let why = relay(&session, size, &mut typed, &bytes, link, &mut recorder).await;
            drop(bytes);
            why
        };
        tokio::select! {
            (why, ()) = async { tokio::join!(carried, pump) } => why,
            Some(why) = closing.recv() => why,
        }
    };
    let recording = match recorder {
        Some(recorder) => {
            // The thread of the recorder has panicked otherwise, and the time until now is as good.
            let ended = tokio::task::spawn_blocking(move || recorder.end()).await;
            let ms = ended.unwrap_or_else(|_| clock::wall().since(at));
            let (host, by) = (host.to_owned(), by.clone());
            Some(Recording { shell: id, host, by, at, ms, file })
        }
        None => None,
    };
    (ShellEnd { why: why.into(), key: None }, recording)
}
