//! Calls of the tools that agents offer their model, one of each kind. Agents name their tools and
//! inputs differently, so that a call's input follows from the tool's own schema.

use std::collections::BTreeSet;

use afk::core::model::permission::Tool;
use serde_json::{Value, json};

use crate::support::model::{ModelRequest, Reply};

/// The names of the tools of one kind.
pub struct Probe {
    /// The kind of permission that it needs; none for a tool that changes nothing.
    pub kind: Option<Tool>,
    names: &'static [&'static str],
}

impl Probe {
    /// Whether one of its tools is among these.
    pub fn is_in(&self, offered: &BTreeSet<String>) -> bool {
        self.names.iter().any(|name| offered.contains(*name))
    }
}

/// One probe for each kind of tool: plan, question, read, web, and edit.
pub const PROBES: &[Probe] = &[
    Probe {
        kind: None,
        names: &[
            "TodoWrite",
            "todowrite",
            "todo_write",
            "write_todos",
            "update_plan",
            "update_todo",
        ],
    },
    Probe {
        kind: None,
        names: &[
            "AskUserQuestion",
            "ask_user",
            "question",
            "ask_user_question",
            "request_user_input",
        ],
    },
    Probe { kind: Some(Tool::Read), names: &["Read", "read", "read_file", "view"] },
    Probe { kind: Some(Tool::Web), names: &["WebFetch", "webfetch", "web_fetch", "fetch"] },
    Probe {
        kind: Some(Tool::Edit),
        names: &["Write", "write", "write_file", "create", "apply_patch"],
    },
];

/// The names of tools that start a subagent.
pub const SUBAGENTS: &[&str] =
    &["Task", "Agent", "task", "agent", "spawn_agent", "invoke_agent", "codebase_investigator"];

/// The call of a probe's tool, if the request offers one.
pub fn call(probe: &Probe, asked: &ModelRequest) -> Option<Reply> {
    let name = probe.names.iter().find(|name| asked.tools.contains_key(**name))?;
    let folder = asked.whole.split("CWD=").find(|rest| rest.starts_with('/'));
    let folder = folder.and_then(|rest| rest.split('=').next()).unwrap_or(".");
    let schema = &asked.tools[*name];
    let input = if schema.is_null() {
        json!("*** Begin Patch\n*** Add File: conform.txt\n+conform\n*** End Patch\n")
    } else {
        fill("", schema, folder)
    };
    Some(Reply::Call((*name).to_owned(), input))
}

/// A value for a schema, with the texts that its names suggest.
fn fill(name: &str, schema: &Value, folder: &str) -> Value {
    if let Some(first) = schema["enum"].as_array().and_then(|all| all.first()) {
        return first.clone();
    }
    let kind = match &schema["type"] {
        Value::Array(kinds) => kinds.first().cloned().unwrap_or_default(),
        kind => kind.clone(),
    };
    match kind.as_str().unwrap_or_default() {
        "object" => {
            let required = schema["required"].as_array().into_iter().flatten();
            let names = required.filter_map(Value::as_str);
            let entries = names
                .map(|name| (name.to_owned(), fill(name, &schema["properties"][name], folder)));
            Value::Object(entries.collect())
        }
        "array" => {
            let least = schema["minItems"].as_u64().unwrap_or(1).max(1);
            // The labels of options must differ.
            let item = |at: u64| {
                let item = fill(name, &schema["items"], folder);
                serde_json::from_str(
                    &item.to_string().replace("\"conform\"", &format!("\"conform {at}\"")),
                )
                .unwrap_or(item)
            };
            json!((0..least).map(item).collect::<Vec<_>>())
        }
        "boolean" => json!(false),
        "number" | "integer" => json!(1),
        _ => json!(match name {
            "file_path" | "filePath" | "path" | "absolute_path" => format!("{folder}/conform.txt"),
            "url" => "http://127.0.0.1:9/".to_owned(),
            "prompt" => "Read http://127.0.0.1:9/".to_owned(),
            "id" => "1".to_owned(),
            _ => "conform".to_owned(),
        }),
    }
}
