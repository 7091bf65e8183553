//! Agents: one translation each into [`crate::core::model::agent_event::AgentEvent`].
//!
//! An adapter is a [`Conversation`]: lines in, events and lines out, no process and no clock of
//! its own. A [`turn`] keeps its limits, and the [`driver`] has the program and ends its tree.

pub mod acp;
pub mod claude;
pub mod codex;
pub mod command;
pub mod diff;
pub mod driver;
pub mod fields;
pub mod prose;
pub mod record;
pub mod redact;
pub mod text;
pub mod turn;
pub mod vendor;
pub mod wire;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use crate::config::agent::{AcpProfile, Protocol};
use crate::core::model::agent_event::{AgentEvent, TurnEnd};
use crate::core::model::approval::Answer;
use crate::core::model::budget::MicroUsd;
use crate::core::model::capability::Capabilities;
use crate::core::model::untrusted::Untrusted;
use redact::Redactor;

/// One turn to be started.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TurnSpec {
    /// The run, as its processes are marked.
    pub owner: String,
    /// What the agent speaks.
    pub speaks: Protocol,
    /// Its differences, where it speaks ACP.
    pub ways: AcpProfile,
    /// Program and arguments.
    pub command: Vec<String>,
    /// The worktree.
    pub cwd: PathBuf,
    /// Environment beside what every child gets.
    pub env: BTreeMap<String, String>,
    /// What the agent is told.
    pub prompt: Untrusted,
    /// The conversation to go on with.
    pub resume: Option<String>,
    /// What that conversation has cost already, as it was told.
    pub session_cost: MicroUsd,
    /// What the turn may cost; none is no limit.
    pub budget: Option<MicroUsd>,
    /// The model, where it isn't the agent's own choice.
    pub model: Option<String>,
    /// Steps that the turn may take, where the agent can count them.
    pub max_steps: Option<u32>,
    /// Whether it may use tools at all, where it can be told.
    pub tools: bool,
    /// How money is reckoned.
    pub tariff: Tariff,
    /// The limits of the process.
    pub limits: Limits,
    /// Names that are taken from the environment of a worker elsewhere, in the place of values.
    pub inherit: Vec<String>,
    /// What is never written down.
    #[serde(skip)]
    pub redactor: Redactor,
    /// Somebody hears each piece of text as it comes, and how the program ends.
    pub heard: bool,
    /// Where the lines are kept as they came; none keeps them nowhere.
    pub record: Option<PathBuf>,
}

/// How what an agent takes becomes money.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub enum Tariff {
    /// As the agent tells it.
    #[default]
    Told,
    /// A flat plan: tokens count and money doesn't.
    Flat,
    /// US dollars per million tokens in and out; an estimate.
    Priced {
        /// Read by the model.
        input: f64,
        /// Written by it.
        output: f64,
    },
}

/// The limits of one turn's process.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Limits {
    /// Longest time of the turn.
    pub turn: Duration,
    /// Silence that is shown; twice as long is interrupted, three times as long is stopped.
    pub silence: Duration,
    /// Longest time of one tool, in which silence is nothing unusual.
    pub tool: Duration,
    /// Memory of the whole tree, in bytes.
    pub memory: u64,
}

/// What can be told to an agent in the middle of a turn.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Control {
    /// A message from an operator.
    Steer {
        /// What.
        text: Untrusted,
        /// By whom.
        by: String,
    },
    /// The answer to a request.
    Answer {
        /// Which.
        request: String,
        /// What.
        answer: Answer,
        /// By whom.
        by: String,
    },
    /// End the turn and keep the conversation.
    Interrupt,
}

/// Where a turn's events go; bounded, so that a flood waits in the agent's own pipe.
pub type Events = mpsc::Sender<AgentEvent>;

/// What a conversation answers to one thing that it is told.
#[derive(Debug, Default)]
pub struct Said {
    /// Lines for the agent, without their ends.
    pub lines: Vec<Vec<u8>>,
    /// What happened.
    pub events: Vec<AgentEvent>,
    /// Messages that begin a turn of their own once this one is over.
    pub later: Vec<String>,
    /// The turn is over.
    pub end: Option<TurnEnd>,
}

impl Said {
    /// A line of JSON for the agent.
    pub fn line(&mut self, value: &serde_json::Value) {
        self.lines.push(value.to_string().into_bytes());
    }

    /// An event.
    pub fn event(&mut self, event: AgentEvent) {
        self.events.push(event);
    }

    /// A remark for the transcript.
    pub fn notice(&mut self, text: impl Into<Untrusted>) {
        self.events.push(AgentEvent::Notice { text: text.into() });
    }
}

/// One agent's protocol, without a process: what it is told becomes [`Said`].
pub trait Conversation: Send + Sync {
    /// What the agent can do; the cockpit offers no more.
    fn capabilities(&self) -> Capabilities;

    /// Arguments for this turn, after those of the configuration.
    fn arguments(&self, _spec: &TurnSpec) -> Vec<String> {
        Vec::new()
    }

    /// The program runs.
    fn begin(&mut self, spec: &TurnSpec, said: &mut Said);

    /// A line came; `cut` where it was too long to be kept whole.
    fn hear(&mut self, line: &[u8], cut: bool, said: &mut Said);

    /// An operator's message, for an agent that takes it in the middle of a turn.
    fn steer(&mut self, text: &str, said: &mut Said);

    /// A message that begins another turn in the same conversation and process.
    fn follow(&mut self, text: &str, said: &mut Said);

    /// The answer to a request that it told, and who gave it.
    fn answer(&mut self, request: &str, answer: &Answer, by: &str, said: &mut Said);

    /// The turn is to end.
    fn interrupt(&mut self, said: &mut Said);

    /// Whether it is told more than its prompt; otherwise its input ends with that.
    fn reads_on(&self) -> bool {
        true
    }

    /// The output is over and no end was told: what it meant, where that is known. The code is none
    /// after a signal, or where the program went on.
    fn closed(&self, _code: Option<i32>, _stderr: &str) -> Option<TurnEnd> {
        None
    }
}

/// The conversation with an agent.
#[must_use]
pub fn conversation(speaks: Protocol, ways: &AcpProfile) -> Box<dyn Conversation> {
    match speaks {
        Protocol::Command => Box::new(command::Command),
        Protocol::Text => Box::new(text::Text::default()),
        Protocol::Claude => Box::new(claude::Claude::default()),
        Protocol::Codex => Box::new(codex::Codex::default()),
        Protocol::Acp => Box::new(acp::Acp::new(ways.clone())),
    }
}

/// The longest text of one event that is kept, in bytes.
pub const TEXT_LIMIT: usize = 256 * 1024;

/// A text from an agent, cut at its limit.
#[must_use]
pub fn bounded(text: impl Into<String>) -> Untrusted {
    let mut text = text.into();
    if text.len() > TEXT_LIMIT {
        let mut end = TEXT_LIMIT;
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        let lost = text.len() - end;
        text.truncate(end);
        text.push_str(&format!("\n… {lost} bytes more were cut"));
    }
    Untrusted::new(text)
}

/// A line that says nothing that is known: kept for forensics, cut at its limit.
#[must_use]
pub fn raw(line: &[u8]) -> AgentEvent {
    AgentEvent::Raw { line: bounded(String::from_utf8_lossy(line).into_owned()) }
}
