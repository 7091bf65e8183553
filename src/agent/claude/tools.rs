//! The tools of claude by their names and inputs, however they are told.

use serde_json::{Map, Value, json};

use crate::agent::fields::{short, text};
use crate::agent::{bounded, diff};
use crate::core::model::agent_event::AgentEvent;
use crate::core::model::permission::{PermissionRequest, Tool};

/// What kind of thing one of them does.
#[must_use]
pub fn tool(name: &str) -> Tool {
    match name {
        "Bash" | "BashOutput" | "KillShell" => Tool::Shell,
        "Edit" | "Write" | "MultiEdit" | "NotebookEdit" => Tool::Edit,
        "Read" | "Grep" | "Glob" | "LS" | "NotebookRead" => Tool::Read,
        "WebFetch" | "WebSearch" => Tool::Web,
        _ => Tool::Other,
    }
}

/// A tool in a line, as a person reads it.
#[must_use]
pub fn title(cwd: &str, name: &str, input: &Value) -> String {
    match tool(name) {
        Tool::Shell if input.get("command").is_some() => text(input, "command").to_owned(),
        Tool::Edit | Tool::Read => {
            let path = ["file_path", "notebook_path", "path", "pattern"]
                .into_iter()
                .map(|key| text(input, key))
                .find(|path| !path.is_empty())
                .unwrap_or_default();
            format!("{name} {}", short(cwd, path))
        }
        Tool::Web => format!("{name} {}{}", text(input, "url"), text(input, "query")),
        _ => match text(input, "description") {
            "" => name.to_owned(),
            about => format!("{name}: {about}"),
        },
    }
}

/// What leave is asked for, when a tool is to be used with this input.
#[must_use]
pub fn ask(cwd: &str, name: &str, input: &Value) -> PermissionRequest {
    let kind = tool(name);
    let path = |key| text(input, key);
    let target = match kind {
        Tool::Shell => path("command").to_owned(),
        Tool::Edit | Tool::Read => {
            let all = [path("file_path"), path("notebook_path"), path("path")];
            all.into_iter().find(|path| !path.is_empty()).unwrap_or(cwd).to_owned()
        }
        Tool::Web => format!("{}{}", path("url"), path("query")),
        Tool::Other => name.to_owned(),
    };
    let detail = match kind {
        Tool::Shell => {
            let about = text(input, "description");
            let rule = if about.is_empty() { String::new() } else { format!("# {about}\n") };
            format!("{rule}{target}")
        }
        Tool::Edit if input.get("old_string").is_some() => {
            let change = diff::unified(&target, path("old_string"), path("new_string"));
            format!("{}\n\n{change}", short(cwd, &target))
        }
        Tool::Edit if input.get("content").is_some() => {
            let change = diff::unified(&target, "", path("content"));
            format!("{}\n\n{change}", short(cwd, &target))
        }
        _ => format!("{name} {}", serde_json::to_string_pretty(input).unwrap_or_default()),
    };
    PermissionRequest {
        tool: kind,
        title: bounded(title(cwd, name, input)),
        detail: bounded(detail),
        targets: vec![bounded(target)],
        editable: kind == Tool::Shell && input.get("command").is_some(),
    }
}

/// Questions that are asked together, as one.
#[must_use]
pub fn question(id: String, questions: &[Value]) -> AgentEvent {
    let several = questions.len() > 1;
    let words: Vec<&str> = questions.iter().map(|q| text(q, "question")).collect();
    let hint = if several { "\n\nAnswer each on a line of its own." } else { "" };
    let options = questions.iter().take(usize::from(!several));
    let options = options.flat_map(|q| q["options"].as_array().cloned().unwrap_or_default());
    let options = options.take(20).map(|option| {
        let about = match text(&option, "description") {
            about if about == text(&option, "label") => "",
            about => about,
        };
        let rule = if about.is_empty() { "" } else { ": " };
        bounded(format!("{}{rule}{about}", text(&option, "label")))
    });
    AgentEvent::Question {
        id,
        text: bounded(format!("{}{hint}", words.join("\n"))),
        options: options.collect(),
    }
}

/// What was typed as an answer to each of them, by the field that names a question.
#[must_use]
pub fn answers(questions: &[Value], name: &str, told: &str) -> Map<String, Value> {
    let lines: Vec<&str> = told.lines().collect();
    let several = questions.len() > 1;
    let all = questions.iter().enumerate().map(|(at, question)| {
        let line = lines.get(at).copied().unwrap_or_default();
        let words = if several { line } else { told };
        (text(question, name).to_owned(), json!(label(question, words)))
    });
    all.collect()
}

/// An option's label by its number, or the words as they are.
fn label(question: &Value, words: &str) -> String {
    let words = words.trim();
    let number = words.parse::<usize>().ok().and_then(|n| n.checked_sub(1));
    let option = number.and_then(|at| question["options"].as_array()?.get(at).cloned());
    option.map_or_else(|| words.to_owned(), |option| text(&option, "label").to_owned())
}
