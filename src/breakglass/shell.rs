//! Relays a shell on a host: typed bytes and sizes go in, output comes out, at the reader's pace.
//!
//! `runtime::breakglass::console` opens one for each shell in a cockpit.

use russh::ChannelMsg;
use tokio::sync::mpsc;

use super::recording::Recorder;
use super::ssh::SshSession;

/// A message to a shell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ToShell {
    /// The bytes that a user types.
    Bytes(Vec<u8>),
    /// The columns and rows of the user's terminal.
    Size(u16, u16),
}

/// The most bytes in one [`ToShell::Bytes`].
pub(crate) const MAX_TYPED: usize = 64 * 1024;

/// The encoding that the emulator reads and writes, independent of our own locale.
const LOCALE: (&str, &str) = ("LC_CTYPE", "C.UTF-8");

/// Relays a shell until either side ends it, and returns the reason in one line. While `output` is
/// full nothing is read from the host: the SSH window closes, and the host waits.
pub(crate) async fn relay(
    session: &SshSession,
    size: (u16, u16),
    input: &mut mpsc::Receiver<ToShell>,
    output: &mpsc::Sender<Vec<u8>>,
    recorder: &mut Option<Recorder>,
) -> String {
    let open = async {
        let channel = session.handle.channel_open_session().await?;
        let (columns, rows) = (u32::from(size.0), u32::from(size.1));
        // A host may ignore it (Debian's sshd accepts it). In another locale a line editor may drop
        // bytes that are not ASCII.
        channel.set_env(false, LOCALE.0, LOCALE.1).await?;
        channel.request_pty(false, "xterm-256color", columns, rows, 0, 0, &[]).await?;
        channel.request_shell(false).await?;
        Ok::<_, russh::Error>(channel)
    };
    let mut channel = match open.await {
        Ok(channel) => channel,
        Err(error) => return format!("open a shell: {error}"),
    };
    let mut code = None;
    let mut pending: Option<Vec<u8>> = None;
    loop {
        tokio::select! {
            room = output.reserve(), if pending.is_some() => {
                let Ok(room) = room else { return "left".into() };
                if let Some(bytes) = pending.take() {
                    room.send(bytes);
                }
            }
            message = channel.wait(), if pending.is_none() => match message {
                Some(ChannelMsg::Data { data } | ChannelMsg::ExtendedData { data, .. }) => {
                    if let Some(recorder) = recorder {
                        recorder.output(&data);
                    }
                    pending = Some(data.to_vec());
                }
                Some(ChannelMsg::ExitStatus { exit_status }) => code = Some(exit_status),
                Some(ChannelMsg::ExitSignal { .. }) => code = Some(255),
                Some(ChannelMsg::Close) | None => {
                    return match code {
                        Some(code) => format!("the shell ended with exit code {code}"),
                        None => "link lost: the host closed the connection".into(),
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
                        recorder.resize(columns, rows);
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
