//! A job of the service: the parameters that a caller submitted beside the prompt, and the status
//! that the caller reads back.
//!
//! A job is a run without an issue: it waits for the same permits and is recorded in the same
//! journal. When it fails, afk reports the failure to its caller and raises no escalation.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::model::budget::MicroUsd;
use crate::model::fallback::PreferredAgent;
use crate::model::id::{RunId, Sha};
use crate::model::time::Timestamp;
use crate::model::untrusted::Untrusted;

/// A job's identifier: 12 lower-case hex digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct JobId(u64);

/// The text is not 12 lower-case hex digits.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a job's identifier of 12 lower-case hex digits")]
pub struct JobIdError;

impl JobId {
    /// An identifier from six random bytes.
    #[must_use]
    pub fn new(bytes: [u8; 6]) -> Self {
        Self(bytes.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte)))
    }

    /// Parses 12 lower-case hex digits.
    ///
    /// # Errors
    /// [`JobIdError`] for any other text.
    pub fn parse(text: &str) -> Result<Self, JobIdError> {
        let hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        if text.len() != 12 || !text.bytes().all(hex) {
            return Err(JobIdError);
        }
        u64::from_str_radix(text, 16).map(Self).map_err(|_| JobIdError)
    }
}

impl TryFrom<String> for JobId {
    type Error = JobIdError;
    fn try_from(text: String) -> Result<Self, JobIdError> {
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

/// The kind of work that a job asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum JobKind {
    /// The agent works with its tools.
    Execute {
        /// Whether it works in a throwaway clone; otherwise in a scratch directory.
        clone: bool,
    },
    /// The agent answers a dialogue; its tools and its clone are those of [`QuestionEquipment`].
    Chat,
    /// As `Chat`, continuing the caller's session from its last answer.
    Converse {
        /// The caller's name for the session.
        session: String,
    },
}

/// The parameters that a caller of the service submitted beside the prompt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// The identifier that the caller polls.
    pub id: JobId,
    /// The kind of work that it asks for.
    #[serde(flatten)]
    pub kind: JobKind,
    /// The agent that the caller chose; none for the default.
    pub agent: Option<String>,
    /// The model that the caller chose; none for the agent's default.
    pub model: Option<String>,
    /// The most that it may cost; none for no limit beside the run's.
    pub budget: Option<MicroUsd>,
    /// The time limit of its turn, in milliseconds; the wait for a permit doesn't count.
    pub limit_ms: i64,
    /// The caller's own data as JSON, returned unchanged.
    pub metadata: Option<Untrusted>,
    /// The equipment that the configuration gives to the agent of a question.
    #[serde(default, skip_serializing_if = "QuestionEquipment::is_empty")]
    pub equipment: QuestionEquipment,
}

/// The equipment of an agent that answers a question. A question without any is answered in words.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct QuestionEquipment {
    /// The role that the agent itself defines, beside the agent in [`Job::agent`].
    pub role: Option<String>,
    /// Whether the agent has its tools, under the policy of the repository.
    pub tools: bool,
    /// Whether the agent works in a throwaway clone.
    pub clone: bool,
}

impl QuestionEquipment {
    /// Whether the configuration gives nothing to the agent.
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// The commits that a job made and that its repository lacked, and where they are now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobCommits {
    /// The newest of them.
    pub head: Sha,
    /// The number of commits.
    pub count: u64,
    /// Whether the remote's branch has them; a fetch has confirmed it.
    pub pushed: bool,
    /// The references of the base clone that keep them; empty once the remote has them.
    pub kept: Vec<String>,
    /// The reason why afk did not push them although it should have.
    pub problem: Option<Untrusted>,
}

impl Job {
    /// Whether a caller waits for the agent's answer.
    #[must_use]
    pub const fn is_question(&self) -> bool {
        !matches!(self.kind, JobKind::Execute { .. })
    }

    /// Whether the agent has its tools.
    #[must_use]
    pub const fn has_tools(&self) -> bool {
        !self.is_question() || self.equipment.tools
    }

    /// Whether the agent works in a clone.
    #[must_use]
    pub const fn has_clone(&self) -> bool {
        match self.kind {
            JobKind::Execute { clone } => clone,
            JobKind::Chat | JobKind::Converse { .. } => self.equipment.clone,
        }
    }
}

/// A job's status as its caller reads it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum JobStatus {
    /// The job waits for a permit.
    Queued,
    /// An agent works on it.
    Running,
    /// The agent reports that its work is complete.
    Completed,
    /// The agent's turn ended without success.
    Failed,
    /// The job's time limit is over.
    Timeout,
    /// The job could not be started, or an operator cancelled it.
    Error,
}

impl JobStatus {
    /// The status as the HTTP API spells it.
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

/// A caller's conversation between two of its jobs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedConversation {
    /// The identifier with which the agent resumes it.
    pub session: String,
    /// The cost of the conversation so far, as its agent reports it.
    pub cost: MicroUsd,
    /// The time of its last answer.
    pub at: Timestamp,
    /// The agent whose conversation it is, where that is a fallback of the first one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instead: Option<String>,
    /// The first agent, whose place that one took.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preferred: Option<PreferredAgent>,
    /// The latest runs of the session, oldest first: another conversation learns from their transcripts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub runs: Vec<RunId>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn job_id_is_twelve_hex_digits() {
        assert_eq!(JobId::new([0, 1, 0xab, 0xff, 0x10, 9]).to_string(), "0001abff1009");
        for bad in ["", "0001abff100", "0001abff1009a", "0001ABFF1009", "0001abff100g"] {
            assert!(JobId::parse(bad).is_err(), "{bad}");
        }
    }
}
