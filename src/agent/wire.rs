//! The lines that a `command` agent reads and writes (docs/agents.md is the protocol).

use serde::{Deserialize, Serialize};

use crate::core::agent_event::{AgentEvent, PlanItem, TurnEnd};
use crate::core::budget::{MicroUsd, Spend};
use crate::core::untrusted::Untrusted;

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
        /// `allow`, `deny`, or `text` for a question.
        decision: &'a str,
        /// The reason or the answer.
        text: &'a str,
    },
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
}

/// Longest line that is read as JSON, in bytes; a longer one is kept raw and cut.
pub const LINE_LIMIT: usize = 16 * 1024 * 1024;
/// Longest text of one event that is kept, in bytes.
const TEXT_LIMIT: usize = 256 * 1024;
/// Longest session name.
const SESSION_LIMIT: usize = 256;

/// Translates a line. What can't be read is an [`AgentEvent::Raw`], never an error.
#[must_use]
pub fn translate(line: &[u8], cut: bool) -> AgentEvent {
    let read = if cut { None } else { serde_json::from_slice::<FromAgent>(line).ok() };
    let Some(read) = read else {
        return AgentEvent::Raw { line: bounded(String::from_utf8_lossy(line).into_owned()) };
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
        FromAgent::Permission { id, title, detail } => {
            AgentEvent::PermissionRequest { id, title: bounded(title), detail: bounded(detail) }
        }
        FromAgent::Question { id, text, options } => AgentEvent::Question {
            id,
            text: bounded(text),
            options: options.into_iter().take(20).map(bounded).collect(),
        },
        FromAgent::SteerTaken => AgentEvent::SteerTaken,
        FromAgent::Usage { tokens_in, tokens_out, cost_usd } => {
            AgentEvent::Usage(Spend { tokens_in, tokens_out, usd: MicroUsd::from_usd(cost_usd) })
        }
        FromAgent::Retry { attempt, delay_ms, status } => {
            AgentEvent::Retry { attempt, delay_ms, status }
        }
        FromAgent::End { status, reason } => AgentEvent::TurnEnd(match status {
            Status::Done => TurnEnd::Done,
            Status::Blocked => TurnEnd::Blocked { why: bounded(reason) },
            Status::Failed => TurnEnd::ApiError { why: bounded(reason) },
        }),
    }
}

fn bounded(mut text: String) -> Untrusted {
    if text.len() > TEXT_LIMIT {
        let mut end = TEXT_LIMIT;
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        let cut = text.len() - end;
        text.truncate(end);
        text.push_str(&format!("\n… {cut} bytes more were cut"));
    }
    Untrusted::new(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_lines_are_understood() {
        let of = |line: &str| translate(line.as_bytes(), false);
        assert_eq!(of(r#"{"type":"text","text":"hi"}"#), AgentEvent::Text { text: "hi".into() });
        assert_eq!(of(r#"{"status":"done","type":"end"}"#), AgentEvent::TurnEnd(TurnEnd::Done));
        let usage = AgentEvent::Usage(Spend { tokens_in: 5, tokens_out: 0, usd: MicroUsd(10_000) });
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
