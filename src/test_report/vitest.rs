//! Vitest: the reporter `verbose` names each test in one line. The default reporter names files, and
//! the failed tests.

use super::collector::NameCollector;
use crate::core::model::test_report::TestOutcome;

/// Reads the lines of Vitest.
pub(super) fn read(text: &str, names: &mut NameCollector) {
    for line in text.lines() {
        if let Some((name, outcome)) = result(line) {
            names.record(name, outcome);
        }
    }
}

/// ` ✓ date.test.js > math > adds 2ms`, ` ✓ date.test.js (3 tests) 5ms`, or
/// ` FAIL  date.test.js > math > adds`.
fn result(line: &str) -> Option<(&str, TestOutcome)> {
    // A line of a test's own output may have any other indentation.
    let rest = line.strip_prefix(' ').filter(|rest| !rest.starts_with(' '))?;
    let (mark, rest) = rest.split_once(' ')?;
    let rest = rest.trim();
    let outcome = match mark {
        "✓" | "✔" => TestOutcome::Passed,
        "×" | "✗" | "❯" => TestOutcome::Failed,
        "↓" | "□" => TestOutcome::Skipped,
        "FAIL" => {
            // A file that can't be loaded: ` FAIL  date.test.js [ date.test.js ]`.
            let file = rest.strip_suffix(" ]").and_then(|rest| rest.split_once(" [ "));
            return Some((file.map_or(rest, |(file, _)| file), TestOutcome::Failed));
        }
        _ => return None,
    };
    let timeless = without_time(rest);
    if timeless.contains(" > ") {
        // A line of a stack trace has this mark, too.
        return (mark != "❯").then_some((timeless, outcome));
    }
    let (file, count) = timeless.strip_suffix(')')?.rsplit_once(" (")?;
    count.contains(" test").then_some((file, outcome))
}

/// The text before a duration at its end, such as ` 12ms`.
fn without_time(text: &str) -> &str {
    let shorter = || {
        let (before, time) = text.rsplit_once(' ')?;
        let number = time.strip_suffix("ms").or_else(|| time.strip_suffix('s'))?;
        let numeric = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit() || b == b'.');
        numeric.then_some(before.trim_end())
    };
    shorter().unwrap_or(text)
}
