//! What an agent can say: the one vocabulary that every adapter translates into.
//!
//! The transcript keeps all of it. The core is told only what can change a run: sessions, spend,
//! requests and ends ([`AgentEvent::concerns_core`]).

use serde::{Deserialize, Serialize};

use super::budget::Spend;
use super::untrusted::Untrusted;

/// One thing that happened in a turn.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "type")]
pub enum AgentEvent {
    /// The prompt that began the turn, ours or an operator's.
    Prompt {
        /// As it was sent.
        text: Untrusted,
    },
    /// The agent took up or resumed a conversation.
    SessionStarted {
        /// What resumes it.
        session: String,
        /// The model, where it says.
        model: Option<Untrusted>,
        /// The agent program's version, where it says.
        version: Option<Untrusted>,
    },
    /// Prose.
    Text {
        /// One or more whole lines.
        text: Untrusted,
    },
    /// Reasoning, folded on the screen.
    Thought {
        /// One or more whole lines.
        text: Untrusted,
    },
    /// A tool begins.
    ToolStart {
        /// Pairs it with its end.
        id: String,
        /// `shell`, `edit`, `read`, …
        kind: Untrusted,
        /// The command or path.
        title: Untrusted,
    },
    /// A tool ended.
    ToolEnd {
        /// As in its start.
        id: String,
        /// As in its start, so that one line tells all of it.
        title: Untrusted,
        /// Whether it worked.
        ok: bool,
        /// Its exit code where it has one.
        code: Option<i32>,
        /// What it printed, folded on the screen.
        output: Untrusted,
    },
    /// A change to files, as a unified diff.
    Diff {
        /// Which file.
        path: Untrusted,
        /// The unified diff.
        diff: Untrusted,
    },
    /// The plan with each item's state.
    Plan {
        /// In order.
        items: Vec<PlanItem>,
    },
    /// The agent asks leave to do something and waits.
    PermissionRequest {
        /// Names the request in the answer.
        id: String,
        /// What it wants, in a line.
        title: Untrusted,
        /// The whole command or diff.
        detail: Untrusted,
    },
    /// The agent asks something and waits.
    Question {
        /// Names the question in the answer.
        id: String,
        /// What it asks.
        text: Untrusted,
        /// Answers it offers, if any.
        options: Vec<Untrusted>,
    },
    /// The answer that a person or a policy gave.
    Resolved {
        /// Of which request.
        id: String,
        /// What was answered.
        answer: Untrusted,
        /// By whom.
        by: String,
    },
    /// A message from an operator, sent and not yet taken.
    Steered {
        /// What was typed.
        text: Untrusted,
        /// By whom.
        by: String,
    },
    /// The agent took the last message up.
    SteerTaken,
    /// Tokens and money since the last such event.
    Usage(Spend),
    /// The model is being asked again.
    Retry {
        /// Which try.
        attempt: u32,
        /// How long until then, in milliseconds.
        delay_ms: u64,
        /// The API's status, where there is one.
        status: Option<u16>,
    },
    /// A remark of ours or the agent's: phases, gates, verdicts, stderr.
    Notice {
        /// What.
        text: Untrusted,
    },
    /// A line that could not be read, kept for forensics.
    Raw {
        /// As it came, cut at the store's limit.
        line: Untrusted,
    },
    /// The turn ended.
    TurnEnd(TurnEnd),
}

/// One item of a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanItem {
    /// What is to be done.
    pub text: Untrusted,
    /// Ticked.
    pub done: bool,
}

/// How a turn ended. Never believed without evidence from git and tests.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "end")]
pub enum TurnEnd {
    /// The agent says that it is done.
    Done,
    /// The agent says that it can't go on without a human.
    Blocked {
        /// In its words.
        why: Untrusted,
    },
    /// Stopped by an operator; the conversation can go on.
    Interrupted,
    /// The model failed.
    ApiError {
        /// What is known of it.
        why: Untrusted,
    },
    /// The process ended without ending the turn.
    Crashed {
        /// Exit code or signal and the end of stderr.
        why: Untrusted,
    },
    /// Nothing was heard for the whole of the silence limit.
    Silent,
    /// The time limit of a turn passed.
    TimedOut,
    /// It could not be started at all; asking again would not help.
    NotStarted {
        /// Why, and what to do.
        why: Untrusted,
    },
}

impl TurnEnd {
    /// One line for the screen and the escalation.
    #[must_use]
    pub fn line(&self) -> String {
        match self {
            Self::Done => "the agent says it is done".into(),
            Self::Blocked { why } => format!("the agent is blocked: {}", why.clean_line()),
            Self::Interrupted => "interrupted by an operator".into(),
            Self::ApiError { why } => format!("the model failed: {}", why.clean_line()),
            Self::Crashed { why } => {
                format!("the agent's process ended early: {}", why.clean_line())
            }
            Self::Silent => "the agent was silent for too long".into(),
            Self::TimedOut => "the turn took longer than its limit".into(),
            Self::NotStarted { why } => {
                format!("the agent could not be started: {}", why.clean_line())
            }
        }
    }
}

impl AgentEvent {
    /// Whether the core is told; the rest goes to the transcript alone.
    #[must_use]
    pub const fn concerns_core(&self) -> bool {
        matches!(
            self,
            Self::SessionStarted { .. }
                | Self::Usage(_)
                | Self::PermissionRequest { .. }
                | Self::Question { .. }
                | Self::TurnEnd(_)
        )
    }
}
