//! The protocol of Claude Code: stream-json, with control requests on standard input and output
//! (tested with 2.1.330; docs/agents.md lists the features that afk relies on).
//!
//! ```text
//!  afk                            claude
//!   ── user ────────────────────>         the prompt, and each message of an operator
//!   <── stream_event, assistant ──        text in pieces, then whole; tools
//!   <── user ─────────────────────        tool results, and each message once claude has taken it
//!   <── control_request ──────────        a permission request or a question
//!   ── control_response ────────>
//!   <── result ───────────────────        the turn has ended, with its cost
//! ```

mod end;
pub(crate) mod tools;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use serde_json::{Value, json};

use super::fields::{relative_path, text};
use super::prose::{Prose, ProseKind};
use super::{
    AgentProtocol, ProtocolOutput, TOOL_SERVER, TurnSpec, bounded, diff, image, json_line, limit,
    raw_event,
};
use crate::config::agent::capabilities;
use crate::core::model::agent_event::{AgentEvent, ContextUse, PlanItem, TurnEnd};
use crate::core::model::approval::{Answer, DecidedBy};
use crate::core::model::budget::{MicroUsd, Spend};
use crate::core::model::capability::Capabilities;

/// How many ids of streamed messages are remembered; claude never repeats an older one.
const STREAMED_IDS: usize = 64;

/// The state of one conversation; see the module.
#[derive(Debug, Default)]
pub(crate) struct ClaudeProtocol {
    cwd: String,
    /// The turn ends before its prompt.
    dry: bool,
    prose: Prose,
    /// A message has begun and not ended.
    in_message: bool,
    /// Ids of the messages whose text has arrived in pieces.
    streamed_ids: VecDeque<String>,
    /// Open control requests by id, as received.
    requests: BTreeMap<String, Value>,
    /// Messages that claude has not taken yet; the prompt is the first.
    unacknowledged: VecDeque<String>,
    /// Claude has taken the prompt.
    prompt_taken: bool,
    /// The session's cost as last reported; reports are running totals.
    reported_cost: MicroUsd,
    session: Option<String>,
    /// The tokens of the latest request of the conversation.
    context_used: u64,
    /// The tokens that fit into the context of the model, once a turn has ended.
    context_size: Option<u64>,
    /// Ids of the running tools.
    tools: BTreeSet<String>,
    /// The number of interrupts, which makes their request ids unique.
    interrupts: u32,
    /// The reset of the limit that refused the last request, in seconds since 1970.
    refused_until: Option<i64>,
    /// What claude runs in the background beside the conversation, one line each.
    background: Vec<String>,
    /// The turn has ended, and work in the background may begin another.
    pending_end: Option<TurnEnd>,
    /// The longest silence of work in the background.
    background_limit: Duration,
}

/// Settings over those of the user, of the repository and of claude itself: claude asks whatever they
/// allow, and nothing runs beside the conversation. A hook could allow a tool, or run a command unasked.
const SETTINGS: &str = r#"{"permissions":{"ask":["Bash","Edit","MultiEdit","Write","NotebookEdit","WebFetch","WebSearch"],"defaultMode":"default","disableBypassPermissionsMode":"disable"},"disableAllHooks":true,"enableAllProjectMcpServers":false}"#;

/// How long claude may take to begin the turn that work in the background causes when it ends.
const NEXT_TURN: Duration = Duration::from_secs(5);

/// The tokens that the model read in a request, or in all requests of a turn.
fn tokens_read(usage: &Value) -> u64 {
    number(usage, "input_tokens")
        .saturating_add(number(usage, "cache_creation_input_tokens"))
        .saturating_add(number(usage, "cache_read_input_tokens"))
}

fn number(value: &Value, key: &str) -> u64 {
    value.get(key).and_then(Value::as_u64).unwrap_or(0)
}

impl ClaudeProtocol {
    fn send_message(&mut self, text: &str, out: &mut ProtocolOutput) {
        self.unacknowledged.push_back(text.to_owned());
        out.write_json(&json!({
            "type": "user",
            "message": {"role": "user", "content": [{"type": "text", "text": text}]},
            "parent_tool_use_id": null,
            "session_id": self.session.as_deref().unwrap_or_default(),
        }));
    }

    fn on_control_request(&mut self, line: &Value, out: &mut ProtocolOutput) {
        let id = text(line, "request_id").to_owned();
        let Some(request) = line.get("request") else { return };
        if text(request, "subtype") != "can_use_tool" {
            let error = json!({"subtype": "error", "request_id": id, "error": "not supported"});
            out.write_json(&json!({"type": "control_response", "response": error}));
            return;
        }
        self.prose.flush(&mut out.events);
        if text(request, "tool_name") == "AskUserQuestion" {
            let questions = request["input"]["questions"].as_array().map(Vec::as_slice);
            out.emit(tools::question(id.clone(), questions.unwrap_or_default()));
        } else {
            let input = request.get("input").unwrap_or(&Value::Null);
            let ask =
                Box::new(tools::permission_request(&self.cwd, text(request, "tool_name"), input));
            out.emit(AgentEvent::PermissionRequest { id: id.clone(), request: ask });
        }
        self.requests.insert(id, request.clone());
    }

    fn on_stream_event(&mut self, event: &Value, out: &mut ProtocolOutput) {
        match text(event, "type") {
            "message_start" => {
                // After a stream broke off, claude repeats the message from its beginning.
                self.prose.begin_message(std::mem::replace(&mut self.in_message, true));
                self.streamed_ids.push_back(text(&event["message"], "id").to_owned());
                if self.streamed_ids.len() > STREAMED_IDS {
                    self.streamed_ids.pop_front();
                }
            }
            "content_block_delta" => {
                let delta = &event["delta"];
                match text(delta, "type") {
                    "text_delta" => {
                        self.prose.push(ProseKind::Text, text(delta, "text"), &mut out.events);
                    }
                    "thinking_delta" => {
                        self.prose.push(
                            ProseKind::Thought,
                            text(delta, "thinking"),
                            &mut out.events,
                        );
                    }
                    _ => {}
                }
            }
            "content_block_stop" => self.prose.flush(&mut out.events),
            "message_stop" => {
                self.in_message = false;
                self.prose.flush(&mut out.events);
            }
            _ => {}
        }
    }

    /// Handles a message of the model. A message with several content blocks may arrive on several
    /// lines.
    fn on_assistant(&mut self, line: &Value, out: &mut ProtocolOutput) {
        let message = &line["message"];
        // A subagent has a context of its own.
        if line["parent_tool_use_id"].is_null() {
            self.context_told(tokens_read(&message["usage"]), out);
        }
        let streamed = self.streamed_ids.iter().any(|id| id == text(message, "id"));
        let parent = Some(text(line, "parent_tool_use_id")).filter(|id| !id.is_empty());
        for block in message["content"].as_array().into_iter().flatten() {
            match text(block, "type") {
                // The tool that started a subagent returns its last words.
                "text" | "thinking" if parent.is_some() => {}
                "text" if !streamed => {
                    self.prose.push(ProseKind::Text, text(block, "text"), &mut out.events);
                    self.prose.flush(&mut out.events);
                }
                "thinking" if !streamed => {
                    self.prose.push(ProseKind::Thought, text(block, "thinking"), &mut out.events);
                    self.prose.flush(&mut out.events);
                }
                "tool_use" => {
                    self.prose.flush(&mut out.events);
                    self.tool_started(block, parent, out);
                }
                _ => {}
            }
        }
    }

    /// Emits the part of the context that a request filled. Its output counts in the next one.
    fn context_told(&mut self, used: u64, out: &mut ProtocolOutput) {
        if used > 0 {
            self.context_used = used;
            out.emit(AgentEvent::Context(ContextUse { used, size: self.context_size }));
        }
    }

    fn tool_started(&mut self, block: &Value, parent: Option<&str>, out: &mut ProtocolOutput) {
        let (name, input) = (text(block, "name"), &block["input"]);
        if name == "TodoWrite" && parent.is_none() {
            let items = input["todos"].as_array().into_iter().flatten().take(200);
            let items = items.map(|item| PlanItem {
                text: bounded(text(item, "content")),
                done: text(item, "status") == "completed",
            });
            out.emit(AgentEvent::Plan { items: items.collect() });
            return;
        }
        let id = text(block, "id").to_owned();
        self.tools.insert(id.clone());
        let title = bounded(tools::title(&self.cwd, name, input));
        let (kind, parent) = (tools::kind(name).as_str().into(), parent.map(str::to_owned));
        out.emit(AgentEvent::ToolStart { id, kind, title, parent });
    }

    /// Handles tool results, and the echo of a message that claude has taken.
    fn on_user(&mut self, line: &Value, out: &mut ProtocolOutput) {
        let result = &line["tool_use_result"];
        for block in line["message"]["content"].as_array().into_iter().flatten() {
            match text(block, "type") {
                "tool_result" => self.tool_ended(block, result, out),
                "text" if line["isReplay"] == json!(true) => {
                    self.message_taken(text(block, "text"), out);
                }
                _ => {}
            }
        }
    }

    fn tool_ended(&mut self, block: &Value, result: &Value, out: &mut ProtocolOutput) {
        let id = text(block, "tool_use_id").to_owned();
        if !self.tools.remove(&id) {
            return;
        }
        let ok = block["is_error"] != json!(true);
        let output = match &block["content"] {
            Value::String(text) => text.clone(),
            Value::Array(parts) => parts.iter().map(part_of_output).collect::<Vec<_>>().join("\n"),
            _ => String::new(),
        };
        let patch = result["structuredPatch"].as_array().filter(|hunks| !hunks.is_empty());
        let path = relative_path(&self.cwd, text(result, "filePath")).to_owned();
        let change = match patch {
            Some(hunks) => hunks.iter().map(unified_hunk).collect::<String>(),
            None if text(result, "type") == "create" => {
                diff::unified(&path, "", text(result, "content"))
            }
            None => String::new(),
        };
        let code = result["exitCode"].as_i64().or_else(|| {
            let rest = output.strip_prefix("Exit code ")?;
            rest.split_whitespace().next()?.parse().ok()
        });
        out.emit(AgentEvent::ToolEnd {
            id,
            title: "".into(),
            ok,
            code: code.and_then(|code| i32::try_from(code).ok()),
            output: bounded(output),
        });
        if !change.is_empty() {
            out.emit(AgentEvent::Diff { path: bounded(path), diff: bounded(change) });
        }
    }

    fn message_taken(&mut self, text: &str, out: &mut ProtocolOutput) {
        let Some(at) = self.unacknowledged.iter().position(|sent| sent == text) else { return };
        self.unacknowledged.remove(at);
        if std::mem::replace(&mut self.prompt_taken, true) {
            out.emit(AgentEvent::SteerTaken);
        }
    }

    fn on_system(&mut self, line: &Value, out: &mut ProtocolOutput) {
        match text(line, "subtype") {
            "init" => {
                let session = text(line, "session_id").to_owned();
                self.session = Some(session.clone());
                let field = |key| Some(text(line, key)).filter(|t| !t.is_empty()).map(bounded);
                out.emit(AgentEvent::SessionStarted {
                    session,
                    model: field("model"),
                    version: field("claude_code_version"),
                });
            }
            "api_retry" => {
                let status = line["error_status"].as_u64().or_else(|| line["status"].as_u64());
                let attempt = number(line, "attempt");
                let delay = line["retry_delay_ms"].as_f64().or_else(|| line["delay_ms"].as_f64());
                #[allow(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "the delay is in milliseconds, and the cast saturates"
                )]
                let delay_ms = delay.unwrap_or(0.0) as u64;
                out.emit(AgentEvent::Retry {
                    attempt: u32::try_from(attempt).unwrap_or(u32::MAX),
                    delay_ms,
                    status: status.and_then(|s| u16::try_from(s).ok()),
                });
            }
            "background_tasks_changed" => self.on_background(line, out),
            "permission_denied" => {
                let name = text(line, "tool_name");
                out.notice(format!("the agent's own rules denied the tool {name}"));
            }
            _ => {}
        }
    }

    /// Replaces the work in the background by what the line lists; watchers are no work.
    fn on_background(&mut self, line: &Value, out: &mut ProtocolOutput) {
        let tasks = line["tasks"].as_array().into_iter().flatten();
        let works =
            |task: &&Value| task["ambient"] != json!(true) && task["off_host"] != json!(true);
        let name = |task: &Value| {
            let described = text(task, "description");
            let named = if described.is_empty() { text(task, "task_type") } else { described };
            named.to_owned()
        };
        let now: Vec<String> = tasks.filter(works).take(BACKGROUND_SHOWN).map(name).collect();
        if now == self.background {
            return;
        }
        self.prose.flush(&mut out.events);
        out.notice(match now.as_slice() {
            [] => "nothing runs in the background any more".to_owned(),
            names => format!("in the background: {}", names.join(", ")),
        });
        self.background = now;
    }

    fn on_result(&mut self, line: &Value, out: &mut ProtocolOutput) {
        self.prose.flush(&mut out.events);
        let usage = &line["usage"];
        let sum = MicroUsd::from_usd(line["total_cost_usd"].as_f64().unwrap_or(0.0));
        // The sum accumulates over the session. A smaller sum belongs to another session.
        let usd =
            if sum >= self.reported_cost { MicroUsd(sum.0 - self.reported_cost.0) } else { sum };
        self.reported_cost = sum.max(self.reported_cost);
        out.emit(AgentEvent::Usage(Spend {
            tokens_in: tokens_read(usage),
            tokens_out: number(usage, "output_tokens"),
            usd,
            ..Spend::default()
        }));
        let models = line["modelUsage"].as_object().into_iter().flat_map(|all| all.values());
        // Smaller models do side jobs.
        let size = models.filter_map(|model| model["contextWindow"].as_u64()).max();
        self.context_size = size.or(self.context_size);
        self.context_told(self.context_used, out);
        let mut end = end::of_result(line);
        if let (TurnEnd::ApiError { why, .. }, Some(seconds)) = (&end, self.refused_until) {
            end = limit::until(seconds, why.as_received());
        }
        // A message that arrived after this turn begins the next one without a command.
        if end == TurnEnd::Done && self.prompt_taken && !self.unacknowledged.is_empty() {
            out.notice("a message arrived after the end of this turn and begins another one");
            return;
        }
        // A resumed claude closes what the last process left before it reads the prompt.
        if end == TurnEnd::Done && !self.prompt_taken && line["num_turns"] == json!(0) {
            return;
        }
        if end == TurnEnd::Done && !self.background.is_empty() {
            self.pending_end = Some(end);
            return;
        }
        out.end = Some(end);
    }
}

/// The most tasks in the background that are remembered.
const BACKGROUND_SHOWN: usize = 64;

/// A part of a tool's output: its text, or the kind and the size of an image.
fn part_of_output(part: &Value) -> String {
    let source = &part["source"];
    match text(part, "type") {
        "image" => image::summary(text(source, "media_type"), text(source, "data")),
        _ => text(part, "text").to_owned(),
    }
}

/// Formats a hunk of claude's structured patch as a unified diff.
fn unified_hunk(hunk: &Value) -> String {
    let mut out = format!(
        "@@ -{},{} +{},{} @@\n",
        number(hunk, "oldStart"),
        number(hunk, "oldLines"),
        number(hunk, "newStart"),
        number(hunk, "newLines")
    );
    for line in hunk["lines"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        out.push_str(line);
        out.push('\n');
    }
    out
}

impl AgentProtocol for ClaudeProtocol {
    fn capabilities(&self) -> Capabilities {
        capabilities("claude")
    }

    fn arguments(&self, spec: &TurnSpec) -> Vec<String> {
        let mut args: Vec<String> = [
            "-p",
            "--input-format",
            "stream-json",
            "--output-format",
            "stream-json",
            "--verbose",
            "--include-partial-messages",
            "--replay-user-messages",
            "--permission-prompt-tool",
            "stdio",
            "--permission-mode",
            "default",
            "--settings",
            SETTINGS,
        ]
        .map(str::to_owned)
        .into();
        let mut flag = |name: &str, value: String| args.extend([name.to_owned(), value]);
        if let Some(session) = &spec.resume {
            flag("--resume", session.clone());
        }
        if let Some(model) = &spec.model {
            flag("--model", model.clone());
        }
        if let Some(MicroUsd(budget)) = spec.budget {
            // Claude counts only the cost of this process.
            flag("--max-budget-usd", format!("{}.{:06}", budget / 1_000_000, budget % 1_000_000));
        }
        if !spec.tools {
            flag("--tools", String::new());
        }
        if let Some(server) = &spec.tool_server {
            let servers = json!({"mcpServers": {TOOL_SERVER: {
                "type": "stdio", "command": server.program, "args": server.args,
            }}});
            flag("--mcp-config", servers.to_string());
            // afk itself decides about each call.
            flag("--allowedTools", format!("mcp__{TOOL_SERVER}"));
        }
        if let Some(steps) = spec.max_steps {
            flag("--max-turns", steps.to_string());
        }
        if spec.tool_server.is_some() {
            // No other server, whatever the settings name.
            args.push("--strict-mcp-config".to_owned());
        }
        args
    }

    fn begin(&mut self, spec: &TurnSpec, out: &mut ProtocolOutput) {
        self.prose.stream_pieces(spec.stream_output);
        self.cwd = spec.cwd.display().to_string();
        self.reported_cost = spec.session_cost;
        self.background_limit = spec.limits.tool;
        self.session.clone_from(&spec.resume);
        self.dry = spec.dry;
        if self.dry {
            let request = json!({"subtype": "initialize", "hooks": null});
            out.write_json(
                &json!({"type": "control_request", "request_id": "dry", "request": request}),
            );
            return;
        }
        self.send_message(spec.prompt.as_received(), out);
    }

    fn receive_line(&mut self, line: &[u8], cut: bool, out: &mut ProtocolOutput) {
        let parsed = if cut { None } else { json_line::parse::<Value>(line) };
        let Some(line) = parsed.as_ref().filter(|line| line.is_object()) else {
            return out.emit(raw_event(line));
        };
        // Whatever the model does now is another turn.
        if matches!(text(line, "type"), "stream_event" | "assistant") {
            self.pending_end = None;
        }
        match text(line, "type") {
            "system" => self.on_system(line, out),
            "stream_event" if line["parent_tool_use_id"].is_null() => {
                self.on_stream_event(&line["event"], out);
            }
            "rate_limit_event" => {
                let limit = &line["rate_limit_info"];
                let refused = text(limit, "status") == "rejected";
                self.refused_until = limit["resetsAt"].as_i64().filter(|_| refused);
            }
            "control_response" if self.dry => out.end = Some(end::of_dry_turn(&line["response"])),
            "stream_event" | "control_response" | "keep_alive" => {}
            "assistant" => self.on_assistant(line, out),
            "user" => self.on_user(line, out),
            "control_request" => self.on_control_request(line, out),
            "control_cancel_request" => {
                let id = text(line, "request_id").to_owned();
                if self.requests.remove(&id).is_some() {
                    out.emit(AgentEvent::RequestWithdrawn { id });
                }
            }
            "result" => self.on_result(line, out),
            _ => out.emit(raw_event(line.to_string().as_bytes())),
        }
    }

    fn steer(&mut self, text: &str, out: &mut ProtocolOutput) {
        self.send_message(text, out);
    }

    fn follow_up(&mut self, text: &str, out: &mut ProtocolOutput) {
        self.send_message(text, out);
    }

    fn answer(
        &mut self,
        request: &str,
        answer: &Answer,
        _by: &DecidedBy,
        out: &mut ProtocolOutput,
    ) {
        let Some(request_line) = self.requests.remove(request) else {
            return out.notice("the agent no longer waits for this answer");
        };
        let mut input = request_line.get("input").cloned().unwrap_or_else(|| json!({}));
        let response = match answer {
            Answer::Deny { reason } => {
                let reason = reason.as_received();
                let message = if reason.is_empty() { "an operator denied it" } else { reason };
                json!({"behavior": "deny", "message": message})
            }
            Answer::Edit { command } => {
                input["command"] = json!(command.as_received());
                json!({"behavior": "allow", "updatedInput": input})
            }
            Answer::Text { text: typed } => {
                let questions = input["questions"].as_array().cloned().unwrap_or_default();
                let answers = tools::answers(&questions, "question", typed.as_received());
                input["answers"] = Value::Object(answers);
                json!({"behavior": "allow", "updatedInput": input})
            }
            Answer::Approve | Answer::ApproveRun => {
                json!({"behavior": "allow", "updatedInput": input})
            }
        };
        out.write_json(&json!({
            "type": "control_response",
            "response": {"subtype": "success", "request_id": request, "response": response},
        }));
    }

    fn interrupt(&mut self, out: &mut ProtocolOutput) {
        self.interrupts += 1;
        out.write_json(&json!({
            "type": "control_request",
            "request_id": format!("afk-interrupt-{}", self.interrupts),
            "request": {"subtype": "interrupt"},
        }));
    }

    fn flush(&mut self, events: &mut Vec<AgentEvent>) {
        self.prose.flush(events);
    }

    fn pending_end(&self) -> Option<(Duration, TurnEnd)> {
        let end = self.pending_end.clone()?;
        let works = !self.background.is_empty();
        Some((if works { self.background_limit } else { NEXT_TURN }, end))
    }

    fn end_at_exit(&self, _code: Option<i32>, stderr: &str) -> Option<TurnEnd> {
        let why = bounded(stderr.trim());
        stderr.contains("No conversation found").then_some(TurnEnd::NoSession { why })
    }
}

#[cfg(test)]
mod tests;
