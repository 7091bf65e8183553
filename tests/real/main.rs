//! Real fixes of small open-source projects, replayed through the gate, and dishonest variants of
//! them. `tests/real.sh` fetches the projects and runs this; without it every test here is reported
//! as ignored.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stderr,
    reason = "a test fails by a panic, and says when it is skipped"
)]

mod ahead;
mod dishonest;
mod fixes;
mod project;
#[path = "../support/mod.rs"]
mod support;
