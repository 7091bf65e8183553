//! What a thread's activities tell: tools, requests, tokens.

use serde_json::{Value, json};

use super::thread::{Request, Running, Thread};
use crate::agent::claude::tools;
use crate::agent::fields::{short, text};
use crate::agent::{Said, bounded, diff, raw};
use crate::core::model::agent_event::AgentEvent;
use crate::core::model::budget::Spend;
use crate::core::model::permission::{PermissionRequest, Tool};

impl Thread {
    /// One activity, as it came or in a snapshot.
    pub(super) fn activity(&mut self, activity: &Value, said: &mut Said) {
        if self.foreign(activity) {
            return;
        }
        let (id, kind, payload) =
            (text(activity, "id"), text(activity, "kind"), &activity["payload"]);
        // A request that still waits is told again after a restart: nobody else knows of it.
        let new = self.begin.told.insert(id.to_owned());
        let request = text(payload, "requestId");
        let known = self.requests.contains_key(request) || self.answered.contains(request);
        match kind {
            "approval.requested" | "user-input.requested" if known => return,
            "approval.requested" => return self.approval(payload, said),
            "user-input.requested" => return self.input(payload, said),
            "approval.resolved" | "user-input.resolved" => {
                if self.requests.remove(request).is_some() {
                    said.event(AgentEvent::RequestWithdrawn { id: request.to_owned() });
                }
                return;
            }
            // What was told is told no more; which tools run is to be known all the same.
            _ if !new => {
                if matches!(kind, "tool.updated" | "tool.completed") {
                    let (at, _) = self.running(payload);
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
                self.tool(payload, said);
            }
            "tool.completed" => self.tool_ended(payload, said),
            "context-window.updated" => self.usage(payload, said),
            "runtime.error" | "runtime.warning" => {
                said.notice(bounded(text(payload, "message")));
            }
            "checkpoint.captured" => {}
            _ => said.event(raw(activity.to_string().as_bytes())),
        }
    }

    /// Where a tool stands among those that run, and whether it is a new one.
    fn running(&mut self, payload: &Value) -> (usize, bool) {
        let (detail, data) = (text(payload, "detail"), &payload["data"]);
        let name = match text(data, "toolName") {
            "" => detail.split(':').next().unwrap_or_default(),
            name => name,
        };
        let same = |running: &Running| {
            running.detail == detail || (running.name == name && running.input == data["input"])
        };
        if let Some(at) = self.tools.iter().position(same) {
            return (at, false);
        }
        self.started += 1;
        let (id, input) = (format!("t3-{}", self.started), data["input"].clone());
        self.tools.push(Running { id, detail: detail.to_owned(), name: name.to_owned(), input });
        (self.tools.len() - 1, true)
    }

    /// A tool that runs, told once; where it stands among those that do.
    fn tool(&mut self, payload: &Value, said: &mut Said) -> usize {
        let (at, new) = self.running(payload);
        if new {
            self.prose.flush(&mut said.events);
            let Running { id, detail, name, input } = &self.tools[at];
            let (kind, title) = if input.is_object() {
                (tools::tool(name), tools::title(&self.cwd, name, input))
            } else {
                (item(text(payload, "itemType")), detail.clone())
            };
            let (kind, title) = (kind.as_str().into(), bounded(title));
            said.event(AgentEvent::ToolStart { id: id.clone(), kind, title });
        }
        at
    }

    fn tool_ended(&mut self, payload: &Value, said: &mut Said) {
        let at = self.tool(payload, said);
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
        said.event(AgentEvent::ToolEnd { id: running.id, title, ok, code: None, output });
        let input = &running.input;
        if ok && tools::tool(&running.name) == Tool::Edit && input.is_object() {
            let path = short(&self.cwd, text(input, "file_path"));
            let change = if input.get("content").is_some() {
                diff::unified(path, "", text(input, "content"))
            } else {
                diff::unified(path, text(input, "old_string"), text(input, "new_string"))
            };
            said.event(AgentEvent::Diff { path: bounded(path), diff: bounded(change) });
        }
    }

    fn answered_early(&self, id: &str) -> bool {
        self.early.iter().flatten().any(|(request, ..)| request == id)
    }

    fn approval(&mut self, payload: &Value, said: &mut Said) {
        let (id, detail) = (text(payload, "requestId").to_owned(), text(payload, "detail"));
        self.prose.flush(&mut said.events);
        let running = self.tools.iter().rev().find(|running| running.detail == detail);
        let (name, rest) = detail.split_once(": ").unwrap_or(("", detail));
        let read = serde_json::from_str::<Value>(rest).ok().filter(Value::is_object);
        let ask = match (running, read) {
            (Some(running), _) if running.input.is_object() => {
                tools::ask(&self.cwd, &running.name, &running.input)
            }
            (_, Some(input)) => tools::ask(&self.cwd, name, &input),
            // What it says may be cut: no rule for a kind of tool may answer it.
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
            said.event(AgentEvent::PermissionRequest { id: id.clone(), request: ask });
        }
        self.requests.insert(id, Request::Approval);
    }

    fn input(&mut self, payload: &Value, said: &mut Said) {
        let id = text(payload, "requestId").to_owned();
        let questions = payload["questions"].as_array().cloned().unwrap_or_default();
        self.prose.flush(&mut said.events);
        if !self.answered_early(&id) {
            said.event(tools::question(id.clone(), &questions));
        }
        self.requests.insert(id, Request::Input(questions));
    }

    /// The tokens of this turn so far.
    fn usage(&mut self, payload: &Value, said: &mut Said) {
        let count = |key: &str| payload[key].as_u64().unwrap_or(0);
        let now = (count("inputTokens"), count("outputTokens"));
        said.event(AgentEvent::Usage(Spend {
            tokens_in: now.0.saturating_sub(self.used.0),
            tokens_out: now.1.saturating_sub(self.used.1),
            ..Spend::default()
        }));
        self.used = (now.0.max(self.used.0), now.1.max(self.used.1));
    }
}

/// What kind of thing an item is, where its tool isn't known.
fn item(kind: &str) -> Tool {
    match kind {
        "command_execution" => Tool::Shell,
        "file_change" => Tool::Edit,
        "web_search" => Tool::Web,
        _ => Tool::Other,
    }
}
