//! What an agent can say: the one vocabulary that every adapter translates into.
//!
//! The transcript keeps all of it. The core is told only what can change a run: sessions, spend,
//! requests and ends ([`AgentEvent::concerns_core`]).

use serde::{Deserialize, Serialize};

use crate::model::approval::DecidedBy;
use crate::model::budget::Spend;
use crate::model::capability::Equipment;
use crate::model::permission::PermissionRequest;
use crate::model::untrusted::Untrusted;

/// One thing that happened in a turn.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "type")]
pub enum AgentEvent {
    /// The prompt that began the turn, ours or an operator's.
    Prompt {
        /// As it was sent.
        text: Untrusted,
    },
    /// Which agent takes the turn up, and what it can do. Told before it is started.
    Equipped(Box<Equipment>),
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
    /// A piece of prose as it came, for who listens to a job: no transcript has it, since
    /// [`AgentEvent::Text`] follows.
    Piece {
        /// Any part of a line or lines.
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
        /// The tool, and the command or paths that the agent wants it for.
        #[serde(rename = "ask")]
        request: Box<PermissionRequest>,
    },
    /// The agent waits for an answer no more.
    RequestWithdrawn {
        /// Which it was.
        id: String,
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
        /// What was asked, in a line.
        #[serde(default)]
        title: Untrusted,
        /// What was answered.
        answer: Untrusted,
        /// By whom.
        by: DecidedBy,
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
    /// Nothing has been heard for a while.
    Quiet {
        /// For how many seconds.
        seconds: u64,
        /// What is done about it now, where something is.
        interrupted: bool,
    },
    /// The agent is active again after it was quiet or its model was asked again.
    #[serde(rename = "heard")]
    Active,
    /// A remark of ours or the agent's: phases, gates, verdicts, stderr.
    Notice {
        /// What.
        text: Untrusted,
    },
    /// The program of a job ended.
    Exited {
        /// Its exit code, where it has one.
        code: Option<i32>,
        /// The end of standard error.
        stderr: Untrusted,
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
        /// The API's status, where it is known.
        #[serde(default)]
        status: Option<u16>,
        /// What is known of it.
        why: Untrusted,
    },
    /// The agent stopped at the budget that it was given.
    Budget,
    /// The agent stopped at its own limit of turns or tokens.
    TurnLimit,
    /// The model declined to go on.
    Refused {
        /// In its words.
        why: Untrusted,
    },
    /// Its process tree took more memory than it may.
    OutOfMemory {
        /// How much, and how much it may.
        why: Untrusted,
    },
    /// The conversation to go on with is not there any more.
    NoSession {
        /// What the agent said.
        why: Untrusted,
    },
    /// The process ended without ending the turn.
    Crashed {
        /// Exit code or signal and the end of stderr.
        why: Untrusted,
    },
    /// Nothing was heard for the whole of the silence limit.
    Silent,
    /// Silent for long, and ended by an interrupt; the conversation can go on.
    Nudged,
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
    pub fn summary(&self) -> String {
        match self {
            Self::Done => "the agent says it is done".into(),
            Self::Blocked { why } => format!("the agent is blocked: {}", why.clean_line()),
            Self::Interrupted => "interrupted by an operator".into(),
            Self::ApiError { status: Some(status), why } => {
                format!("the model's API answers {status}: {}", why.clean_line())
            }
            Self::ApiError { status: None, why } => {
                format!("the model failed: {}", why.clean_line())
            }
            Self::Budget => "the agent stopped at its budget".into(),
            Self::TurnLimit => "the agent stopped at its limit of steps or tokens".into(),
            Self::Refused { why } => format!("the model declined: {}", why.clean_line()),
            Self::OutOfMemory { why } => {
                format!("the agent took too much memory: {}", why.clean_line())
            }
            Self::NoSession { why } => {
                format!("the conversation is gone: {}", why.clean_line())
            }
            Self::Crashed { why } => {
                format!("the agent's process ended early: {}", why.clean_line())
            }
            Self::Silent => "the agent was silent for too long, and was stopped".into(),
            Self::Nudged => "the agent was silent for long, and was interrupted".into(),
            Self::TimedOut => "the turn took longer than its limit".into(),
            Self::NotStarted { why } => {
                format!("the agent could not be started: {}", why.clean_line())
            }
        }
    }
}

impl AgentEvent {
    /// Every text in it that came from outside, to be changed in place.
    pub fn texts(&mut self, change: &mut dyn FnMut(&mut Untrusted)) {
        match self {
            Self::Prompt { text }
            | Self::Text { text }
            | Self::Piece { text }
            | Self::Exited { stderr: text, .. }
            | Self::Thought { text }
            | Self::Steered { text, .. }
            | Self::Notice { text }
            | Self::Raw { line: text } => change(text),
            Self::SessionStarted { model, version, .. } => {
                model.iter_mut().chain(version).for_each(change);
            }
            Self::ToolStart { kind, title, .. } => {
                change(kind);
                change(title);
            }
            Self::ToolEnd { title, output, .. } => {
                change(title);
                change(output);
            }
            Self::Diff { path, diff } => {
                change(path);
                change(diff);
            }
            Self::Plan { items } => items.iter_mut().for_each(|item| change(&mut item.text)),
            Self::PermissionRequest { request, .. } => {
                change(&mut request.title);
                change(&mut request.detail);
                request.targets.iter_mut().for_each(change);
            }
            Self::Question { text, options, .. } => {
                change(text);
                options.iter_mut().for_each(change);
            }
            Self::Resolved { title, answer, .. } => {
                change(title);
                change(answer);
            }
            Self::TurnEnd(
                TurnEnd::Blocked { why }
                | TurnEnd::ApiError { why, .. }
                | TurnEnd::Refused { why }
                | TurnEnd::OutOfMemory { why }
                | TurnEnd::NoSession { why }
                | TurnEnd::Crashed { why }
                | TurnEnd::NotStarted { why },
            ) => change(why),
            Self::Equipped(_)
            | Self::RequestWithdrawn { .. }
            | Self::SteerTaken
            | Self::Usage(_)
            | Self::Retry { .. }
            | Self::Quiet { .. }
            | Self::Active
            | Self::TurnEnd(_) => {}
        }
    }

    /// Whether the core is told; the rest goes to the transcript alone.
    #[must_use]
    pub const fn concerns_core(&self) -> bool {
        matches!(
            self,
            Self::SessionStarted { .. }
                | Self::Equipped(_)
                | Self::Quiet { .. }
                | Self::Active
                | Self::Retry { .. }
                | Self::RequestWithdrawn { .. }
                | Self::Usage(_)
                | Self::PermissionRequest { .. }
                | Self::Question { .. }
                | Self::TurnEnd(_)
        )
    }
}
