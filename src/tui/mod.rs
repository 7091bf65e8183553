//! The screen of an operator: a client that draws snapshots and turns keys into requests.
//!
//! ```text
//! terminal ─ tty ─► session ─ input ─► app ─ keymap ─► Action
//!                      ▲                │ routes it to the overlay on top, the focused pane,
//!                      │                │ the pane that registered it, or itself
//!                      │                ▼
//!                      │            Component::act(action, scene) ─► Response
//!                      │                │ app applies its reactions; requests leave
//!                      ◄──── Request ───┘
//!                      │ fetch: Command ─► runtime client ─► core (Command ─► Effect)
//!                      ▼
//! terminal ◄─ screen ─ app.prepare + app.draw ◄─ Snapshot from the runtime
//! ```
//!
//! - `component` is the contract: `Component`, `Pane`, `Overlay`, `Scene`; `response` the answers
//! - `panes` and `overlays` are the components, a file or folder each; they know neither `app` nor
//!   each other's kind
//! - `widgets` are the pieces of drawing that they share; `bars` are the lines around them
//! - `app` owns focus, zoom and overlays, and routes; `layout` places the panes
//! - `session` is the loop at a terminal; `dash` is a screen of its own, without keys

mod action;
mod action_group;
mod app;
mod bars;
mod clipboard;
mod clock;
mod colour;
mod component;
pub(crate) mod dash;
mod drafts;
mod fetch;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod ground;
mod held;
mod input;
mod kept_file;
mod keymap;
mod last_look;
mod layout;
mod markdown;
mod motion;
mod overlays;
mod pane_id;
mod panes;
mod past;
mod past_keys;
mod plain_cells;
mod request;
mod response;
mod review;
mod run_actions;
mod saved_layout;
pub(crate) mod session;
mod signals;
mod subject;
#[cfg(test)]
mod tests;
mod theme;
mod theme_file;
mod tour;
mod tty;
mod unneeded;
mod widgets;

// For the benchmarks.
pub use self::app::App;
pub use self::panes::transcript::window::Window as TranscriptWindow;
pub use self::theme::Theme;
pub(crate) use self::tty::check as check_terminal;
