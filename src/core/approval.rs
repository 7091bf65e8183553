//! Escalations: questions to a human, bound to a digest, answered once, refused when stale.

use serde::{Deserialize, Serialize};

use super::digest::Digest;
use super::id::{Actor, EscalationId, IssueKey, RunId, Timestamp};
use super::untrusted::Untrusted;

/// Why a human is asked. The order is the inbox's: the most severe last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EscalationKind {
    /// An agent asks something.
    Question,
    /// An agent asks leave.
    Permission,
    /// Nothing was pushed and the run can't go on.
    NeedsHuman,
    /// A limit on spend was reached.
    OverBudget,
    /// Nothing is heard of an agent, or an operator interrupted it.
    Stalled,
    /// Pushed, broken, and the attempts are spent.
    Frozen,
}

impl EscalationKind {
    /// As it is written everywhere.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Question => "question",
            Self::Permission => "permission",
            Self::NeedsHuman => "needs-human",
            Self::OverBudget => "over-budget",
            Self::Stalled => "stalled",
            Self::Frozen => "frozen",
        }
    }

    /// An agent waits for the answer; when its turn is over nobody does.
    #[must_use]
    pub const fn agent_waits(self) -> bool {
        matches!(self, Self::Question | Self::Permission)
    }

    /// What `approve` does, said before it is pressed.
    #[must_use]
    pub const fn approve_means(self) -> Option<&'static str> {
        match self {
            Self::Permission => Some("let the agent do exactly this, once"),
            Self::Question => None,
            Self::Frozen => Some("release the repository's lock: you take over on master"),
            Self::NeedsHuman | Self::OverBudget | Self::Stalled => {
                Some("acknowledge: you take over; the worktree is kept")
            }
        }
    }

    /// What `deny` does.
    #[must_use]
    pub const fn deny_means(self) -> Option<&'static str> {
        match self {
            Self::Permission => Some("refuse, with a reason that the agent reads"),
            Self::Question => Some("decline to answer; the agent decides alone"),
            _ => None,
        }
    }

    /// What a typed answer does.
    #[must_use]
    pub const fn text_means(self) -> Option<&'static str> {
        match self {
            Self::Permission => None,
            Self::Question => Some("answer the agent"),
            _ => Some("send the run on, with what you type as guidance"),
        }
    }
}

/// What a human answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "answer")]
pub enum Answer {
    /// Yes.
    Approve,
    /// No.
    Deny {
        /// Read by the agent.
        reason: Untrusted,
    },
    /// In words.
    Text {
        /// Read by the agent.
        text: Untrusted,
    },
}

impl Answer {
    /// One line for the record.
    #[must_use]
    pub fn line(&self) -> String {
        match self {
            Self::Approve => "approved".into(),
            Self::Deny { reason } if reason.is_empty() => "denied".into(),
            Self::Deny { reason } => format!("denied: {}", reason.clean_line()),
            Self::Text { text } => format!("answered: {}", text.clean_line()),
        }
    }

    /// Whether this kind of escalation takes this kind of answer.
    #[must_use]
    pub const fn fits(&self, kind: EscalationKind) -> bool {
        match self {
            Self::Approve => kind.approve_means().is_some(),
            Self::Deny { .. } => kind.deny_means().is_some(),
            Self::Text { .. } => kind.text_means().is_some(),
        }
    }
}

/// Where an escalation stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "state")]
pub enum EscalationState {
    /// Waits for a human.
    Open,
    /// Answered; the first answer counts.
    Answered {
        /// What.
        answer: Answer,
        /// By whom.
        by: Actor,
        /// When.
        at: Timestamp,
    },
    /// Nobody answered in time.
    Expired {
        /// When.
        at: Timestamp,
    },
    /// The world changed: nobody waits for an answer any more.
    Withdrawn {
        /// When.
        at: Timestamp,
        /// How.
        why: String,
    },
}

/// One question to a human.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Escalation {
    /// Its number.
    pub id: EscalationId,
    /// About which run.
    pub run: RunId,
    /// About which issue.
    pub issue: Option<IssueKey>,
    /// Why.
    pub kind: EscalationKind,
    /// In a line.
    pub title: Untrusted,
    /// In full: the command, the diff, the end of the log.
    pub detail: Untrusted,
    /// Answers offered.
    pub options: Vec<Untrusted>,
    /// What the agent calls its request.
    pub request: Option<String>,
    /// The run's epoch when it was raised.
    pub epoch: u32,
    /// When.
    pub raised: Timestamp,
    /// When nobody need answer any more.
    pub expires: Option<Timestamp>,
    /// What exactly is answered: see [`Escalation::digest_of`].
    pub digest: Digest,
    /// Where it stands.
    pub state: EscalationState,
}

impl Escalation {
    /// Binds an answer to everything that the human was shown and to the run's epoch, so that it
    /// can't be used for anything else, or after the run went on.
    #[must_use]
    pub fn digest_of(&self) -> Digest {
        let mut parts: Vec<Vec<u8>> = vec![
            self.id.to_string().into_bytes(),
            self.run.to_string().into_bytes(),
            self.kind.word().into(),
            self.title.as_received().into(),
            self.detail.as_received().into(),
            self.request.clone().unwrap_or_default().into_bytes(),
            self.epoch.to_be_bytes().to_vec(),
        ];
        parts.extend(self.options.iter().map(|o| o.as_received().as_bytes().to_vec()));
        Digest::of(&parts.iter().map(Vec::as_slice).collect::<Vec<_>>())
    }

    /// Waits for a human.
    #[must_use]
    pub const fn open(&self) -> bool {
        matches!(self.state, EscalationState::Open)
    }
}
