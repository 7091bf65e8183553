//! The outbox: the completion steps that afk owes to trackers and operators. A step stays in the
//! outbox, through restarts, until its delivery is reported.
//!
//! afk delivers an entry at least once, and its adapter is idempotent by the entry's number, so
//! that the effect happens exactly once. A notice to a sink can't be idempotent and is attempted at
//! most once ([`OutboxStep::once`]). Entries of one subject are delivered in order.

use serde::{Deserialize, Serialize};

use crate::model::id::{IssueKey, OutboxId, RunId};
use crate::model::notice::Notice;
use crate::model::time::Timestamp;

/// A completion step: a change in a tracker, or a notice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "step")]
pub enum OutboxStep {
    /// Replaces afk's own labels on an issue.
    Label {
        /// The issue to label.
        issue: IssueKey,
        /// The label of afk's that it carries afterwards; none removes them.
        label: Option<StandingLabel>,
    },
    /// Posts a comment once; the entry's number identifies it.
    Comment {
        /// The issue to comment on.
        issue: IssueKey,
        /// The run that the comment is about.
        run: RunId,
        /// The comment, written by afk and cleaned.
        text: String,
    },
    /// Closes an issue in its tracker.
    Close {
        /// The issue to close.
        issue: IssueKey,
    },
    /// Sends a notice to the operators.
    Notify {
        /// The run that the notice is about, where there is one.
        run: Option<RunId>,
        /// The notice to send.
        what: Notice,
        /// The sink's name; none for the attached terminals.
        #[serde(default)]
        sink: Option<String>,
    },
    /// Creates or edits the one comment with an issue's progress, as it is at the time of delivery.
    Progress {
        /// The issue whose progress it shows.
        issue: IssueKey,
    },
    /// Looks again for a comment whose answer was lost, and removes every copy but the first: the
    /// tracker may carry out a request long after its sender gave up.
    Tidy {
        /// The issue that was commented on.
        issue: IssueKey,
        /// The entry of the comment; none for the progress comment.
        of: Option<OutboxId>,
        /// The number of looks before this one.
        looks: u8,
    },
}

/// A delivery that failed and is due again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailedDelivery {
    /// The number of the outbox entry.
    pub entry: OutboxId,
    /// The error with its causes.
    pub error: String,
    /// The shortest wait before the retry, in milliseconds, where the service demands one; otherwise 0.
    #[serde(default)]
    pub wait: i64,
    /// Whether the tracker may have carried it out, or may still do so.
    #[serde(default, skip_serializing_if = "core::ops::Not::not")]
    pub doubtful: bool,
}

/// A label that afk puts on an open issue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StandingLabel {
    /// A run works on the issue.
    InProgress,
    /// afk asks a human about the issue.
    ReadyForHuman,
}

impl OutboxStep {
    /// Whether it is a notice of breakglass, which is sent even when the journal can't be written.
    #[must_use]
    pub const fn is_breakglass(&self) -> bool {
        matches!(self, Self::Notify { what: Notice::Breakglass { .. }, .. })
    }

    /// The subject; entries of one subject are delivered in order.
    #[must_use]
    pub fn subject(&self) -> String {
        match self {
            Self::Label { issue, .. }
            | Self::Comment { issue, .. }
            | Self::Close { issue }
            | Self::Progress { issue } => issue.to_string(),
            // It waits for minutes, and holds no other step up.
            Self::Tidy { issue, .. } => format!("copies of comments on {issue}"),
            Self::Notify { run: Some(run), sink: None, .. } => format!("notify {run}"),
            Self::Notify { run: None, what: Notice::Breakglass { .. }, sink: None } => {
                "notify of breakglass".into()
            }
            Self::Notify { run: None, sink: None, .. } => "notify".into(),
            Self::Notify { sink: Some(sink), .. } => format!("notify by {sink}"),
        }
    }

    /// The issue that it changes; none for a notice.
    #[must_use]
    pub const fn issue(&self) -> Option<&IssueKey> {
        match self {
            Self::Label { issue, .. }
            | Self::Comment { issue, .. }
            | Self::Close { issue }
            | Self::Progress { issue }
            | Self::Tidy { issue, .. } => Some(issue),
            Self::Notify { .. } => None,
        }
    }

    /// Whether it takes the arming of the issue back, or closes it.
    #[must_use]
    pub fn disarms(&self, key: &IssueKey) -> bool {
        matches!(self, Self::Label { issue, label: None } | Self::Close { issue } if issue == key)
    }

    /// The step that looks for copies of this comment, if it is a comment.
    #[must_use]
    pub(crate) fn tidy(&self, entry: OutboxId) -> Option<(Self, i64)> {
        let (issue, of, looks) = match self {
            Self::Comment { issue, .. } => (issue, Some(entry), 0),
            Self::Progress { issue } => (issue, None, 0),
            Self::Tidy { issue, of, looks } => (issue, *of, looks + 1),
            Self::Label { .. } | Self::Close { .. } | Self::Notify { .. } => return None,
        };
        let wait = *TIDY_MS.get(usize::from(looks))?;
        Some((Self::Tidy { issue: issue.clone(), of, looks }, wait))
    }

    /// Whether it must not be repeated even when its delivery is unknown, as for a notice that
    /// leaves this machine.
    #[must_use]
    pub const fn once(&self) -> bool {
        matches!(self, Self::Notify { sink: Some(_), .. })
    }

    /// The step in one line, for the screen.
    #[must_use]
    pub fn summary(&self) -> String {
        match self {
            Self::Label { issue, label: None } => format!("remove afk's labels from {issue}"),
            Self::Label { issue, label: Some(StandingLabel::InProgress) } => {
                format!("label {issue} in progress")
            }
            Self::Label { issue, label: Some(StandingLabel::ReadyForHuman) } => {
                format!("label {issue} ready for a human")
            }
            Self::Comment { issue, .. } => format!("comment on {issue}"),
            Self::Close { issue } => format!("close {issue}"),
            Self::Progress { issue } => format!("update the progress comment on {issue}"),
            Self::Tidy { issue, .. } => format!("look for copies of a comment on {issue}"),
            Self::Notify { run, sink, what } => {
                let about = match (run, what) {
                    (Some(run), _) => run.to_string(),
                    (None, Notice::Tracker { .. }) => "a tracker".into(),
                    (None, _) => "breakglass".into(),
                };
                match sink {
                    None => format!("notify about {about}"),
                    Some(sink) => format!("notify {sink} about {about}"),
                }
            }
        }
    }
}

/// A step whose delivery has not been reported.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutboxEntry {
    /// The entry's number, which is the idempotency key.
    pub id: OutboxId,
    /// The step to carry out.
    pub step: OutboxStep,
    /// The number of failed deliveries so far.
    pub failures: u32,
    /// The earliest time of the next delivery.
    pub not_before: Timestamp,
    /// The error of the last failed delivery.
    pub error: Option<String>,
    /// Whether retries can't help, so that it waits for an operator.
    #[serde(default, skip_serializing_if = "core::ops::Not::not")]
    pub held: bool,
    /// Whether an earlier attempt may have taken effect, or may still do so.
    #[serde(default, skip_serializing_if = "core::ops::Not::not")]
    pub doubtful: bool,
    /// Whether a step that must not be repeated was handed to its adapter, and no report has
    /// arrived.
    #[serde(default)]
    pub attempted: bool,
}

/// The waits before the looks for copies of a comment, in milliseconds.
const TIDY_MS: [i64; 3] = [5_000, 60_000, 600_000];

/// The wait after `failures` failed deliveries, in milliseconds: 1 s, doubling to at most 5 min.
#[must_use]
pub(crate) const fn backoff_ms(failures: u32) -> i64 {
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
