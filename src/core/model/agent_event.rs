//! The vocabulary of an agent's turn: every adapter translates its agent's protocol into it, so
//! that the rest of afk needs one vocabulary instead of one per agent.
//!
//! ```text
//! agent's stdout → adapter → AgentEvent → runtime's turn task → transcript (everything)
//!                                                             → core (what can change a run)
//! ```
//!
//! [`AgentEvent::concerns_core`] draws the line: sessions, spend, requests and ends reach the core
//! as [`crate::model::input::RunFact::Agent`].

use serde::{Deserialize, Serialize};

use crate::model::approval::DecidedBy;
use crate::model::budget::Spend;
use crate::model::capability::Equipment;
use crate::model::permission::PermissionRequest;
use crate::model::time::Timestamp;
use crate::model::untrusted::Untrusted;

/// Something that an agent, an operator or afk contributed to a turn.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "type")]
pub enum AgentEvent {
    /// The prompt that began the turn, written by afk or by an operator.
    Prompt {
        /// The prompt exactly as afk sent it.
        text: Untrusted,
    },
    /// The agent that takes the turn and its capabilities; emitted before the agent starts.
    Equipped(Box<Equipment>),
    /// The agent took up or resumed a conversation.
    SessionStarted {
        /// The identifier with which a later turn resumes the conversation.
        session: String,
        /// The model, where the agent reports it.
        model: Option<Untrusted>,
        /// The agent program's version, where the agent reports it.
        version: Option<Untrusted>,
    },
    /// Prose that the agent wrote for its reader.
    Text {
        /// One or more whole lines.
        text: Untrusted,
    },
    /// A fragment of streamed prose, for clients that follow a job. The transcript doesn't store
    /// it, because the whole of it follows as [`AgentEvent::Text`].
    Piece {
        /// Any part of a line or of several lines.
        text: Untrusted,
    },
    /// The agent's reasoning, folded on the screen.
    Thought {
        /// One or more whole lines.
        text: Untrusted,
    },
    /// The agent began to use a tool.
    ToolStart {
        /// The agent's identifier for this use; [`AgentEvent::ToolEnd`] repeats it.
        id: String,
        /// The kind of tool: `shell`, `edit`, `read`, …
        kind: Untrusted,
        /// The command or the path that the tool works on.
        title: Untrusted,
        /// The use of the tool that started the subagent which uses this one; none for the agent
        /// itself.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        parent: Option<String>,
    },
    /// The agent's tool has finished.
    ToolEnd {
        /// The identifier from the matching [`AgentEvent::ToolStart`].
        id: String,
        /// The title from the start, repeated so that one line of the transcript is complete.
        title: Untrusted,
        /// Whether the tool succeeded, as the agent reports it.
        ok: bool,
        /// The exit code, where the tool is a command.
        code: Option<i32>,
        /// The tool's output, folded on the screen.
        output: Untrusted,
    },
    /// A tool has been running for a while; emitted once, and not stored. [`AgentEvent::Active`] follows
    /// its end.
    ToolRunning {
        /// The command or the path that the tool works on.
        title: Untrusted,
        /// The time since its start, in seconds.
        seconds: u64,
    },
    /// A change to files, as a unified diff.
    Diff {
        /// The path of the changed file.
        path: Untrusted,
        /// The change as a unified diff.
        diff: Untrusted,
    },
    /// The agent's plan with the state of each item.
    Plan {
        /// The items in the agent's order.
        items: Vec<PlanItem>,
    },
    /// The agent requests a permission and waits for the decision.
    PermissionRequest {
        /// The agent's identifier for the request, which the answer carries.
        id: String,
        /// The tool, and the command or paths that the agent wants it for.
        #[serde(rename = "ask")]
        request: Box<PermissionRequest>,
    },
    /// The agent calls a tool that afk offers it, and waits for the result. Only the breakglass agent is
    /// offered tools.
    ToolCall {
        /// The agent's identifier for the call, which the result carries.
        id: String,
        /// The name under which afk offered the tool.
        tool: String,
        /// The arguments as JSON.
        arguments: Untrusted,
    },
    /// The agent withdrew a request or a question and no longer waits for an answer.
    RequestWithdrawn {
        /// The agent's identifier for the request.
        id: String,
    },
    /// The agent asks a question and waits for the answer.
    Question {
        /// The agent's identifier for the question, which the answer carries.
        id: String,
        /// The question in the agent's words.
        text: Untrusted,
        /// The answers that the agent offers; empty for free text.
        options: Vec<Untrusted>,
    },
    /// A person or a rule answered a request or a question.
    Resolved {
        /// The agent's identifier for the request.
        id: String,
        /// The request's title, repeated so that one line of the transcript is complete.
        #[serde(default)]
        title: Untrusted,
        /// The answer in one line.
        answer: Untrusted,
        /// The person or the rule that decided.
        by: DecidedBy,
    },
    /// An operator sent a message that the agent has not yet taken up.
    Steered {
        /// The message as the operator typed it.
        text: Untrusted,
        /// The operator who sent it.
        by: String,
    },
    /// The agent took up the last message.
    SteerTaken,
    /// Tokens and money spent since the previous `Usage` of the turn.
    Usage(Spend),
    /// The agent reported how much of the model's context its conversation fills.
    Context(ContextUse),
    /// The model failed, and the agent will ask it again.
    Retry {
        /// The number of the coming attempt, from 1.
        attempt: u32,
        /// The wait before that attempt, in milliseconds.
        delay_ms: u64,
        /// The HTTP status of the model's API, where the agent reports one.
        status: Option<u16>,
    },
    /// The agent has emitted nothing for a while.
    Quiet {
        /// The length of the silence in seconds.
        seconds: u64,
        /// Whether afk interrupts the agent's turn because of it.
        interrupted: bool,
    },
    /// The agent is active again after it was quiet or its model was asked again.
    #[serde(rename = "heard")]
    Active,
    /// A remark by afk or the agent: a phase, a gate, a verdict, a line of stderr.
    Notice {
        /// The remark's text, shown as it is.
        text: Untrusted,
    },
    /// The agent process of a job ended.
    Exited {
        /// The exit code; none after a signal.
        code: Option<i32>,
        /// The last lines of standard error.
        stderr: Untrusted,
    },
    /// A line that the adapter could not parse, kept for forensics.
    Raw {
        /// The line as received, cut at the store's limit.
        line: Untrusted,
    },
    /// The turn ended, with the reason.
    TurnEnd(TurnEnd),
}

/// One item of an agent's plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanItem {
    /// The item's text in the agent's words.
    pub text: Untrusted,
    /// Whether the agent has ticked the item off.
    pub done: bool,
}

/// How much of a model's context a conversation fills, as its agent reports it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContextUse {
    /// The tokens of the latest request to the model.
    pub used: u64,
    /// The tokens that fit into the model's context, where the agent reports it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
}

impl ContextUse {
    /// The filled part in percent, where the size is known.
    #[must_use]
    pub const fn percent(self) -> Option<u64> {
        match self.size {
            Some(size) if size > 0 => Some(self.used.saturating_mul(100) / size),
            _ => None,
        }
    }

    /// Whether this differs from an earlier report enough for a person to see it.
    #[must_use]
    pub fn differs(self, earlier: Option<Self>) -> bool {
        let Some(earlier) = earlier else { return true };
        let step = self.size.map_or(2_000, |size| (size / 50).max(1));
        self.size != earlier.size || self.used.abs_diff(earlier.used) >= step
    }
}

/// How a turn ended, as reported. afk believes it only together with evidence from git and the
/// tests.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "end")]
pub enum TurnEnd {
    /// The agent reports that its work is complete.
    Done,
    /// The agent reports that it needs a human to go on.
    Blocked {
        /// The agent's reason in its own words.
        why: Untrusted,
    },
    /// An operator interrupted the turn; the conversation can be resumed.
    Interrupted,
    /// The model's API failed, and the agent gave up.
    ApiError {
        /// The HTTP status of the API, where the agent reports one.
        #[serde(default)]
        status: Option<u16>,
        /// The error in the agent's words.
        why: Untrusted,
    },
    /// The usage limit of the agent's plan is reached, until a known time.
    UsageLimit {
        /// When the limit is reset.
        until: Timestamp,
        /// The limit in the agent's words.
        why: Untrusted,
    },
    /// The conversation no longer fits into the context of its model; only a new one can go on.
    ContextOverflow {
        /// The error in the agent's words.
        why: Untrusted,
    },
    /// The agent stopped at the budget that afk set for the turn.
    Budget,
    /// The agent stopped at its own limit of steps or tokens.
    TurnLimit,
    /// The model declined to continue.
    Refused {
        /// The model's refusal in its own words.
        why: Untrusted,
    },
    /// The agent's process tree exceeded its memory limit, and afk killed it.
    OutOfMemory {
        /// The memory in use and the limit.
        why: Untrusted,
    },
    /// The conversation that the turn should resume no longer exists.
    NoSession {
        /// The agent's error message.
        why: Untrusted,
    },
    /// The agent's process ended before it ended the turn.
    Crashed {
        /// The exit code or signal, and the end of stderr.
        why: Untrusted,
    },
    /// The agent emitted nothing for the whole silence limit, and afk stopped it.
    Silent,
    /// The agent was silent for long, and afk interrupted it; the conversation can be resumed.
    Nudged,
    /// The turn exceeded its time limit.
    TimedOut,
    /// The agent could not be started, and a retry would not help.
    NotStarted {
        /// The cause, and how to fix it.
        why: Untrusted,
    },
}

impl TurnEnd {
    /// Whether the agent is at its usage limit, or its model refuses its login.
    #[must_use]
    pub const fn is_agent_outage(&self) -> bool {
        matches!(self, Self::UsageLimit { .. } | Self::ApiError { status: Some(401), .. })
    }

    /// One line for the screen and for the escalation.
    #[must_use]
    pub fn summary(&self) -> String {
        match self {
            Self::Done => "the agent reports that it is done".into(),
            Self::Blocked { why } => format!("the agent needs a human: {}", why.clean_line()),
            Self::Interrupted => "an operator interrupted the turn".into(),
            Self::ApiError { status: Some(status), why } => {
                format!("the model's API answers {status}: {}", why.clean_line())
            }
            Self::ApiError { status: None, why } => {
                format!("the model failed: {}", why.clean_line())
            }
            Self::UsageLimit { why, .. } => {
                format!("the agent has reached its usage limit: {}", why.clean_line())
            }
            Self::ContextOverflow { why } => {
                format!(
                    "the conversation no longer fits into the model's context: {}",
                    why.clean_line()
                )
            }
            Self::Budget => "the agent stopped at its budget".into(),
            Self::TurnLimit => "the agent stopped at its limit of steps or tokens".into(),
            Self::Refused { why } => format!("the model declined: {}", why.clean_line()),
            Self::OutOfMemory { why } => {
                format!("the agent exceeded its memory limit: {}", why.clean_line())
            }
            Self::NoSession { why } => {
                format!("the conversation no longer exists: {}", why.clean_line())
            }
            Self::Crashed { why } => {
                format!("the agent's process ended early: {}", why.clean_line())
            }
            Self::Silent => "the agent was silent for too long, so afk stopped it".into(),
            Self::Nudged => "the agent was silent for long, so afk interrupted it".into(),
            Self::TimedOut => "the turn took longer than its limit".into(),
            Self::NotStarted { why } => {
                format!("the agent could not be started: {}", why.clean_line())
            }
        }
    }
}

impl AgentEvent {
    /// Applies `change` to every text in the event that came from outside, so that secrets can be
    /// redacted before the transcript stores it.
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
            Self::ToolRunning { title, .. } => change(title),
            Self::ToolCall { arguments, .. } => change(arguments),
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
                | TurnEnd::UsageLimit { why, .. }
                | TurnEnd::ContextOverflow { why }
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
            | Self::Context(_)
            | Self::Retry { .. }
            | Self::Quiet { .. }
            | Self::Active
            | Self::TurnEnd(_) => {}
        }
    }

    /// Applies `change` to every identifier that the agent chose, so that a secret in one can be
    /// redacted. The same identifier must change in the same way everywhere.
    pub fn ids(&mut self, change: &mut dyn FnMut(&mut String)) {
        match self {
            Self::ToolStart { id, parent, .. } => {
                change(id);
                parent.iter_mut().for_each(change);
            }
            Self::SessionStarted { session: id, .. }
            | Self::ToolEnd { id, .. }
            | Self::PermissionRequest { id, .. }
            | Self::RequestWithdrawn { id }
            | Self::ToolCall { id, .. }
            | Self::Question { id, .. }
            | Self::Resolved { id, .. } => change(id),
            _ => {}
        }
    }

    /// Whether the core receives the event; the transcript stores all of them.
    #[must_use]
    pub const fn concerns_core(&self) -> bool {
        matches!(
            self,
            Self::SessionStarted { .. }
                | Self::Equipped(_)
                | Self::ToolRunning { .. }
                | Self::Quiet { .. }
                | Self::Active
                | Self::Retry { .. }
                | Self::RequestWithdrawn { .. }
                | Self::Usage(_)
                | Self::Context(_)
                | Self::PermissionRequest { .. }
                | Self::Question { .. }
                | Self::TurnEnd(_)
        )
    }
}
