//! The ledger: for every issue, the reason why it was or wasn't started.
//! [`crate::query::dispatch::consider`] decides the reason, the journal records each change, and
//! the queue pane shows the reason with its hint.

use serde::{Deserialize, Serialize};

use crate::model::breaker::Cause;
use crate::model::id::{Actor, Repo, RunId};
use crate::model::outage::OutageCause;
use crate::model::run::Outcome;
use crate::model::time::Timestamp;

/// The reason for an issue's place in the ledger. [`crate::query::dispatch::consider`] defines the
/// order of the checks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "reason")]
pub enum Reason {
    /// A run works on the issue.
    Running {
        /// The number of the run.
        run: RunId,
    },
    /// The issue is closed in its tracker.
    Closed,
    /// A run on the issue ended. Its outcome is final until somebody arms the issue again or
    /// reopens the run.
    Ended {
        /// The number of the run.
        run: RunId,
        /// The outcome of the run.
        outcome: Outcome,
    },
    /// The repository is not on the allowlist.
    NotAllowed {
        /// The repository in question.
        repo: Repo,
    },
    /// The issue carries the label that asks for a human.
    NeedsHuman,
    /// The issue carries the label of an issue in progress, and no run of this afk put it there.
    ClaimedElsewhere,
    /// The issue doesn't carry the ready label.
    NotReady,
    /// An untrusted account armed the issue.
    Untrusted {
        /// The account that armed it.
        by: Actor,
    },
    /// The tracker doesn't show who armed the issue.
    ArmingUnknown {
        /// The reason why it can't be determined.
        why: String,
    },
    /// An untrusted account changed the issue after it was armed.
    Hold {
        /// The change, with its author.
        why: String,
    },
    /// The issue waits for other issues.
    Blocked {
        /// The references that block it, each with its state.
        by: Vec<String>,
    },
    /// A kill switch stops all pickup.
    KillSwitch,
    /// Another run holds the repository's lock.
    RepoBusy {
        /// The number of that run.
        run: RunId,
    },
    /// A frozen run holds the repository's lock until an operator releases it.
    RepoFrozen {
        /// The number of the frozen run.
        run: RunId,
    },
    /// The circuit breaker is open.
    Breaker {
        /// The cause that the failed runs share.
        cause: Cause,
    },
    /// A part of the environment that the repository needs is away.
    Outage {
        /// The part that is away.
        cause: OutageCause,
    },
    /// Another turn might exceed the day's limit.
    OverBudget,
    /// The number of waiting runs has reached `max_queue_depth`.
    QueueFull,
    /// Every check passed, so the issue is claimed next.
    Eligible,
}

impl Reason {
    /// The reason in one line, for the row.
    #[must_use]
    pub fn summary(&self) -> String {
        match self {
            Self::Running { run } => format!("{run} works on it"),
            Self::Closed => "closed in its tracker".into(),
            Self::Ended { run, outcome } => format!("{run} ended: {}", outcome.as_str()),
            Self::NotAllowed { repo } => format!("{repo} is not on the allowlist"),
            Self::NeedsHuman => "labelled for a human".into(),
            Self::ClaimedElsewhere => "in progress at another afk".into(),
            Self::NotReady => "not labelled ready".into(),
            Self::Untrusted { by } => format!("labelled by {by}, who is not trusted"),
            Self::ArmingUnknown { why } => format!("labelled by an unknown actor: {}", clean(why)),
            Self::Hold { why } => format!("held: {}", clean(why)),
            Self::Blocked { by } => format!("waits for {}", clean(&by.join(", "))),
            Self::KillSwitch => "the kill switch is on".into(),
            Self::RepoBusy { run } => format!("{run} holds the repository's lock"),
            Self::RepoFrozen { run } => format!("{run} is frozen and holds the lock"),
            Self::Breaker { cause } => format!("paused: {}", clean(&cause.0)),
            Self::Outage { cause } => format!("waits: {}", cause.summary()),
            Self::OverBudget => "the day's budget is spent".into(),
            Self::QueueFull => "the queue is full".into(),
            Self::Eligible => "starts as soon as possible".into(),
        }
    }

    /// The operator's remedy for an issue, which may be on a remote tracker; none where there is
    /// nothing to do.
    #[must_use]
    pub fn hint(&self, is_remote: bool) -> Option<String> {
        Some(match self {
            Self::NotAllowed { repo } => {
                format!("add \"{repo}\" to `allowlist` in the configuration")
            }
            Self::NeedsHuman => "remove the label, or retry the run from the inbox".into(),
            Self::ClaimedElsewhere => {
                "remove the label of an issue in progress if no other afk works on it".into()
            }
            Self::NotReady => "put the ready label on it".into(),
            Self::Untrusted { .. } => {
                "let a trusted person arm it, or add the account to `trusted`".into()
            }
            Self::ArmingUnknown { .. } if is_remote => {
                "afk reads the issue again; if it stays so, take the ready label off and put it on \
                 again"
                    .into()
            }
            Self::ArmingUnknown { .. } => "name the person who armed it in `armed_by`".into(),
            Self::Hold { .. } => "read it, then arm it again".into(),
            Self::Blocked { .. } => "close the blocking issues, or remove the references".into(),
            Self::KillSwitch => {
                "press p in the cockpit, or set `kill_switch = false` in the configuration".into()
            }
            Self::RepoFrozen { run } => format!("answer {run}'s escalation in the inbox"),
            Self::Breaker { .. } => {
                "see the inbox; pickup resumes by itself once a turn succeeds".into()
            }
            Self::Outage { .. } => {
                "nothing: afk tries again by itself, and goes on once it is over".into()
            }
            Self::OverBudget => "raise `budget.day_usd`, or wait for midnight UTC".into(),
            Self::Ended { outcome: Outcome::Done, .. } => "arm it again to repeat it".into(),
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

/// An issue's entry in the ledger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LedgerEntry {
    /// The reason that holds now.
    pub reason: Reason,
    /// The time at which it began to hold.
    pub since: Timestamp,
}
