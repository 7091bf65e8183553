//! Python's `unittest -v`: `test_adds (test_calc.Sums.test_adds) ... ok`.

use super::collector::NameCollector;
use crate::core::model::test_report::TestOutcome;

/// Reads the lines of unittest. The first line of a test's docstring, if it has one, stands between
/// its name and its result.
pub(super) fn read(text: &str, names: &mut NameCollector) {
    let mut begun: Option<String> = None;
    for line in text.lines() {
        let (start, result) = match line.rsplit_once(" ... ") {
            Some((start, result)) => (start, Some(result)),
            None => (line.strip_suffix(" ...").unwrap_or(line), None),
        };
        let own = name(start);
        let name = own.or_else(|| begun.take());
        if let (Some(name), Some(outcome)) = (&name, result.and_then(outcome)) {
            names.record(name, outcome);
        } else {
            begun = name.filter(|_| result.is_none() && !line.starts_with(['=', '-']));
        }
    }
}

/// `test_adds (test_calc.Sums.test_adds)`, or `test_adds (test_calc.Sums)` before Python 3.11.
fn name(text: &str) -> Option<String> {
    let (method, place) = text.trim_end().strip_suffix(')')?.split_once(" (")?;
    let is_word = |word: &str| {
        !word.is_empty() && word.chars().all(|c| c.is_alphanumeric() || c == '_' || c == '.')
    };
    if !is_word(method) || !is_word(place) {
        return None;
    }
    let whole = place == method || place.ends_with(&format!(".{method}"));
    Some(if whole { place.to_owned() } else { format!("{place}.{method}") })
}

fn outcome(result: &str) -> Option<TestOutcome> {
    match result.trim_end() {
        "ok" => Some(TestOutcome::Passed),
        "FAIL" | "ERROR" | "unexpected success" => Some(TestOutcome::Failed),
        "expected failure" => Some(TestOutcome::Skipped),
        skipped if skipped.starts_with("skipped") => Some(TestOutcome::Skipped),
        _ => None,
    }
}
