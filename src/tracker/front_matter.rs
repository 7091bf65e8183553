//! An issue as a file (docs/issues.md): TOML between two lines `+++`, then Markdown, then afk's
//! comments. Edits keep the formatting and the comments that a person wrote into the TOML.

use jiff::Timestamp as Instant;
use serde::Deserialize;
use toml_edit::{Array, DocumentMut, value};

use crate::core::model::gate_report::ChangeClass;
use crate::core::model::id::{Actor, IssueKey, Repo};
use crate::core::model::issue::Priority;
use crate::core::model::time::Timestamp;

const FENCE: &str = "+++";

/// The keys of the front matter.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FrontMatter {
    /// The repository, as `owner/name`.
    pub repo: Repo,
    /// A number from 1, unique in the repository.
    pub number: u64,
    /// The title, in one line.
    pub title: String,
    /// `open` or `closed`; open where it isn't set.
    #[serde(default)]
    pub state: IssueState,
    /// The labels, compared byte for byte.
    #[serde(default)]
    pub labels: Vec<String>,
    /// The login of the person who set the ready label.
    #[serde(default)]
    pub armed_by: Option<Actor>,
    /// When the ready label was set (RFC 3339); needed only to arm a finished issue again.
    #[serde(default, deserialize_with = "instant")]
    pub armed_at: Option<Instant>,
    /// The blocking issues, as `#4` or `owner/name#4`.
    #[serde(default)]
    pub blocked_by: Vec<String>,
    /// The urgency, as `p0` to `p9`, `high`, …; a label does as well.
    #[serde(default)]
    pub priority: Option<String>,
    /// The class of the work, by the word of a label that states it, such as `refactor` or
    /// `dependencies`.
    #[serde(default, deserialize_with = "class")]
    pub class: Option<ChangeClass>,
    /// When the issue was created (RFC 3339).
    #[serde(default, deserialize_with = "instant")]
    pub created: Option<Instant>,
}

/// Reads the class of the work from the word of a label.
fn class<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<ChangeClass>, D::Error> {
    let word = String::deserialize(from)?;
    let class = ChangeClass::from_label(&word).ok_or_else(|| {
        serde::de::Error::custom(
            "should be refactor, dependencies, tests-change, removal, no-test or chore",
        )
    })?;
    Ok(Some(class))
}

/// Reads a time from a TOML date-time or a string.
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

/// The state of an issue file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum IssueState {
    /// The issue waits to be done.
    #[default]
    Open,
    /// The issue is done, or given up.
    Closed,
}

/// A file of one issue, parsed.
#[derive(Debug, Clone)]
pub(super) struct IssueFile {
    /// The front matter as it is written, with its formatting and comments.
    pub document: DocumentMut,
    /// The front matter as values.
    pub front: FrontMatter,
    /// The Markdown after the front matter, our comments included.
    pub rest: String,
}

/// What an error of the configuration's parser names in the place of a file.
const PLACE: &str = "front matter";

/// The error with its place in words: the file's name already stands before it.
fn in_line(error: &impl ToString) -> String {
    let text = error.to_string();
    let place = text.strip_prefix(PLACE).and_then(|rest| rest.strip_prefix(':'));
    let parts = place.and_then(|place| {
        let (line, rest) = place.split_once(':')?;
        let (column, what) = rest.split_once(": ")?;
        let (line, column) = (line.parse::<usize>().ok()?, column.parse::<usize>().ok()?);
        Some(format!("line {line}, column {column}: {what}"))
    });
    parts.unwrap_or(text)
}

/// The heading that our comments begin with.
const COMMENTS: &str = "\n## Comments\n";

impl IssueFile {
    /// Parses the text of a file.
    ///
    /// # Errors
    /// The first mistake, in a line.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
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
        // The empty line stands for the fence, so that lines count as in the file.
        let understood: FrontMatter =
            crate::config::parse(PLACE, &format!("\n{front}")).map_err(|error| in_line(&error))?;
        if understood.number == 0 {
            return Err("number: should be 1 or more".into());
        }
        let document = front.parse::<DocumentMut>().map_err(|e| e.message().to_owned())?;
        let rest = rest.strip_prefix('\n').unwrap_or(rest).to_owned();
        Ok(Self { document, front: understood, rest })
    }

    /// The key of the issue.
    pub(super) fn key(&self) -> IssueKey {
        IssueKey { repo: self.front.repo.clone(), number: self.front.number }
    }

    /// The text of the issue, without our comments.
    pub(super) fn body(&self) -> &str {
        self.rest.split_once(COMMENTS).map_or(self.rest.as_str(), |(body, _)| body).trim()
    }

    /// The urgency, from the key `priority` or a label.
    pub(super) fn priority(&self) -> Option<Priority> {
        let key = self.front.priority.as_deref().and_then(Priority::from_label);
        key.or_else(|| self.front.labels.iter().find_map(|label| Priority::from_label(label)))
    }

    /// The class of the work, from the front matter or from a label.
    pub(super) fn class(&self) -> ChangeClass {
        let labels = self.front.labels.iter().map(String::as_str);
        self.front.class.unwrap_or_else(|| ChangeClass::from_labels(labels))
    }

    /// Replaces the labels of the issue.
    pub(super) fn set_labels(&mut self, labels: Vec<String>) {
        self.document["labels"] = value(labels.iter().map(String::as_str).collect::<Array>());
        self.front.labels = labels;
    }

    /// Sets the state to closed.
    pub(super) fn close(&mut self) {
        self.document["state"] = value("closed");
        self.front.state = IssueState::Closed;
    }

    /// Appends a comment of ours; `mark` identifies it.
    pub(super) fn comment(&mut self, mark: &str, text: &str) {
        if !self.rest.ends_with('\n') {
            self.rest.push('\n');
        }
        if !self.rest.contains(COMMENTS) {
            self.rest.push_str(COMMENTS);
        }
        self.rest.push_str(&format!("\n{mark}\n{text}\n"));
    }

    /// The text of the file.
    pub(super) fn text(&self) -> String {
        let front = self.document.to_string();
        let front = front.trim_end_matches('\n');
        format!("{FENCE}\n{front}\n{FENCE}\n{}", self.rest)
    }
}

/// A time of the front matter in the core's type.
pub(super) fn time(instant: Option<Instant>) -> Option<Timestamp> {
    instant.map(|t| Timestamp(t.as_millisecond()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ISSUE: &str = "+++\n# mine\nrepo = \"acme/greeter\"\nnumber = 4\ntitle = \"Greet\"\ncreated = 2026-11-01T08:00:00Z\nlabels = [\"p1\"]\n+++\n\nSay hello.\n";

    #[test]
    fn edit_keeps_the_rest_as_it_was_written() {
        let mut parts = IssueFile::parse(ISSUE).unwrap();
        assert_eq!(parts.text(), ISSUE);
        assert_eq!(time(parts.front.created), Some(Timestamp(1_793_520_000_000)));
        assert_eq!((parts.body(), parts.priority()), ("Say hello.", Some(Priority(1))));
        parts.comment("<!-- 1 -->", "It is **done**.");
        parts.close();
        let again = IssueFile::parse(&parts.text()).unwrap();
        assert_eq!(again.body(), "Say hello.");
        assert_eq!(again.front.state, IssueState::Closed);
        assert!(again.text().contains("# mine") && again.text().ends_with("It is **done**.\n"));
    }

    #[test]
    fn class_is_the_word_of_any_label_that_states_one() {
        for (word, class) in [
            ("dependencies", ChangeClass::Refactor),
            ("chore", ChangeClass::NoTest),
            ("removal", ChangeClass::Removal),
        ] {
            let text = ISSUE.replace("labels =", &format!("class = \"{word}\"\nlabels ="));
            assert_eq!(IssueFile::parse(&text).unwrap().class(), class);
        }
    }

    #[test]
    fn mistake_is_reported_in_a_line() {
        for (text, error) in [
            ("", "line 1: the file should begin"),
            ("+++\nrepo = 'a/b'\n", "the front matter has no closing"),
            (
                "+++\nrepo = 'a/b'\nnumber = 'x'\ntitle = ''\n+++\n",
                "line 3, column 10: number: invalid type",
            ),
            ("+++\nrepo = 'a/b'\nnumber = 0\ntitle = ''\n+++\n", "number: should be 1"),
            (
                "+++\nrepo = 'a/b'\nnumber = -4\ntitle = ''\n+++\n",
                "line 3, column 10: number: invalid value",
            ),
            (
                "+++\nrepo = '../b'\nnumber = 1\ntitle = ''\n+++\n",
                "line 2, column 8: repo: \"../b\" is not",
            ),
            (
                "+++\nrepo = 'a/b'\nnumber = 1\ntitle = ''\ncreated = 2026-11-01\n+++\n",
                "line 5, column 11: created: should be",
            ),
            (
                "+++\nrepo = 'a/b'\nnumber = 1\ntitle = ''\nclass = 'tests'\n+++\n",
                "line 5, column 9: class: should be refactor, dependencies,",
            ),
            (
                "+++\nrepo = 'a/b'\nnumber = 1\ntitle = ''\nlabel = []\n+++\n",
                "line 5, column 1: label: unknown",
            ),
        ] {
            let mistake = IssueFile::parse(text).unwrap_err();
            assert!(
                mistake.starts_with(error) && !mistake.contains('\n'),
                "{text:?} gave {mistake:?}"
            );
        }
    }
}
