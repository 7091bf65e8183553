//! The stated structure, held against the source: import circles, arrows between rooms, purity of the core, names and
//! doc comments. Everything is read with a Rust parser, so that `use crate::{ci, deploy}` counts as
//! two imports and a name in a string counts as none.

#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

mod arrows;
mod circles;
mod names;
mod purity;
mod source;
