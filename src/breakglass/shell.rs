//! Relays a shell on a host: typed bytes and sizes go in, output comes out, at the reader's pace.
//!
//! `runtime::breakglass::console` opens one for each shell in a cockpit.

use std::sync::Mutex;
use std::time::Duration;

use russh::client::Msg;
use russh::{ChannelMsg, ChannelReadHalf, ChannelWriteHalf};
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, timeout};

use super::link::{LinkState, LinkWatch};
use super::recording::Recorder;
use super::ssh::SshSession;
use crate::lock::LockExt;

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

/// The longest that a host may take to open a shell after the login. A wedged one may never do it.
const OPEN: Duration = Duration::from_secs(60);

/// How often a write that waits checks whether the user has left.
const LEFT_CHECK: Duration = Duration::from_millis(200);

/// The encoding that the emulator reads and writes, independent of our own locale.
const LOCALE: (&str, &str) = ("LC_CTYPE", "C.UTF-8");

/// Relays a shell until either side ends it, and returns the reason in one line.
///
/// Both directions run on their own. A host that writes and does not read its input closes its window
/// for ours, and would stop its own output too if one waited for the other. While `output` is full
/// nothing is read from the host: the SSH window closes, and the host waits. `link` says whether the
/// host still answers.
pub(crate) async fn relay(
    session: &SshSession,
    size: (u16, u16),
    input: &mut mpsc::Receiver<ToShell>,
    output: &mpsc::Sender<Vec<u8>>,
    link: &watch::Sender<LinkState>,
    recorder: &mut Option<Recorder>,
) -> String {
    link.send_replace(LinkState::Opening("logged in; the host opens a shell".into()));
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
    let (mut from, to) = match while_open(input, timeout(OPEN, open)).await {
        Some(Ok(Ok(channel))) => channel.split(),
        Some(Ok(Err(error))) => return format!("open a shell: {error}"),
        Some(Err(_)) => return format!("the host opened no shell in {} s", OPEN.as_secs()),
        None => return "left".into(),
    };
    let recorder = Mutex::new(recorder);
    let watch = LinkWatch::new(link);
    watch.heard();
    tokio::select! {
        why = relay_output(&mut from, output, &watch, &recorder) => why,
        why = relay_input(&to, input, &recorder) => why,
        never = watch.follow(&session.handle, session.keepalive) => match never {},
    }
}

async fn relay_output(
    from: &mut ChannelReadHalf,
    output: &mpsc::Sender<Vec<u8>>,
    link: &LinkWatch<'_>,
    recorder: &Mutex<&mut Option<Recorder>>,
) -> String {
    let mut code = None;
    loop {
        let message = from.wait().await;
        link.heard();
        match message {
            Some(ChannelMsg::Data { data } | ChannelMsg::ExtendedData { data, .. }) => {
                if let Some(recorder) = recorder.locked().as_mut() {
                    recorder.output(&data);
                }
                if link.hold_back(output.send(data.to_vec())).await.is_err() {
                    return "left".into();
                }
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
        }
    }
}

async fn relay_input(
    to: &ChannelWriteHalf<Msg>,
    input: &mut mpsc::Receiver<ToShell>,
    recorder: &Mutex<&mut Option<Recorder>>,
) -> String {
    while let Some(piece) = input.recv().await {
        let write = async {
            match piece {
                ToShell::Bytes(bytes) => to.data_bytes(bytes).await,
                ToShell::Size(columns, rows) => {
                    if let Some(recorder) = recorder.locked().as_mut() {
                        recorder.resize(columns, rows);
                    }
                    to.window_change(u32::from(columns), u32::from(rows), 0, 0).await
                }
            }
        };
        match while_open(input, write).await {
            Some(Ok(())) => {}
            Some(Err(error)) => return format!("link lost: {error}"),
            None => break,
        }
    }
    "left".into()
}

/// Finishes a write whose next piece comes from `input`; `None` as soon as nobody can send one any
/// more. A write to a host that reads nothing may wait for ever.
pub(crate) async fn while_open<T, R>(
    input: &mpsc::Receiver<T>,
    write: impl Future<Output = R>,
) -> Option<R> {
    tokio::pin!(write);
    loop {
        tokio::select! {
            done = &mut write => return Some(done),
            () = sleep(LEFT_CHECK), if !input.is_closed() => {}
            () = std::future::ready(()), if input.is_closed() => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn write_that_never_ends_is_given_up_once_the_user_has_left() {
        let (to, input) = mpsc::channel::<ToShell>(4);
        // A piece that still waits does not hide that the user has left.
        to.send(ToShell::Bytes(b"x".to_vec())).await.unwrap();
        let write = while_open(&input, std::future::pending::<()>());
        tokio::pin!(write);
        let early = tokio::time::timeout(LEFT_CHECK * 3, &mut write).await;
        assert!(early.is_err(), "given up though the user is there");
        drop(to);
        let done = tokio::time::timeout(Duration::from_secs(10), write).await;
        assert_eq!(done, Ok(None));
    }
}
