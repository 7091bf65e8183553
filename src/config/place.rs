//! The place of a mistake in a file: line, column and the line itself with a mark below the value.
//!
//! The parser knows the place of a wrong type; for a range or a rule between sections, [`ConfigPlace::of_key`]
//! finds the value by the path of its key.

use std::fmt;
use std::ops::Range;

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};
use toml::de::{DeTable, DeValue};

/// The longest line that is shown, in bytes.
const LONGEST_LINE: usize = 400;

/// A place in a file of the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigPlace {
    file: String,
    /// Counted from 1; 0 where only the file is known.
    line: usize,
    /// In characters, counted from 1.
    column: usize,
    snippet: String,
}

impl fmt::Display for ConfigPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => f.write_str(&self.file),
            line => write!(f, "{}:{line}:{}", self.file, self.column),
        }
    }
}

impl ConfigPlace {
    /// A place of which only the file is known.
    pub(super) fn of_file(file: &str) -> Self {
        Self { file: file.to_owned(), line: 0, column: 0, snippet: String::new() }
    }

    /// The place of a part of the text.
    pub(super) fn of_span(file: &str, text: &str, span: Range<usize>) -> Self {
        let start = floor(text, span.start);
        let line_start = text[..start].rfind('\n').map_or(0, |at| at + 1);
        let line_end = text[start..].find('\n').map_or(text.len(), |at| start + at);
        let line = text[..start].matches('\n').count() + 1;
        let column = text[line_start..start].chars().count() + 1;
        let whole = &text[line_start..line_end];
        let shown = &whole[..floor(whole, LONGEST_LINE)];
        let from = (start - line_start).min(shown.len());
        let to = floor(text, span.end).clamp(start, line_end) - line_start;
        let mark = AnnotationKind::Primary.span(from..to.min(shown.len()).max(from));
        let snippet = Snippet::source(shown).line_start(line).annotation(mark);
        let rendered =
            Renderer::plain().render(&[Group::with_level(Level::ERROR).element(snippet)]);
        // A control character of the file must not reach the terminal.
        let snippet = rendered.chars().filter(|c| *c == '\n' || !c.is_control()).collect();
        Self { file: file.to_owned(), line, column, snippet }
    }

    /// The place of the value at the path of a key, or of the nearest section around it; none if the text
    /// has no part of the path.
    pub(super) fn of_key(file: &str, text: &str, key: &str) -> Option<Self> {
        let table = DeTable::parse(text).ok()?;
        let mut here = Here::Table(table.get_ref());
        let mut found = None;
        for part in parts(key) {
            let (span, value) = match (&here, part) {
                (Here::Table(table), KeyPart::Key(name)) => {
                    let Some((key, value)) = table.iter().find(|(key, _)| key.get_ref() == &*name)
                    else {
                        break;
                    };
                    let is_section = matches!(value.get_ref(), DeValue::Table(_));
                    (if is_section { key.span() } else { value.span() }, value.get_ref())
                }
                (Here::Array(items), KeyPart::Index(at)) => {
                    let Some(value) = items.get(at) else { break };
                    (value.span(), value.get_ref())
                }
                _ => break,
            };
            found = Some(span);
            here = match value {
                DeValue::Table(table) => Here::Table(table),
                DeValue::Array(items) => Here::Array(items),
                _ => break,
            };
        }
        found.map(|span| Self::of_span(file, text, span))
    }

    /// The place without its line, which may have a secret.
    pub(super) fn hidden(self) -> Self {
        Self { snippet: String::new(), ..self }
    }

    /// The line of the file with a mark below the value; empty where only the file is known.
    #[must_use]
    pub fn snippet(&self) -> &str {
        &self.snippet
    }
}

/// The value that the path has led to.
enum Here<'t> {
    Table(&'t DeTable<'t>),
    Array(&'t toml::de::DeArray<'t>),
}

/// A part of the path of a key.
enum KeyPart {
    Key(String),
    Index(usize),
}

/// The parts of a path such as `repos."acme/web".caches[0]`.
fn parts(key: &str) -> Vec<KeyPart> {
    let mut parts = Vec::new();
    let mut rest = key;
    while !rest.is_empty() {
        if let Some(quoted) = rest.strip_prefix('"') {
            let end = quoted.find('"').unwrap_or(quoted.len());
            parts.push(KeyPart::Key(quoted[..end].to_owned()));
            rest = quoted.get(end + 1..).unwrap_or_default();
        } else if let Some(index) = rest.strip_prefix('[') {
            let end = index.find(']').unwrap_or(index.len());
            parts.extend(index[..end].parse().ok().map(KeyPart::Index));
            rest = index.get(end + 1..).unwrap_or_default();
        } else {
            let end = rest.find(['.', '[', '"']).unwrap_or(rest.len());
            if end > 0 {
                parts.push(KeyPart::Key(rest[..end].to_owned()));
            }
            rest = &rest[end..];
            rest = rest.strip_prefix('.').unwrap_or(rest);
        }
    }
    parts
}

/// The nearest boundary of a character at or before an offset.
fn floor(text: &str, at: usize) -> usize {
    let at = at.min(text.len());
    (0..=at).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "capacity = 3\n\n[repos.\"acme/web\"]\nremote = 'x'\nbranch = '-f' # ö\n\n[agents.a]\n\
                        command = ['x', '']\n[notify]\nsinks = { p = { kind = 'ntfy' } }\n";

    fn place(key: &str) -> String {
        ConfigPlace::of_key("afk.toml", TEXT, key).map_or("none".into(), |place| place.to_string())
    }

    #[test]
    fn key_leads_to_its_value_or_to_the_section_around_it() {
        for (key, expected) in [
            ("capacity", "afk.toml:1:12"),
            ("repos.\"acme/web\".branch", "afk.toml:5:10"),
            ("repos.\"acme/web\".executor", "afk.toml:3:8"),
            ("agents.a.command[1]", "afk.toml:8:17"),
            ("agents.a.command[7]", "afk.toml:8:11"),
            ("notify.sinks.p.topic", "afk.toml:10:11"),
            ("service.model", "none"),
        ] {
            assert_eq!(place(key), expected, "{key}");
        }
    }

    #[test]
    fn snippet_marks_the_value_in_its_line() {
        let place = ConfigPlace::of_key("afk.toml", TEXT, "repos.\"acme/web\".branch").unwrap();
        let lines: Vec<&str> = place.snippet().lines().collect();
        assert!(lines.iter().any(|line| line.ends_with("branch = '-f' # ö")), "{lines:?}");
        assert!(lines.iter().any(|line| line.trim_end().ends_with("^^^^")), "{lines:?}");
        assert!(!place.snippet().contains("remote"), "other lines may have a secret");
    }

    #[test]
    fn place_at_the_end_of_a_file_is_shown() {
        let place = ConfigPlace::of_span("f", "a =", 3..3);
        assert_eq!(place.to_string(), "f:1:4");
        assert_eq!(ConfigPlace::of_span("f", "", 0..9).to_string(), "f:1:1");
    }
}
