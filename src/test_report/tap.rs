//! The Test Anything Protocol, with subtests as `node --test` and TAP 14 indent them, and with the
//! headers of `prove -v`, and the titles of tape above its assertions.

use std::iter::Peekable;
use std::str::Lines;

use super::collector::NameCollector;
use super::{below, cut, indentation};
use crate::core::model::test_report::TestOutcome;

/// The deepest indentation. It bounds the depth of subtests, which are recorded by recursion.
const DEEPEST: usize = 128;

/// A test with its subtests, which come before it.
#[derive(Debug)]
struct TapTest {
    name: String,
    outcome: TestOutcome,
    parts: Vec<TapTest>,
}

/// Reads the lines of TAP.
pub(super) fn read(text: &str, names: &mut NameCollector) {
    // The tests whose parent has not come yet, by their indentation.
    let mut levels: Vec<(usize, Vec<TapTest>)> = Vec::new();
    let mut file = "";
    let mut title = "";
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        if let Some(header) = prove_header(line) {
            finish(file, &mut levels, names);
            (file, title) = (header, "");
            continue;
        }
        if let Some(comment) = line.strip_prefix("# ") {
            title = comment.trim();
        }
        let (spaces, rest) = indentation(line);
        let Some((name, outcome)) = result(rest) else { continue };
        let name = if is_tape(line) { below(cut(title), &name) } else { name };
        let indent = spaces.min(DEEPEST);
        let mut parts = Vec::new();
        while let Some((_, deeper)) = levels.pop_if(|(deeper, _)| *deeper > indent) {
            parts.splice(0..0, deeper);
        }
        let test = TapTest { name, outcome, parts };
        match levels.last_mut() {
            Some((same, tests)) if *same == indent => tests.push(test),
            _ => levels.push((indent, vec![test])),
        }
        skip_details(&mut lines);
    }
    finish(file, &mut levels, names);
}

fn finish(file: &str, levels: &mut Vec<(usize, Vec<TapTest>)>, names: &mut NameCollector) {
    for (_, tests) in levels.drain(..) {
        record(cut(file), &tests, names);
    }
}

fn record(parent: &str, tests: &[TapTest], names: &mut NameCollector) {
    for test in tests {
        let name = below(parent, &test.name);
        names.record(&name, test.outcome);
        record(cut(&name), &test.parts, names);
    }
}

/// Whether a line is an assertion of tape, which has no hyphen: `ok 1 should be equal`. Most of them
/// are named alike, so the title above belongs to the name. Elsewhere a comment is a diagnosis.
fn is_tape(line: &str) -> bool {
    let number = line.strip_prefix("not ").unwrap_or(line).strip_prefix("ok ");
    let rest = number.map(|rest| rest.trim_start_matches(|c: char| c.is_ascii_digit()));
    rest.is_some_and(|rest| rest.starts_with(' ') && !rest.starts_with(" -"))
}

/// `ok 1 - name # SKIP reason`.
fn result(line: &str) -> Option<(String, TestOutcome)> {
    let (passed, rest) = match line.strip_prefix("not ok") {
        Some(rest) => (false, rest),
        None => (true, line.strip_prefix("ok")?),
    };
    let rest = rest.trim_end();
    let described = rest.strip_prefix(' ')?.trim_start();
    let digits = described.bytes().take_while(u8::is_ascii_digit).count();
    let (number, rest) = described.split_at(digits);
    let rest = rest.trim_start();
    let rest = rest.strip_prefix("- ").unwrap_or(if rest == "-" { "" } else { rest });
    let (name, directive) = split_directive(rest);
    let name = match (name.trim(), number) {
        ("", "") => return None,
        ("", number) => format!("test {number}"),
        (name, _) => unescaped(name),
    };
    let directive = directive.trim_start();
    let is = |word: &str| {
        directive.get(..word.len()).is_some_and(|start| start.eq_ignore_ascii_case(word))
    };
    let outcome = if is("skip") || is("todo") {
        TestOutcome::Skipped
    } else if passed {
        TestOutcome::Passed
    } else {
        TestOutcome::Failed
    };
    Some((name, outcome))
}

/// The description, and the text behind the first ` #` that is not escaped.
fn split_directive(text: &str) -> (&str, &str) {
    for (at, _) in text.match_indices('#') {
        let before = &text[..at];
        let escaped = before.len() - before.trim_end_matches('\\').len();
        if escaped.is_multiple_of(2) && (before.is_empty() || before.ends_with(' ')) {
            return (before, &text[at + 1..]);
        }
    }
    (text, "")
}

fn unescaped(name: &str) -> String {
    name.replace("\\#", "#").replace("\\\\", "\\")
}

/// Skips the YAML below a test, which may hold lines that look like results.
fn skip_details(lines: &mut Peekable<Lines<'_>>) {
    if lines.peek().is_some_and(|line| line.trim() == "---") {
        let end = lines.next().map_or(0, |line| indentation(line).0);
        for line in lines {
            if line.trim() == "..." && indentation(line).0 == end {
                break;
            }
        }
    }
}

/// `t/date.t ..`, with which prove begins a file.
fn prove_header(line: &str) -> Option<&str> {
    let (file, dots) = line.trim_end().split_once(' ')?;
    (!file.is_empty() && dots.len() >= 2 && dots.bytes().all(|b| b == b'.')).then_some(file)
}
