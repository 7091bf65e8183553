//! `go test`: its lines and its JSON.
//!
//! The line of a package follows those of its tests. A package is recorded like a test, since it may
//! fail on its own (a build error, a panic), and since `go test` without `-v` names only failed tests.

use std::borrow::Cow;

use serde::Deserialize;

use super::collector::NameCollector;
use super::cut;
use crate::core::model::test_report::TestOutcome;

/// Reads the lines of `go test`.
pub(super) fn read(text: &str, names: &mut NameCollector) {
    let mut tests: Vec<(&str, TestOutcome)> = Vec::new();
    for line in text.lines() {
        if let Some(test) = result(line) {
            tests.push(test);
        } else if let Some((package, outcome)) = package(line) {
            for (test, outcome) in tests.drain(..) {
                names.record(&format!("{} {test}", cut(package)), outcome);
            }
            if let Some(outcome) = outcome {
                names.record(package, outcome);
            }
        }
    }
    // The output ends before the line of the package.
    for (test, outcome) in tests {
        names.record(test, outcome);
    }
}

/// `--- FAIL: TestTable/three (0.00s)`, also behind output that doesn't end with a line break.
fn result(line: &str) -> Option<(&str, TestOutcome)> {
    let (_, rest) = line.split_once("--- ")?;
    let (word, rest) = rest.split_once(": ")?;
    let outcome = match word {
        "PASS" => TestOutcome::Passed,
        "FAIL" => TestOutcome::Failed,
        "SKIP" => TestOutcome::Skipped,
        _ => return None,
    };
    let (name, time) = rest.trim_end().strip_suffix("s)")?.rsplit_once(" (")?;
    let is_time = !time.is_empty() && time.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    (is_time && !name.is_empty() && !name.contains(' ')).then_some((name, outcome))
}

/// The line of a package: `ok  \tpackage\t0.1s`, `FAIL\tpackage [build failed]`, or `?   \tpackage`
/// without tests.
fn package(line: &str) -> Option<(&str, Option<TestOutcome>)> {
    let (word, rest) = line.split_once('\t')?;
    let name = rest.split(['\t', ' ']).next().filter(|name| !name.is_empty())?;
    match word.trim_end() {
        "ok" if rest.contains("[no tests to run]") => Some((name, None)),
        "ok" => Some((name, Some(TestOutcome::Passed))),
        "FAIL" => Some((name, Some(TestOutcome::Failed))),
        "?" => Some((name, None)),
        _ => None,
    }
}

/// A line of `go test -json`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct GoEvent<'a> {
    #[serde(borrow)]
    action: Cow<'a, str>,
    #[serde(borrow, default)]
    package: Cow<'a, str>,
    #[serde(borrow, default)]
    test: Cow<'a, str>,
    #[serde(borrow, default)]
    output: Cow<'a, str>,
}

/// Reads the JSON lines of `go test -json`.
pub(super) fn read_json(text: &str, names: &mut NameCollector) {
    for line in text.lines() {
        if !line.starts_with('{') {
            // Before Go 1.24, a package that can't be built has only its plain line.
            if let Some((package, Some(outcome))) = package(line) {
                names.record(package, outcome);
            }
            continue;
        }
        let Ok(event) = serde_json::from_str::<GoEvent<'_>>(line) else { continue };
        let outcome = match &*event.action {
            "pass" => TestOutcome::Passed,
            "fail" => TestOutcome::Failed,
            "skip" => TestOutcome::Skipped,
            // Before Go 1.20, a result behind other output is no event of its own.
            "output" => match result(&event.output) {
                Some((test, outcome)) if test == event.test => outcome,
                _ => continue,
            },
            _ => continue,
        };
        if event.package.is_empty() {
            continue;
        }
        match &*event.test {
            // A package without tests is skipped.
            "" if outcome == TestOutcome::Skipped => {}
            "" => names.record(&event.package, outcome),
            test => names.record(&format!("{} {test}", event.package), outcome),
        }
    }
}
