//! The ledger: for every issue, why it was or wasn't started.

use serde::{Deserialize, Serialize};

use crate::model::breaker::Cause;
use crate::model::id::{Actor, Repo, RunId};
use crate::model::run::Outcome;
use crate::model::time::Timestamp;

/// Why an issue stands where it stands. The order of the checks is [`crate::query::dispatch::consider`]'s.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "reason")]
pub enum Reason {
    /// A run has it.
    Running {
        /// Which.
        run: RunId,
    },
    /// Closed in its tracker.
    Closed,
    /// A run ended it; a terminal outcome is final until somebody arms it anew or retries.
    Ended {
        /// Which run.
        run: RunId,
        /// How.
        outcome: Outcome,
    },
    /// Not on the allowlist.
    NotAllowed {
        /// Which repository.
        repo: Repo,
    },
    /// Carries the label that asks a human.
    NeedsHuman,
    /// The ready label is not there.
    NotReady,
    /// Armed by someone who may not.
    Untrusted {
        /// Who.
        by: Actor,
    },
    /// Nobody can say who armed it.
    ArmingUnknown {
        /// Why.
        why: String,
    },
    /// Changed after it was armed, by someone who may not arm.
    Hold {
        /// How.
        why: String,
    },
    /// Waits for other work.
    Blocked {
        /// For what, each with its state.
        by: Vec<String>,
    },
    /// The kill switch is on.
    KillSwitch,
    /// Another run has the repository.
    RepoBusy {
        /// Which.
        run: RunId,
    },
    /// A frozen run keeps the repository until an operator releases it.
    RepoFrozen {
        /// Which.
        run: RunId,
    },
    /// Runs fail for one cause.
    Breaker {
        /// Which.
        cause: Cause,
    },
    /// A turn would go over the day's limit.
    OverBudget,
    /// As many runs wait for a permit as may.
    QueueFull,
    /// Nothing speaks against it.
    Eligible,
}

impl Reason {
    /// The one line shown on its row.
    #[must_use]
    pub fn summary(&self) -> String {
        match self {
            Self::Running { run } => format!("{run} works on it"),
            Self::Closed => "closed in its tracker".into(),
            Self::Ended { run, outcome } => format!("{run} ended it: {}", outcome.as_str()),
            Self::NotAllowed { repo } => format!("{repo} is not on the allowlist"),
            Self::NeedsHuman => "labelled for a human".into(),
            Self::NotReady => "not labelled ready".into(),
            Self::Untrusted { by } => format!("armed by {by}, who is not trusted"),
            Self::ArmingUnknown { why } => format!("who armed it is unknown: {}", clean(why)),
            Self::Hold { why } => format!("held: {}", clean(why)),
            Self::Blocked { by } => format!("waits for {}", clean(&by.join(", "))),
            Self::KillSwitch => "the kill switch is on".into(),
            Self::RepoBusy { run } => format!("{run} has the repository"),
            Self::RepoFrozen { run } => format!("{run} is frozen and keeps the repository"),
            Self::Breaker { cause } => format!("paused: {}", clean(&cause.0)),
            Self::OverBudget => "the day's budget is spent".into(),
            Self::QueueFull => "the queue is full".into(),
            Self::Eligible => "starts as soon as it can".into(),
        }
    }

    /// What a person can do about it, where there is something.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::NotAllowed { repo } => {
                format!("add \"{repo}\" to `allowlist` in the configuration")
            }
            Self::NeedsHuman => "remove the label, or retry the run from the inbox".into(),
            Self::NotReady => "put the ready label on it".into(),
            Self::Untrusted { .. } => {
                "have someone trusted arm it, or add them to `trusted`".into()
            }
            Self::ArmingUnknown { .. } => "say who armed it, in `armed_by`".into(),
            Self::Hold { .. } => "read it again and arm it anew".into(),
            Self::Blocked { .. } => "close what it waits for, or drop the reference".into(),
            Self::KillSwitch => {
                "press p in the cockpit, or set `kill_switch = false` in the configuration".into()
            }
            Self::RepoFrozen { run } => format!("answer {run}'s escalation in the inbox"),
            Self::Breaker { .. } => {
                "see the inbox; it goes on by itself once a run's turn works again".into()
            }
            Self::OverBudget => "raise `budget.day_usd`, or wait for midnight UTC".into(),
            Self::Ended { outcome: Outcome::Done, .. } => {
                "arm it anew to have it done again".into()
            }
            Self::Ended { .. } => "press r on its run to retry".into(),
            Self::QueueFull => "raise `max_queue_depth` or `capacity`".into(),
            Self::Running { .. } | Self::Closed | Self::RepoBusy { .. } | Self::Eligible => {
                return None;
            }
        })
    }
}

fn clean(text: &str) -> String {
    crate::model::untrusted::clean_line(text)
}

/// What the ledger says of one issue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LedgerEntry {
    /// The reason.
    pub reason: Reason,
    /// Since when.
    pub since: Timestamp,
}
