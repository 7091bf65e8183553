//! pytest: the lines of `-v`, those of pytest-xdist, and the short summary of `-rA`.

use super::collector::NameCollector;
use crate::core::model::test_report::TestOutcome;

/// The words for results, and what they mean. A subtest that fails fails its test.
const STATUSES: &[(&str, TestOutcome)] = &[
    ("PASSED", TestOutcome::Passed),
    ("XPASS", TestOutcome::Passed),
    ("FAILED", TestOutcome::Failed),
    ("ERROR", TestOutcome::Failed),
    ("SUBFAILED", TestOutcome::Failed),
    ("SUBFAIL", TestOutcome::Failed),
    ("SKIPPED", TestOutcome::Skipped),
    ("XFAIL", TestOutcome::Skipped),
];

/// Reads the lines of pytest.
pub(super) fn read(text: &str, names: &mut NameCollector) {
    let mut in_summary = false;
    for line in text.lines() {
        if line.starts_with('=') {
            in_summary = line.contains(" short test summary info ");
        } else if in_summary {
            // `SKIPPED [2] tests/a.py:12: reason` names no test.
            if let Some((outcome, rest)) = leading_status(line)
                && !(outcome == TestOutcome::Skipped && rest.starts_with('['))
            {
                names.record(without_reason(rest), outcome);
            }
        } else if line.starts_with("[gw") {
            if let Some((outcome, name)) = of_worker(line) {
                names.record(name, outcome);
            }
        } else if let Some((name, outcome)) = verbose(line) {
            names.record(name, outcome);
        }
    }
}

/// `FAILED rest` or `SUBFAILED(part=1) rest`.
fn leading_status(line: &str) -> Option<(TestOutcome, &str)> {
    let word = line.split([' ', '(']).next()?;
    let (_, outcome) = STATUSES.iter().find(|(known, _)| *known == word)?;
    let rest = &line[word.len()..];
    let rest = match rest.strip_prefix('(') {
        Some(detail) => detail.split_once(") ")?.1,
        None => rest,
    };
    Some((*outcome, rest.trim()))
}

/// `[gw0] [ 10%] PASSED tests/test_a.py::test_b`.
fn of_worker(line: &str) -> Option<(TestOutcome, &str)> {
    let (_, rest) = line.split_once("] ")?;
    let rest = rest.trim_start();
    let rest = match rest.strip_prefix('[') {
        Some(progress) => progress.split_once("] ")?.1,
        None => rest,
    };
    leading_status(rest).filter(|(_, name)| is_test(name))
}

/// `tests/test_a.py::test_b PASSED   [ 37%]` or `… SKIPPED (reason) [ 75%]`.
fn verbose(line: &str) -> Option<(&str, TestOutcome)> {
    let line = without_progress(line.trim_end());
    if !is_test(line) {
        return None;
    }
    if let Some((name, word)) = line.rsplit_once(' ')
        && let Some((_, outcome)) = STATUSES.iter().find(|(known, _)| *known == word)
    {
        return Some((name.trim_end(), *outcome));
    }
    if !line.ends_with(')') {
        return None;
    }
    // The earliest word counts: a reason may hold another one.
    let found = STATUSES.iter().filter_map(|(word, outcome)| {
        let at = [format!(" {word} ("), format!(" {word}(")];
        let at = at.iter().filter_map(|pattern| line.find(pattern.as_str())).min()?;
        Some((at, *outcome))
    });
    let (at, outcome) = found.min_by_key(|(at, _)| *at)?;
    Some((line[..at].trim_end(), outcome))
}

/// A line without its progress: `[ 37%]`, `[ 3/16]`, or a time.
fn without_progress(line: &str) -> &str {
    let Some((before, inside)) = line.strip_suffix(']').and_then(|line| line.rsplit_once('['))
    else {
        return line;
    };
    let is_progress = before.ends_with(' ')
        && inside.bytes().any(|byte| byte.is_ascii_digit())
        && inside.bytes().all(|byte| b" 0123456789%/.smh".contains(&byte));
    if is_progress { before.trim_end() } else { line }
}

/// Whether a text begins with a test's id: a path, `::` and a name.
fn is_test(text: &str) -> bool {
    text.split_once("::").is_some_and(|(path, name)| {
        !path.is_empty() && !name.is_empty() && !path.starts_with([' ', '\t', '>', '[', '-'])
    })
}

/// A test's id without the reason behind it. Both may hold ` - `: an id in brackets, at its end.
fn without_reason(text: &str) -> &str {
    let dash = text.find(" - ");
    match (text.find('['), dash) {
        (Some(bracket), Some(dash)) if bracket < dash => {
            if let Some(end) = text.find("] - ") {
                &text[..=end]
            } else if text.ends_with(']') {
                text
            } else {
                &text[..dash]
            }
        }
        (_, Some(dash)) => &text[..dash],
        (_, None) => text,
    }
}
