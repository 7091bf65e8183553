//! Sets the terminal's modes when the cockpit opens, and restores them however it ends.
//!
//! A [`Guard`] does so for the local terminal. A remote terminal receives the same sequences
//! through its wire.

use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering};

use crossterm::cursor::Show;
use crossterm::event::{
    DisableBracketedPaste, DisableMouseCapture, EnableBracketedPaste, EnableMouseCapture,
};
use crossterm::terminal::{
    EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode,
};
use crossterm::{execute, queue};

use super::restorer::Restorer;

/// Whether the local terminal is in our modes. It is static since the panic hook needs it.
static ACTIVE: AtomicBool = AtomicBool::new(false);

/// A terminal that can't move its cursor.
#[derive(Debug, thiserror::Error)]
#[error("this terminal can't show a whole screen: TERM is {0}")]
pub(crate) struct PlainTerminal(String);

/// Refuses a terminal that the environment describes as one without cursor movement.
///
/// # Errors
/// [`PlainTerminal`]: `TERM` is unset, empty or `dumb`.
pub(crate) fn check_terminal() -> Result<(), PlainTerminal> {
    match std::env::var("TERM").unwrap_or_default().as_str() {
        "" => Err(PlainTerminal("not set".into())),
        "dumb" => Err(PlainTerminal("dumb".into())),
        _ => Ok(()),
    }
}

/// Holds the local terminal in our modes; dropping it restores the terminal.
#[derive(Debug)]
pub(crate) struct Guard {
    /// Dropped after the terminal is restored.
    _restorer: Restorer,
}

impl Guard {
    /// Enters raw mode and the alternate screen.
    ///
    /// # Errors
    /// Standard output is no terminal.
    pub fn take(mouse: bool) -> io::Result<Self> {
        enable_raw_mode()?;
        ACTIVE.store(true, Ordering::SeqCst);
        let guard = Self { _restorer: Restorer::start() };
        execute!(io::stdout(), EnterAlternateScreen, EnableBracketedPaste)?;
        if mouse {
            execute!(io::stdout(), EnableMouseCapture)?;
        }
        Ok(guard)
    }

    /// Captures or releases the mouse.
    ///
    /// # Errors
    /// The terminal is closed.
    #[expect(clippy::unused_self, reason = "only the holder of the terminal may change its modes")]
    pub fn set_mouse(&mut self, on: bool) -> io::Result<()> {
        if on {
            execute!(io::stdout(), EnableMouseCapture)
        } else {
            execute!(io::stdout(), DisableMouseCapture)
        }
    }
}

/// The sequence that sets the modes of a remote terminal.
///
/// # Errors
/// None in practice: writes to memory don't fail.
pub(crate) fn enter_sequence(mouse: bool) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    queue!(bytes, EnterAlternateScreen, EnableBracketedPaste)?;
    if mouse {
        queue!(bytes, EnableMouseCapture)?;
    }
    Ok(bytes)
}

/// The sequence that restores the modes of a remote terminal.
///
/// # Errors
/// None in practice: writes to memory don't fail.
pub(crate) fn leave_sequence() -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    queue!(bytes, DisableMouseCapture, DisableBracketedPaste, LeaveAlternateScreen, Show)?;
    bytes.extend_from_slice(b"\x1b[?2026l");
    Ok(bytes)
}

/// The sequence that captures or releases a remote terminal's mouse.
///
/// # Errors
/// None in practice: writes to memory don't fail.
pub(crate) fn mouse_sequence(on: bool) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if on {
        queue!(bytes, EnableMouseCapture)?;
    } else {
        queue!(bytes, DisableMouseCapture)?;
    }
    Ok(bytes)
}

impl Drop for Guard {
    fn drop(&mut self) {
        restore();
    }
}

/// Restores the local terminal if it is in our modes. It is safe to call at any time, also twice.
fn restore() {
    if !ACTIVE.swap(false, Ordering::SeqCst) {
        return;
    }
    let mut out = io::stdout();
    // The terminal may be closed already.
    let _ = leave_sequence().and_then(|bytes| out.write_all(&bytes));
    let _ = out.flush();
    let _ = disable_raw_mode();
}

/// Makes a panic on this thread restore the terminal before the panic is printed. A panic on
/// another thread is reported by its task and only logged: it must not be drawn over a live cockpit, nor
/// over the terminal that the cockpit has just left.
pub(crate) fn restore_on_panic() {
    let ours = std::thread::current().id();
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if std::thread::current().id() == ours {
            restore();
            before(panic);
        } else {
            tracing::error!(panic = %panic, "a task panicked");
        }
    }));
}
