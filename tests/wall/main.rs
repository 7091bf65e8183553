//! Attacks from behind the wall. Each is a few lines that a hostile agent could run, and is judged
//! by its effect: the key wasn't read, the port saw no byte, the process lived on.
//!
//! The rows run at each level that this machine allows, as this user and, where this user is root,
//! as an ordinary one. What a level doesn't stop stands in docs/security.md by the row's name, and
//! `what_a_level_does_not_stop_is_documented` compares.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a test fails by a panic, and says when it is skipped"
)]

#[path = "../support/mod.rs"]
mod support;

mod agent;
mod attacks;
mod ends;
mod groups;
mod prison;
