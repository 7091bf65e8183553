//! The judges of a pushed commit: the repository's own command, GitHub's checks, or Woodpecker's
//! pipelines. `runtime::tasks::stages` polls one of them until it decides.
//!
//! ```text
//! stages → command::run ──────────────────────────────→ Judgement
//! stages → github::poll → CheckRuns → tables T3, T4 ─┐
//! stages → WoodpeckerClient::poll → table T5 ────────┴→ CiStatus → again, the head, or Judgement
//! ```

pub mod command;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
pub mod github;
mod github_checks;
pub mod quiet;
pub mod woodpecker;

use crate::core::model::verdict::Judgement;

/// What CI says about a commit at one poll.
#[derive(Debug)]
pub enum CiStatus {
    /// CI has not decided; the text names the checks that are missing.
    Pending(String),
    /// The checks were cut off because the branch moved on: its head, which contains the commit,
    /// decides.
    Superseded,
    /// CI has decided, for good or ill.
    Decided(Judgement),
}
