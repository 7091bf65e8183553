//! A shell on a host: bytes both ways, at the pace of whoever looks at it.

use russh::ChannelMsg;
use tokio::sync::mpsc;

use super::recording::Recorder;
use super::ssh::Session;

/// What goes to a shell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ToShell {
    /// Typed.
    Bytes(Vec<u8>),
    /// The terminal's columns and rows.
    Size(u16, u16),
}

/// The most that is typed into a shell in one piece.
pub const TYPED: usize = 64 * 1024;

/// What a pane reads and writes, whatever afk's own locale is.
const CHARACTERS: (&str, &str) = ("LC_CTYPE", "C.UTF-8");

/// Carries a shell until one of the two sides ends it; says why. Nothing is read from the host
/// while `output` is full: its window closes, and the host waits.
pub async fn carry(
    session: &Session,
    size: (u16, u16),
    input: &mut mpsc::Receiver<ToShell>,
    output: &mpsc::Sender<Vec<u8>>,
    recorder: &mut Option<Recorder>,
) -> String {
    let open = async {
        let channel = session.handle.channel_open_session().await?;
        let (columns, rows) = (u32::from(size.0), u32::from(size.1));
        // Where the host takes it (Debian's does). In its own locale a line editor may drop the bytes
        // of what isn't ASCII.
        channel.set_env(false, CHARACTERS.0, CHARACTERS.1).await?;
        channel.request_pty(false, "xterm-256color", columns, rows, 0, 0, &[]).await?;
        channel.request_shell(false).await?;
        Ok::<_, russh::Error>(channel)
    };
    let mut channel = match open.await {
        Ok(channel) => channel,
        Err(error) => return format!("no shell: {error}"),
    };
    let mut code = None;
    let mut waiting: Option<Vec<u8>> = None;
    loop {
        tokio::select! {
            room = output.reserve(), if waiting.is_some() => {
                let Ok(room) = room else { return "left".into() };
                if let Some(bytes) = waiting.take() {
                    room.send(bytes);
                }
            }
            message = channel.wait(), if waiting.is_none() => match message {
                Some(ChannelMsg::Data { data } | ChannelMsg::ExtendedData { data, .. }) => {
                    if let Some(recorder) = recorder {
                        recorder.output(&data);
                    }
                    waiting = Some(data.to_vec());
                }
                Some(ChannelMsg::ExitStatus { exit_status }) => code = Some(exit_status),
                Some(ChannelMsg::ExitSignal { .. }) => code = Some(255),
                Some(ChannelMsg::Close) | None => {
                    return match code {
                        Some(code) => format!("the shell ended with exit {code}"),
                        None => "link lost: the connection ended".into(),
                    };
                }
                Some(_) => {}
            },
            typed = input.recv() => match typed {
                None => return "left".into(),
                Some(ToShell::Bytes(bytes)) => {
                    if let Err(error) = channel.data_bytes(bytes).await {
                        return format!("link lost: {error}");
                    }
                }
                Some(ToShell::Size(columns, rows)) => {
                    if let Some(recorder) = recorder {
                        recorder.size(columns, rows);
                    }
                    let (columns, rows) = (u32::from(columns), u32::from(rows));
                    if let Err(error) = channel.window_change(columns, rows, 0, 0).await {
                        return format!("link lost: {error}");
                    }
                }
            },
        }
    }
}
