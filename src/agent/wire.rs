//! The JSON lines of the `command` protocol, which docs/agents.md specifies: [`ToAgent`] lines are
//! written, and [`translate`] turns the agent's lines into events.

use serde::{Deserialize, Serialize};

use super::{bounded, json_line, raw_event};
use crate::core::model::agent_event::{AgentEvent, PlanItem, TurnEnd};
use crate::core::model::budget::{MicroUsd, Spend};
use crate::core::model::permission::{MAX_TARGETS, PermissionRequest, Tool};
use crate::core::model::untrusted::Untrusted;

#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case", tag = "type")]
pub(crate) enum ToAgent<'a> {
    /// The first line.
    Prompt {
        prompt: &'a str,
        /// The conversation to continue, or null.
        session: Option<&'a str>,
    },
    /// A message from an operator.
    Steer { text: &'a str },
    /// The answer to the permission request or question `id`.
    Answer {
        id: &'a str,
        decision: WireDecision,
        /// The reason, the replacement command, or the answer to a question.
        text: &'a str,
    },
    /// The result of the agent's `tool_call` with this id.
    ToolResult { id: &'a str, ok: bool, text: &'a str },
    /// Asks the agent to end its turn with an `end` line.
    Interrupt,
}

/// The decision on a request, as the agent reads it.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum WireDecision {
    Allow,
    Deny,
    /// Run another command instead.
    Edit,
    /// The answer to a question.
    Text,
}

/// A line from the agent.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case", tag = "type")]
enum FromAgent {
    Session {
        id: String,
        model: Option<String>,
        version: Option<String>,
    },
    Text {
        text: String,
    },
    Thought {
        text: String,
    },
    ToolStart {
        id: String,
        kind: String,
        title: String,
    },
    ToolEnd {
        id: String,
        ok: bool,
        code: Option<i32>,
        #[serde(default)]
        output: String,
    },
    Diff {
        path: String,
        diff: String,
    },
    Plan {
        items: Vec<WirePlanItem>,
    },
    Permission {
        id: String,
        title: String,
        #[serde(default)]
        detail: String,
        #[serde(default)]
        tool: Option<Tool>,
        #[serde(default)]
        targets: Vec<String>,
    },
    Question {
        id: String,
        text: String,
        #[serde(default)]
        options: Vec<String>,
    },
    ToolCall {
        id: String,
        tool: String,
        #[serde(default)]
        arguments: serde_json::Value,
    },
    SteerTaken,
    Usage {
        #[serde(default)]
        tokens_in: u64,
        #[serde(default)]
        tokens_out: u64,
        #[serde(default)]
        cost_usd: f64,
    },
    Retry {
        attempt: u32,
        #[serde(default)]
        delay_ms: u64,
        status: Option<u16>,
    },
    End {
        status: EndStatus,
        #[serde(default)]
        reason: String,
        /// The HTTP status of the model's API, if the model failed.
        code: Option<u16>,
    },
}

#[derive(Debug, Deserialize)]
struct WirePlanItem {
    text: String,
    #[serde(default)]
    done: bool,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum EndStatus {
    Done,
    Blocked,
    Failed,
    Interrupted,
}

/// The longest line that is parsed as JSON, in bytes; a longer one is cut and kept raw.
pub(crate) const LINE_LIMIT: usize = 16 * 1024 * 1024;
/// The longest session id, in characters.
const SESSION_LIMIT: usize = 256;

/// Translates a line from the agent. An unreadable line becomes an [`AgentEvent::Raw`], never an
/// error.
#[must_use]
pub(crate) fn translate(line: &[u8], cut: bool) -> AgentEvent {
    let parsed = if cut { None } else { json_line::parse::<FromAgent>(line) };
    let Some(parsed) = parsed else {
        return raw_event(line);
    };
    match parsed {
        FromAgent::Session { id, model, version } => AgentEvent::SessionStarted {
            session: id.chars().take(SESSION_LIMIT).collect(),
            model: model.map(bounded),
            version: version.map(bounded),
        },
        FromAgent::Text { text } => AgentEvent::Text { text: bounded(text) },
        FromAgent::Thought { text } => AgentEvent::Thought { text: bounded(text) },
        FromAgent::ToolStart { id, kind, title } => {
            AgentEvent::ToolStart { id, kind: bounded(kind), title: bounded(title), parent: None }
        }
        FromAgent::ToolEnd { id, ok, code, output } => AgentEvent::ToolEnd {
            id,
            title: Untrusted::default(),
            ok,
            code,
            output: bounded(output),
        },
        FromAgent::Diff { path, diff } => {
            AgentEvent::Diff { path: bounded(path), diff: bounded(diff) }
        }
        FromAgent::Plan { items } => AgentEvent::Plan {
            items: items
                .into_iter()
                .take(200)
                .map(|item| PlanItem { text: bounded(item.text), done: item.done })
                .collect(),
        },
        FromAgent::Permission { id, title, detail, tool, targets } => {
            let tool = tool.unwrap_or(Tool::Other);
            let targets = if targets.is_empty() { vec![title.clone()] } else { targets };
            let detail = if detail.is_empty() { title.clone() } else { detail };
            let ask = PermissionRequest {
                tool,
                title: bounded(title),
                detail: bounded(detail),
                targets: targets.into_iter().take(MAX_TARGETS + 1).map(bounded).collect(),
                editable: tool == Tool::Shell,
            };
            AgentEvent::PermissionRequest { id, request: Box::new(ask) }
        }
        FromAgent::Question { id, text, options } => AgentEvent::Question {
            id,
            text: bounded(text),
            options: options.into_iter().take(20).map(bounded).collect(),
        },
        FromAgent::ToolCall { id, tool, arguments } => {
            AgentEvent::ToolCall { id, tool, arguments: bounded(arguments.to_string()) }
        }
        FromAgent::SteerTaken => AgentEvent::SteerTaken,
        FromAgent::Usage { tokens_in, tokens_out, cost_usd } => {
            let usd = MicroUsd::from_usd(cost_usd);
            AgentEvent::Usage(Spend { tokens_in, tokens_out, usd, ..Spend::default() })
        }
        FromAgent::Retry { attempt, delay_ms, status } => {
            AgentEvent::Retry { attempt, delay_ms, status }
        }
        FromAgent::End { status, reason, code } => AgentEvent::TurnEnd(match status {
            EndStatus::Done => TurnEnd::Done,
            EndStatus::Blocked => TurnEnd::Blocked { why: bounded(reason) },
            EndStatus::Failed => TurnEnd::ApiError { status: code, why: bounded(reason) },
            EndStatus::Interrupted => TurnEnd::Interrupted,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::super::TEXT_LIMIT;
    use super::*;

    #[test]
    fn translate_reads_known_lines() {
        let translated = |line: &str| translate(line.as_bytes(), false);
        assert_eq!(
            translated(r#"{"type":"text","text":"hi"}"#),
            AgentEvent::Text { text: "hi".into() }
        );
        assert_eq!(
            translated(r#"{"status":"done","type":"end"}"#),
            AgentEvent::TurnEnd(TurnEnd::Done)
        );
        let usd = MicroUsd(10_000);
        let usage = AgentEvent::Usage(Spend { tokens_in: 5, usd, ..Spend::default() });
        assert_eq!(translated(r#"{"type":"usage","tokens_in":5,"cost_usd":0.01}"#), usage);
    }

    #[test]
    fn translate_keeps_garbage_raw_and_bounded() {
        for line in
            [&b"not json"[..], b"{\"type\":\"dance\"}", b"\xff\xfe", b"", b"{\"type\":\"end\"}"]
        {
            assert!(matches!(translate(line, false), AgentEvent::Raw { .. }));
        }
        let long = format!("{{\"type\":\"text\",\"text\":\"{}\"}}", "é".repeat(4_000_000));
        let AgentEvent::Text { text } = translate(long.as_bytes(), false) else {
            panic!("no text")
        };
        assert!(text.as_received().len() < TEXT_LIMIT + 100);
        assert!(text.clean().ends_with("bytes here"));
    }
}
