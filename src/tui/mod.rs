//! What an operator sees: a client that folds snapshots into pictures and keys into commands.
//!
//! [`session`] is the loop; [`view`] the state of one client; [`update`] turns an [`act::Act`]
//! into requests; [`draw`] is a pure function of snapshot and view. Panes and overlays have a file
//! each.

pub mod act;
pub mod dash;
pub mod draw;
mod fetch;
pub mod keymap;
pub mod mouse;
pub mod overlays;
pub mod panes;
pub mod session;
pub mod theme;
mod typing;
pub mod update;
pub mod view;
pub mod widgets;
