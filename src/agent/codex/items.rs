//! Items of a codex turn (messages, commands, file changes, other tools) and the requests to
//! approve them.

use serde_json::{Value, json};

use super::CodexProtocol;
use crate::agent::fields::{relative_path, text};
use crate::agent::prose::ProseKind;
use crate::agent::{ProtocolOutput, bounded, diff};
use crate::core::model::agent_event::AgentEvent;
use crate::core::model::permission::{PermissionRequest, Tool};

/// Returns an item's command without the shell that codex wraps around it.
fn plain_command(item: &Value) -> String {
    let whole = text(item, "command");
    let actions = item["commandActions"].as_array().map(Vec::as_slice).unwrap_or_default();
    match actions {
        [action] if !text(action, "command").is_empty() => text(action, "command").to_owned(),
        _ => whole.to_owned(),
    }
}

impl CodexProtocol {
    /// Handles a request from codex; afk supports only requests for approval.
    pub(super) fn on_request(&mut self, line: &Value, out: &mut ProtocolOutput) {
        let params = &line["params"];
        let id = format!("codex-{}", line["id"]);
        let ask = match text(line, "method") {
            "item/commandExecution/requestApproval" => {
                let command = plain_command(params);
                let reason = text(params, "reason");
                let comment =
                    if reason.is_empty() { String::new() } else { format!("# {reason}\n") };
                PermissionRequest {
                    tool: Tool::Shell,
                    title: bounded(command.clone()),
                    detail: bounded(format!("{comment}{command}\n\nin {}", text(params, "cwd"))),
                    targets: vec![bounded(command)],
                    editable: false,
                }
            }
            "item/fileChange/requestApproval" => {
                let changes =
                    self.changes.get(text(params, "itemId")).cloned().unwrap_or_else(|| json!([]));
                let files = changes.as_array().cloned().unwrap_or_default();
                let paths: Vec<&str> = files.iter().map(|file| text(file, "path")).collect();
                let relative: Vec<&str> =
                    paths.iter().map(|path| relative_path(&self.cwd, path)).collect();
                let diffs: Vec<String> = files.iter().map(|file| self.file_diff(file)).collect();
                PermissionRequest {
                    tool: Tool::Edit,
                    title: bounded(format!("change {}", relative.join(", "))),
                    detail: bounded(diffs.join("\n")),
                    targets: paths.into_iter().map(bounded).collect(),
                    editable: false,
                }
            }
            other => {
                let message = format!("{other} is not supported");
                out.write_json(
                    &json!({"id": line["id"], "error": {"code": -32601, "message": message}}),
                );
                return;
            }
        };
        self.prose.flush(&mut out.events);
        self.requests.insert(id.clone(), line["id"].clone());
        out.emit(AgentEvent::PermissionRequest { id, request: Box::new(ask) });
    }

    /// Formats a file change as its path and a unified diff. For a new or deleted file, codex sends
    /// the whole text.
    fn file_diff(&self, file: &Value) -> String {
        let (path, content) = (relative_path(&self.cwd, text(file, "path")), text(file, "diff"));
        let body = match text(&file["kind"], "type") {
            "add" => diff::unified(path, "", content),
            "delete" => diff::unified(path, content, ""),
            _ => content.to_owned(),
        };
        format!("{path}\n{body}")
    }

    /// Handles the start of an item, or its end when it is `completed`.
    pub(super) fn on_item(&mut self, item: &Value, completed: bool, out: &mut ProtocolOutput) {
        let id = text(item, "id").to_owned();
        match (text(item, "type"), completed) {
            ("agentMessage", true) => {
                // A short message arrives whole, without pieces before it.
                if !std::mem::take(&mut self.streamed) {
                    self.prose.push(ProseKind::Text, text(item, "text"), &mut out.events);
                }
                self.prose.flush(&mut out.events);
            }
            ("agentMessage", false) => {
                self.streamed = false;
                let again = std::mem::take(&mut self.breaks_off);
                if !again {
                    self.prose.begin_message(false);
                }
            }
            ("reasoning", true) => self.prose.flush(&mut out.events),
            ("commandExecution", false) => {
                self.prose.flush(&mut out.events);
                let title = bounded(plain_command(item));
                out.emit(AgentEvent::ToolStart { id, kind: "shell".into(), title, parent: None });
            }
            ("commandExecution", true) => {
                let code = item["exitCode"].as_i64().and_then(|code| i32::try_from(code).ok());
                out.emit(AgentEvent::ToolEnd {
                    id,
                    title: "".into(),
                    ok: text(item, "status") == "completed" && code.unwrap_or(0) == 0,
                    code,
                    output: bounded(text(item, "aggregatedOutput")),
                });
            }
            ("fileChange", false) => {
                self.prose.flush(&mut out.events);
                self.changes.insert(id.clone(), item["changes"].clone());
                let files = item["changes"].as_array().into_iter().flatten();
                let paths: Vec<&str> =
                    files.map(|file| relative_path(&self.cwd, text(file, "path"))).collect();
                let title = bounded(format!("change {}", paths.join(", ")));
                out.emit(AgentEvent::ToolStart { id, kind: "edit".into(), title, parent: None });
            }
            ("fileChange", true) => {
                self.changes.remove(&id);
                let ok = text(item, "status") == "completed";
                let (title, output) = ("".into(), "".into());
                out.emit(AgentEvent::ToolEnd { id, title, ok, code: None, output });
                for file in item["changes"].as_array().into_iter().flatten().filter(|_| ok) {
                    let path = bounded(relative_path(&self.cwd, text(file, "path")));
                    out.emit(AgentEvent::Diff { path, diff: bounded(self.file_diff(file)) });
                }
            }
            ("mcpToolCall" | "webSearch" | "dynamicToolCall", completed) => {
                let name = [text(item, "tool"), text(item, "query"), text(item, "type")];
                let title = name.into_iter().find(|name| !name.is_empty()).map(bounded);
                let title = title.unwrap_or_default();
                out.emit(if completed {
                    let ok = text(item, "status") != "failed";
                    AgentEvent::ToolEnd { id, title, ok, code: None, output: "".into() }
                } else {
                    AgentEvent::ToolStart { id, kind: "other".into(), title, parent: None }
                });
            }
            _ => {}
        }
    }
}
