//! A shell over a connection of its own, so that a flood of output holds nothing else up.

use std::io;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tokio::net::unix::OwnedWriteHalf;
use tokio::sync::mpsc;

use super::line::send_line;
use super::{FromClient, Hello, ToClient};
use crate::breakglass::shell::{MAX_TYPED, ToShell};
use crate::core::model::breakglass::ShellId;
use crate::core::model::command::Role;
use crate::runtime::Handle;
use crate::runtime::breakglass::console::{Console, FromShell, ShellEnd};

/// The runtime's side.
pub(super) async fn serve(
    handle: &Handle,
    hello: &Hello,
    shell: ShellId,
    mut asks: mpsc::Receiver<FromClient>,
    to: &mut OwnedWriteHalf,
) -> io::Result<()> {
    let claimed = if hello.role == Role::Operator {
        handle.console(shell, &hello.actor).await
    } else {
        Err("viewers are read-only".into())
    };
    let Console { to: typed, from: mut output } = match claimed {
        Ok(console) => console,
        Err(why) => {
            let end = ShellEnd { why: why.into(), key: None };
            return send_line(to, &ToClient::ShellEnded(end)).await;
        }
    };
    loop {
        tokio::select! {
            ask = asks.recv() => {
                let piece = match ask {
                    None => return Ok(()),
                    Some(FromClient::Typed(text)) => {
                        let bytes = STANDARD.decode(text).ok().filter(|bytes| bytes.len() <= MAX_TYPED);
                        let Some(bytes) = bytes else { return Ok(()) };
                        ToShell::Bytes(bytes)
                    }
                    Some(FromClient::Size { columns, rows }) => ToShell::Size(columns, rows),
                    Some(_) => continue,
                };
                // One that is over tells its end the other way.
                let _ = typed.send(piece).await;
            }
            piece = output.recv() => match piece {
                None => return Ok(()),
                Some(FromShell::Bytes(bytes)) => {
                    send_line(to, &ToClient::Output(STANDARD.encode(bytes))).await?;
                }
                Some(FromShell::Ended(end)) => return send_line(to, &ToClient::ShellEnded(end)).await,
            },
        }
    }
}

/// The client's side: carries a shell between a connection and a screen until one of them ends.
pub(super) async fn follow(
    mut lines: mpsc::Receiver<ToClient>,
    mut to: OwnedWriteHalf,
    mut typed: mpsc::Receiver<ToShell>,
    output: mpsc::Sender<FromShell>,
) {
    loop {
        tokio::select! {
            room = output.reserve() => {
                // A screen that is gone ends the shell with this connection.
                let Ok(room) = room else { return };
                tokio::select! {
                    line = lines.recv() => match line {
                        Some(ToClient::Output(text)) => {
                            room.send(FromShell::Bytes(STANDARD.decode(text).unwrap_or_default()));
                        }
                        Some(ToClient::ShellEnded(end)) => {
                            room.send(FromShell::Ended(end));
                            return;
                        }
                        Some(_) => {}
                        None => {
                            let why = "the connection to afk is lost".into();
                            room.send(FromShell::Ended(ShellEnd { why, key: None }));
                            return;
                        }
                    },
                    piece = typed.recv() => {
                        let Some(piece) = piece else { return };
                        if send_line(&mut to, &line(piece)).await.is_err() {
                            return;
                        }
                    }
                }
            }
            piece = typed.recv() => {
                let Some(piece) = piece else { return };
                if send_line(&mut to, &line(piece)).await.is_err() {
                    return;
                }
            }
        }
    }
}

fn line(piece: ToShell) -> FromClient {
    match piece {
        ToShell::Bytes(bytes) => FromClient::Typed(STANDARD.encode(bytes)),
        ToShell::Size(columns, rows) => FromClient::Size { columns, rows },
    }
}
