//! The lines that a `command` agent reads and writes (docs/agents.md is the protocol).

use serde::{Deserialize, Serialize};

use super::{bounded, raw};

use crate::core::model::agent_event::{AgentEvent, PlanItem, TurnEnd};
use crate::core::model::budget::{MicroUsd, Spend};
use crate::core::model::permission::{PermissionRequest, Tool};
use crate::core::model::untrusted::Untrusted;

/// A line to the agent.
#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case", tag = "type")]
pub enum ToAgent<'a> {
    /// The first line.
    Prompt {
        /// What to do.
        prompt: &'a str,
        /// The conversation to go on with, or null.
        session: Option<&'a str>,
    },
    /// A message from an operator.
    Steer {
        /// What.
        text: &'a str,
    },
    /// The answer to a permission request or a question.
    Answer {
        /// Which.
        id: &'a str,
        /// `allow`, `deny`, `edit` with another command, or `text` for a question.
        decision: &'a str,
        /// The reason, the command or the answer.
        text: &'a str,
    },
    /// The turn is to end, with `end`.
    Interrupt,
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
        items: Vec<Item>,
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
        status: Status,
        #[serde(default)]
        reason: String,
        /// The API's, where the model failed.
        code: Option<u16>,
    },
}

#[derive(Debug, Deserialize)]
struct Item {
    text: String,
    #[serde(default)]
    done: bool,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Status {
    Done,
    Blocked,
    Failed,
    Interrupted,
}

/// Longest line that is read as JSON, in bytes; a longer one is kept raw and cut.
pub const LINE_LIMIT: usize = 16 * 1024 * 1024;
/// Longest session name.
const SESSION_LIMIT: usize = 256;

/// Translates a line. What can't be read is an [`AgentEvent::Raw`], never an error.
#[must_use]
pub fn translate(line: &[u8], cut: bool) -> AgentEvent {
    let read = if cut { None } else { serde_json::from_slice::<FromAgent>(line).ok() };
    let Some(read) = read else {
        return raw(line);
    };
    match read {
        FromAgent::Session { id, model, version } => AgentEvent::SessionStarted {
            session: id.chars().take(SESSION_LIMIT).collect(),
            model: model.map(bounded),
            version: version.map(bounded),
        },
        FromAgent::Text { text } => AgentEvent::Text { text: bounded(text) },
        FromAgent::Thought { text } => AgentEvent::Thought { text: bounded(text) },
        FromAgent::ToolStart { id, kind, title } => {
            AgentEvent::ToolStart { id, kind: bounded(kind), title: bounded(title) }
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
                targets: targets.into_iter().take(100).map(bounded).collect(),
                editable: tool == Tool::Shell,
            };
            AgentEvent::PermissionRequest { id, request: Box::new(ask) }
        }
        FromAgent::Question { id, text, options } => AgentEvent::Question {
            id,
            text: bounded(text),
            options: options.into_iter().take(20).map(bounded).collect(),
        },
        FromAgent::SteerTaken => AgentEvent::SteerTaken,
        FromAgent::Usage { tokens_in, tokens_out, cost_usd } => {
            let usd = MicroUsd::from_usd(cost_usd);
            AgentEvent::Usage(Spend { tokens_in, tokens_out, usd, ..Spend::default() })
        }
        FromAgent::Retry { attempt, delay_ms, status } => {
            AgentEvent::Retry { attempt, delay_ms, status }
        }
        FromAgent::End { status, reason, code } => AgentEvent::TurnEnd(match status {
            Status::Done => TurnEnd::Done,
            Status::Blocked => TurnEnd::Blocked { why: bounded(reason) },
            Status::Failed => TurnEnd::ApiError { status: code, why: bounded(reason) },
            Status::Interrupted => TurnEnd::Interrupted,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::super::TEXT_LIMIT;
    use super::*;

    #[test]
    fn known_lines_are_understood() {
        let of = |line: &str| translate(line.as_bytes(), false);
        assert_eq!(of(r#"{"type":"text","text":"hi"}"#), AgentEvent::Text { text: "hi".into() });
        assert_eq!(of(r#"{"status":"done","type":"end"}"#), AgentEvent::TurnEnd(TurnEnd::Done));
        let usd = MicroUsd(10_000);
        let usage = AgentEvent::Usage(Spend { tokens_in: 5, usd, ..Spend::default() });
        assert_eq!(of(r#"{"type":"usage","tokens_in":5,"cost_usd":0.01}"#), usage);
    }

    #[test]
    fn garbage_is_raw_and_bounded() {
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
        assert!(text.clean().ends_with("bytes more were cut"));
    }
}
