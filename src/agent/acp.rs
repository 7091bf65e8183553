//! The Agent Client Protocol (ACP), version 1: one client for opencode, gemini, qwen, copilot,
//! claude-agent-acp and codex-acp. Their differences are data ([`Ways`], assets/agents.toml).
//!
//! ```text
//!  afk                            agent
//!   ── initialize ──────────────>
//!   ── authenticate ────────────>         only if configured
//!   ── session/new or /load ────>
//!   ── session/set_mode ────────>         only if configured
//!   ── session/prompt ──────────>         one for the turn, one for each message of an operator
//!   <────────── session/update ──         text, tools, plan, cost
//!   <── session/request_permission
//!   <──── response to the prompt ─        the turn ends when every prompt has its response
//! ```
//!
//! The types of the `agent-client-protocol` crate parse the messages. Its connection is not used:
//! it closes at the first line that is no JSON, while afk must keep that line and continue.

mod tools;

use std::collections::{BTreeMap, VecDeque};

use agent_client_protocol::v1::schema::{
    ContentBlock, InitializeResponse, PermissionOptionKind, RequestPermissionRequest,
    SessionNotification, SessionUpdate, ToolCallUpdateFields,
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::fields::text;
use super::prose::{Prose, ProseKind};
use super::{AgentProtocol, ProtocolOutput, TurnSpec, bounded, raw_event};
use crate::config::agent::AcpProfile;
use crate::core::model::agent_event::{AgentEvent, PlanItem, TurnEnd};
use crate::core::model::approval::{Answer, DecidedBy};
use crate::core::model::budget::{MicroUsd, Spend};
use crate::core::model::capability::{Capabilities, Cost, Steer};
use crate::core::model::untrusted::Untrusted;

/// The purpose of a request that afk sent, kept until its response arrives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum AcpCall {
    Initialize,
    Authenticate,
    New,
    Load,
    Mode,
    /// `steers` marks an operator's message in the middle of a turn.
    Prompt {
        steers: bool,
    },
}

/// The state of one conversation; see the module.
#[derive(Debug, Default)]
pub(crate) struct AcpProtocol {
    config: AcpProfile,
    cwd: String,
    prompt: String,
    resume: Option<String>,
    session: String,
    version: Option<Untrusted>,
    /// The JSON-RPC id of the last request.
    last_id: u64,
    /// Requests without a response, by id.
    calls: BTreeMap<u64, AcpCall>,
    /// The agent is replaying an old conversation; its updates are ignored.
    loading: bool,
    prose: Prose,
    /// Running tools by the agent's id.
    tools: BTreeMap<String, tools::ToolState>,
    /// Open permission requests by afk's id, each with its JSON-RPC id.
    requests: BTreeMap<String, (Value, RequestPermissionRequest)>,
    /// Operators' messages that arrived before the first prompt was sent.
    queued_steers: VecDeque<String>,
    /// The session's cost as last reported; reports are running totals.
    reported_cost: MicroUsd,
    /// This turn has produced text, a tool or tokens.
    model_responded: bool,
    /// The end of the turn, held back until every prompt has its response.
    end: Option<TurnEnd>,
}

/// Finds the HTTP status of a failed API call, in the error's data or in a text like "API error
/// 529".
fn api_status(error: &Value) -> Option<u16> {
    let is_failure = |status: &u64| (400..600).contains(status);
    let fields = [&error["data"]["statusCode"], &error["data"]["status"], &error["data"]["code"]];
    let in_data = fields.into_iter().find_map(Value::as_u64);
    let in_text = || {
        let message = format!("{} {}", text(error, "message"), text(&error["data"], "details"));
        message
            .split(|c: char| !c.is_ascii_digit())
            .filter(|digits| digits.len() == 3)
            .find_map(|digits| digits.parse::<u64>().ok().filter(is_failure))
    };
    in_data.filter(is_failure).or_else(in_text).and_then(|status| u16::try_from(status).ok())
}

impl AcpProtocol {
    pub(crate) fn new(config: AcpProfile) -> Self {
        Self { config, ..Self::default() }
    }

    fn call(&mut self, method: &str, params: &Value, purpose: AcpCall, out: &mut ProtocolOutput) {
        self.last_id += 1;
        self.calls.insert(self.last_id, purpose);
        out.write_json(
            &json!({"jsonrpc": "2.0", "id": self.last_id, "method": method, "params": params}),
        );
    }

    fn prompt(&mut self, text: &str, steers: bool, out: &mut ProtocolOutput) {
        if !steers {
            self.model_responded = false;
        }
        let params = json!({
            "sessionId": self.session, "prompt": [{"type": "text", "text": text}],
        });
        self.call("session/prompt", &params, AcpCall::Prompt { steers }, out);
    }

    fn open_session(&mut self, out: &mut ProtocolOutput) {
        let mut params = json!({"cwd": self.cwd, "mcpServers": []});
        match self.resume.clone() {
            Some(session) => {
                params["sessionId"] = json!(session);
                self.session = session;
                self.loading = true;
                self.call("session/load", &params, AcpCall::Load, out);
            }
            None => self.call("session/new", &params, AcpCall::New, out),
        }
    }

    fn session_opened(&mut self, result: &Value, out: &mut ProtocolOutput) {
        self.loading = false;
        let model = [
            text(&result["models"], "currentModelId"),
            result["configOptions"]
                .as_array()
                .into_iter()
                .flatten()
                .find(|option| text(option, "category") == "model")
                .map_or("", |option| text(option, "currentValue")),
        ];
        out.emit(AgentEvent::SessionStarted {
            session: self.session.clone(),
            model: model.into_iter().find(|model| !model.is_empty()).map(bounded),
            version: self.version.clone(),
        });
        match self.config.mode.clone() {
            Some(mode) => {
                let params = json!({"sessionId": self.session, "modeId": mode});
                self.call("session/set_mode", &params, AcpCall::Mode, out);
            }
            None => self.send_first_prompt(out),
        }
    }

    fn send_first_prompt(&mut self, out: &mut ProtocolOutput) {
        let prompt = std::mem::take(&mut self.prompt);
        self.prompt(&prompt, false, out);
        for text in std::mem::take(&mut self.queued_steers) {
            self.prompt(&text, true, out);
        }
    }

    fn on_response(&mut self, line: &Value, out: &mut ProtocolOutput) {
        let Some(purpose) = line["id"].as_u64().and_then(|id| self.calls.remove(&id)) else {
            return;
        };
        if let Some(error) = line.get("error").filter(|error| !error.is_null()) {
            return self.on_error(purpose, error, out);
        }
        let result = &line["result"];
        match purpose {
            AcpCall::Initialize => {
                let response = InitializeResponse::deserialize(result).ok();
                let info = response.as_ref().and_then(|response| response.agent_info.clone());
                self.version = info.map(|info| bounded(format!("{} {}", info.name, info.version)));
                if self.resume.is_some()
                    && !(self.config.resumes
                        && response
                            .is_some_and(|response| response.agent_capabilities.load_session))
                {
                    let why = "this agent can't resume a conversation".into();
                    out.end = Some(TurnEnd::NoSession { why });
                    return;
                }
                match self.config.authenticate.clone() {
                    Some(method) => {
                        let params = json!({"methodId": method});
                        self.call("authenticate", &params, AcpCall::Authenticate, out);
                    }
                    None => self.open_session(out),
                }
            }
            AcpCall::Authenticate => self.open_session(out),
            AcpCall::New => {
                text(result, "sessionId").clone_into(&mut self.session);
                self.session_opened(result, out);
            }
            AcpCall::Load => self.session_opened(result, out),
            AcpCall::Mode => self.send_first_prompt(out),
            AcpCall::Prompt { steers } => self.prompt_ended(steers, result, out),
        }
    }

    fn on_error(&mut self, purpose: AcpCall, error: &Value, out: &mut ProtocolOutput) {
        self.prose.flush(&mut out.events);
        let message = [text(&error["data"], "details"), text(error, "message")];
        let why = message
            .into_iter()
            .find(|message| !message.is_empty())
            .unwrap_or("the agent gave no reason");
        match purpose {
            AcpCall::Load => out.end = Some(TurnEnd::NoSession { why: bounded(why) }),
            AcpCall::Mode => {
                out.notice(format!("the agent rejected the configured mode: {why}"));
                self.send_first_prompt(out);
            }
            AcpCall::Prompt { steers: true } => {
                out.notice(format!("the agent rejected the message: {why}"));
                self.end_if_settled(out);
            }
            AcpCall::Authenticate => {
                let why = format!("the agent can't log in: {why}");
                out.end = Some(TurnEnd::NotStarted { why: bounded(why) });
            }
            AcpCall::Initialize | AcpCall::New => {
                out.end = Some(TurnEnd::NotStarted { why: bounded(why) });
            }
            AcpCall::Prompt { steers: false } => {
                self.end = Some(TurnEnd::ApiError { status: api_status(error), why: bounded(why) });
                self.end_if_settled(out);
            }
        }
    }

    fn prompt_ended(&mut self, steers: bool, result: &Value, out: &mut ProtocolOutput) {
        self.prose.flush(&mut out.events);
        let usage =
            if result["usage"].is_object() { &result["usage"] } else { &result["_meta"]["usage"] };
        let count =
            |keys: &[&str]| -> u64 { keys.iter().filter_map(|key| usage[*key].as_u64()).sum() };
        let spend = Spend {
            tokens_in: count(&["inputTokens", "cachedReadTokens", "cachedWriteTokens"]),
            tokens_out: count(&["outputTokens"]),
            ..Spend::default()
        };
        if spend != Spend::default() {
            self.model_responded = true;
            out.emit(AgentEvent::Usage(spend));
        }
        if steers {
            out.emit(AgentEvent::SteerTaken);
        }
        let end = match text(result, "stopReason") {
            // Some agents report a failed model as a normal end.
            "end_turn" if !self.model_responded => {
                let why = "the turn ended without text, tools or tokens".into();
                TurnEnd::ApiError { status: None, why }
            }
            "end_turn" => TurnEnd::Done,
            "cancelled" => TurnEnd::Interrupted,
            "max_tokens" | "max_turn_requests" => TurnEnd::TurnLimit,
            "refusal" => TurnEnd::Refused { why: "the agent reported no reason".into() },
            other => {
                let why = format!("the agent stopped with the unknown reason {other:?}");
                TurnEnd::ApiError { status: None, why: bounded(why) }
            }
        };
        if !steers || self.end.is_none() {
            self.end = Some(end);
        }
        self.end_if_settled(out);
    }

    /// Ends the turn if every prompt has its response.
    fn end_if_settled(&mut self, out: &mut ProtocolOutput) {
        if !self.calls.values().any(|purpose| matches!(purpose, AcpCall::Prompt { .. })) {
            out.end = self.end.take();
        }
    }

    fn on_update(&mut self, params: &Value, out: &mut ProtocolOutput) {
        let Ok(notification) = SessionNotification::deserialize(params) else {
            return out.emit(raw_event(params.to_string().as_bytes()));
        };
        if self.loading {
            return;
        }
        match notification.update {
            SessionUpdate::AgentMessageChunk(chunk) => {
                self.push_prose(ProseKind::Text, &chunk.content, out);
            }
            SessionUpdate::AgentThoughtChunk(chunk) => {
                self.push_prose(ProseKind::Thought, &chunk.content, out);
            }
            SessionUpdate::ToolCall(call) => {
                let fields = ToolCallUpdateFields::new()
                    .kind(call.kind)
                    .status(call.status)
                    .title(call.title)
                    .content(call.content)
                    .raw_input(call.raw_input);
                self.update_tool(&call.tool_call_id.to_string(), fields, out);
            }
            SessionUpdate::ToolCallUpdate(update) => {
                self.update_tool(&update.tool_call_id.to_string(), update.fields, out);
            }
            SessionUpdate::Plan(plan) => {
                let items = plan.entries.into_iter().take(200).map(|entry| PlanItem {
                    text: bounded(entry.content),
                    done: serde_json::to_value(entry.status).is_ok_and(|s| s == "completed"),
                });
                out.emit(AgentEvent::Plan { items: items.collect() });
            }
            SessionUpdate::UsageUpdate(usage) => {
                let cost = usage.cost.filter(|cost| cost.currency == "USD");
                let sum = cost.map_or(MicroUsd(0), |cost| MicroUsd::from_usd(cost.amount));
                if sum > self.reported_cost {
                    let usd = MicroUsd(sum.0 - self.reported_cost.0);
                    self.reported_cost = sum;
                    out.emit(AgentEvent::Usage(Spend { usd, ..Spend::default() }));
                }
            }
            _ => {}
        }
    }

    fn push_prose(&mut self, kind: ProseKind, content: &ContentBlock, out: &mut ProtocolOutput) {
        self.model_responded = true;
        if let ContentBlock::Text(text) = content {
            self.prose.push(kind, &text.text, &mut out.events);
        }
    }
}

impl AgentProtocol for AcpProtocol {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            steer: if self.config.steers { Steer::MidTurn } else { Steer::AfterTurn },
            interrupt: true,
            permissions: true,
            edits: false,
            reads_refusals: self.config.reads_refusals,
            questions: false,
            plan: true,
            diffs: true,
            cost: if self.config.reports_cost { Cost::Usd } else { Cost::Tokens },
            budget: false,
            resume: self.config.resumes,
        }
    }

    fn begin(&mut self, spec: &TurnSpec, out: &mut ProtocolOutput) {
        self.prose.stream_pieces(spec.stream_output);
        self.cwd = spec.cwd.display().to_string();
        spec.prompt.as_received().clone_into(&mut self.prompt);
        self.resume.clone_from(&spec.resume);
        self.reported_cost = spec.session_cost;
        let params = json!({
            "protocolVersion": 1,
            "clientCapabilities": {
                "fs": {"readTextFile": false, "writeTextFile": false}, "terminal": false,
            },
            "clientInfo": {"name": "afk", "title": "afk", "version": env!("CARGO_PKG_VERSION")},
        });
        self.call("initialize", &params, AcpCall::Initialize, out);
    }

    fn receive_line(&mut self, line: &[u8], cut: bool, out: &mut ProtocolOutput) {
        let parsed = if cut { None } else { serde_json::from_slice::<Value>(line).ok() };
        let Some(line) = parsed.as_ref().filter(|line| line.is_object()) else {
            return out.emit(raw_event(line));
        };
        match (text(line, "method"), line.get("id").is_some_and(|id| !id.is_null())) {
            ("", true) => self.on_response(line, out),
            ("", false) => out.emit(raw_event(line.to_string().as_bytes())),
            (_, true) => self.on_request(line, out),
            ("session/update", false) => self.on_update(&line["params"], out),
            _ => {}
        }
    }

    fn steer(&mut self, text: &str, out: &mut ProtocolOutput) {
        if self.session.is_empty() || !self.prompt.is_empty() {
            self.queued_steers.push_back(text.to_owned());
        } else {
            self.prompt(text, true, out);
        }
    }

    fn follow_up(&mut self, text: &str, out: &mut ProtocolOutput) {
        self.prompt(text, false, out);
    }

    fn answer(
        &mut self,
        request: &str,
        answer: &Answer,
        _by: &DecidedBy,
        out: &mut ProtocolOutput,
    ) {
        let Some((id, asked_for)) = self.requests.remove(request) else {
            return out.notice("the agent no longer waits for this answer");
        };
        let wanted = match answer {
            Answer::Approve | Answer::ApproveRun => PermissionOptionKind::AllowOnce,
            Answer::Deny { .. } | Answer::Edit { .. } | Answer::Text { .. } => {
                PermissionOptionKind::RejectOnce
            }
        };
        let option = asked_for.options.iter().find(|option| option.kind == wanted);
        let outcome = match option {
            Some(option) => json!({"outcome": "selected", "optionId": option.option_id}),
            None => json!({"outcome": "cancelled"}),
        };
        out.write_json(&json!({"jsonrpc": "2.0", "id": id, "result": {"outcome": outcome}}));
        if let Answer::Deny { reason } = answer {
            // The response has no field for a reason, and a denial ends the turn of some agents.
            let reason = reason.as_received();
            let text = format!("That was refused: {reason}. Go on without it.");
            if self.config.steers && self.config.reads_refusals {
                self.prompt(&text, true, out);
            } else {
                out.later.push(text);
            }
        }
    }

    fn interrupt(&mut self, out: &mut ProtocolOutput) {
        for (id, _) in std::mem::take(&mut self.requests).into_values() {
            let outcome = json!({"outcome": {"outcome": "cancelled"}});
            out.write_json(&json!({"jsonrpc": "2.0", "id": id, "result": outcome}));
        }
        let params = json!({"sessionId": self.session});
        out.write_json(&json!({"jsonrpc": "2.0", "method": "session/cancel", "params": params}));
    }
}

#[cfg(test)]
mod tests;
