//! A job of the service: what a caller asked for, the limits that they gave, and how it stands.
//!
//! A job is a run without an issue: it waits for the same permits and stands in the same journal.
//! Nobody is asked where it fails; its caller is told.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::model::budget::MicroUsd;
use crate::model::time::Timestamp;
use crate::model::untrusted::Untrusted;

/// What a job is called: 12 hex digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct JobId(u64);

/// Not 12 lower-case hex digits.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("is no job's id: 12 hex digits")]
pub struct NoJobId;

impl JobId {
    /// From six random bytes.
    #[must_use]
    pub fn new(bytes: [u8; 6]) -> Self {
        Self(bytes.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte)))
    }

    /// Parses one.
    ///
    /// # Errors
    /// [`NoJobId`].
    pub fn parse(text: &str) -> Result<Self, NoJobId> {
        let hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        if text.len() != 12 || !text.bytes().all(hex) {
            return Err(NoJobId);
        }
        u64::from_str_radix(text, 16).map(Self).map_err(|_| NoJobId)
    }
}

impl TryFrom<String> for JobId {
    type Error = NoJobId;
    fn try_from(text: String) -> Result<Self, NoJobId> {
        Self::parse(&text)
    }
}

impl From<JobId> for String {
    fn from(id: JobId) -> Self {
        id.to_string()
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:012x}", self.0)
    }
}

/// What kind of work a job is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum JobKind {
    /// Works with tools.
    Execute {
        /// In a throwaway clone; in an empty folder otherwise.
        clone: bool,
    },
    /// Is answered in words: no clone, no tools.
    Chat,
    /// The same, going on from the last answer in a caller's session.
    Converse {
        /// The caller's name for it.
        session: String,
    },
}

/// What a caller asked for beside the prompt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// Its name.
    pub id: JobId,
    /// What it is.
    #[serde(flatten)]
    pub kind: JobKind,
    /// The agent, as the caller named it.
    pub agent: Option<String>,
    /// The model, where it isn't the agent's own choice.
    pub model: Option<String>,
    /// What it may cost.
    pub budget: Option<MicroUsd>,
    /// How long it may work, in milliseconds; waiting for a permit is no work.
    pub limit_ms: i64,
    /// The caller's own, as JSON.
    pub metadata: Option<Untrusted>,
}

impl Job {
    /// Is answered in words alone.
    #[must_use]
    pub const fn is_question(&self) -> bool {
        !matches!(self.kind, JobKind::Execute { .. })
    }

    /// Works in a clone.
    #[must_use]
    pub const fn has_clone(&self) -> bool {
        matches!(self.kind, JobKind::Execute { clone: true })
    }
}

/// How a job stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum JobStatus {
    /// Waits for a permit.
    Queued,
    /// Is worked on.
    Running,
    /// The agent says that it is done.
    Completed,
    /// The agent failed.
    Failed,
    /// Its time was over.
    Timeout,
    /// It could not be worked on, or was stopped.
    Error,
}

impl JobStatus {
    /// As it is written everywhere.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Timeout => "timeout",
            Self::Error => "error",
        }
    }
}

/// A conversation as it was left.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedConversation {
    /// What resumes it.
    pub session: String,
    /// What it has cost, as its agent tells it.
    pub cost: MicroUsd,
    /// When it was left.
    pub at: Timestamp,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_twelve_hex_digits() {
        assert_eq!(JobId::new([0, 1, 0xab, 0xff, 0x10, 9]).to_string(), "0001abff1009");
        for bad in ["", "0001abff100", "0001abff1009a", "0001ABFF1009", "0001abff100g"] {
            assert!(JobId::parse(bad).is_err(), "{bad}");
        }
    }
}
