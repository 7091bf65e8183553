//! Translates a thread's activities into events: tools, permission requests, questions, tokens.
//!
//! Activities arrive one by one, or all at once in a snapshot, which repeats known ones.

use serde_json::{Value, json};

use super::thread::{PendingRequest, RunningTool, Thread};
use crate::agent::claude::tools;
use crate::agent::fields::{relative_path, text};
use crate::agent::{ProtocolOutput, bounded, diff, raw_event};
use crate::core::model::agent_event::AgentEvent;
use crate::core::model::budget::Spend;
use crate::core::model::permission::{PermissionRequest, Tool};

impl Thread {
    /// Handles one activity.
    pub(super) fn on_activity(&mut self, activity: &Value, out: &mut ProtocolOutput) {
        if self.is_of_ended_turn(activity) {
            return;
        }
        let (id, kind, payload) =
            (text(activity, "id"), text(activity, "kind"), &activity["payload"]);
        // Requests are emitted even if their id is known: after a restart, only this emits them
        // again.
        let is_new = self.setup.seen_ids.insert(id.to_owned());
        let request = text(payload, "requestId");
        let known = self.requests.contains_key(request) || self.answered.contains(request);
        match kind {
            "approval.requested" | "user-input.requested" if known => return,
            "approval.requested" => return self.on_approval_request(payload, out),
            "user-input.requested" => return self.on_question(payload, out),
            "approval.resolved" | "user-input.resolved" => {
                if self.requests.remove(request).is_some() {
                    out.emit(AgentEvent::RequestWithdrawn { id: request.to_owned() });
                }
                return;
            }
            // Emitted before a restart: only the list of running tools needs it.
            _ if !is_new => {
                if matches!(kind, "tool.updated" | "tool.completed") {
                    let (at, _) = self.find_or_add_tool(payload);
                    if kind == "tool.completed" {
                        self.tools.remove(at);
                    }
                }
                return;
            }
            _ => {}
        }
        match kind {
            "tool.started" if text(payload, "detail").ends_with(": {}") => {}
            "tool.started" | "tool.updated" => {
                self.tool_running(payload, out);
            }
            "tool.completed" => self.tool_ended(payload, out),
            "context-window.updated" => self.on_usage(payload, out),
            "runtime.error" | "runtime.warning" => {
                out.notice(bounded(text(payload, "message")));
            }
            "checkpoint.captured" => {}
            _ => out.emit(raw_event(activity.to_string().as_bytes())),
        }
    }

    /// Returns the index of a running tool, and whether it is new.
    fn find_or_add_tool(&mut self, payload: &Value) -> (usize, bool) {
        let (detail, data) = (text(payload, "detail"), &payload["data"]);
        let name = match text(data, "toolName") {
            "" => detail.split(':').next().unwrap_or_default(),
            name => name,
        };
        let same = |running: &RunningTool| {
            running.detail == detail || (running.name == name && running.input == data["input"])
        };
        if let Some(at) = self.tools.iter().position(same) {
            return (at, false);
        }
        self.started_tools += 1;
        let (id, input) = (format!("t3-{}", self.started_tools), data["input"].clone());
        self.tools.push(RunningTool {
            id,
            detail: detail.to_owned(),
            name: name.to_owned(),
            input,
        });
        (self.tools.len() - 1, true)
    }

    /// Emits the start of a tool unless that was done, and returns its index.
    fn tool_running(&mut self, payload: &Value, out: &mut ProtocolOutput) -> usize {
        let (at, is_new) = self.find_or_add_tool(payload);
        if is_new {
            self.prose.flush(&mut out.events);
            let RunningTool { id, detail, name, input } = &self.tools[at];
            let (kind, title) = if input.is_object() {
                (tools::kind(name), tools::title(&self.cwd, name, input))
            } else {
                (item_class(text(payload, "itemType")), detail.clone())
            };
            let (kind, title) = (kind.as_str().into(), bounded(title));
            out.emit(AgentEvent::ToolStart { id: id.clone(), kind, title, parent: None });
        }
        at
    }

    fn tool_ended(&mut self, payload: &Value, out: &mut ProtocolOutput) {
        let at = self.tool_running(payload, out);
        let running = self.tools.remove(at);
        let result = &payload["data"]["result"];
        let ok = result["is_error"] != json!(true) && text(payload, "status") != "failed";
        let output = match &result["content"] {
            Value::String(text) => text.clone(),
            Value::Array(parts) => {
                parts.iter().map(|part| text(part, "text")).collect::<Vec<_>>().join("\n")
            }
            _ => String::new(),
        };
        let (title, output) = ("".into(), bounded(output));
        out.emit(AgentEvent::ToolEnd { id: running.id, title, ok, code: None, output });
        let input = &running.input;
        if ok && tools::kind(&running.name) == Tool::Edit && input.is_object() {
            let path = relative_path(&self.cwd, text(input, "file_path"));
            let change = if input.get("content").is_some() {
                diff::unified(path, "", text(input, "content"))
            } else {
                diff::unified(path, text(input, "old_string"), text(input, "new_string"))
            };
            out.emit(AgentEvent::Diff { path: bounded(path), diff: bounded(change) });
        }
    }

    fn answered_early(&self, id: &str) -> bool {
        self.early_answers.iter().flatten().any(|(request, ..)| request == id)
    }

    fn on_approval_request(&mut self, payload: &Value, out: &mut ProtocolOutput) {
        let (id, detail) = (text(payload, "requestId").to_owned(), text(payload, "detail"));
        self.prose.flush(&mut out.events);
        let running = self.tools.iter().rev().find(|running| running.detail == detail);
        let (name, rest) = detail.split_once(": ").unwrap_or(("", detail));
        let input = serde_json::from_str::<Value>(rest).ok().filter(Value::is_object);
        let ask = match (running, input) {
            (Some(running), _) if running.input.is_object() => {
                tools::permission_request(&self.cwd, &running.name, &running.input)
            }
            (_, Some(input)) => tools::permission_request(&self.cwd, name, &input),
            // The server may have cut the detail: as `Other`, no permission rule applies to it.
            _ => PermissionRequest {
                tool: Tool::Other,
                title: bounded(detail),
                detail: bounded(detail),
                targets: vec![bounded(detail)],
                editable: false,
            },
        };
        let ask = Box::new(PermissionRequest { editable: false, ..ask });
        if !self.answered_early(&id) {
            out.emit(AgentEvent::PermissionRequest { id: id.clone(), request: ask });
        }
        self.requests.insert(id, PendingRequest::Approval);
    }

    fn on_question(&mut self, payload: &Value, out: &mut ProtocolOutput) {
        let id = text(payload, "requestId").to_owned();
        let questions = payload["questions"].as_array().cloned().unwrap_or_default();
        self.prose.flush(&mut out.events);
        if !self.answered_early(&id) {
            out.emit(tools::question(id.clone(), &questions));
        }
        self.requests.insert(id, PendingRequest::Input(questions));
    }

    /// Handles the turn's total of tokens so far.
    fn on_usage(&mut self, payload: &Value, out: &mut ProtocolOutput) {
        let count = |key: &str| payload[key].as_u64().unwrap_or(0);
        let now = (count("inputTokens"), count("outputTokens"));
        out.emit(AgentEvent::Usage(Spend {
            tokens_in: now.0.saturating_sub(self.used_tokens.0),
            tokens_out: now.1.saturating_sub(self.used_tokens.1),
            ..Spend::default()
        }));
        self.used_tokens = (now.0.max(self.used_tokens.0), now.1.max(self.used_tokens.1));
    }
}

/// Returns the class of an item whose tool is unknown.
fn item_class(kind: &str) -> Tool {
    match kind {
        "command_execution" => Tool::Shell,
        "file_change" => Tool::Edit,
        "web_search" => Tool::Web,
        _ => Tool::Other,
    }
}
