//! Claude's tools: their class, title, permission request and questions, from a tool's name and
//! input.
//!
//! The Claude adapter uses this module, and so does the T3 executor, whose server runs claude.

use serde_json::{Map, Value, json};

use crate::agent::fields::{relative_path, text};
use crate::agent::{bounded, diff};
use crate::core::model::agent_event::AgentEvent;
use crate::core::model::permission::{PermissionRequest, Tool};

/// Returns the class of a tool, which permission rules use.
#[must_use]
pub(crate) fn kind(name: &str) -> Tool {
    match name {
        "Bash" | "BashOutput" | "KillShell" => Tool::Shell,
        "Edit" | "Write" | "MultiEdit" | "NotebookEdit" => Tool::Edit,
        "Read" | "Grep" | "Glob" | "LS" | "NotebookRead" => Tool::Read,
        "WebFetch" | "WebSearch" => Tool::Web,
        _ => Tool::Other,
    }
}

/// Describes the use of a tool in one line.
#[must_use]
pub(crate) fn title(cwd: &str, name: &str, input: &Value) -> String {
    match kind(name) {
        Tool::Shell if input.get("command").is_some() => text(input, "command").to_owned(),
        Tool::Edit | Tool::Read => {
            let path = ["file_path", "notebook_path", "path", "pattern"]
                .into_iter()
                .map(|key| text(input, key))
                .find(|path| !path.is_empty())
                .unwrap_or_default();
            format!("{name} {}", relative_path(cwd, path))
        }
        Tool::Web => format!("{name} {}{}", text(input, "url"), text(input, "query")),
        _ => match text(input, "description") {
            "" => name.to_owned(),
            about => format!("{name}: {about}"),
        },
    }
}

/// Tools that change nothing but claude's own notes, or start a subagent whose tools ask on their own.
const HARMLESS: [&str; 9] = [
    "TodoWrite",
    "Task",
    "Agent",
    "TaskCreate",
    "TaskUpdate",
    "TaskGet",
    "TaskList",
    "TaskOutput",
    "ToolSearch",
];

/// Builds the permission request for using a tool with this input.
#[must_use]
pub(crate) fn permission_request(cwd: &str, name: &str, input: &Value) -> PermissionRequest {
    let kind = kind(name);
    let field = |key| text(input, key);
    let target = match kind {
        Tool::Shell => field("command").to_owned(),
        Tool::Edit | Tool::Read => {
            let all = [field("file_path"), field("notebook_path"), field("path")];
            all.into_iter().find(|path| !path.is_empty()).unwrap_or(cwd).to_owned()
        }
        Tool::Web => format!("{}{}", field("url"), field("query")),
        Tool::Other => name.to_owned(),
    };
    let detail = match kind {
        Tool::Shell => {
            let about = text(input, "description");
            let comment = if about.is_empty() { String::new() } else { format!("# {about}\n") };
            format!("{comment}{target}")
        }
        Tool::Edit if input.get("old_string").is_some() => {
            let change = diff::unified(&target, field("old_string"), field("new_string"));
            format!("{}\n\n{change}", relative_path(cwd, &target))
        }
        Tool::Edit if input.get("content").is_some() => {
            let change = diff::unified(&target, "", field("content"));
            format!("{}\n\n{change}", relative_path(cwd, &target))
        }
        _ => format!("{name} {}", serde_json::to_string_pretty(input).unwrap_or_default()),
    };
    PermissionRequest {
        tool: if HARMLESS.contains(&name) { Tool::Read } else { kind },
        title: bounded(title(cwd, name, input)),
        detail: bounded(detail),
        targets: vec![bounded(target)],
        editable: kind == Tool::Shell && input.get("command").is_some(),
    }
}

/// Combines questions that claude asks together into one.
#[must_use]
pub(crate) fn question(id: String, questions: &[Value]) -> AgentEvent {
    let several = questions.len() > 1;
    let texts: Vec<&str> = questions.iter().map(|q| text(q, "question")).collect();
    let hint = if several { "\n\nAnswer each on a line of its own." } else { "" };
    let options = questions.iter().take(usize::from(!several));
    let options = options.flat_map(|q| q["options"].as_array().cloned().unwrap_or_default());
    let options = options.take(20).map(|option| {
        let about = match text(&option, "description") {
            about if about == text(&option, "label") => "",
            about => about,
        };
        let separator = if about.is_empty() { "" } else { ": " };
        bounded(format!("{}{separator}{about}", text(&option, "label")))
    });
    AgentEvent::Question {
        id,
        text: bounded(format!("{}{hint}", texts.join("\n"))),
        options: options.collect(),
    }
}

/// Maps each question's `name` field to its answer: with several questions, each line of the typed
/// text answers one.
#[must_use]
pub(crate) fn answers(questions: &[Value], name: &str, typed: &str) -> Map<String, Value> {
    let lines: Vec<&str> = typed.lines().collect();
    let several = questions.len() > 1;
    let all = questions.iter().enumerate().map(|(at, question)| {
        let line = lines.get(at).copied().unwrap_or_default();
        let answer = if several { line } else { typed };
        (text(question, name).to_owned(), json!(answer_label(question, answer)))
    });
    all.collect()
}

/// Returns the label of the option with the typed number, or the typed text itself.
fn answer_label(question: &Value, typed: &str) -> String {
    let typed = typed.trim();
    let number = typed.parse::<usize>().ok().and_then(|n| n.checked_sub(1));
    let option = number.and_then(|at| question["options"].as_array()?.get(at).cloned());
    option.map_or_else(|| typed.to_owned(), |option| text(&option, "label").to_owned())
}
