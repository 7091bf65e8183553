//! An issue as the core knows it: the facts that the dispatch predicate
//! ([`crate::query::dispatch`]) reads. Trackers build them and the tables T1 and T2 judge the
//! arming and the blockers.

use serde::{Deserialize, Serialize};

use crate::model::gate_report::ChangeClass;
use crate::model::id::{Actor, IssueKey};
use crate::model::time::Timestamp;
use crate::model::untrusted::Untrusted;

/// Urgency from a label or from front matter; 0 is the most urgent, and an issue without one ranks
/// last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Priority(pub u8);

impl Priority {
    /// Parses `p0` to `p9`, `critical`, `urgent`, `high`, `medium` or `low`, with or without
    /// `priority:` or `priority/` before it, and `priority:0` to `priority:9`.
    #[must_use]
    pub fn from_label(label: &str) -> Option<Self> {
        let label = label.trim().to_ascii_lowercase();
        let rest = label.strip_prefix("priority");
        let word =
            rest.map_or(label.as_str(), |rest| rest.trim_start_matches([':', '/', '-', ' ']));
        // A digit alone means a priority only behind the word and a separator.
        let is_named = rest.is_some_and(|rest| rest.len() > word.len());
        match word {
            "critical" | "urgent" => Some(Self(0)),
            "high" => Some(Self(1)),
            "medium" => Some(Self(2)),
            "low" => Some(Self(3)),
            _ => match word.as_bytes() {
                [b'p', digit @ b'0'..=b'9'] => Some(Self(digit - b'0')),
                [digit @ b'0'..=b'9'] if is_named => Some(Self(digit - b'0')),
                _ => None,
            },
        }
    }
}

/// Whether a trusted person put the ready label on the issue (decision table T1).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "is")]
pub enum Arming {
    /// The issue doesn't carry the ready label.
    NotReady,
    /// A trusted person put the label on.
    Trusted {
        /// The person who armed the issue.
        by: Actor,
        /// The time of the label; a later arming reopens an issue that had ended.
        at: Timestamp,
    },
    /// An account that may not arm issues put the label on.
    Untrusted {
        /// The account that labelled the issue.
        by: Actor,
    },
    /// The issue carries the label, and its author can't be determined.
    Unknown {
        /// The reason why it can't be determined.
        why: String,
    },
    /// A trusted person armed the issue, and an untrusted account changed its text afterwards.
    Hold {
        /// The change, with its author.
        why: String,
    },
}

/// The state of an issue that another one waits for (decision table T2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BlockerState {
    /// Not yet done, so it blocks.
    Open,
    /// Closed, so it does not block.
    Closed,
    /// Not readable with our token, so it blocks, and the screen says why.
    Unreadable,
    /// Waits, directly or through others, for the blocked issue, so it blocks, and the screen says
    /// why.
    Cycle,
}

/// A repository's identity in a tracker, which a change of its name doesn't change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RepoIdentity {
    /// The tracker's number of the repository, which no other repository ever gets.
    pub id: u64,
    /// The name under which the tracker knows it now.
    pub name: String,
}

/// An issue or reference that another issue waits for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Blocker {
    /// The reference as the issue writes it.
    pub reference: Untrusted,
    /// The state of the issue that it names.
    pub state: BlockerState,
}

/// An issue as its tracker last reported it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Issue {
    /// The repository and the number.
    pub key: IssueKey,
    /// The title in one line.
    pub title: Untrusted,
    /// The address at which a person reads it, where it has one.
    #[serde(default)]
    pub link: Option<Untrusted>,
    /// The text, which becomes the prompt.
    pub body: Untrusted,
    /// The urgency; none ranks last.
    pub priority: Option<Priority>,
    /// The time of its creation; the queue takes older issues first.
    pub created: Timestamp,
    /// Whether and by whom it is armed.
    pub arming: Arming,
    /// The issues that it waits for.
    pub blockers: Vec<Blocker>,
    /// The class of its work, from a label or from front matter.
    #[serde(default, skip_serializing_if = "ChangeClass::is_behaviour")]
    pub class: ChangeClass,
    /// Whether the issue is open in its tracker.
    pub open: bool,
    /// Whether it carries the label that asks for a human, which keeps it from being started.
    pub needs_human: bool,
    /// Whether it carries the label of an issue in progress. Without a run of ours on it, another
    /// afk has claimed it.
    #[serde(default, skip_serializing_if = "core::ops::Not::not")]
    pub in_progress: bool,
    /// Its labels in the tracker, at most [`LABELS`] of them, to find it by.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub labels: Vec<Untrusted>,
}

/// The labels of an issue that are kept at most.
pub const LABELS: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn priority_parses_the_usual_labels() {
        for (label, priority) in [
            ("p0", Some(0)),
            ("P2", Some(2)),
            ("priority: high", Some(1)),
            ("priority/p1", Some(1)),
            ("priority:0", Some(0)),
            ("Priority: 3", Some(3)),
            ("priority/9", Some(9)),
            ("priority-2", Some(2)),
            ("priority:10", None),
            ("priority1", None),
            ("priority:", None),
            ("3", None),
            ("critical", Some(0)),
            ("low", Some(3)),
            ("bug", None),
            ("p10", None),
            ("", None),
        ] {
            assert_eq!(Priority::from_label(label), priority.map(Priority), "{label:?}");
        }
    }
}
