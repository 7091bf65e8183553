//! The outbox: completion steps that are retried until they are done, and never done twice.
//!
//! An entry is delivered at least once and its adapter is idempotent by the entry's id, so it is
//! seen exactly once. Entries of one subject go in order.

use serde::{Deserialize, Serialize};

use crate::model::id::{IssueKey, OutboxId, RunId};
use crate::model::notice::Notice;
use crate::model::time::Timestamp;

/// One step towards the outside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "step")]
pub enum OutboxStep {
    /// Sets the labels that say where the issue stands; takes the others of ours off.
    Label {
        /// Which issue.
        issue: IssueKey,
        /// Which of ours it carries afterwards.
        label: Option<StandingLabel>,
    },
    /// One comment, told apart by the entry's id.
    Comment {
        /// Which issue.
        issue: IssueKey,
        /// About which run.
        run: RunId,
        /// What it says; ours, cleaned.
        text: String,
    },
    /// Closes the issue.
    Close {
        /// Which issue.
        issue: IssueKey,
    },
    /// Tells the operator.
    Notify {
        /// About which run, if any.
        run: Option<RunId>,
        /// What.
        what: Notice,
        /// Where; none are the terminals that are attached.
        #[serde(default)]
        sink: Option<String>,
    },
    /// Writes the one comment that shows how far an issue has come, as it is at that time.
    Progress {
        /// Which issue.
        issue: IssueKey,
    },
}

/// The labels of ours that an open issue can carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StandingLabel {
    /// A run has it.
    InProgress,
    /// A human is asked.
    ReadyForHuman,
}

impl OutboxStep {
    /// A notice of breakglass: not held up by a journal that can't be written.
    #[must_use]
    pub const fn is_breakglass(&self) -> bool {
        matches!(self, Self::Notify { what: Notice::Breakglass { .. }, .. })
    }

    /// What it is about; entries of one subject are delivered in order.
    #[must_use]
    pub fn subject(&self) -> String {
        match self {
            Self::Label { issue, .. }
            | Self::Comment { issue, .. }
            | Self::Close { issue }
            | Self::Progress { issue } => issue.to_string(),
            Self::Notify { run: Some(run), sink: None, .. } => format!("notify {run}"),
            Self::Notify { run: None, sink: None, .. } => "notify of breakglass".into(),
            Self::Notify { sink: Some(sink), .. } => format!("notify by {sink}"),
        }
    }

    /// Said once and never again, also where nobody knows whether it arrived: a notice that leaves
    /// this machine.
    #[must_use]
    pub const fn once(&self) -> bool {
        matches!(self, Self::Notify { sink: Some(_), .. })
    }

    /// One line for the screen.
    #[must_use]
    pub fn summary(&self) -> String {
        match self {
            Self::Label { issue, label: None } => format!("take our labels off {issue}"),
            Self::Label { issue, label: Some(StandingLabel::InProgress) } => {
                format!("label {issue} in progress")
            }
            Self::Label { issue, label: Some(StandingLabel::ReadyForHuman) } => {
                format!("label {issue} ready for a human")
            }
            Self::Comment { issue, .. } => format!("comment on {issue}"),
            Self::Close { issue } => format!("close {issue}"),
            Self::Progress { issue } => format!("show how far {issue} has come"),
            Self::Notify { run, sink, .. } => {
                let about = run.map_or_else(|| "breakglass".into(), |run| run.to_string());
                match sink {
                    None => format!("notify about {about}"),
                    Some(sink) => format!("notify {sink} about {about}"),
                }
            }
        }
    }
}

/// A step that is not yet known to be done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutboxEntry {
    /// Its number: the idempotency key.
    pub id: OutboxId,
    /// What is to be done.
    pub step: OutboxStep,
    /// How often it failed.
    pub failures: u32,
    /// Not before this time.
    pub not_before: Timestamp,
    /// What was said the last time.
    pub error: Option<String>,
    /// Handed over, and no answer is known: of what is said once.
    #[serde(default)]
    pub attempted: bool,
}

/// Milliseconds to wait after `failures` failures: 1 s doubling to 5 min.
#[must_use]
pub const fn backoff_ms(failures: u32) -> i64 {
    let doublings = if failures > 9 { 9 } else { failures };
    let ms = 500_i64 << doublings;
    if ms > 300_000 { 300_000 } else { ms }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backoff_doubles_to_a_bound() {
        assert_eq!(backoff_ms(1), 1_000);
        assert_eq!(backoff_ms(2), 2_000);
        assert_eq!(backoff_ms(50), 256_000);
    }
}
