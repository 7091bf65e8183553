//! pi's tools: their class, title, permission request and change, from a tool's name and input.

use serde_json::Value;

use crate::agent::fields::{relative_path, text};
use crate::agent::{bounded, diff};
use crate::core::model::agent_event::AgentEvent;
use crate::core::model::permission::{PermissionRequest, Tool};

/// Returns the class of a tool, which permission rules use.
pub(super) fn kind(name: &str) -> Tool {
    match name {
        "bash" => Tool::Shell,
        "edit" | "write" => Tool::Edit,
        "read" | "grep" | "find" | "ls" => Tool::Read,
        _ => Tool::Other,
    }
}

/// Describes the use of a tool in one line.
pub(super) fn title(cwd: &str, name: &str, input: &Value) -> String {
    match kind(name) {
        Tool::Shell => text(input, "command").to_owned(),
        Tool::Edit | Tool::Read => format!("{name} {}", relative_path(cwd, text(input, "path"))),
        Tool::Web | Tool::Other => name.to_owned(),
    }
}

/// Builds the permission request for using a tool with this input.
pub(super) fn permission_request(cwd: &str, name: &str, input: &Value) -> PermissionRequest {
    let kind = kind(name);
    let target = match kind {
        Tool::Shell => text(input, "command"),
        Tool::Edit | Tool::Read => match text(input, "path") {
            "" => cwd,
            path => path,
        },
        Tool::Web | Tool::Other => name,
    };
    let detail = match (kind, change_text(input)) {
        (Tool::Shell, _) => target.to_owned(),
        (Tool::Edit, Some(change)) => format!("{}\n\n{change}", relative_path(cwd, target)),
        _ => format!("{name} {}", serde_json::to_string_pretty(input).unwrap_or_default()),
    };
    PermissionRequest {
        tool: kind,
        title: bounded(title(cwd, name, input)),
        detail: bounded(detail),
        targets: vec![bounded(target)],
        editable: kind == Tool::Shell,
    }
}

/// The change of an edit as a diff, from its old and new texts.
fn change_text(input: &Value) -> Option<String> {
    let path = text(input, "path");
    if input.get("content").is_some() {
        return Some(diff::unified(path, "", text(input, "content")));
    }
    let edits = input["edits"].as_array().map_or(std::slice::from_ref(input), Vec::as_slice);
    let edits = edits.iter().filter(|edit| edit.get("newText").is_some());
    let all: String = edits
        .map(|edit| diff::unified(path, text(edit, "oldText"), text(edit, "newText")))
        .collect();
    (!all.is_empty()).then_some(all)
}

/// The change that a finished tool made.
pub(super) fn change(cwd: &str, name: &str, input: &Value) -> Option<AgentEvent> {
    let text_of = (kind(name) == Tool::Edit).then(|| change_text(input))??;
    let path = relative_path(cwd, text(input, "path"));
    Some(AgentEvent::Diff { path: bounded(path), diff: bounded(text_of) })
}

/// The exit code of a command, which pi writes at the end of its output.
pub(super) fn exit_code(name: &str, ok: bool, output: &str) -> Option<i32> {
    if kind(name) != Tool::Shell {
        return None;
    }
    if ok {
        return Some(0);
    }
    let (_, rest) = output.rsplit_once("exited with code ")?;
    rest.split_whitespace().next()?.parse().ok()
}
