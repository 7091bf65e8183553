//! Everything that deals with a terminal's bytes, for this process's own terminal and for remote
//! ones.
//!
//! ```text
//! terminal ─ bytes ─► local | serve::ssh ─► event::InputParser ─► TerminalEvent ─► tui
//! terminal ◄─ bytes ─ wire::FrameWire ◄─ screen::Screen ◄─ ratatui frame ◄─────── tui
//!
//! breakglass shell ─ bytes ─► filter::OutputFilter ─► emulator::Emulator ─► cells in a pane
//! breakglass shell ◄─ bytes ─ encode ◄─ keys that are typed into the pane
//! ```
//!
//! `guard` sets and restores the terminal's modes, `restorer` restores them after a crash, `frames` limits the frame rate, and `key` names
//! keys for keymaps.

pub mod emulator;
pub(crate) mod encode;
pub mod event;
mod filter;
pub(crate) mod frames;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
pub(crate) mod guard;
pub mod key;
pub(crate) mod local;
pub(crate) mod restorer;
pub mod screen;
mod split;
pub mod wire;
