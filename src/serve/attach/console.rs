//! A breakglass shell over a connection of its own, so that a flood of output delays nothing else.
//! Keys and sizes flow from a screen to the host, output and the end of the shell flow back.

use std::io;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tokio::net::unix::OwnedWriteHalf;
use tokio::sync::mpsc;

use super::protocol::{FromClient, Hello, ToClient};
use super::{connection, server};
use crate::breakglass::shell::{MAX_TYPED, ToShell};
use crate::core::model::breakglass::ShellId;
use crate::core::model::command::{Refusal, Role};
use crate::runtime::Handle;
use crate::runtime::breakglass::console::{Console, FromShell, ShellEnd};

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
            let end = ShellEnd { why: why.into(), key: None };
            return server::send(to, &ToClient::ShellEnded(end)).await;
        }
    };
    loop {
        tokio::select! {
            request = requests.recv() => {
                let piece = match request {
                    None => return Ok(()),
                    Some(FromClient::Typed(text)) => {
                        let bytes = STANDARD.decode(text).ok().filter(|bytes| bytes.len() <= MAX_TYPED);
                        let Some(bytes) = bytes else { return Ok(()) };
                        ToShell::Bytes(bytes)
                    }
                    Some(FromClient::Size { columns, rows }) => ToShell::Size(columns, rows),
                    Some(_) => continue,
                };
                // A shell that has ended reports its end through `output`.
                let _ = typed.send(piece).await;
            }
            piece = output.recv() => match piece {
                None => return Ok(()),
                Some(FromShell::Bytes(bytes)) => {
                    server::send(to, &ToClient::Output(STANDARD.encode(bytes))).await?;
                }
                Some(FromShell::Ended(end)) => {
                    return server::send(to, &ToClient::ShellEnded(end)).await;
                }
            },
        }
    }
}

/// The client's side: carries a shell between a connection and a screen until one of them ends.
pub(super) async fn carry(
    mut lines: mpsc::Receiver<ToClient>,
    mut to: OwnedWriteHalf,
    mut typed: mpsc::Receiver<ToShell>,
    output: mpsc::Sender<FromShell>,
) {
    loop {
        tokio::select! {
            slot = output.reserve() => {
                // A closed screen ends the shell together with this connection.
                let Ok(slot) = slot else { return };
                tokio::select! {
                    line = lines.recv() => match line {
                        Some(ToClient::Output(text)) => {
                            slot.send(FromShell::Bytes(STANDARD.decode(text).unwrap_or_default()));
                        }
                        Some(ToClient::ShellEnded(end)) => {
                            slot.send(FromShell::Ended(end));
                            return;
                        }
                        Some(_) => {}
                        None => {
                            let why = "the connection to afk is lost".into();
                            slot.send(FromShell::Ended(ShellEnd { why, key: None }));
                            return;
                        }
                    },
                    piece = typed.recv() => {
                        if !forward(&mut to, piece).await {
                            return;
                        }
                    }
                }
            }
            // A full screen must not hold back keys, such as the one that stops a flood.
            piece = typed.recv() => {
                if !forward(&mut to, piece).await {
                    return;
                }
            }
        }
    }
}

/// Sends typed bytes or a size to the server; false if the screen or the connection has ended.
async fn forward(to: &mut OwnedWriteHalf, piece: Option<ToShell>) -> bool {
    let line = match piece {
        None => return false,
        Some(ToShell::Bytes(bytes)) => FromClient::Typed(STANDARD.encode(bytes)),
        Some(ToShell::Size(columns, rows)) => FromClient::Size { columns, rows },
    };
    connection::send(to, &line).await.is_ok()
}
