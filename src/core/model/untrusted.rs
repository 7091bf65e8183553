//! Text from outside: agents, issues, logs, git and banners. It must not move the cursor, set a
//! title, write the clipboard or forge a line. [`Untrusted`] has no `Display`, so that printing it
//! raw does not compile; [`Untrusted::clean`] is the only way to a screen, a log line or a comment.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The combining marks kept on one character; the rest is dropped, since a line of 500,000 marks
/// would be one cell high and megabytes long.
const MARKS_PER_CHARACTER: usize = 8;

/// Text that came from outside, not yet cleaned.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Untrusted(String);

impl Untrusted {
    /// Wraps text exactly as received.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text with line breaks and tabs kept and everything that a terminal would obey removed.
    #[must_use]
    pub fn clean(&self) -> String {
        clean(&self.0)
    }

    /// The cleaned text with its line breaks and tabs replaced by spaces.
    #[must_use]
    pub fn clean_line(&self) -> String {
        clean_line(&self.0)
    }

    /// The first `bytes` of the text as [`Untrusted::clean_line`] has them, for a row that has no room for more:
    /// a text of megabytes then costs no more than a short one.
    #[must_use]
    pub fn clean_head(&self, bytes: usize) -> String {
        clean_line(&self.0[..self.0.floor_char_boundary(bytes)])
    }

    /// The whole text, with nothing removed: each character that a terminal would obey or not show is
    /// written out, like `\u{1b}`. A person who approves a command must see what a shell will see.
    #[must_use]
    pub fn revealed(&self) -> String {
        reveal(&self.0)
    }

    /// The text as received, for a digest, a child's standard input or a parser; never for a screen
    /// or a log.
    #[must_use]
    pub fn as_received(&self) -> &str {
        &self.0
    }

    /// Whether the text has no bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// At most the last `bytes` of the text, cut at a line break where there is one.
    #[must_use]
    pub fn tail(&self, bytes: usize) -> Self {
        if self.0.len() <= bytes {
            return self.clone();
        }
        let mut from = self.0.len() - bytes;
        while !self.0.is_char_boundary(from) {
            from += 1;
        }
        let rest = &self.0[from..];
        Self(rest.split_once('\n').map_or(rest, |(_, after)| after).to_owned())
    }
}

impl fmt::Debug for Untrusted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Untrusted({:?})", self.clean_line())
    }
}

impl From<&str> for Untrusted {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl From<String> for Untrusted {
    fn from(text: String) -> Self {
        Self(text)
    }
}

/// Cleans a text as [`Untrusted::clean_line`] does.
#[must_use]
pub fn clean_line(text: &str) -> String {
    let cleaned = clean(text);
    if cleaned.bytes().any(|byte| byte == b'\n' || byte == b'\t') {
        cleaned.split(['\n', '\t']).filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ")
    } else {
        cleaned
    }
}

/// The first sentence of a cleaned text, without its full stop.
#[must_use]
pub fn first_sentence(text: &str) -> &str {
    let line = text.lines().next().unwrap_or_default();
    line.split(". ").next().unwrap_or_default().trim_end_matches('.')
}

/// Cleans a text as [`Untrusted::clean`] does. It removes whole escape sequences, with the payload
/// of OSC, DCS, APC, PM and SOS; also C0 (but `\n` and `\t`), DEL, C1,
/// bidirectional controls, joiners and variation selectors.
#[must_use]
pub fn clean(text: &str) -> String {
    let mut out = String::new();
    push_clean(&mut out, text);
    out
}

/// Appends a text, cleaned as [`clean`] does, to one that is clean, for a parser that returns a text in pieces.
/// The combining marks at its begin count with those that `out` ends in.
pub fn push_clean(out: &mut String, text: &str) {
    if text.bytes().all(|b| b == b'\n' || b == b'\t' || (b' '..0x7f).contains(&b)) {
        out.push_str(text);
        return;
    }
    out.reserve(text.len());
    let mut marks = out.chars().rev().take_while(|c| is_mark(*c)).count();
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        let length = out.len();
        match c {
            '\u{1b}' => match chars.next() {
                Some('[') => skip_csi(&mut chars),
                Some(']' | 'P' | '_' | '^' | 'X') => skip_string(&mut chars),
                // Two-byte escapes with an intermediate byte, such as `ESC ( 0`.
                Some(' '..='/') => {
                    while chars.next_if(|c| (' '..='/').contains(c)).is_some() {}
                    chars.next_if(|c| !c.is_control());
                }
                Some(c @ ('\n' | '\t')) => out.push(c),
                _ => {}
            },
            '\u{9b}' => skip_csi(&mut chars),
            '\u{90}' | '\u{98}' | '\u{9d}'..='\u{9f}' => skip_string(&mut chars),
            '\r' => {
                // A bare carriage return would overwrite the line, so it becomes a line break.
                if chars.peek() != Some(&'\n') {
                    out.push('\n');
                }
            }
            '\n' | '\t' => out.push(c),
            c if c.is_control() || obeyed_unseen(c) => {}
            c if is_mark(c) => {
                marks += 1;
                if marks <= MARKS_PER_CHARACTER {
                    out.push(c);
                }
                continue;
            }
            c => out.push(c),
        }
        // A character that was removed ends no row of marks.
        if out.len() > length {
            marks = 0;
        }
    }
}

/// Whether a character takes no column, so that it stands in the cell of the one before it.
fn is_mark(c: char) -> bool {
    unicode_width::UnicodeWidthChar::width(c) == Some(0)
}

/// Writes out what [`clean`] would remove.
fn reveal(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut marks = 0;
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        marks = if is_mark(c) { marks + 1 } else { 0 };
        match c {
            '\n' | '\t' => out.push(c),
            '\r' if chars.peek() == Some(&'\n') => {}
            c if c.is_control() || obeyed_unseen(c) || marks > MARKS_PER_CHARACTER => {
                out.extend(c.escape_unicode());
            }
            c => out.push(c),
        }
    }
    out
}

/// Invisible characters that reorder, join or select others.
fn obeyed_unseen(c: char) -> bool {
    matches!(c,
        '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
        | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e01ef}')
}

fn skip_csi(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) {
    while let Some(&c) = chars.peek() {
        match c {
            ' '..='?' => {
                chars.next();
            }
            '@'..='~' => {
                chars.next();
                return;
            }
            _ => return,
        }
    }
}

fn skip_string(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) {
    while let Some(c) = chars.next() {
        match c {
            '\u{7}' | '\u{9c}' => return,
            '\u{1b}' => {
                chars.next_if_eq(&'\\');
                return;
            }
            // An unterminated string must not swallow the rest of a log.
            '\n' => return,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn clean_removes_everything_that_a_terminal_obeys() {
        for (dirty, cleaned) in [
            ("plain", "plain"),
            ("a\u{1b}[31mred\u{1b}[0m", "ared"),
            ("\u{1b}]0;title\u{7}x", "x"),
            ("\u{1b}]52;c;aGk=\u{1b}\\x", "x"),
            ("\u{1b}Pq#0\u{1b}\\x", "x"),
            ("\u{9b}31mx\u{9d}0;t\u{9c}y", "xy"),
            ("\u{1b}(0lqk", "lqk"),
            ("one\rtwo", "one\ntwo"),
            ("one\r\ntwo", "one\ntwo"),
            ("a\u{202e}b\u{200d}c\u{fe0f}", "abc"),
            ("\u{1b}]0;never ends\nnext", "next"),
            ("bell\u{7}\u{8}\u{7f}", "bell"),
            ("日本語 é ✓", "日本語 é ✓"),
        ] {
            assert_eq!(clean(dirty), cleaned, "{dirty:?}");
        }
    }

    #[test]
    fn clean_bounds_combining_marks() {
        let flood = format!("e{}x", "\u{301}".repeat(5000));
        assert_eq!(clean(&flood).chars().count(), 1 + MARKS_PER_CHARACTER + 1);
        for removed in ["\u{200b}", "\0", "\u{1b}[m", "\u{1b}]0;t\u{7}", "\u{9b}m"] {
            let flood = format!("e{}", format!("{removed}{}", "\u{301}".repeat(8)).repeat(500));
            assert_eq!(clean(&flood).chars().count(), 1 + MARKS_PER_CHARACTER, "{removed:?}");
        }
    }

    #[test]
    fn pieces_of_a_text_share_the_bound_on_marks() {
        let mut out = String::new();
        for piece in
            ["ab", "\u{301}"].into_iter().chain(["\u{301}"; 500]).chain(["c\u{301}", "\u{1b}"])
        {
            push_clean(&mut out, piece);
        }
        assert_eq!(out, format!("ab{}c\u{301}", "\u{301}".repeat(MARKS_PER_CHARACTER)));
    }

    #[test]
    fn revealed_text_hides_nothing() {
        for (dirty, shown) in [
            ("echo hi; ls", "echo hi; ls"),
            ("a \u{1b}]0;b; rm -rf ~\u{7}", "a \\u{1b}]0;b; rm -rf ~\\u{7}"),
            ("a\u{202e}b\u{200b}c", "a\\u{202e}b\\u{200b}c"),
            ("one\r\ntwo\rthree", "one\ntwo\\u{d}three"),
            ("日本語 e\u{301} ✓\n\tx", "日本語 e\u{301} ✓\n\tx"),
        ] {
            assert_eq!(Untrusted::from(dirty).revealed(), shown);
        }
    }

    #[test]
    fn tail_begins_at_a_line_break() {
        assert_eq!(Untrusted::from("first\nsecond\nthird").tail(8).clean(), "third");
        assert_eq!(Untrusted::from("short").tail(80).clean(), "short");
    }

    proptest! {
        #[test]
        fn clean_leaves_no_control_and_is_idempotent(text in "\\PC*|[\\x00-\\x9f]*|(\u{1b}[\\[\\]P(]?[0-9;]*[A-Za-z]?.)*") {
            let once = clean(&text);
            prop_assert!(once.chars().all(|c| c == '\n' || c == '\t' || !c.is_control()));
            prop_assert_eq!(clean(&once), once.clone());
            prop_assert!(!clean_line(&text).contains('\n'));
            // What is written out is clean, so that no line is lost on the screen.
            prop_assert_eq!(clean(&reveal(&text)), reveal(&text));
        }
    }
}
