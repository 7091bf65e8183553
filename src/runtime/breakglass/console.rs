//! Shells between a client and a host. The core said yes; the runtime holds the connection, so that
//! the keys stay with it and the end of an arming ends what it allowed.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::super::{Shell, clock};
use crate::breakglass::recording::{self, Recorder};
use crate::breakglass::shell::{ToShell, carry};
use crate::breakglass::ssh::{ConnectError, KeyChange, connect, strict};
use crate::core::model::breakglass::{BreakglassReport, Recording, ShellId};
use crate::core::model::id::Actor;
use crate::core::model::input::Input;
use crate::core::model::untrusted::Untrusted;

/// How long a client may take to come for its shell.
const CLAIM: Duration = Duration::from_secs(10);
/// Pieces that may wait to be typed.
const TYPED: usize = 256;
/// Pieces of output that may wait for a client: more waits at the host.
const OUTPUT: usize = 8;

/// What a client is told of its shell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FromShell {
    /// Output.
    Bytes(Vec<u8>),
    /// It is over.
    Ended(ShellEnd),
}

/// Why a shell is over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShellEnd {
    /// In words.
    pub why: Untrusted,
    /// The host has another key than the pinned one, and a person may accept it.
    pub key: Option<KeyChange>,
}

/// A client's end of a shell.
#[derive(Debug)]
pub struct Console {
    /// What is typed. The shell ends when it is dropped.
    pub to: mpsc::Sender<ToShell>,
    /// What comes; its end is told before it is closed.
    pub from: mpsc::Receiver<FromShell>,
}

/// A shell that the core allowed.
#[derive(Debug)]
pub(crate) struct Open {
    by: Actor,
    /// Taken by the client that comes for it.
    console: Option<Console>,
    close: mpsc::Sender<String>,
}

/// All of them.
pub(crate) type Shells = BTreeMap<ShellId, Open>;

/// Makes a shell ready for its client.
pub(super) fn open(shell: &Arc<Shell>, id: ShellId, host: String, by: Actor) {
    let (to, typed) = mpsc::channel(TYPED);
    let (output, from) = mpsc::channel(OUTPUT);
    let (close, closing) = mpsc::channel(1);
    let console = Some(Console { to, from });
    let open = Open { by: by.clone(), console, close };
    shell.shells.lock().unwrap_or_else(PoisonError::into_inner).insert(id, open);
    shell.shells_changed.notify_waiters();
    let shell = shell.clone();
    tokio::spawn(async move {
        let (end, recording) = serve(&shell, id, &host, &by, typed, closing, &output).await;
        shell.shells.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
        let why = end.why.clone();
        // A client that reads nothing more is not waited for.
        let _ = timeout(Duration::from_secs(5), output.send(FromShell::Ended(end))).await;
        shell
            .urgent(Input::Breakglass(BreakglassReport::Closed { shell: id, why, recording }))
            .await;
    });
}

/// Closes every shell.
pub(super) fn close_all(shell: &Shell, why: &str) {
    let all = shell.shells.lock().unwrap_or_else(PoisonError::into_inner);
    for open in all.values() {
        // One that is told already is closing.
        let _ = open.close.try_send(why.to_owned());
    }
}

/// Hands a shell to the client that it was allowed to.
///
/// # Errors
/// A line for a person.
pub(in super::super) async fn claim(
    shell: &Shell,
    id: ShellId,
    by: &Actor,
) -> Result<Console, String> {
    let wait = async {
        loop {
            let changed = shell.shells_changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            {
                let mut all = shell.shells.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(open) = all.get_mut(&id) {
                    if open.by != *by {
                        return Err(format!("{id} is not yours"));
                    }
                    return open.console.take().ok_or_else(|| format!("{id} is taken"));
                }
            }
            changed.await;
        }
    };
    timeout(CLAIM, wait).await.unwrap_or_else(|_| Err(format!("there is no shell {id}")))
}

async fn serve(
    shell: &Arc<Shell>,
    id: ShellId,
    host: &str,
    by: &Actor,
    mut typed: mpsc::Receiver<ToShell>,
    mut closing: mpsc::Receiver<String>,
    output: &mpsc::Sender<FromShell>,
) -> (ShellEnd, Option<Recording>) {
    let over = |why: String| (ShellEnd { why: why.into(), key: None }, None);
    let size = match timeout(CLAIM, typed.recv()).await {
        Ok(Some(ToShell::Size(columns, rows))) => (columns.clamp(2, 500), rows.clamp(1, 300)),
        Ok(_) => return over("left before it began".into()),
        Err(_) => return over("nobody came for it".into()),
    };
    let config = shell.config();
    let Some(breakglass) = &config.breakglass else { return over("not configured".into()) };
    let session = tokio::select! {
        session = connect(breakglass, host) => session,
        Some(why) = closing.recv() => return over(why),
    };
    let session = match session {
        Ok(session) => session,
        Err(error) => {
            let why = crate::error::chain(&error).into();
            let key = match error {
                ConnectError::HostKey(change) if !strict(host) => Some(change),
                _ => None,
            };
            return (ShellEnd { why, key }, None);
        }
    };
    let at = clock::wall();
    let file = format!("{}-{id}-{host}.cast", at.0);
    let path = recording::folder(&shell.state).join(&file);
    let most = breakglass.recording_mib.saturating_mul(1024 * 1024);
    let mut recorder = Recorder::begin(&path, size, at.0 / 1000, most)
        .inspect_err(|error| tracing::warn!(%error, "this shell is not recorded"))
        .ok();
    let first = match (&recorder, session.banner.is_empty()) {
        (None, _) => "[not recorded: the disk can't be written]\r\n".to_owned(),
        (Some(_), true) => String::new(),
        (Some(_), false) => format!("{}\r\n", session.banner.clean().replace('\n', "\r\n")),
    };
    let (bytes, mut raw) = mpsc::channel::<Vec<u8>>(1);
    let pump = async {
        if !first.is_empty() {
            // The client may have left.
            let _ = output.send(FromShell::Bytes(first.into_bytes())).await;
        }
        while let Some(bytes) = raw.recv().await {
            if output.send(FromShell::Bytes(bytes)).await.is_err() {
                // Also tells the other half, which then says why.
                break;
            }
        }
    };
    let why = {
        let carried = async {
            let why = carry(&session, size, &mut typed, &bytes, &mut recorder).await;
            drop(bytes);
            why
        };
        tokio::select! {
            (why, ()) = async { tokio::join!(carried, pump) } => why,
            Some(why) = closing.recv() => why,
        }
    };
    let recording = recorder.map(|recorder| {
        let ms = tokio::task::block_in_place(|| recorder.end());
        let (host, by) = (host.to_owned(), by.clone());
        Recording { shell: id, host, by, at, ms, file }
    });
    (ShellEnd { why: why.into(), key: None }, recording)
}
