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

mod failure;
mod session;
mod tools;
mod usage;

use std::collections::{BTreeMap, VecDeque};

use agent_client_protocol::v1::schema::{
    ContentBlock, ContentChunk, InitializeResponse, PermissionOptionKind, RequestPermissionRequest,
    SessionNotification, SessionUpdate, ToolCallStatus, ToolCallUpdateFields,
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::fields::text;
use super::prose::{Prose, ProseKind};
use super::{
    AgentProtocol, ProtocolOutput, ToolServer, TurnSpec, UsageReports, bounded, image, json_line,
    raw_event,
};
use crate::config::agent::{AcpProfile, ReportedTokens};
use crate::core::model::agent_event::{AgentEvent, ContextUse, PlanItem, TurnEnd};
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
    Model,
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
    /// This turn has used a tool, and one since the last message.
    used_tools: bool,
    tool_since_text: bool,
    /// The beginning of this turn's text, and its last piece.
    said: String,
    last_said: String,
    /// The message that the last piece of text belongs to.
    message: Option<String>,
    /// The tokens that this turn has told before its answer.
    counted: Spend,
    /// The tokens of the process that the last answer told, for an agent that adds them up.
    told: Spend,
    /// Money that belongs to tokens which only the answer tells.
    pending_usd: MicroUsd,
    /// The context that was reported last, so that the same figure isn't reported again.
    context: Option<ContextUse>,
    /// The model to use; none leaves the choice to the agent.
    model: Option<String>,
    /// The server of afk's tools, where the agent is offered them.
    tool_server: Option<ToolServer>,
    /// The turn ends before its prompt.
    dry: bool,
    /// The end of the turn, held back until every prompt has its response.
    end: Option<TurnEnd>,
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
            self.used_tools = false;
            self.said.clear();
            self.last_said.clear();
            self.counted = Spend::default();
        }
        let params = json!({
            "sessionId": self.session, "prompt": [{"type": "text", "text": text}],
        });
        self.call("session/prompt", &params, AcpCall::Prompt { steers }, out);
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
            AcpCall::Model => self.set_mode(out),
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
            AcpCall::Model => {
                let why = format!("the agent can't use the configured model: {why}");
                out.end = Some(TurnEnd::NotStarted { why: bounded(why) });
            }
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
                self.end = Some(TurnEnd::ApiError {
                    status: failure::api_status(error),
                    why: bounded(why),
                });
                self.end_if_settled(out);
            }
        }
    }

    fn prompt_ended(&mut self, steers: bool, result: &Value, out: &mut ProtocolOutput) {
        self.prose.flush(&mut out.events);
        let answer = self.new_tokens(usage::of_answer(result));
        let spend = Spend {
            tokens_in: answer.tokens_in.saturating_sub(self.counted.tokens_in),
            tokens_out: answer.tokens_out.saturating_sub(self.counted.tokens_out),
            usd: std::mem::take(&mut self.pending_usd),
            ..Spend::default()
        };
        let told_tokens = answer != Spend::default() || self.counted != Spend::default();
        if told_tokens {
            self.model_responded = true;
        }
        if spend != Spend::default() {
            out.emit(AgentEvent::Usage(spend));
        }
        let did_nothing = !told_tokens && !self.used_tools;
        let failure = (did_nothing.then(|| failure::in_words(&self.said)).flatten())
            .or_else(|| failure::in_last_words(&self.last_said));
        if steers {
            out.emit(AgentEvent::SteerTaken);
        }
        let end = match text(result, "stopReason") {
            // Some agents report a failed model as a normal end.
            "end_turn" if !self.model_responded => {
                let why = "the turn ended without text, tools or tokens".into();
                TurnEnd::ApiError { status: None, why }
            }
            "end_turn" => failure.unwrap_or(TurnEnd::Done),
            "cancelled" => TurnEnd::Interrupted,
            "max_tokens" | "max_turn_requests" => TurnEnd::TurnLimit,
            "refusal" => TurnEnd::Refused { why: "the agent reported no reason".into() },
            other => {
                let why = format!("the agent stopped with the unknown reason {other:?}");
                TurnEnd::ApiError { status: None, why: bounded(why) }
            }
        };
        // An interrupt may cancel the message alone, after the first prompt was answered.
        if !steers || self.end.is_none() || end == TurnEnd::Interrupted {
            self.end = Some(end);
        }
        self.end_if_settled(out);
    }

    /// The tokens that an answer adds to those of the process, where the agent adds them up. A sum that
    /// shrinks belongs to another conversation.
    fn new_tokens(&mut self, answer: Spend) -> Spend {
        if self.config.tokens != ReportedTokens::Process {
            return answer;
        }
        let before = std::mem::replace(&mut self.told, answer);
        let grows = answer.tokens_in >= before.tokens_in && answer.tokens_out >= before.tokens_out;
        if !grows {
            return answer;
        }
        Spend {
            tokens_in: answer.tokens_in - before.tokens_in,
            tokens_out: answer.tokens_out - before.tokens_out,
            ..Spend::default()
        }
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
                self.push_prose(ProseKind::Text, &chunk, out);
                self.count_tokens(&params["update"]["_meta"]["usage"], out);
            }
            SessionUpdate::AgentThoughtChunk(chunk) => {
                self.push_prose(ProseKind::Thought, &chunk, out);
            }
            SessionUpdate::ToolCall(call) => {
                let fields = ToolCallUpdateFields::new()
                    .kind(call.kind)
                    .status(call.status)
                    .title(call.title)
                    .content(call.content)
                    .raw_input(call.raw_input);
                let id = call.tool_call_id.to_string();
                self.tool_detailed(&id, &params["update"]);
                self.update_tool(&id, fields, out);
            }
            SessionUpdate::ToolCallUpdate(update) => {
                let (id, call) = (update.tool_call_id.to_string(), &params["update"]);
                self.tool_detailed(&id, call);
                let piece = &call["_meta"]["terminal_output_delta"];
                self.tool_printed(&id, text(piece, "data"));
                self.update_tool(&id, update.fields, out);
            }
            SessionUpdate::Plan(plan) => {
                let items = plan.entries.into_iter().take(200).map(|entry| PlanItem {
                    text: bounded(entry.content),
                    done: serde_json::to_value(entry.status).is_ok_and(|s| s == "completed"),
                });
                out.emit(AgentEvent::Plan { items: items.collect() });
            }
            SessionUpdate::UsageUpdate(usage) => {
                let size = Some(usage.size).filter(|size| *size > 0);
                let context = ContextUse { used: usage.used, size };
                if context.used > 0 && self.context.replace(context) != Some(context) {
                    out.emit(AgentEvent::Context(context));
                }
                let cost = usage.cost.filter(|cost| cost.currency == "USD");
                let sum = cost.map_or(MicroUsd(0), |cost| MicroUsd::from_usd(cost.amount));
                if sum > self.reported_cost {
                    let usd = MicroUsd(sum.0 - self.reported_cost.0);
                    self.reported_cost = sum;
                    self.report_money(usd, out);
                }
            }
            _ => {}
        }
    }

    /// Reports money at once, or with the tokens that only the answer tells: they are one report.
    fn report_money(&mut self, usd: MicroUsd, out: &mut ProtocolOutput) {
        if self.config.tokens == ReportedTokens::LastRequest {
            self.pending_usd = self.pending_usd.plus(usd);
        } else {
            out.emit(AgentEvent::Usage(Spend { usd, ..Spend::default() }));
        }
    }

    /// Counts the tokens of one request to the model, which some agents tell during the turn.
    fn count_tokens(&mut self, told: &Value, out: &mut ProtocolOutput) {
        let spend = usage::of(told);
        if spend != Spend::default() {
            self.model_responded = true;
            let counted = &mut self.counted;
            counted.tokens_in = counted.tokens_in.saturating_add(spend.tokens_in);
            counted.tokens_out = counted.tokens_out.saturating_add(spend.tokens_out);
            // Text after its report would count as the begin of another request.
            self.prose.flush(&mut out.events);
            out.emit(AgentEvent::Usage(spend));
        }
    }

    fn push_prose(&mut self, kind: ProseKind, chunk: &ContentChunk, out: &mut ProtocolOutput) {
        let piece = match &chunk.content {
            ContentBlock::Text(piece) => piece,
            ContentBlock::Image(image) => {
                self.prose.flush(&mut out.events);
                let text = image::summary(&image.mime_type, &image.data).into();
                return out.emit(AgentEvent::Text { text });
            }
            _ => return,
        };
        let message = chunk.message_id.as_ref().map(ToString::to_string);
        if message.is_some() && message != self.message {
            self.prose.flush(&mut out.events);
            // Without a tool between them, the second one may be another try of the first.
            self.prose.begin_message(!std::mem::take(&mut self.tool_since_text));
            self.message = message;
        }
        if piece.text.is_empty() {
            return;
        }
        self.model_responded = true;
        if kind == ProseKind::Text {
            let end = piece.text.floor_char_boundary(failure::SAID_LIMIT);
            piece.text[..end].clone_into(&mut self.last_said);
        }
        if kind == ProseKind::Text && self.said.len() < failure::SAID_LIMIT {
            self.said.push_str(&piece.text[..piece.text.floor_char_boundary(failure::SAID_LIMIT)]);
        }
        self.prose.push(kind, &piece.text, &mut out.events);
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
        self.model.clone_from(&spec.model);
        self.tool_server.clone_from(&spec.tool_server);
        self.dry = spec.dry;
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
        let parsed = if cut { None } else { json_line::parse::<Value>(line) };
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
        if wanted == PermissionOptionKind::AllowOnce {
            // Some agents tell neither the start of a tool nor that it runs.
            let call = asked_for.tool_call.clone();
            let fields = call.fields.status(ToolCallStatus::InProgress);
            self.update_tool(&call.tool_call_id.to_string(), fields, out);
        }
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

    fn flush(&mut self, events: &mut Vec<AgentEvent>) {
        self.prose.flush(events);
        let usd = std::mem::take(&mut self.pending_usd);
        if usd.0 > 0 {
            events.push(AgentEvent::Usage(Spend { usd, ..Spend::default() }));
        }
    }

    fn usage_reports(&self) -> UsageReports {
        match self.config.tokens {
            ReportedTokens::LastRequest => UsageReports::LastRequest,
            ReportedTokens::Prompt | ReportedTokens::Process => UsageReports::Turn,
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
#[cfg(test)]
mod vendor_tests;
