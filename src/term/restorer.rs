//! A second process that restores the terminal where the first one can't: after a crash, or a signal
//! that no program receives.
//!
//! `guard` starts it with the modes of the cockpit and holds a pipe to it. The pipe carries one byte when
//! the cockpit has restored the terminal itself; a pipe that ends without that byte is a crash.

use std::io::{self, IsTerminal, Read, Write};
use std::process::{Child, Command, Stdio};

use rustix::termios::{InputModes, LocalModes, OptionalActions, OutputModes, tcgetattr, tcsetattr};

use super::guard::leave_sequence;

/// The hidden subcommand of the second process.
pub(crate) const SUBCOMMAND: &str = "__restore-terminal";
/// Sent once the terminal is restored.
const RESTORED: u8 = b'r';

/// The second process, while the cockpit has the terminal.
#[derive(Debug)]
pub(super) struct Restorer(Option<Child>);

impl Restorer {
    /// Starts the process; without it, only a crash leaves the terminal in the cockpit's modes.
    pub(super) fn start() -> Self {
        let spawned = std::env::current_exe().and_then(|program| {
            Command::new(program)
                .arg(SUBCOMMAND)
                .stdin(Stdio::piped())
                .stderr(Stdio::null())
                .spawn()
        });
        Self(spawned.ok())
    }
}

impl Drop for Restorer {
    fn drop(&mut self) {
        let Some(mut child) = self.0.take() else { return };
        if let Some(mut pipe) = child.stdin.take() {
            let _ = pipe.write_all(&[RESTORED]);
        }
        // It ends at once, now that the pipe has ended.
        let _ = child.wait();
    }
}

/// The second process: waits for the end of the first one, and restores the terminal after a crash.
///
/// # Errors
/// The terminal is gone.
pub(crate) fn run() -> io::Result<()> {
    // In a session of its own, no signal of the terminal ends it, and none stops it when it writes.
    let _ = rustix::process::setsid();
    let mut word = Vec::new();
    io::stdin().lock().read_to_end(&mut word)?;
    let mut terminal = io::stdout();
    if word == [RESTORED] || !terminal.is_terminal() {
        return Ok(());
    }
    terminal.write_all(&leave_sequence()?)?;
    terminal.flush()?;
    let mut modes = tcgetattr(&terminal)?;
    modes.input_modes |= InputModes::ICRNL | InputModes::IXON | InputModes::BRKINT;
    modes.output_modes |= OutputModes::OPOST | OutputModes::ONLCR;
    modes.local_modes |= LocalModes::ECHO
        | LocalModes::ECHOE
        | LocalModes::ECHOK
        | LocalModes::ICANON
        | LocalModes::ISIG
        | LocalModes::IEXTEN;
    tcsetattr(&terminal, OptionalActions::Now, &modes)?;
    terminal.write_all(b"\r\nafk has crashed; `afk` shows what goes on\r\n")?;
    terminal.flush()
}
