//! The protocol of `pi --mode rpc`: commands and events as JSON lines (tested with 0.73.1).
//!
//! ```text
//!  afk                              pi
//!   <── extension_ui_request ───────    afk's extension is loaded
//!   ── get_state ──────────────────>    the conversation and the model
//!   ── prompt, steer ──────────────>
//!   <── message_update, _end ───────    text in pieces; the tokens and cost of each request
//!   <── tool_execution_start, _end ─
//!   <── extension_ui_request ───────    afk's extension asks for permission, and waits
//!   ── extension_ui_response ──────>
//!   <── agent_end ──────────────────    pi is idle, or tries again (auto_retry_start)
//! ```
//!
//! pi has no permissions of its own. The preset ships an extension (assets/agents.toml, `guards`) that
//! asks for each tool, and afk sends no prompt before that extension has reported itself.

mod tools;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::PathBuf;

use serde_json::{Value, json};

use super::fields::text;
use super::prose::{Prose, ProseKind};
use super::{AgentProtocol, ProtocolOutput, TurnSpec, bounded, json_line, raw_event};
use crate::config::agent::capabilities;
use crate::core::model::agent_event::{AgentEvent, TurnEnd};
use crate::core::model::approval::{Answer, DecidedBy};
use crate::core::model::budget::{MicroUsd, Spend};
use crate::core::model::capability::Capabilities;
use crate::sandbox::{Level, user_home};

/// The path of afk's extension below HOME.
const EXTENSION: &str = ".pi/agent/afk.ts";
/// The key under which afk's extension reports itself.
const LOADED: &str = "afk-permissions";
/// The title of a permission request of afk's extension.
const REQUEST: &str = "afk-permission";
/// The most requests that are remembered.
const TRACKED: usize = 1024;

/// The state of one conversation; see the module.
#[derive(Debug, Default)]
pub(crate) struct PiProtocol {
    cwd: String,
    prompt: String,
    model: Option<String>,
    dry: bool,
    prose: Prose,
    /// The extension has reported itself.
    guarded: bool,
    /// The prompt was sent.
    prompted: bool,
    /// Operators' messages that arrived before the prompt was sent.
    queued_steers: VecDeque<String>,
    /// Messages that pi has not taken yet.
    unacknowledged: VecDeque<String>,
    /// Open permission requests by pi's id.
    requests: BTreeSet<String>,
    /// The inputs of the running tools by id.
    tools: BTreeMap<String, Value>,
    /// The end that the last message of the model means.
    last_end: Option<TurnEnd>,
    /// pi is idle unless it tries again: the number of the question that settles it.
    settling: Option<u64>,
    last_id: u64,
}

impl PiProtocol {
    fn send(&mut self, mut command: Value, out: &mut ProtocolOutput) -> u64 {
        self.last_id += 1;
        command["id"] = json!(format!("afk-{}", self.last_id));
        out.write_json(&command);
        self.last_id
    }

    fn on_response(&mut self, line: &Value, out: &mut ProtocolOutput) {
        let ok = line["success"] == json!(true);
        let error = || text(line, "error").to_owned();
        match text(line, "command") {
            "get_state" if !self.prompted => self.on_state(&line["data"], out),
            "get_state" => {
                let number = text(line, "id").strip_prefix("afk-").and_then(|id| id.parse().ok());
                if self.settling.is_some() && self.settling == number {
                    self.settling = None;
                    out.end = self.last_end.take();
                }
            }
            "prompt" if !ok => {
                out.end = Some(TurnEnd::ApiError { status: None, why: bounded(error()) });
            }
            "steer" if !ok => {
                self.unacknowledged.pop_back();
                out.notice(format!("the agent rejected the message: {}", error()));
            }
            _ => {}
        }
    }

    /// Begins the turn, if pi is as the turn needs it.
    fn on_state(&mut self, state: &Value, out: &mut ProtocolOutput) {
        if !self.guarded {
            let why = "pi runs without afk's extension, so that it would ask for no permission";
            out.end = Some(TurnEnd::NotStarted { why: why.into() });
            return;
        }
        let model = &state["model"];
        let (provider, id) = (text(model, "provider"), text(model, "id"));
        // Without any login pi names a model that it doesn't know.
        if id.is_empty() || provider == "unknown" {
            let why = "pi has no model: log in with `pi` and `/login`, set the key of a provider, or \
                       name a model";
            out.end = Some(TurnEnd::NotStarted { why: why.into() });
            return;
        }
        let name = format!("{provider}/{id}");
        if let Some(wanted) = &self.model
            && !(wanted == id || *wanted == name)
        {
            let why =
                format!("the agent can't use the configured model {wanted}, and chose {name}");
            out.end = Some(TurnEnd::NotStarted { why: bounded(why) });
            return;
        }
        out.emit(AgentEvent::SessionStarted {
            session: text(state, "sessionId").to_owned(),
            model: Some(bounded(name)),
            version: None,
        });
        if self.dry {
            out.end = Some(TurnEnd::Done);
            return;
        }
        self.prompted = true;
        let prompt = std::mem::take(&mut self.prompt);
        self.begin_turn(&prompt, out);
        for text in std::mem::take(&mut self.queued_steers) {
            self.steer(&text, out);
        }
    }

    fn begin_turn(&mut self, text: &str, out: &mut ProtocolOutput) {
        self.last_end = None;
        self.settling = None;
        self.send(json!({"type": "prompt", "message": text}), out);
    }

    fn on_ui_request(&mut self, line: &Value, out: &mut ProtocolOutput) {
        let id = text(line, "id");
        match text(line, "method") {
            "setStatus" if text(line, "statusKey") == LOADED => {
                let told = json_line::parse::<Value>(text(line, "statusText").as_bytes());
                let hostile = told.as_ref().map(|told| &told["hostile"]);
                let hostile = hostile.and_then(Value::as_array).into_iter().flatten();
                let hostile: Vec<&str> = hostile.filter_map(Value::as_str).collect();
                if !hostile.is_empty() {
                    let why = format!(
                        ".pi/settings.json in the repository sets {}, with which pi runs more than it \
                         asks for: remove it there",
                        hostile.join(", ")
                    );
                    out.end = Some(TurnEnd::NotStarted { why: bounded(why) });
                }
                self.guarded = told.is_some();
            }
            "input" if text(line, "title") == REQUEST && self.requests.len() < TRACKED => {
                let asked = json_line::parse::<Value>(text(line, "placeholder").as_bytes());
                let asked = asked.unwrap_or_default();
                self.prose.flush(&mut out.events);
                self.requests.insert(id.to_owned());
                let request =
                    tools::permission_request(&self.cwd, text(&asked, "tool"), &asked["input"]);
                out.emit(AgentEvent::PermissionRequest {
                    id: id.to_owned(),
                    request: Box::new(request),
                });
            }
            // Another dialog would wait for ever.
            "select" | "confirm" | "input" | "editor" => {
                let response =
                    json!({"type": "extension_ui_response", "id": id, "cancelled": true});
                out.write_json(&response);
            }
            _ => {}
        }
    }

    fn on_message_end(&mut self, message: &Value, out: &mut ProtocolOutput) {
        match text(message, "role") {
            "assistant" => {
                self.prose.flush(&mut out.events);
                let usage = &message["usage"];
                let count = |key: &str| usage[key].as_u64().unwrap_or(0);
                let read = count("cacheRead").saturating_add(count("cacheWrite"));
                let spend = Spend {
                    tokens_in: count("input").saturating_add(read),
                    tokens_out: count("output"),
                    usd: MicroUsd::from_usd(usage["cost"]["total"].as_f64().unwrap_or(0.0)),
                    ..Spend::default()
                };
                if spend != Spend::default() {
                    out.emit(AgentEvent::Usage(spend));
                }
                self.last_end = Some(message_end(message));
            }
            "user" => {
                let parts = message["content"].as_array().into_iter().flatten();
                let said = parts.map(|part| text(part, "text")).collect::<Vec<_>>().join("\n");
                if let Some(at) = self.unacknowledged.iter().position(|sent| *sent == said) {
                    self.unacknowledged.remove(at);
                    out.emit(AgentEvent::SteerTaken);
                }
            }
            _ => {}
        }
    }

    fn on_agent_end(&mut self, out: &mut ProtocolOutput) {
        self.prose.flush(&mut out.events);
        let is_done = self.last_end.as_ref().is_none_or(|end| *end == TurnEnd::Done);
        if is_done && self.unacknowledged.pop_front().is_some() {
            // pi still has it: the next turn begins with it.
            out.emit(AgentEvent::SteerTaken);
            self.begin_turn("An operator sent you a message, which stands beside this one.", out);
        } else if matches!(self.last_end, Some(TurnEnd::ApiError { .. })) {
            // pi may try again, and reports that before it answers.
            self.settling = Some(self.send(json!({"type": "get_state"}), out));
        } else {
            out.end = self.last_end.take().or(Some(TurnEnd::Done));
        }
    }

    fn tool_ended(&mut self, line: &Value, out: &mut ProtocolOutput) {
        let id = text(line, "toolCallId").to_owned();
        let Some(input) = self.tools.remove(&id) else { return };
        let parts = line["result"]["content"].as_array().into_iter().flatten();
        let output = parts.map(|part| text(part, "text")).collect::<Vec<_>>().join("\n");
        let ok = line["isError"] != json!(true);
        let name = text(line, "toolName");
        let code = tools::exit_code(name, ok, &output);
        out.emit(AgentEvent::ToolEnd { id, title: "".into(), ok, code, output: bounded(output) });
        if let Some(change) = tools::change(&self.cwd, name, &input).filter(|_| ok) {
            out.emit(change);
        }
    }
}

/// The end of the turn that a message of the model means, if it is the last one.
fn message_end(message: &Value) -> TurnEnd {
    match text(message, "stopReason") {
        "stop" | "toolUse" => TurnEnd::Done,
        "aborted" => TurnEnd::Interrupted,
        "length" => TurnEnd::TurnLimit,
        other => {
            let why = match text(message, "errorMessage") {
                "" => format!("pi stopped with the reason {other:?}"),
                why => why.to_owned(),
            };
            let digits = why.split(|c: char| !c.is_ascii_digit()).next().unwrap_or_default();
            let status = digits.parse().ok().filter(|status| (400..600).contains(status));
            TurnEnd::ApiError { status, why: bounded(why) }
        }
    }
}

/// The home that the program sees.
fn home(spec: &TurnSpec) -> Option<PathBuf> {
    let own = spec.env.get("HOME").map(PathBuf::from);
    own.or_else(|| match &spec.sandbox {
        Some(sandbox) if sandbox.level != Level::Strong => sandbox.home.clone(),
        _ => user_home(),
    })
}

impl AgentProtocol for PiProtocol {
    fn capabilities(&self) -> Capabilities {
        capabilities("pi")
    }

    fn arguments(&self, spec: &TurnSpec) -> Vec<String> {
        let mut args = Vec::new();
        let mut flag = |name: &str, value: String| args.extend([name.to_owned(), value]);
        if let Some(home) = home(spec) {
            flag("--extension", home.join(EXTENSION).display().to_string());
        }
        if let Some(session) = &spec.resume {
            flag("--session", session.clone());
        }
        if let Some(model) = &spec.model {
            flag("--model", model.clone());
        }
        if !spec.tools {
            args.push("--no-tools".to_owned());
        }
        args
    }

    fn begin(&mut self, spec: &TurnSpec, out: &mut ProtocolOutput) {
        self.prose.stream_pieces(spec.stream_output);
        self.cwd = spec.cwd.display().to_string();
        spec.prompt.as_received().clone_into(&mut self.prompt);
        self.model.clone_from(&spec.model);
        self.dry = spec.dry;
        self.send(json!({"type": "get_state"}), out);
    }

    fn receive_line(&mut self, line: &[u8], cut: bool, out: &mut ProtocolOutput) {
        let parsed = if cut { None } else { json_line::parse::<Value>(line) };
        let Some(line) = parsed.as_ref().filter(|line| line.is_object()) else {
            return out.emit(raw_event(line));
        };
        match text(line, "type") {
            "response" => self.on_response(line, out),
            "extension_ui_request" => self.on_ui_request(line, out),
            "message_update" => {
                let event = &line["assistantMessageEvent"];
                let kind = match text(event, "type") {
                    "text_delta" => ProseKind::Text,
                    "thinking_delta" => ProseKind::Thought,
                    _ => return,
                };
                self.prose.push(kind, text(event, "delta"), &mut out.events);
            }
            "message_end" => self.on_message_end(&line["message"], out),
            "tool_execution_start" => {
                self.prose.flush(&mut out.events);
                let (id, name) = (text(line, "toolCallId").to_owned(), text(line, "toolName"));
                let title = bounded(tools::title(&self.cwd, name, &line["args"]));
                if self.tools.len() < TRACKED {
                    self.tools.insert(id.clone(), line["args"].clone());
                }
                out.emit(AgentEvent::ToolStart {
                    id,
                    kind: tools::kind(name).as_str().into(),
                    title,
                    parent: None,
                });
            }
            "tool_execution_end" => self.tool_ended(line, out),
            "auto_retry_start" => {
                self.settling = None;
                let status = match message_end(&json!({"errorMessage": line["errorMessage"]})) {
                    TurnEnd::ApiError { status, .. } => status,
                    _ => None,
                };
                let attempt = line["attempt"].as_u64().and_then(|n| u32::try_from(n).ok());
                let delay_ms = line["delayMs"].as_u64().unwrap_or(0);
                out.emit(AgentEvent::Retry { attempt: attempt.unwrap_or(1), delay_ms, status });
            }
            "compaction_start" => {
                self.settling = None;
                out.notice("the agent summarizes its conversation");
            }
            "compaction_end" if line["willRetry"] != json!(true) => {
                // The turn was over before, except after an overflow that could not be mended.
                if text(line, "reason") == "overflow" {
                    out.end = self.last_end.take();
                }
            }
            "auto_retry_end" if line["success"] != json!(true) => out.end = self.last_end.take(),
            "extension_error" => {
                let what = (text(line, "event"), text(line, "error"));
                out.notice(format!("an extension of pi failed at {}: {}", what.0, what.1));
            }
            "agent_end" => self.on_agent_end(out),
            "agent_start"
            | "turn_start"
            | "turn_end"
            | "message_start"
            | "queue_update"
            | "tool_execution_update"
            | "auto_retry_end"
            | "compaction_end" => {}
            _ => out.emit(raw_event(line.to_string().as_bytes())),
        }
    }

    fn steer(&mut self, text: &str, out: &mut ProtocolOutput) {
        if self.prompted {
            self.unacknowledged.push_back(text.to_owned());
            self.send(json!({"type": "steer", "message": text}), out);
        } else {
            self.queued_steers.push_back(text.to_owned());
        }
    }

    fn follow_up(&mut self, text: &str, out: &mut ProtocolOutput) {
        self.begin_turn(text, out);
    }

    fn answer(
        &mut self,
        request: &str,
        answer: &Answer,
        _by: &DecidedBy,
        out: &mut ProtocolOutput,
    ) {
        if !self.requests.remove(request) {
            return out.notice("the agent no longer waits for this answer");
        }
        let decided = match answer {
            Answer::Approve | Answer::ApproveRun => json!({"decision": "allow"}),
            Answer::Edit { command } => {
                json!({"decision": "allow", "command": command.as_received()})
            }
            Answer::Deny { reason } => json!({"decision": "deny", "reason": reason.as_received()}),
            Answer::Text { .. } => json!({"decision": "deny"}),
        };
        let response = json!({
            "type": "extension_ui_response", "id": request, "value": decided.to_string(),
        });
        out.write_json(&response);
    }

    fn flush(&mut self, events: &mut Vec<AgentEvent>) {
        self.prose.flush(events);
    }

    fn interrupt(&mut self, out: &mut ProtocolOutput) {
        for id in std::mem::take(&mut self.requests) {
            out.write_json(&json!({"type": "extension_ui_response", "id": id, "cancelled": true}));
        }
        self.send(json!({"type": "abort"}), out);
    }

    fn end_at_exit(&self, code: Option<i32>, stderr: &str) -> Option<TurnEnd> {
        if stderr.contains("No session found") {
            return Some(TurnEnd::NoSession { why: bounded(stderr.trim()) });
        }
        if code == Some(1) && stderr.contains("Extension path does not exist") {
            let why = "afk's extension is not in the home of pi: set `home` for this agent, or let it \
                       run behind the wall";
            return Some(TurnEnd::NotStarted { why: why.into() });
        }
        let failed = code == Some(1) && !self.prompted;
        failed.then(|| TurnEnd::NotStarted { why: bounded(stderr.trim()) })
    }
}

#[cfg(test)]
mod tests;
