//! A breakglass shell over a connection of its own, so that a flood of output delays nothing else.
//! Keys and sizes flow from a screen to the host, output and the end of the shell flow back.

use std::io;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tokio::net::unix::OwnedWriteHalf;
use tokio::sync::mpsc;

use super::protocol::{FromClient, Hello, ToClient};
use super::{line, server};
use crate::breakglass::shell::{MAX_TYPED, ToShell, while_open};
use crate::core::model::breakglass::ShellId;
use crate::core::model::command::{Refusal, Role};
use crate::runtime::Handle;
use crate::runtime::breakglass::console::{Console, FromShell, ShellEnd};

/// The time within which the server must take a line of keys. A host may read nothing for long.
const WRITE: Duration = Duration::from_secs(15 * 60);

/// The runtime's side: claims a shell that the core allowed, and carries it until one side ends.
pub(super) async fn serve(
    handle: &Handle,
    hello: &Hello,
    shell: ShellId,
    mut requests: mpsc::Receiver<FromClient>,
    to: &mut OwnedWriteHalf,
) -> io::Result<()> {
    let claimed = if hello.role == Role::Operator {
        handle.console(shell, &hello.actor).await
    } else {
        Err(Refusal::Viewer.to_string())
    };
    let Console { to: typed, from: mut output } = match claimed {
        Ok(console) => console,
        Err(why) => {
            handle.refuse_console(&hello.actor, &hello.origin, &why);
            let end = ShellEnd { why: why.into(), key: None };
            return server::send(to, &ToClient::ShellEnded(end)).await;
        }
    };
    // Both directions run on their own: a host that takes no input must not hold back its output, and
    // a client that takes no output must not hold back its keys.
    let upstream = async {
        while let Some(request) = requests.recv().await {
            let piece = match request {
                FromClient::Typed(text) => {
                    let bytes = STANDARD.decode(text).ok().filter(|bytes| bytes.len() <= MAX_TYPED);
                    let Some(bytes) = bytes else { return };
                    ToShell::Bytes(bytes)
                }
                FromClient::Size { columns, rows } => ToShell::Size(columns, rows),
                _ => continue,
            };
            // A shell that has ended reports its end through `output`.
            if while_open(&requests, typed.send(piece)).await.is_none() {
                return;
            }
        }
    };
    let downstream = async {
        while let Some(piece) = output.recv().await {
            match piece {
                FromShell::Bytes(bytes) => {
                    server::send(to, &ToClient::Output(STANDARD.encode(bytes))).await?;
                }
                FromShell::Link(state) => server::send(to, &ToClient::ShellLink(state)).await?,
                FromShell::Ended(end) => {
                    return server::send(to, &ToClient::ShellEnded(end)).await;
                }
            }
        }
        Ok(())
    };
    tokio::select! {
        () = upstream => Ok(()),
        done = downstream => done,
    }
}

/// The client's side: carries a shell between a connection and a screen until one of them ends.
pub(super) async fn carry(
    mut lines: mpsc::Receiver<ToClient>,
    mut to: OwnedWriteHalf,
    mut typed: mpsc::Receiver<ToShell>,
    output: mpsc::Sender<FromShell>,
) {
    // A full screen must not hold back keys, such as the one that stops a flood, and a host that takes
    // no input must not hold back its output.
    let upstream = async {
        while let Some(piece) = typed.recv().await {
            let line = match piece {
                ToShell::Bytes(bytes) => FromClient::Typed(STANDARD.encode(bytes)),
                ToShell::Size(columns, rows) => FromClient::Size { columns, rows },
            };
            let sent = while_open(&typed, line::send(&mut to, &line, WRITE)).await;
            if !matches!(sent, Some(Ok(()))) {
                return;
            }
        }
    };
    let downstream = async {
        while let Some(line) = lines.recv().await {
            let piece = match line {
                ToClient::Output(text) => {
                    FromShell::Bytes(STANDARD.decode(text).unwrap_or_default())
                }
                ToClient::ShellLink(state) => FromShell::Link(state),
                ToClient::ShellEnded(end) => FromShell::Ended(end),
                _ => continue,
            };
            let ended = matches!(piece, FromShell::Ended(_));
            // A closed screen ends the shell together with this connection.
            if output.send(piece).await.is_err() || ended {
                return;
            }
        }
        let why = "the connection to afk is lost".into();
        // The screen may be closed too.
        let _ = output.send(FromShell::Ended(ShellEnd { why, key: None })).await;
    };
    tokio::select! {
        () = upstream => {}
        () = downstream => {}
    }
}
