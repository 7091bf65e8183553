//! The clipboard of the operator's terminal: the sequence that fills it (OSC 52), and the ways through
//! tmux, which drops that sequence unless it is configured to take it.

use std::io;
use std::process::Stdio;
use std::time::Duration;

use crossterm::clipboard::CopyToClipboard;
use tokio::io::AsyncWriteExt;

/// How long tmux may take to accept a text.
const TMUX: Duration = Duration::from_secs(2);

/// The sequence that puts a text into the clipboard.
pub(super) fn sequence(text: &str) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    crossterm::execute!(bytes, CopyToClipboard::to_clipboard_from(text))?;
    Ok(bytes)
}

/// The sequence inside of tmux's passthrough, which reaches the terminal around tmux where
/// `allow-passthrough` is on.
pub(super) fn through_tmux(sequence: &[u8]) -> Vec<u8> {
    let mut bytes = b"\x1bPtmux;".to_vec();
    for byte in sequence {
        if *byte == 0x1b {
            bytes.push(0x1b);
        }
        bytes.push(*byte);
    }
    bytes.extend_from_slice(b"\x1b\\");
    bytes
}

/// Whether this terminal is a pane of tmux.
pub(super) fn in_tmux() -> bool {
    std::env::var_os("TMUX").is_some_and(|socket| !socket.is_empty())
}

/// Puts a text into tmux's buffer, and with `-w` into the clipboard of the terminal around it.
///
/// # Errors
/// The words for the operator, with the setting that would help.
pub(super) async fn copy_to_tmux(text: &str) -> Result<(), String> {
    let load = async {
        let mut tmux = tokio::process::Command::new("tmux")
            .args(["load-buffer", "-w", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()?;
        if let Some(mut to) = tmux.stdin.take() {
            to.write_all(text.as_bytes()).await?;
        }
        tmux.wait().await
    };
    match tokio::time::timeout(TMUX, load).await {
        Ok(Ok(status)) if status.success() => Ok(()),
        _ => Err("tmux took no copy: `tmux set -g set-clipboard on` lets it through".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passthrough_doubles_each_escape() {
        assert_eq!(through_tmux(b"\x1b]52;c;YQ==\x07"), b"\x1bPtmux;\x1b\x1b]52;c;YQ==\x07\x1b\\");
    }
}
