//! The terminal's modes: set when the cockpit opens, restored however it ends.

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

/// Whether the terminal is ours now. The panic hook can't be given a value, so this one is shared.
static TAKEN: AtomicBool = AtomicBool::new(false);

/// Holds the terminal; gives it back when dropped.
#[derive(Debug)]
pub struct Guard {
    mouse: bool,
}

impl Guard {
    /// Takes the terminal.
    ///
    /// # Errors
    /// Where it is none.
    pub fn take(mouse: bool) -> io::Result<Self> {
        enable_raw_mode()?;
        TAKEN.store(true, Ordering::SeqCst);
        let guard = Self { mouse };
        execute!(io::stdout(), EnterAlternateScreen, EnableBracketedPaste)?;
        if mouse {
            execute!(io::stdout(), EnableMouseCapture)?;
        }
        Ok(guard)
    }

    /// Takes or leaves the mouse.
    ///
    /// # Errors
    /// Where the terminal is gone.
    pub fn set_mouse(&mut self, on: bool) -> io::Result<()> {
        self.mouse = on;
        if on {
            execute!(io::stdout(), EnableMouseCapture)
        } else {
            execute!(io::stdout(), DisableMouseCapture)
        }
    }

    /// Whether the mouse is ours.
    #[must_use]
    pub const fn mouse(&self) -> bool {
        self.mouse
    }
}

/// What takes a far terminal.
///
/// # Errors
/// None that happen in memory.
pub fn entering(mouse: bool) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    queue!(bytes, EnterAlternateScreen, EnableBracketedPaste)?;
    if mouse {
        queue!(bytes, EnableMouseCapture)?;
    }
    Ok(bytes)
}

/// What gives a far terminal back.
///
/// # Errors
/// None that happen in memory.
pub fn leaving() -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    queue!(bytes, DisableMouseCapture, DisableBracketedPaste, LeaveAlternateScreen, Show)?;
    bytes.extend_from_slice(b"\x1b[?2026l");
    Ok(bytes)
}

/// What takes or leaves a far terminal's mouse.
///
/// # Errors
/// None that happen in memory.
pub fn mouse(on: bool) -> io::Result<Vec<u8>> {
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

/// Gives the terminal back if it is taken. Safe to call at any time, also twice.
pub fn restore() {
    if !TAKEN.swap(false, Ordering::SeqCst) {
        return;
    }
    let mut out = io::stdout();
    // The terminal may be gone already.
    let _ = leaving().and_then(|bytes| out.write_all(&bytes));
    let _ = out.flush();
    let _ = disable_raw_mode();
}

/// Makes a panic on this thread restore the terminal before it is told. A panic on another
/// thread is reported by its task and must not pull the screen from under a live cockpit.
pub fn restore_on_panic() {
    let ours = std::thread::current().id();
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if std::thread::current().id() == ours {
            restore();
        }
        if TAKEN.load(Ordering::SeqCst) {
            tracing::error!(panic = %panic, "a task panicked");
        } else {
            before(panic);
        }
    }));
}
