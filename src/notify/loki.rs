//! Loki: log lines with the labels `repo` and `issue`; the run is structured metadata. What can't
//! be sent waits in a bounded buffer, whose oldest lines are dropped and counted.

use std::collections::{BTreeMap, VecDeque};

use secrecy::ExposeSecret;
use serde_json::{Value, json};

use super::answer;
use crate::config::services::LokiConfig as Config;
use crate::core::tables::sink::{self, SinkOutcome};
use crate::secrets::Secrets;

/// Lines that wait at most.
const LINES: usize = 10_000;
/// Their bytes at most.
const BYTES: usize = 4 * 1024 * 1024;
/// Lines of one push.
const PUSH: usize = 1_000;
/// Longest line, in bytes; Loki takes 256 KB.
const LONGEST: usize = 64 * 1024;

/// One line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Milliseconds of the epoch.
    pub at: i64,
    /// The repository.
    pub repo: String,
    /// The issue's number; empty for an ad-hoc run.
    pub issue: String,
    /// The run.
    pub run: String,
    /// The text.
    pub text: String,
}

/// Lines that wait.
#[derive(Debug, Default)]
pub struct Buffer {
    lines: VecDeque<Line>,
    bytes: usize,
    /// Lines that found no room.
    pub dropped: u64,
}

impl Buffer {
    /// Takes a line in; the oldest make room.
    pub fn push(&mut self, mut line: Line) {
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

    /// Nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// The next push: how many lines, and its JSON.
    #[must_use]
    pub fn next(&self) -> (usize, Value) {
        let count = self.lines.len().min(PUSH);
        let mut streams: BTreeMap<(&str, &str), Vec<Value>> = BTreeMap::new();
        for line in self.lines.iter().take(count) {
            let values = streams.entry((&line.repo, &line.issue)).or_default();
            // A string of nanoseconds.
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

    /// So many lines are sent, or will never be.
    pub fn done(&mut self, count: usize) {
        for _ in 0..count {
            self.take_first();
        }
    }
}

/// Pushes what waits; what to do next, and what was said.
///
/// # Errors
/// A line for a person: nobody can tell whether it arrived.
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
        let token = secrets.get(reference).await.map_err(|error| error.to_string())?;
        request = request.bearer_auth(token.expose_secret());
    }
    let (status, after, said) = answer(request).await?;
    Ok((sink::loki(status, after), format!("Loki answered {status} {said}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(at: i64, issue: &str) -> Line {
        let text = format!("line {at}");
        Line { at, repo: "acme/web".into(), issue: issue.into(), run: "r1".into(), text }
    }

    #[test]
    fn lines_are_grouped_and_their_times_are_strings() {
        let mut buffer = Buffer::default();
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
    fn the_buffer_is_bounded_and_counts_what_it_dropped() {
        let mut buffer = Buffer::default();
        for at in 0..i64::try_from(LINES).unwrap() + 5 {
            buffer.push(line(at, "1"));
        }
        assert_eq!((buffer.lines.len(), buffer.dropped), (LINES, 5));
        assert_eq!(buffer.lines[0].at, 5);
    }
}
