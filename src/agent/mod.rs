//! Coding agents: one adapter for each protocol that an agent program speaks.
//!
//! The runtime hands a `TurnSpec` to the `driver`, which starts the agent's program, moves
//! lines through its pipes and kills its process tree in the end. The `turn::TurnLoop` enforces
//! the limits. An adapter implements `AgentProtocol` and translates between lines and events; it
//! owns no process and no clock, so that tests feed it recorded lines.
//!
//! ```text
//!  operator ── TurnControl ──┐                                 ┌── AgentEvent ──> runtime
//!                            v                                 │
//!  program ── stdout line ─> TurnLoop ── receive_line ─> AgentProtocol
//!     ^                        ^  │                            │
//!     └──────── stdin line ────┼──┘                            │
//!                              └─────── ProtocolOutput ────────┘
//! ```
//!
//! A turn in another place (`crate::executor`) uses the same `turn::TurnLoop` or the same driver
//! in a worker.

pub(crate) mod acp;
pub(crate) mod bounds;
pub(crate) mod claude;
pub(crate) mod codex;
pub(crate) mod command;
pub(crate) mod diff;
pub(crate) mod driver;
pub(crate) mod estimate;
pub(crate) mod fields;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
pub(crate) mod image;
pub(crate) mod json_line;
pub(crate) mod limit;
pub(crate) mod overflow;
pub(crate) mod pi;
pub(crate) mod prose;
pub(crate) mod recorder;
pub(crate) mod screen;
mod split_events;
pub(crate) mod text;
pub(crate) mod turn;
pub mod vendor;
pub(crate) mod wire;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use crate::config::agent::{AcpProfile, Protocol};
use crate::core::model::agent_event::{AgentEvent, TurnEnd};
use crate::core::model::approval::{Answer, DecidedBy};
use crate::core::model::budget::MicroUsd;
use crate::core::model::capability::Capabilities;
use crate::core::model::permission::cut_mark;
use crate::core::model::plural::plural;
use crate::core::model::untrusted::Untrusted;
use crate::redact::Redactor;
use crate::sandbox::Sandbox;

/// Everything that starting one turn of an agent needs.
///
/// It is written to a worker's folder as JSON, therefore the serialized names are a file format.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct TurnSpec {
    /// The run's id. Each process of the turn carries it in its environment, so that a later afk
    /// finds orphans.
    pub(crate) owner: String,
    pub(crate) speaks: Protocol,
    /// Deviations of an ACP agent from the standard; the other protocols ignore it.
    #[serde(rename = "ways")]
    pub(crate) acp: AcpProfile,
    /// The program and its arguments, before those of [`AgentProtocol::arguments`].
    pub(crate) command: Vec<String>,
    /// The worktree in which the agent works.
    pub(crate) cwd: PathBuf,
    /// Variables on top of those that every child process inherits.
    pub(crate) env: BTreeMap<String, String>,
    pub(crate) prompt: Untrusted,
    /// The agent's own session id, when the turn continues a conversation.
    pub(crate) resume: Option<String>,
    /// The cost of the resumed session so far, as the agent reported it. Agents report a running
    /// total; the adapter subtracts this one.
    pub(crate) session_cost: MicroUsd,
    /// The most that the turn may cost; `None` means no limit.
    pub(crate) budget: Option<MicroUsd>,
    /// The model to use; `None` leaves the choice to the agent.
    pub(crate) model: Option<String>,
    /// The most model calls in this turn, for agents that can limit them.
    pub(crate) max_steps: Option<u32>,
    /// Whether the agent may use tools, for agents that can be restricted.
    pub(crate) tools: bool,
    /// The tools of afk that the agent is offered, beside its own; only the breakglass agent is.
    #[serde(skip)]
    pub(crate) tool_server: Option<ToolServer>,
    /// Whether the turn ends with [`TurnEnd::Done`] in place of its prompt, once the login, the mode and
    /// the model have been tried.
    #[serde(default)]
    pub(crate) dry: bool,
    pub(crate) tariff: Tariff,
    pub(crate) limits: TurnLimits,
    /// Names of variables that a remote worker takes from its own environment: secret values never
    /// leave this machine.
    pub(crate) inherit: Vec<String>,
    /// Removes secrets from events and recordings; by default those of this process.
    #[serde(skip)]
    pub(crate) redactor: Redactor,
    /// What the agent's processes can reach. A worker derives its own.
    #[serde(skip)]
    pub(crate) sandbox: Option<Sandbox>,
    /// Whether the caller wants each piece of text at once ([`AgentEvent::Piece`]) and the
    /// program's exit code ([`AgentEvent::Exited`]).
    #[serde(rename = "heard")]
    pub(crate) stream_output: bool,
    /// The file that records every line in both directions; `None` records nothing.
    pub(crate) record: Option<PathBuf>,
}

/// The server of afk's tools, by the Model Context Protocol on its standard streams. The protocol
/// `command` carries the calls itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ToolServer {
    pub(crate) program: String,
    pub(crate) args: Vec<String>,
}

/// The name of afk's tool server in an agent's settings.
pub(crate) const TOOL_SERVER: &str = "afk";

/// How reported usage becomes money.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub(crate) enum Tariff {
    /// Trust the cost that the agent reports.
    #[default]
    #[serde(rename = "Told")]
    Reported,
    /// A flat plan: tokens are counted and cost nothing.
    Flat,
    /// Estimate the cost from prices in US dollars per million tokens.
    Priced { input: f64, output: f64 },
}

/// The limits of one turn and its processes.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct TurnLimits {
    /// The longest duration of the whole turn.
    pub(crate) turn: Duration,
    /// Silence after which the operator is notified. The turn is interrupted after twice, and
    /// stopped after three times this duration.
    pub(crate) silence: Duration,
    /// Whether only the limit of the whole turn ends a silent one.
    #[serde(default)]
    pub(crate) may_be_silent: bool,
    /// The longest duration of one tool, during which silence is normal.
    pub(crate) tool: Duration,
    /// The most memory of the whole process tree, in bytes.
    pub(crate) memory: u64,
}

/// A request to an agent whose turn is running.
///
/// It is written to a worker's folder as JSON, therefore the serialized names are a file format.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum TurnControl {
    /// Pass on the message that the operator `by` wrote.
    Steer { text: Untrusted, by: String },
    /// Answer the permission request or question with the id `request`.
    Answer { request: String, answer: Answer, by: DecidedBy },
    /// The result of a call of a tool that afk offers.
    ToolResult { call: String, ok: bool, text: Untrusted },
    /// End the turn and keep the conversation.
    Interrupt,
}

/// The receiver's end is in the runtime. The channel is bounded: a flood of events waits in the
/// agent's own pipe.
pub(crate) type EventSender = mpsc::Sender<AgentEvent>;

/// The effects of one call of an [`AgentProtocol`]; the [`turn::TurnLoop`] carries them out.
#[derive(Debug, Default)]
pub(crate) struct ProtocolOutput {
    /// Lines to write to the agent, without their newline.
    pub(crate) lines: Vec<Vec<u8>>,
    pub(crate) events: Vec<AgentEvent>,
    /// Messages that each begin another turn once this one has ended.
    pub(crate) later: Vec<String>,
    /// Set when the turn has ended.
    pub(crate) end: Option<TurnEnd>,
}

impl ProtocolOutput {
    /// Queues one line of JSON for the agent.
    pub(crate) fn write_json(&mut self, value: &serde_json::Value) {
        self.lines.push(value.to_string().into_bytes());
    }

    pub(crate) fn emit(&mut self, event: AgentEvent) {
        self.events.push(event);
    }

    /// Emits a remark of afk's own for the transcript.
    pub(crate) fn notice(&mut self, text: impl Into<Untrusted>) {
        self.events.push(AgentEvent::Notice { text: text.into() });
    }
}

/// When an agent reports the tokens of its requests to the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum UsageReports {
    /// After each request, or it stops at a budget by itself.
    Each,
    /// At the end of its turn, or perhaps never.
    Turn,
    /// At the end of its turn, and only those of the last request.
    LastRequest,
    /// Its protocol has no way to.
    Never,
}

/// The protocol of one agent as a state machine without a process: calls go in,
/// [`ProtocolOutput`] comes out.
pub(crate) trait AgentProtocol: Send + Sync {
    /// The abilities of this agent; afk offers an operator nothing beyond them.
    fn capabilities(&self) -> Capabilities;

    /// Arguments for this turn, appended to the configured command.
    fn arguments(&self, _spec: &TurnSpec) -> Vec<String> {
        Vec::new()
    }

    /// Sends the first lines; the program has just started.
    fn begin(&mut self, spec: &TurnSpec, out: &mut ProtocolOutput);

    /// Handles one line from the agent. `cut` is set when the line exceeded the limit and lost its
    /// end.
    fn receive_line(&mut self, line: &[u8], cut: bool, out: &mut ProtocolOutput);

    /// Passes on an operator's message in the middle of a turn. Called only when the capabilities
    /// allow it.
    fn steer(&mut self, text: &str, out: &mut ProtocolOutput);

    /// Begins another turn in the same conversation and process.
    fn follow_up(&mut self, text: &str, out: &mut ProtocolOutput);

    /// Answers a request that the agent made earlier, on behalf of the actor `by`.
    fn answer(&mut self, request: &str, answer: &Answer, by: &DecidedBy, out: &mut ProtocolOutput);

    /// Hands the agent the result of a call of a tool that afk offers. Agents with the Model Context
    /// Protocol get it from the tool server.
    fn tool_result(&mut self, _call: &str, _ok: bool, _text: &str, _out: &mut ProtocolOutput) {}

    /// Emits what the agent has said and not finished; no further line comes.
    fn flush(&mut self, _events: &mut Vec<AgentEvent>) {}

    /// The end of a turn that is over unless the agent goes on by itself, and the silence after which
    /// it counts.
    fn pending_end(&self) -> Option<(Duration, TurnEnd)> {
        None
    }

    /// When the agent reports the tokens that it uses. Until then, afk estimates them.
    fn usage_reports(&self) -> UsageReports {
        UsageReports::Each
    }

    /// Asks the agent to end its turn.
    fn interrupt(&mut self, out: &mut ProtocolOutput);

    /// Whether the agent reads further lines after its prompt. If not, its standard input is closed
    /// after the prompt.
    fn keeps_input_open(&self) -> bool {
        true
    }

    /// Derives the turn's end from the exit code and standard error when the output closed without
    /// one. The code is `None` after a signal, or when the program is still running.
    fn end_at_exit(&self, _code: Option<i32>, _stderr: &str) -> Option<TurnEnd> {
        None
    }
}

/// Creates the adapter for a protocol.
pub(crate) fn protocol_for(speaks: Protocol, acp: &AcpProfile) -> Box<dyn AgentProtocol> {
    match speaks {
        Protocol::Command => Box::new(command::CommandProtocol::default()),
        Protocol::Text => Box::new(text::TextProtocol::default()),
        Protocol::Claude => Box::new(claude::ClaudeProtocol::default()),
        Protocol::Codex => Box::new(codex::CodexProtocol::default()),
        Protocol::Acp => Box::new(acp::AcpProtocol::new(acp.clone())),
        Protocol::Pi => Box::new(pi::PiProtocol::default()),
    }
}

/// The longest text of one event, in bytes.
pub(crate) const TEXT_LIMIT: usize = 256 * 1024;

/// Cuts an agent's text at [`TEXT_LIMIT`] and appends how many bytes were lost.
pub(crate) fn bounded(text: impl Into<String>) -> Untrusted {
    bounded_to(text, TEXT_LIMIT)
}

/// Cuts a text at `limit` bytes and appends how many bytes were lost.
pub(crate) fn bounded_to(text: impl Into<String>, limit: usize) -> Untrusted {
    let mut text = text.into();
    if text.len() > limit {
        let end = text.floor_char_boundary(limit);
        let lost = text.len() - end;
        text.truncate(end);
        text.push_str(&format!("\n{}", cut_mark(&plural(lost, "byte"))));
    }
    Untrusted::new(text)
}

/// Keeps a line that no adapter understands, cut at [`TEXT_LIMIT`], for a later investigation.
pub(crate) fn raw_event(line: &[u8]) -> AgentEvent {
    AgentEvent::Raw { line: bounded(String::from_utf8_lossy(line).into_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_a_secret_before_a_cut_is_redacted() {
        let redactor = Redactor::new(["0123456789abcdefghij".to_owned()]);
        let before = "x".repeat(TEXT_LIMIT - 14);
        let mut text = bounded(format!("{before}0123456789abcdefghij"));
        assert!(text.as_received().contains("x0123456789abcd\n"));
        redactor.text(&mut text);
        assert!(text.as_received().contains("x[redacted]\n… afk cut"));
    }
}
