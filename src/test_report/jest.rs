//! `jest --verbose`: a tree of tests below the line of each file. Without `--verbose`, only the files
//! have results.

use super::collector::NameCollector;
use super::{below, cut, indentation, without_duration};
use crate::core::model::test_report::TestOutcome;

/// The deepest `describe`; deeper ones count as of this level.
const DEEPEST: usize = 64;

/// Reads the lines of jest.
pub(super) fn read(text: &str, names: &mut NameCollector) {
    let mut file: Option<(&str, TestOutcome)> = None;
    // The open suites by their indentation, each with its name below its file.
    let mut suites: Vec<(usize, String)> = Vec::new();
    let mut tests = 0;
    for line in text.lines() {
        if let Some(header) = header(line) {
            close(file.replace(header), tests, names);
            suites.clear();
            tests = 0;
            continue;
        }
        let Some((path, outcome)) = file else { continue };
        let (spaces, rest) = indentation(line);
        // The tree follows its file without an empty line; what comes later is the output of tests.
        if rest.is_empty() || rest.starts_with('●') {
            close(Some((path, outcome)), tests, names);
            file = None;
            continue;
        }
        while suites.pop_if(|(same, _)| *same >= spaces).is_some() {}
        let place = suites.last().map_or(cut(path), |(_, suite)| suite.as_str());
        if let Some((name, outcome)) = result(rest) {
            tests += 1;
            names.record(&below(place, name), outcome);
        } else if suites.len() < DEEPEST {
            let suite = below(place, rest.trim_end());
            suites.push((spaces, cut(&suite).to_owned()));
        }
    }
    close(file, tests, names);
}

/// Records a file that named no test.
fn close(file: Option<(&str, TestOutcome)>, tests: usize, names: &mut NameCollector) {
    if let Some((path, outcome)) = file.filter(|_| tests == 0) {
        names.record(path, outcome);
    }
}

/// `PASS tests/date.test.js (5.2 s)`.
fn header(line: &str) -> Option<(&str, TestOutcome)> {
    let line = line.trim();
    let (rest, outcome) = match line.strip_prefix("PASS ") {
        Some(rest) => (rest, TestOutcome::Passed),
        None => (line.strip_prefix("FAIL ")?, TestOutcome::Failed),
    };
    let path = without_duration(rest.trim());
    Some((path.strip_prefix("./").unwrap_or(path), outcome))
}

fn result(text: &str) -> Option<(&str, TestOutcome)> {
    let (mark, name) = text.split_once(' ')?;
    let name = without_duration(name.trim_end());
    match mark {
        "✓" | "√" => Some((name, TestOutcome::Passed)),
        "✕" | "×" => Some((name, TestOutcome::Failed)),
        "○" => Some((name.strip_prefix("skipped ").unwrap_or(name), TestOutcome::Skipped)),
        "✎" => Some((name.strip_prefix("todo ").unwrap_or(name), TestOutcome::Skipped)),
        _ => None,
    }
}
