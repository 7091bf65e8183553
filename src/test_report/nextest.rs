//! cargo-nextest: `PASS [   0.003s] (1/7) crate module::test`.

use std::collections::BTreeMap;

use super::collector::NameCollector;
use crate::core::model::test_report::TestOutcome;

/// Reads the lines of nextest. The last line of a test counts: with retries, earlier ones are tries.
pub(super) fn read(text: &str, names: &mut NameCollector) {
    let mut last: BTreeMap<&str, TestOutcome> = BTreeMap::new();
    for line in text.lines() {
        if let Some((name, outcome)) = result(line) {
            last.insert(name, outcome);
        }
    }
    for (name, outcome) in last {
        names.record(name, outcome);
    }
}

fn result(line: &str) -> Option<(&str, TestOutcome)> {
    let (status, rest) = line.split_once(" [")?;
    let (time, rest) = rest.split_once("] ")?;
    if !time.bytes().all(|byte| matches!(byte, b' ' | b'0'..=b'9' | b'.' | b's')) {
        return None;
    }
    let outcome = outcome(status.trim())?;
    // The position among all tests, which versions before 0.9.100 don't print.
    let rest = rest.trim();
    let name = match rest.strip_prefix('(').and_then(|rest| rest.split_once(") ")) {
        Some((_, name)) => name.trim_start(),
        None => rest,
    };
    // A name is the program's and the test's.
    name.contains(' ').then_some((name, outcome))
}

fn outcome(status: &str) -> Option<TestOutcome> {
    let status = match status.strip_prefix("TRY ") {
        Some(attempt) => attempt.split_once(' ')?.1,
        None => status,
    };
    match status {
        "PASS" | "LEAK" | "TMPASS" => Some(TestOutcome::Passed),
        "SKIP" => Some(TestOutcome::Skipped),
        "FAIL" | "TIMEOUT" | "TMT" | "ABORT" | "XFAIL" | "LEAK-FAIL" | "FL-LK" | "FAIL + LEAK" => {
            Some(TestOutcome::Failed)
        }
        _ if status.starts_with("FLAKY ") => Some(TestOutcome::Passed),
        _ if status.starts_with("FLKY-FL ") => Some(TestOutcome::Failed),
        _ if status.starts_with("SIG") => Some(TestOutcome::Failed),
        _ => None,
    }
}
