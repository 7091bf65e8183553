//! The Agent Client Protocol, version 1: one client for opencode, gemini, qwen, copilot,
//! claude-agent-acp and codex-acp. In what they differ is data ([`AcpProfile`], assets/agents.toml).
//!
//! Messages are read with the types of the `agent-client-protocol` crate. Its connection is not
//! used: it ends at the first line that is no JSON, where this must keep the line and go on.

use std::collections::{BTreeMap, VecDeque};

use agent_client_protocol::v1::schema::{
    ContentBlock, InitializeResponse, PermissionOptionKind, RequestPermissionRequest,
    SessionNotification, SessionUpdate, ToolCallContent, ToolCallStatus, ToolCallUpdateFields,
    ToolKind,
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::fields::{short, text};
use super::prose::{Kind, Prose};
use super::{Conversation, Said, TurnSpec, bounded, diff, raw};
use crate::config::agent::AcpProfile;
use crate::core::model::agent_event::{AgentEvent, PlanItem, TurnEnd};
use crate::core::model::approval::Answer;
use crate::core::model::budget::{MicroUsd, Spend};
use crate::core::model::capability::{Capabilities, Cost, Steer};
use crate::core::model::permission::{PermissionRequest, Tool};
use crate::core::model::untrusted::Untrusted;

/// What a request of ours was for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sent {
    Initialize,
    Authenticate,
    New,
    Load,
    Mode,
    Prompt { steers: bool },
}

/// A tool as it is known so far: updates tell only what changed.
#[derive(Debug, Default)]
struct Known {
    title: String,
    kind: ToolKind,
    begun: bool,
    input: Value,
    content: Vec<ToolCallContent>,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Acp {
    ways: AcpProfile,
    cwd: String,
    prompt: String,
    resume: Option<String>,
    session: String,
    version: Option<Untrusted>,
    next: u64,
    sent: BTreeMap<u64, Sent>,
    /// The past is told again while a conversation is loaded.
    loading: bool,
    prose: Prose,
    tools: BTreeMap<String, Known>,
    requests: BTreeMap<String, (Value, RequestPermissionRequest)>,
    early: VecDeque<String>,
    told: MicroUsd,
    /// Anything at all was heard of a model in this turn.
    alive: bool,
    end: Option<TurnEnd>,
}

fn tool(kind: ToolKind) -> Tool {
    match kind {
        ToolKind::Execute => Tool::Shell,
        ToolKind::Edit | ToolKind::Delete | ToolKind::Move => Tool::Edit,
        ToolKind::Read | ToolKind::Search | ToolKind::Think => Tool::Read,
        ToolKind::Fetch => Tool::Web,
        _ => Tool::Other,
    }
}

/// A status in a text like "API error 529" or in the error's data.
fn status(error: &Value) -> Option<u16> {
    let told = [&error["data"]["statusCode"], &error["data"]["status"], &error["data"]["code"]];
    let told = told.into_iter().find_map(Value::as_u64);
    let spoken = || {
        let words = format!("{} {}", text(error, "message"), text(&error["data"], "details"));
        words
            .split(|c: char| !c.is_ascii_digit())
            .filter(|part| part.len() == 3)
            .find_map(|part| part.parse::<u64>().ok().filter(|n| (400..600).contains(n)))
    };
    told.filter(|n| (400..600).contains(n)).or_else(spoken).and_then(|n| u16::try_from(n).ok())
}

impl Acp {
    /// One whose agent has these ways.
    #[must_use]
    pub fn new(ways: AcpProfile) -> Self {
        Self { ways, ..Self::default() }
    }

    fn call(&mut self, method: &str, params: &Value, what: Sent, said: &mut Said) {
        self.next += 1;
        self.sent.insert(self.next, what);
        said.line(&json!({"jsonrpc": "2.0", "id": self.next, "method": method, "params": params}));
    }

    fn prompt(&mut self, text: &str, steers: bool, said: &mut Said) {
        if !steers {
            self.alive = false;
        }
        let params = json!({
            "sessionId": self.session, "prompt": [{"type": "text", "text": text}],
        });
        self.call("session/prompt", &params, Sent::Prompt { steers }, said);
    }

    fn open(&mut self, said: &mut Said) {
        let mut params = json!({"cwd": self.cwd, "mcpServers": []});
        match self.resume.clone() {
            Some(session) => {
                params["sessionId"] = json!(session);
                self.session = session;
                self.loading = true;
                self.call("session/load", &params, Sent::Load, said);
            }
            None => self.call("session/new", &params, Sent::New, said),
        }
    }

    fn opened(&mut self, result: &Value, said: &mut Said) {
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
        said.event(AgentEvent::SessionStarted {
            session: self.session.clone(),
            model: model.into_iter().find(|model| !model.is_empty()).map(bounded),
            version: self.version.clone(),
        });
        match self.ways.mode.clone() {
            Some(mode) => {
                let params = json!({"sessionId": self.session, "modeId": mode});
                self.call("session/set_mode", &params, Sent::Mode, said);
            }
            None => self.ready(said),
        }
    }

    fn ready(&mut self, said: &mut Said) {
        let prompt = std::mem::take(&mut self.prompt);
        self.prompt(&prompt, false, said);
        for text in std::mem::take(&mut self.early) {
            self.prompt(&text, true, said);
        }
    }

    fn answered(&mut self, line: &Value, said: &mut Said) {
        let Some(what) = line["id"].as_u64().and_then(|id| self.sent.remove(&id)) else { return };
        if let Some(error) = line.get("error").filter(|error| !error.is_null()) {
            return self.refused(what, error, said);
        }
        let result = &line["result"];
        match what {
            Sent::Initialize => {
                let known = InitializeResponse::deserialize(result).ok();
                let info = known.as_ref().and_then(|known| known.agent_info.clone());
                self.version = info.map(|info| bounded(format!("{} {}", info.name, info.version)));
                if self.resume.is_some()
                    && !(self.ways.resumes
                        && known.is_some_and(|known| known.agent_capabilities.load_session))
                {
                    let why = "this agent can't go on with an old conversation".into();
                    said.end = Some(TurnEnd::NoSession { why });
                    return;
                }
                match self.ways.authenticate.clone() {
                    Some(method) => {
                        let params = json!({"methodId": method});
                        self.call("authenticate", &params, Sent::Authenticate, said);
                    }
                    None => self.open(said),
                }
            }
            Sent::Authenticate => self.open(said),
            Sent::New => {
                text(result, "sessionId").clone_into(&mut self.session);
                self.opened(result, said);
            }
            Sent::Load => self.opened(result, said),
            Sent::Mode => self.ready(said),
            Sent::Prompt { steers } => self.prompted(steers, result, said),
        }
    }

    fn refused(&mut self, what: Sent, error: &Value, said: &mut Said) {
        self.prose.flush(&mut said.events);
        let message = [text(&error["data"], "details"), text(error, "message")];
        let why = message.into_iter().find(|message| !message.is_empty()).unwrap_or("an error");
        match what {
            Sent::Load => said.end = Some(TurnEnd::NoSession { why: bounded(why) }),
            Sent::Mode => {
                said.notice(format!("its mode could not be set: {why}"));
                self.ready(said);
            }
            Sent::Prompt { steers: true } => {
                said.notice(format!("the message was not taken: {why}"));
                self.settle(said);
            }
            Sent::Authenticate => {
                let why = format!("it can't log in: {why}");
                said.end = Some(TurnEnd::NotStarted { why: bounded(why) });
            }
            Sent::Initialize | Sent::New => {
                said.end = Some(TurnEnd::NotStarted { why: bounded(why) });
            }
            Sent::Prompt { steers: false } => {
                self.end = Some(TurnEnd::ApiError { status: status(error), why: bounded(why) });
                self.settle(said);
            }
        }
    }

    fn prompted(&mut self, steers: bool, result: &Value, said: &mut Said) {
        self.prose.flush(&mut said.events);
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
            self.alive = true;
            said.event(AgentEvent::Usage(spend));
        }
        if steers {
            said.event(AgentEvent::SteerTaken);
        }
        let end = match text(result, "stopReason") {
            // Some agents call a dead model a normal end.
            "end_turn" if !self.alive => {
                let why = "the turn ended without a word, a tool or a token".into();
                TurnEnd::ApiError { status: None, why }
            }
            "end_turn" => TurnEnd::Done,
            "cancelled" => TurnEnd::Interrupted,
            "max_tokens" | "max_turn_requests" => TurnEnd::TurnLimit,
            "refusal" => TurnEnd::Refused { why: "the model declined".into() },
            other => {
                let why = format!("it stopped for {other:?}");
                TurnEnd::ApiError { status: None, why: bounded(why) }
            }
        };
        if !steers || self.end.is_none() {
            self.end = Some(end);
        }
        self.settle(said);
    }

    /// The turn is over once every prompt is answered.
    fn settle(&mut self, said: &mut Said) {
        if !self.sent.values().any(|what| matches!(what, Sent::Prompt { .. })) {
            said.end = self.end.take();
        }
    }

    fn update(&mut self, params: &Value, said: &mut Said) {
        let Ok(told) = SessionNotification::deserialize(params) else {
            return said.event(raw(params.to_string().as_bytes()));
        };
        if self.loading {
            return;
        }
        match told.update {
            SessionUpdate::AgentMessageChunk(chunk) => self.piece(Kind::Text, &chunk.content, said),
            SessionUpdate::AgentThoughtChunk(chunk) => {
                self.piece(Kind::Thought, &chunk.content, said);
            }
            SessionUpdate::ToolCall(call) => {
                let fields = ToolCallUpdateFields::new()
                    .kind(call.kind)
                    .status(call.status)
                    .title(call.title)
                    .content(call.content)
                    .raw_input(call.raw_input);
                self.tool(&call.tool_call_id.to_string(), fields, said);
            }
            SessionUpdate::ToolCallUpdate(update) => {
                self.tool(&update.tool_call_id.to_string(), update.fields, said);
            }
            SessionUpdate::Plan(plan) => {
                let items = plan.entries.into_iter().take(200).map(|entry| PlanItem {
                    text: bounded(entry.content),
                    done: serde_json::to_value(entry.status).is_ok_and(|s| s == "completed"),
                });
                said.event(AgentEvent::Plan { items: items.collect() });
            }
            SessionUpdate::UsageUpdate(usage) => {
                let cost = usage.cost.filter(|cost| cost.currency == "USD");
                let sum = cost.map_or(MicroUsd(0), |cost| MicroUsd::from_usd(cost.amount));
                if sum > self.told {
                    let usd = MicroUsd(sum.0 - self.told.0);
                    self.told = sum;
                    said.event(AgentEvent::Usage(Spend { usd, ..Spend::default() }));
                }
            }
            _ => {}
        }
    }

    fn piece(&mut self, kind: Kind, content: &ContentBlock, said: &mut Said) {
        self.alive = true;
        if let ContentBlock::Text(text) = content {
            self.prose.push(kind, &text.text, &mut said.events);
        }
    }

    fn tool(&mut self, id: &str, fields: ToolCallUpdateFields, said: &mut Said) {
        self.alive = true;
        self.prose.flush(&mut said.events);
        let known = self.tools.entry(id.to_owned()).or_default();
        if let Some(title) = fields.title {
            known.title = title;
        }
        if let Some(kind) = fields.kind {
            known.kind = kind;
        }
        if let Some(input) = fields.raw_input {
            known.input = input;
        }
        if let Some(content) = fields.content {
            known.content = content;
        }
        let over = match fields.status {
            Some(ToolCallStatus::Completed) => Some(true),
            Some(ToolCallStatus::Failed) => Some(false),
            _ => None,
        };
        // Begun with a name only: what it does comes with the first update.
        let tells = fields.status != Some(ToolCallStatus::Pending) || over.is_some();
        if tells && !known.begun {
            known.begun = true;
            let command = text(&known.input, "command");
            let title = if command.is_empty() { known.title.as_str() } else { command };
            said.event(AgentEvent::ToolStart {
                id: id.to_owned(),
                kind: tool(known.kind).as_str().into(),
                title: bounded(title),
            });
        }
        let Some(ok) = over else { return };
        let Some(known) = self.tools.remove(id) else { return };
        let mut output = Vec::new();
        let mut diffs = Vec::new();
        for content in known.content {
            match content {
                ToolCallContent::Content(content) => {
                    if let ContentBlock::Text(text) = content.content {
                        output.push(text.text);
                    }
                }
                ToolCallContent::Diff(change) => diffs.push(change),
                _ => {}
            }
        }
        said.event(AgentEvent::ToolEnd {
            id: id.to_owned(),
            title: "".into(),
            ok,
            code: None,
            output: bounded(output.join("\n")),
        });
        for change in diffs.into_iter().filter(|_| ok) {
            let path = change.path.display().to_string();
            let path = short(&self.cwd, &path).to_owned();
            let old = change.old_text.unwrap_or_default();
            let diff = bounded(diff::unified(&path, &old, &change.new_text));
            said.event(AgentEvent::Diff { path: bounded(path), diff });
        }
    }

    fn asked(&mut self, line: &Value, said: &mut Said) {
        let method = text(line, "method");
        let request = (method == "session/request_permission")
            .then(|| RequestPermissionRequest::deserialize(&line["params"]).ok())
            .flatten();
        let Some(request) = request else {
            let error = json!({"code": -32601, "message": format!("{method} is not supported")});
            return said.line(&json!({"jsonrpc": "2.0", "id": line["id"], "error": error}));
        };
        self.prose.flush(&mut said.events);
        let id = format!("acp-{}", line["id"]);
        let ask = self.ask(&request);
        self.requests.insert(id.clone(), (line["id"].clone(), request));
        said.event(AgentEvent::PermissionRequest { id, ask: Box::new(ask) });
    }

    fn ask(&self, request: &RequestPermissionRequest) -> PermissionRequest {
        let fields = &request.tool_call.fields;
        let known = self.tools.get(&request.tool_call.tool_call_id.to_string());
        let kind = fields.kind.or_else(|| known.map(|known| known.kind)).unwrap_or_default();
        let null = Value::Null;
        let input = fields.raw_input.as_ref().or_else(|| known.map(|k| &k.input)).unwrap_or(&null);
        let title = fields.title.clone().or_else(|| known.map(|known| known.title.clone()));
        let title = title.unwrap_or_default();
        let mut tool = tool(kind);
        let command = match &input["command"] {
            Value::String(command) => command.clone(),
            Value::Array(words) => {
                words.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" ")
            }
            _ => String::new(),
        };
        let locations = fields.locations.iter().flatten();
        let mut paths: Vec<String> =
            locations.map(|place| place.path.display().to_string()).collect();
        let mut changes = Vec::new();
        let content = fields.content.as_ref().or_else(|| known.map(|known| &known.content));
        for content in content.into_iter().flatten() {
            if let ToolCallContent::Diff(change) = content {
                let path = change.path.display().to_string();
                let old = change.old_text.clone().unwrap_or_default();
                changes.push(format!("{path}\n{}", diff::unified(&path, &old, &change.new_text)));
                paths.push(path);
            }
        }
        if changes.is_empty() && !text(input, "diff").is_empty() {
            changes.push(text(input, "diff").to_owned());
        }
        for key in ["file_path", "filePath", "filepath", "path", "abs_path"] {
            paths.extend(Some(text(input, key)).filter(|p| !p.is_empty()).map(str::to_owned));
        }
        paths.sort();
        paths.dedup();
        if tool == Tool::Other && !command.is_empty() {
            tool = Tool::Shell;
        }
        let targets = match tool {
            Tool::Shell => vec![if command.is_empty() { title.clone() } else { command }],
            // An edit that says no place is not known to stay inside: a human looks.
            Tool::Edit if paths.is_empty() => {
                tool = Tool::Other;
                vec![title.clone()]
            }
            Tool::Edit | Tool::Read if !paths.is_empty() => paths,
            _ => vec![title.clone()],
        };
        let detail = match tool {
            Tool::Shell => targets[0].clone(),
            _ if !changes.is_empty() => changes.join("\n"),
            _ => format!("{title}\n\n{}", serde_json::to_string_pretty(input).unwrap_or_default()),
        };
        let targets = targets.into_iter().take(100).map(bounded).collect();
        PermissionRequest {
            tool,
            title: bounded(title),
            detail: bounded(detail),
            targets,
            editable: false,
        }
    }
}

impl Conversation for Acp {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            steer: if self.ways.steers { Steer::MidTurn } else { Steer::AfterTurn },
            interrupt: true,
            permissions: true,
            edits: false,
            reads_refusals: self.ways.reads_refusals,
            questions: false,
            plan: true,
            diffs: true,
            cost: if self.ways.reports_cost { Cost::Usd } else { Cost::Tokens },
            budget: false,
            resume: self.ways.resumes,
        }
    }

    fn begin(&mut self, spec: &TurnSpec, said: &mut Said) {
        self.prose.tell_pieces(spec.heard);
        self.cwd = spec.cwd.display().to_string();
        spec.prompt.as_received().clone_into(&mut self.prompt);
        self.resume.clone_from(&spec.resume);
        self.told = spec.session_cost;
        let params = json!({
            "protocolVersion": 1,
            "clientCapabilities": {
                "fs": {"readTextFile": false, "writeTextFile": false}, "terminal": false,
            },
            "clientInfo": {"name": "afk", "title": "afk", "version": env!("CARGO_PKG_VERSION")},
        });
        self.call("initialize", &params, Sent::Initialize, said);
    }

    fn hear(&mut self, line: &[u8], cut: bool, said: &mut Said) {
        let read = if cut { None } else { serde_json::from_slice::<Value>(line).ok() };
        let Some(line) = read.as_ref().filter(|line| line.is_object()) else {
            return said.event(raw(line));
        };
        match (text(line, "method"), line.get("id").is_some_and(|id| !id.is_null())) {
            ("", true) => self.answered(line, said),
            ("", false) => said.event(raw(line.to_string().as_bytes())),
            (_, true) => self.asked(line, said),
            ("session/update", false) => self.update(&line["params"], said),
            _ => {}
        }
    }

    fn steer(&mut self, text: &str, said: &mut Said) {
        if self.session.is_empty() || !self.prompt.is_empty() {
            self.early.push_back(text.to_owned());
        } else {
            self.prompt(text, true, said);
        }
    }

    fn follow(&mut self, text: &str, said: &mut Said) {
        self.prompt(text, false, said);
    }

    fn answer(&mut self, request: &str, answer: &Answer, _by: &str, said: &mut Said) {
        let Some((id, asked)) = self.requests.remove(request) else {
            return said.notice("the agent waits for that answer no more");
        };
        let wanted = match answer {
            Answer::Approve | Answer::ApproveRun => PermissionOptionKind::AllowOnce,
            Answer::Deny { .. } | Answer::Edit { .. } | Answer::Text { .. } => {
                PermissionOptionKind::RejectOnce
            }
        };
        let option = asked.options.iter().find(|option| option.kind == wanted);
        let outcome = match option {
            Some(option) => json!({"outcome": "selected", "optionId": option.option_id}),
            None => json!({"outcome": "cancelled"}),
        };
        said.line(&json!({"jsonrpc": "2.0", "id": id, "result": {"outcome": outcome}}));
        if let Answer::Deny { reason } = answer {
            // The answer has no room for a reason, and for some a refusal ends the turn.
            let reason = reason.as_received();
            let text = format!("That was refused: {reason}. Go on without it.");
            if self.ways.steers && self.ways.reads_refusals {
                self.prompt(&text, true, said);
            } else {
                said.later.push(text);
            }
        }
    }

    fn interrupt(&mut self, said: &mut Said) {
        for (id, _) in std::mem::take(&mut self.requests).into_values() {
            let outcome = json!({"outcome": {"outcome": "cancelled"}});
            said.line(&json!({"jsonrpc": "2.0", "id": id, "result": outcome}));
        }
        let params = json!({"sessionId": self.session});
        said.line(&json!({"jsonrpc": "2.0", "method": "session/cancel", "params": params}));
    }
}

#[cfg(test)]
mod tests;
