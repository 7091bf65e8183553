//! Reads a call of one of afk's tools from its name and its arguments. Everything in it is hostile.

use serde::Deserialize;
use serde_json::Value;

use crate::core::model::breakglass::{AgentTool, REFUSED_TEXT, Verb};
use crate::core::model::untrusted::Untrusted;
use crate::redact::Redactor;

/// A call as the tool server sends it: one line of JSON.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ToolRequest {
    tool: String,
    #[serde(default)]
    arguments: Value,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CommandArguments {
    command: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct VerbArguments {
    verb: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NoteArguments {
    text: String,
}

impl ToolRequest {
    pub(super) fn new(tool: String, arguments: Value) -> Self {
        Self { tool, arguments }
    }

    /// The call, without secrets that afk knows. A command with one is not the command without it, so
    /// that it becomes an unknown call, which is refused.
    pub(super) fn read(&self) -> AgentTool {
        let redactor = Redactor::default();
        // A list would pass for an object with the same number of fields.
        let object = Some(&self.arguments).filter(|arguments| arguments.is_object());
        let arguments = || object.cloned().unwrap_or_default();
        let known = match self.tool.as_str() {
            "run_on_devvm" => serde_json::from_value::<CommandArguments>(arguments())
                .ok()
                .filter(|call| redactor.clean(&call.command) == call.command)
                .map(|call| AgentTool::Command { command: call.command.into() }),
            "verb" => serde_json::from_value::<VerbArguments>(arguments())
                .ok()
                .and_then(|call| Verb::parse(&call.verb))
                .map(|verb| AgentTool::Verb { verb }),
            "note" => serde_json::from_value::<NoteArguments>(arguments()).ok().map(|call| {
                let mut text = Untrusted::from(call.text);
                redactor.text(&mut text);
                AgentTool::Note { text: text.clean().into() }
            }),
            _ => None,
        };
        known.unwrap_or_else(|| {
            let call = format!("{} {}", self.tool, self.arguments);
            let call: String = redactor.clean(&call).chars().take(REFUSED_TEXT).collect();
            AgentTool::Unknown { call: call.into() }
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn read_knows_three_tools_with_exact_arguments() {
        let read = |tool: &str, arguments: Value| ToolRequest::new(tool.into(), arguments).read();
        assert_eq!(
            read("run_on_devvm", json!({"command": "uptime"})),
            AgentTool::Command { command: "uptime".into() }
        );
        assert_eq!(read("verb", json!({"verb": "cycle"})), AgentTool::Verb { verb: Verb::Cycle });
        assert_eq!(
            read("note", json!({"text": "a\u{1b}[2Jb"})),
            AgentTool::Note { text: "ab".into() }
        );
        for (tool, arguments) in [
            ("verb", json!({"verb": "stop", "vm": "103"})),
            ("verb", json!({"verb": "stop 103"})),
            ("verb", json!({"verb": "Stop"})),
            ("verb", json!(["stop"])),
            ("run_on_devvm", json!({"command": "uptime", "host": "hypervisor"})),
            ("run_on_devvm", json!({"command": 5})),
            ("run_on_devvm", json!({"command": "echo ghp_0123456789abcdefghijABCDEFGHIJ"})),
            ("arm", json!({"reason": "x"})),
            ("", Value::Null),
        ] {
            let call = read(tool, arguments);
            let AgentTool::Unknown { call } = &call else { panic!("{call:?}") };
            assert!(!call.as_received().contains("ghp_0123"), "{call:?}");
        }
    }
}
