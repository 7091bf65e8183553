//! Claude Code's own stream-json, with its control protocol on standard input and output
//! (tried with 2.1.330; docs/agents.md has what is relied on).

pub mod tools;

use crate::core::model::approval::DecidedBy;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde_json::{Value, json};

use super::fields::{short, text};
use super::prose::{Kind, Prose};
use super::{Conversation, Said, TurnSpec, bounded, diff, raw};
use crate::core::model::agent_event::{AgentEvent, PlanItem, TurnEnd};
use crate::core::model::approval::Answer;
use crate::core::model::budget::{MicroUsd, Spend};
use crate::core::model::capability::{Capabilities, Cost, Steer};

/// Message ids that were streamed; an older one never comes again.
const STREAMED: usize = 64;

/// See the module.
#[derive(Debug, Default)]
pub struct Claude {
    cwd: String,
    prose: Prose,
    /// Messages whose text came in pieces already.
    streamed: VecDeque<String>,
    /// What each open request asked for, as it came.
    requests: BTreeMap<String, Value>,
    /// Messages that were sent and not taken, the prompt first.
    sent: VecDeque<String>,
    /// The prompt was taken.
    prompted: bool,
    /// The sum that the session had cost when it was last told.
    told: MicroUsd,
    session: Option<String>,
    /// Tools that were told as begun.
    tools: BTreeSet<String>,
    interrupts: u32,
}

fn number(value: &Value, key: &str) -> u64 {
    value.get(key).and_then(Value::as_u64).unwrap_or(0)
}

impl Claude {
    fn message(&mut self, text: &str, said: &mut Said) {
        self.sent.push_back(text.to_owned());
        said.line(&json!({
            "type": "user",
            "message": {"role": "user", "content": [{"type": "text", "text": text}]},
            "parent_tool_use_id": null,
            "session_id": self.session.as_deref().unwrap_or_default(),
        }));
    }

    fn control(&mut self, line: &Value, said: &mut Said) {
        let id = text(line, "request_id").to_owned();
        let Some(request) = line.get("request") else { return };
        if text(request, "subtype") != "can_use_tool" {
            let error = json!({"subtype": "error", "request_id": id, "error": "not supported"});
            said.line(&json!({"type": "control_response", "response": error}));
            return;
        }
        self.prose.flush(&mut said.events);
        if text(request, "tool_name") == "AskUserQuestion" {
            let questions = request["input"]["questions"].as_array().map(Vec::as_slice);
            said.event(tools::question(id.clone(), questions.unwrap_or_default()));
        } else {
            let input = request.get("input").unwrap_or(&Value::Null);
            let ask = Box::new(tools::ask(&self.cwd, text(request, "tool_name"), input));
            said.event(AgentEvent::PermissionRequest { id: id.clone(), request: ask });
        }
        self.requests.insert(id, request.clone());
    }

    fn streamed(&mut self, event: &Value, said: &mut Said) {
        match text(event, "type") {
            "message_start" => {
                self.streamed.push_back(text(&event["message"], "id").to_owned());
                if self.streamed.len() > STREAMED {
                    self.streamed.pop_front();
                }
            }
            "content_block_delta" => {
                let delta = &event["delta"];
                match text(delta, "type") {
                    "text_delta" => {
                        self.prose.push(Kind::Text, text(delta, "text"), &mut said.events);
                    }
                    "thinking_delta" => {
                        self.prose.push(Kind::Thought, text(delta, "thinking"), &mut said.events);
                    }
                    _ => {}
                }
            }
            "content_block_stop" | "message_stop" => self.prose.flush(&mut said.events),
            _ => {}
        }
    }

    /// One line a content block; a message may come on several lines.
    fn assistant(&mut self, line: &Value, said: &mut Said) {
        let message = &line["message"];
        let streamed = self.streamed.iter().any(|id| id == text(message, "id"));
        for block in message["content"].as_array().into_iter().flatten() {
            match text(block, "type") {
                "text" if !streamed => {
                    self.prose.push(Kind::Text, text(block, "text"), &mut said.events);
                    self.prose.flush(&mut said.events);
                }
                "thinking" if !streamed => {
                    self.prose.push(Kind::Thought, text(block, "thinking"), &mut said.events);
                    self.prose.flush(&mut said.events);
                }
                "tool_use" => {
                    self.prose.flush(&mut said.events);
                    self.begins(block, said);
                }
                _ => {}
            }
        }
    }

    fn begins(&mut self, block: &Value, said: &mut Said) {
        let (name, input) = (text(block, "name"), &block["input"]);
        if name == "TodoWrite" {
            let items = input["todos"].as_array().into_iter().flatten().take(200);
            let items = items.map(|item| PlanItem {
                text: bounded(text(item, "content")),
                done: text(item, "status") == "completed",
            });
            said.event(AgentEvent::Plan { items: items.collect() });
            return;
        }
        let id = text(block, "id").to_owned();
        self.tools.insert(id.clone());
        let title = bounded(tools::title(&self.cwd, name, input));
        said.event(AgentEvent::ToolStart { id, kind: tools::tool(name).as_str().into(), title });
    }

    /// Results of tools, and the messages that were taken.
    fn user(&mut self, line: &Value, said: &mut Said) {
        let result = &line["tool_use_result"];
        for block in line["message"]["content"].as_array().into_iter().flatten() {
            match text(block, "type") {
                "tool_result" => self.ends(block, result, said),
                "text" if line["isReplay"] == json!(true) => self.taken(text(block, "text"), said),
                _ => {}
            }
        }
    }

    fn ends(&mut self, block: &Value, result: &Value, said: &mut Said) {
        let id = text(block, "tool_use_id").to_owned();
        if !self.tools.remove(&id) {
            return;
        }
        let ok = block["is_error"] != json!(true);
        let output = match &block["content"] {
            Value::String(text) => text.clone(),
            Value::Array(parts) => {
                parts.iter().map(|part| text(part, "text")).collect::<Vec<_>>().join("\n")
            }
            _ => String::new(),
        };
        let patch = result["structuredPatch"].as_array().filter(|hunks| !hunks.is_empty());
        let path = short(&self.cwd, text(result, "filePath")).to_owned();
        let change = match patch {
            Some(hunks) => hunks.iter().map(hunk).collect::<String>(),
            None if text(result, "type") == "create" => {
                diff::unified(&path, "", text(result, "content"))
            }
            None => String::new(),
        };
        let code = result["exitCode"].as_i64().or_else(|| {
            let rest = output.strip_prefix("Exit code ")?;
            rest.split_whitespace().next()?.parse().ok()
        });
        said.event(AgentEvent::ToolEnd {
            id,
            title: "".into(),
            ok,
            code: code.and_then(|code| i32::try_from(code).ok()),
            output: bounded(output),
        });
        if !change.is_empty() {
            said.event(AgentEvent::Diff { path: bounded(path), diff: bounded(change) });
        }
    }

    fn taken(&mut self, text: &str, said: &mut Said) {
        let Some(at) = self.sent.iter().position(|sent| sent == text) else { return };
        self.sent.remove(at);
        if std::mem::replace(&mut self.prompted, true) {
            said.event(AgentEvent::SteerTaken);
        }
    }

    fn system(&mut self, line: &Value, said: &mut Said) {
        match text(line, "subtype") {
            "init" => {
                let session = text(line, "session_id").to_owned();
                self.session = Some(session.clone());
                let known = |key| Some(text(line, key)).filter(|t| !t.is_empty()).map(bounded);
                said.event(AgentEvent::SessionStarted {
                    session,
                    model: known("model"),
                    version: known("claude_code_version"),
                });
            }
            "api_retry" => {
                let status = line["error_status"].as_u64().or_else(|| line["status"].as_u64());
                let attempt = number(line, "attempt");
                let delay = line["retry_delay_ms"].as_f64().or_else(|| line["delay_ms"].as_f64());
                // A delay of milliseconds; the cast saturates.
                #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
                let delay_ms = delay.unwrap_or(0.0) as u64;
                said.event(AgentEvent::Retry {
                    attempt: u32::try_from(attempt).unwrap_or(u32::MAX),
                    delay_ms,
                    status: status.and_then(|s| u16::try_from(s).ok()),
                });
            }
            "permission_denied" => {
                let name = text(line, "tool_name");
                said.notice(format!("{name} was refused by the agent's own rules"));
            }
            _ => {}
        }
    }

    fn result(&mut self, line: &Value, said: &mut Said) {
        self.prose.flush(&mut said.events);
        let usage = &line["usage"];
        let sum = MicroUsd::from_usd(line["total_cost_usd"].as_f64().unwrap_or(0.0));
        // Told cumulatively over the session. A sum that is smaller is of another session.
        let usd = if sum >= self.told { MicroUsd(sum.0 - self.told.0) } else { sum };
        self.told = sum.max(self.told);
        said.event(AgentEvent::Usage(Spend {
            tokens_in: number(usage, "input_tokens")
                + number(usage, "cache_creation_input_tokens")
                + number(usage, "cache_read_input_tokens"),
            tokens_out: number(usage, "output_tokens"),
            usd,
            ..Spend::default()
        }));
        let end = outcome(line);
        // A message that came too late for this turn begins the next one by itself.
        if end == TurnEnd::Done && self.prompted && !self.sent.is_empty() {
            said.notice("a message that came too late for this turn begins another");
            return;
        }
        said.end = Some(end);
    }
}

/// A hunk of its structured patch, as a unified diff has it.
fn hunk(hunk: &Value) -> String {
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

/// How a turn ended. Its `subtype` says "success" when the model failed: judged by `is_error`
/// and `terminal_reason`.
fn outcome(line: &Value) -> TurnEnd {
    let (subtype, reason) = (text(line, "subtype"), text(line, "terminal_reason"));
    let errors: Vec<&str> =
        line["errors"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let said = [text(line, "result"), &errors.join("; ")]
        .into_iter()
        .find(|text| !text.is_empty())
        .map_or_else(|| format!("{subtype} {reason}"), str::to_owned);
    if said.contains("No conversation found") {
        return TurnEnd::NoSession { why: bounded(said) };
    }
    match (subtype, reason) {
        ("error_max_budget_usd", _) => TurnEnd::Budget,
        ("error_max_turns", _) => TurnEnd::TurnLimit,
        (_, "aborted_tools" | "aborted_streaming") => TurnEnd::Interrupted,
        (_, "api_error") => {
            let status = line["api_error_status"].as_u64().and_then(|s| u16::try_from(s).ok());
            TurnEnd::ApiError { status, why: bounded(said) }
        }
        _ if text(line, "stop_reason") == "refusal" => TurnEnd::Refused { why: bounded(said) },
        _ if line["is_error"] == json!(true) => {
            TurnEnd::ApiError { status: None, why: bounded(said) }
        }
        ("success", _) if text(line, "stop_reason") == "max_tokens" => TurnEnd::TurnLimit,
        ("success", _) => TurnEnd::Done,
        _ => TurnEnd::ApiError { status: None, why: bounded(said) },
    }
}

impl Conversation for Claude {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            steer: Steer::MidTurn,
            interrupt: true,
            permissions: true,
            edits: true,
            reads_refusals: true,
            questions: true,
            plan: false,
            diffs: true,
            cost: Cost::Usd,
            budget: true,
            resume: true,
        }
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
            // It counts the new process alone.
            flag("--max-budget-usd", format!("{}.{:06}", budget / 1_000_000, budget % 1_000_000));
        }
        if !spec.tools {
            flag("--tools", String::new());
        }
        if let Some(steps) = spec.max_steps {
            flag("--max-turns", steps.to_string());
        }
        args
    }

    fn begin(&mut self, spec: &TurnSpec, said: &mut Said) {
        self.prose.tell_pieces(spec.stream_output);
        self.cwd = spec.cwd.display().to_string();
        self.told = spec.session_cost;
        self.session.clone_from(&spec.resume);
        self.message(spec.prompt.as_received(), said);
    }

    fn hear(&mut self, line: &[u8], cut: bool, said: &mut Said) {
        let read = if cut { None } else { serde_json::from_slice::<Value>(line).ok() };
        let Some(line) = read.as_ref().filter(|line| line.is_object()) else {
            return said.event(raw(line));
        };
        match text(line, "type") {
            "system" => self.system(line, said),
            "stream_event" if line["parent_tool_use_id"].is_null() => {
                self.streamed(&line["event"], said);
            }
            "stream_event" | "control_response" | "keep_alive" | "rate_limit_event" => {}
            "assistant" => self.assistant(line, said),
            "user" => self.user(line, said),
            "control_request" => self.control(line, said),
            "control_cancel_request" => {
                let id = text(line, "request_id").to_owned();
                if self.requests.remove(&id).is_some() {
                    said.event(AgentEvent::RequestWithdrawn { id });
                }
            }
            "result" => self.result(line, said),
            _ => said.event(raw(line.to_string().as_bytes())),
        }
    }

    fn steer(&mut self, text: &str, said: &mut Said) {
        self.message(text, said);
    }

    fn follow(&mut self, text: &str, said: &mut Said) {
        self.message(text, said);
    }

    fn answer(&mut self, request: &str, answer: &Answer, _by: &DecidedBy, said: &mut Said) {
        let Some(asked) = self.requests.remove(request) else {
            return said.notice("the agent waits for that answer no more");
        };
        let mut input = asked.get("input").cloned().unwrap_or_else(|| json!({}));
        let response = match answer {
            Answer::Deny { reason } => {
                let reason = reason.as_received();
                let message = if reason.is_empty() { "an operator refused it" } else { reason };
                json!({"behavior": "deny", "message": message})
            }
            Answer::Edit { command } => {
                input["command"] = json!(command.as_received());
                json!({"behavior": "allow", "updatedInput": input})
            }
            Answer::Text { text: told } => {
                let questions = input["questions"].as_array().cloned().unwrap_or_default();
                let answers = tools::answers(&questions, "question", told.as_received());
                input["answers"] = Value::Object(answers);
                json!({"behavior": "allow", "updatedInput": input})
            }
            Answer::Approve | Answer::ApproveRun => {
                json!({"behavior": "allow", "updatedInput": input})
            }
        };
        said.line(&json!({
            "type": "control_response",
            "response": {"subtype": "success", "request_id": request, "response": response},
        }));
    }

    fn interrupt(&mut self, said: &mut Said) {
        self.interrupts += 1;
        said.line(&json!({
            "type": "control_request",
            "request_id": format!("afk-interrupt-{}", self.interrupts),
            "request": {"subtype": "interrupt"},
        }));
    }

    fn closed(&self, _code: Option<i32>, stderr: &str) -> Option<TurnEnd> {
        let why = bounded(stderr.trim());
        stderr.contains("No conversation found").then_some(TurnEnd::NoSession { why })
    }
}

#[cfg(test)]
mod tests;
