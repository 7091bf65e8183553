//! The reporter spec of `node --test`: a tree by indentation, with `▶` before a suite and the suite's
//! own result behind it.

use super::collector::NameCollector;
use super::{below, cut, indentation, without_duration};
use crate::core::model::test_report::TestOutcome;

/// The deepest suite; deeper ones count as of this level.
const DEEPEST: usize = 64;

/// A suite whose end has not come yet.
struct OpenSuite<'a> {
    indent: usize,
    name: &'a str,
    /// Its name below its own suites.
    place: String,
}

/// Reads the lines of the reporter.
pub(super) fn read(text: &str, names: &mut NameCollector) {
    let mut suites: Vec<OpenSuite<'_>> = Vec::new();
    for line in text.lines() {
        // The failed tests again, without their suites.
        if line.starts_with("✖ failing tests:") {
            break;
        }
        let (spaces, rest) = indentation(line);
        let Some((mark, name)) = rest.split_once(' ') else { continue };
        let outcome = match mark {
            "✔" => Some(TestOutcome::Passed),
            "✖" => Some(TestOutcome::Failed),
            "﹣" => Some(TestOutcome::Skipped),
            "▶" => None,
            _ => continue,
        };
        let (name, left_out) = match name.rsplit_once(" # ") {
            Some((name, why)) if why.starts_with("SKIP") || why.starts_with("TODO") => (name, true),
            _ => (name, false),
        };
        let name = without_duration(name);
        while suites.pop_if(|suite| suite.indent > spaces).is_some() {}
        let closes = suites.pop_if(|suite| suite.indent == spaces);
        let closes = closes.is_some_and(|suite| suite.name == name);
        let place = suites.last().map_or("", |suite| suite.place.as_str());
        let whole = below(place, name);
        let Some(outcome) = outcome else {
            // Node.js 18 and 20 close a suite with `▶` again, and print no result of it.
            if !closes && suites.len() < DEEPEST {
                let place = cut(&whole).to_owned();
                suites.push(OpenSuite { indent: spaces, name, place });
            }
            continue;
        };
        let outcome = if left_out { TestOutcome::Skipped } else { outcome };
        names.record(&whole, outcome);
    }
}
