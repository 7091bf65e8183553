//! What is known of an issue: the facts that the dispatch predicate reads.

use serde::{Deserialize, Serialize};

use crate::model::id::{Actor, IssueKey};
use crate::model::time::Timestamp;
use crate::model::untrusted::Untrusted;

/// Urgency from a label or front matter; 0 is the most urgent. No priority comes after all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Priority(pub u8);

impl Priority {
    /// Reads `p0` to `p9`, `critical`, `high`, `medium` or `low`, with or without `priority:` or
    /// `priority/` before it.
    #[must_use]
    pub fn from_label(label: &str) -> Option<Self> {
        let label = label.trim().to_ascii_lowercase();
        let word = label
            .strip_prefix("priority")
            .map_or(label.as_str(), |rest| rest.trim_start_matches([':', '/', '-', ' ']));
        match word {
            "critical" | "urgent" => Some(Self(0)),
            "high" => Some(Self(1)),
            "medium" => Some(Self(2)),
            "low" => Some(Self(3)),
            _ => match word.as_bytes() {
                [b'p', digit @ b'0'..=b'9'] => Some(Self(digit - b'0')),
                _ => None,
            },
        }
    }
}

/// Who put the ready label on, and whether they may (outside-world table T1).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "is")]
pub enum Arming {
    /// The ready label is not there.
    NotReady,
    /// Put on by someone who may.
    Trusted {
        /// Who.
        by: Actor,
        /// When; a later arming re-opens an issue that had ended.
        at: Timestamp,
    },
    /// Put on by someone who may not.
    Untrusted {
        /// Who.
        by: Actor,
    },
    /// The label is there and nobody can say who put it on.
    Unknown {
        /// Why it can't be told.
        why: String,
    },
    /// Trusted, but the text was changed afterwards by someone who is not.
    Hold {
        /// What happened.
        why: String,
    },
}

/// What is known of an issue that another one waits for (outside-world table T2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BlockerState {
    /// Still to be done: blocks.
    Open,
    /// Ended: does not block.
    Closed,
    /// Can't be read: blocks, and is shown as such.
    Unreadable,
    /// Waits, through others, for the issue itself: blocks, and is shown as such.
    Cycle,
}

/// One thing an issue waits for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Blocker {
    /// As the issue writes it.
    pub reference: Untrusted,
    /// What the tracker says of it.
    pub state: BlockerState,
}

/// An issue as its tracker told it last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Issue {
    /// Which one.
    pub key: IssueKey,
    /// Its title.
    pub title: Untrusted,
    /// Where a person reads it, where it has an address.
    #[serde(default)]
    pub link: Option<Untrusted>,
    /// Its text: the prompt.
    pub body: Untrusted,
    /// Its urgency, if it has one.
    pub priority: Option<Priority>,
    /// When it was made; older first.
    pub created: Timestamp,
    /// Who armed it.
    pub arming: Arming,
    /// What it waits for.
    pub blockers: Vec<Blocker>,
    /// Not closed.
    pub open: bool,
    /// Carries the label that asks a human; never picked while it stands.
    pub needs_human: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn priorities_are_read_from_the_usual_labels() {
        for (label, priority) in [
            ("p0", Some(0)),
            ("P2", Some(2)),
            ("priority: high", Some(1)),
            ("priority/p1", Some(1)),
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
