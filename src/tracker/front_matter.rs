//! An issue as a file: TOML between `+++` lines, then Markdown (docs/issues.md).

use jiff::Timestamp as Instant;
use serde::Deserialize;
use toml_edit::{Array, DocumentMut, value};

use crate::core::model::id::{Actor, IssueKey, Repo};
use crate::core::model::issue::Priority;
use crate::core::model::time::Timestamp;

const FENCE: &str = "+++";

/// The front matter's keys.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FrontMatter {
    /// `owner/name`.
    pub repo: Repo,
    /// From 1, unique in the repository.
    pub number: u64,
    /// In a line.
    pub title: String,
    /// `open` or `closed`.
    #[serde(default)]
    pub state: State,
    /// Compared byte for byte.
    #[serde(default)]
    pub labels: Vec<String>,
    /// Who put the ready label on.
    #[serde(default)]
    pub armed_by: Option<Actor>,
    /// When; an RFC 3339 time. Needed only to arm an ended issue anew.
    #[serde(default, deserialize_with = "instant")]
    pub armed_at: Option<Instant>,
    /// `#4` or `owner/name#4`.
    #[serde(default)]
    pub blocked_by: Vec<String>,
    /// `p0` to `p9`, `high`, …; a label does as well.
    #[serde(default)]
    pub priority: Option<String>,
    /// When it was made; an RFC 3339 time.
    #[serde(default, deserialize_with = "instant")]
    pub created: Option<Instant>,
}

/// A time as TOML has it, or as a string.
fn instant<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<Instant>, D::Error> {
    let text = match toml::Value::deserialize(from)? {
        toml::Value::Datetime(time) => time.to_string(),
        toml::Value::String(text) => text,
        _ => return Err(serde::de::Error::custom("should be a time like 2026-11-01T08:00:00Z")),
    };
    text.parse().map(Some).map_err(|_| {
        serde::de::Error::custom("should be a time with its zone, like 2026-11-01T08:00:00Z")
    })
}

/// Open or closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// To be done.
    #[default]
    Open,
    /// Ended.
    Closed,
}

/// A file in its parts.
#[derive(Debug, Clone)]
pub struct Parts {
    /// The front matter as it is written, comments and all.
    pub document: DocumentMut,
    /// The same, understood.
    pub front: FrontMatter,
    /// The Markdown behind it, our comments too.
    pub rest: String,
}

/// Where our comments begin.
pub const COMMENTS: &str = "\n## Comments\n";

impl Parts {
    /// Reads a file's text.
    ///
    /// # Errors
    /// What is wrong, in a line.
    pub fn parse(text: &str) -> Result<Self, String> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let after = text
            .strip_prefix(FENCE)
            .and_then(|rest| rest.strip_prefix("\r\n").or_else(|| rest.strip_prefix('\n')))
            .ok_or("line 1: the file should begin with a line +++ and TOML")?;
        let end = after
            .match_indices("\n+++")
            .find(|(at, _)| matches!(after[at + 4..].chars().next(), None | Some('\n' | '\r')))
            .ok_or("the front matter has no closing line +++")?;
        let front = &after[..=end.0];
        let rest = after[end.0 + 4..].trim_start_matches('\r');
        let understood: FrontMatter = crate::config::parse("line", front).map_err(|e| {
            // `line` is not a file: the line counts from the fence.
            e.to_string()
        })?;
        if understood.number == 0 {
            return Err("number: should be 1 or more".into());
        }
        let document = front.parse::<DocumentMut>().map_err(|e| e.message().to_owned())?;
        let rest = rest.strip_prefix('\n').unwrap_or(rest).to_owned();
        Ok(Self { document, front: understood, rest })
    }

    /// Which issue.
    #[must_use]
    pub fn key(&self) -> IssueKey {
        IssueKey { repo: self.front.repo.clone(), number: self.front.number }
    }

    /// The issue's text without our comments.
    #[must_use]
    pub fn body(&self) -> &str {
        self.rest.split_once(COMMENTS).map_or(self.rest.as_str(), |(body, _)| body).trim()
    }

    /// Its urgency, from the key or a label.
    #[must_use]
    pub fn priority(&self) -> Option<Priority> {
        let key = self.front.priority.as_deref().and_then(Priority::from_label);
        key.or_else(|| self.front.labels.iter().find_map(|label| Priority::from_label(label)))
    }

    /// Sets the labels.
    pub fn set_labels(&mut self, labels: Vec<String>) {
        self.document["labels"] = value(labels.iter().map(String::as_str).collect::<Array>());
        self.front.labels = labels;
    }

    /// Closes it.
    pub fn close(&mut self) {
        self.document["state"] = value("closed");
        self.front.state = State::Closed;
    }

    /// Appends a comment.
    pub fn comment(&mut self, mark: &str, text: &str) {
        if !self.rest.ends_with('\n') {
            self.rest.push('\n');
        }
        if !self.rest.contains(COMMENTS) {
            self.rest.push_str(COMMENTS);
        }
        self.rest.push_str(&format!("\n{mark}\n{text}\n"));
    }

    /// The file's text.
    #[must_use]
    pub fn text(&self) -> String {
        let front = self.document.to_string();
        let front = front.trim_end_matches('\n');
        format!("{FENCE}\n{front}\n{FENCE}\n{}", self.rest)
    }
}

/// A time of the front matter as the core has it.
#[must_use]
pub fn time(instant: Option<Instant>) -> Option<Timestamp> {
    instant.map(|t| Timestamp(t.as_millisecond()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ISSUE: &str = "+++\n# mine\nrepo = \"acme/greeter\"\nnumber = 4\ntitle = \"Greet\"\ncreated = 2026-11-01T08:00:00Z\nlabels = [\"p1\"]\n+++\n\nSay hello.\n";

    #[test]
    fn what_is_not_changed_stays_as_it_was_written() {
        let mut parts = Parts::parse(ISSUE).unwrap();
        assert_eq!(parts.text(), ISSUE);
        assert_eq!(time(parts.front.created), Some(Timestamp(1_793_520_000_000)));
        assert_eq!((parts.body(), parts.priority()), ("Say hello.", Some(Priority(1))));
        parts.comment("<!-- 1 -->", "It is **done**.");
        parts.close();
        let again = Parts::parse(&parts.text()).unwrap();
        assert_eq!(again.body(), "Say hello.");
        assert_eq!(again.front.state, State::Closed);
        assert!(again.text().contains("# mine") && again.text().ends_with("It is **done**.\n"));
    }

    #[test]
    fn mistakes_are_told_in_a_line() {
        for (text, error) in [
            ("", "line 1: the file should begin"),
            ("+++\nrepo = 'a/b'\n", "the front matter has no closing"),
            ("+++\nrepo = 'a/b'\nnumber = 'x'\ntitle = ''\n+++\n", "line:2: number: invalid type"),
            ("+++\nrepo = 'a/b'\nnumber = 0\ntitle = ''\n+++\n", "number: should be 1"),
            ("+++\nrepo = 'a/b'\nnumber = -4\ntitle = ''\n+++\n", "line:2: number: invalid value"),
            ("+++\nrepo = '../b'\nnumber = 1\ntitle = ''\n+++\n", "line:1: repo: \"../b\" is not"),
            (
                "+++\nrepo = 'a/b'\nnumber = 1\ntitle = ''\ncreated = 2026-11-01\n+++\n",
                "line:4: created: should be",
            ),
            (
                "+++\nrepo = 'a/b'\nnumber = 1\ntitle = ''\nlabel = []\n+++\n",
                "line:4: label: unknown",
            ),
        ] {
            let said = Parts::parse(text).unwrap_err();
            assert!(said.starts_with(error) && !said.contains('\n'), "{text:?} gave {said:?}");
        }
    }
}
