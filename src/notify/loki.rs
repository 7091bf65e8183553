//! Events of the journal as log lines in Loki, with the labels `repo` and `issue` and the run as
//! structured metadata. `runtime::loki` fills the buffer and pushes from it; while Loki is away the
//! oldest lines of the buffer are dropped and counted.

use std::collections::{BTreeMap, VecDeque};

use secrecy::ExposeSecret;
use serde_json::{Value, json};

use super::answer;
use crate::config::services::LokiConfig as Config;
use crate::core::tables::sink::{self, SinkOutcome};
use crate::error::chain;
use crate::secrets::Secrets;

/// The lines that the buffer holds at most.
const LINES: usize = 10_000;
/// The bytes that the buffer holds at most.
const BYTES: usize = 4 * 1024 * 1024;
/// The lines of one push.
const PUSH: usize = 1_000;
/// The longest line, in bytes; Loki takes 256 KB.
const LONGEST: usize = 64 * 1024;

/// One event as a line of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLine {
    /// When the event happened, in milliseconds of the epoch.
    pub at: i64,
    /// The repository, as `owner/name`.
    pub repo: String,
    /// The number of the issue; empty for a run without one.
    pub issue: String,
    /// The id of the run.
    pub run: String,
    /// The event as JSON.
    pub text: String,
}

/// The lines that Loki has not accepted yet.
#[derive(Debug, Default)]
pub struct LokiBuffer {
    lines: VecDeque<LogLine>,
    bytes: usize,
    /// How many lines were lost for want of room.
    pub dropped: u64,
}

impl LokiBuffer {
    /// Adds a line; the oldest lines make room for it.
    pub fn push(&mut self, mut line: LogLine) {
        while line.text.len() > LONGEST {
            line.text.pop();
        }
        self.bytes += line.text.len();
        self.lines.push_back(line);
        while self.lines.len() > LINES || self.bytes > BYTES {
            self.dropped += u64::from(self.take_first());
        }
    }

    fn take_first(&mut self) -> bool {
        let first = self.lines.pop_front();
        self.bytes -= first.as_ref().map_or(0, |line| line.text.len());
        first.is_some()
    }

    /// Whether no line waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// The next push: the number of its lines, and its JSON.
    #[must_use]
    pub fn next(&self) -> (usize, Value) {
        let count = self.lines.len().min(PUSH);
        let mut streams: BTreeMap<(&str, &str), Vec<Value>> = BTreeMap::new();
        for line in self.lines.iter().take(count) {
            let values = streams.entry((&line.repo, &line.issue)).or_default();
            // Loki takes nanoseconds as a string.
            let at = format!("{}000000", line.at);
            values.push(json!([at, line.text, {"run": line.run}]));
        }
        let streams: Vec<Value> = streams
            .into_iter()
            .map(|((repo, issue), values)| {
                json!({"stream": {"app": "afk", "repo": repo, "issue": issue}, "values": values})
            })
            .collect();
        (count, json!({"streams": streams}))
    }

    /// Removes the oldest lines: Loki accepted them, or never will.
    pub fn done(&mut self, count: usize) {
        for _ in 0..count {
            self.take_first();
        }
    }
}

/// Pushes lines; gives the outcome by table T10 and Loki's answer.
///
/// # Errors
/// A line for the operator: Loki may or may not have the lines.
pub async fn push(
    client: &reqwest::Client,
    secrets: &Secrets,
    config: &Config,
    body: &Value,
) -> Result<(SinkOutcome, String), String> {
    let mut request = client.post(&config.address).json(body);
    if let Some(tenant) = &config.tenant {
        request = request.header("x-scope-orgid", tenant);
    }
    if let Some(reference) = &config.token {
        let token = secrets.get(reference).await.map_err(|error| chain(&error))?;
        request = request.bearer_auth(token.expose_secret());
    }
    let (status, after, text) = answer(&config.address, request).await?;
    Ok((sink::loki(status, after), format!("Loki answered {status} {text}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(at: i64, issue: &str) -> LogLine {
        let text = format!("line {at}");
        LogLine { at, repo: "acme/web".into(), issue: issue.into(), run: "r1".into(), text }
    }

    #[test]
    fn push_groups_lines_and_writes_times_as_strings() {
        let mut buffer = LokiBuffer::default();
        for (at, issue) in [(1, "7"), (2, "8"), (3, "7")] {
            buffer.push(line(at, issue));
        }
        let (count, body) = buffer.next();
        assert_eq!(count, 3);
        let first = json!({"stream": {"app": "afk", "repo": "acme/web", "issue": "7"}, "values": [
            ["1000000", "line 1", {"run": "r1"}], ["3000000", "line 3", {"run": "r1"}]]});
        assert_eq!(body["streams"][0], first);
        buffer.done(count);
        assert!(buffer.is_empty() && buffer.bytes == 0);
    }

    #[test]
    fn buffer_is_bounded_and_counts_dropped_lines() {
        let mut buffer = LokiBuffer::default();
        for at in 0..i64::try_from(LINES).unwrap() + 5 {
            buffer.push(line(at, "1"));
        }
        assert_eq!((buffer.lines.len(), buffer.dropped), (LINES, 5));
        assert_eq!(buffer.lines[0].at, 5);
    }
}
