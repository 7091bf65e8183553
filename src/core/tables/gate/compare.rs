//! The comparison of two runs by the names of their tests.

use std::collections::BTreeSet;

use crate::model::gate_report::{GateReport, GateRun, TestRun};
use crate::model::test_report::{TestName, TestOutcome, TestReport};

/// What the names of the tests show between base and head.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Comparison {
    /// Tests that fail without the change and pass with it.
    pub fail_to_pass: Vec<TestName>,
    /// The number of tests that passed on the base and pass on the head.
    pub pass_to_pass: usize,
    /// Tests that passed on the base and are gone, skipped or fail on the head.
    pub lost: Vec<TestName>,
    /// Tests that passed and failed on one commit.
    pub flaky: Vec<TestName>,
}

impl Comparison {
    /// Compares the runs of a report. None if the base or the head reported no names: the gate then
    /// decides by exit codes.
    #[must_use]
    pub fn of(report: &GateReport) -> Option<Self> {
        let base = Repeated::of(report.of(GateRun::Baseline))?;
        let head = Repeated::of(report.of(GateRun::Green))?;
        let flaky: BTreeSet<TestName> = base.flaky.union(&head.flaky).cloned().collect();
        let passes = |name: &TestName| head.last.outcome(name) == Some(TestOutcome::Passed);
        let before: BTreeSet<&TestName> = base.last.with(TestOutcome::Passed).collect();
        let failing = failing_without_the_change(report);
        let candidates = head.last.with(TestOutcome::Passed).filter(|name| !flaky.contains(*name));
        let fail_to_pass: Vec<TestName> = candidates
            .filter(|name| {
                failing.contains(*name) || !before.contains(name) && could_not_run(report, name)
            })
            .cloned()
            .collect();
        let mut new: Vec<&TestName> = head.last.with(TestOutcome::Passed).collect();
        new.retain(|name| base.last.outcome(name).is_none());
        let gone: Vec<&TestName> =
            before.iter().copied().filter(|n| !passes(n) && !flaky.contains(*n)).collect();
        let lost = gone
            .into_iter()
            .filter(|name| !is_allowed(report, name) && !is_renamed(report, name, &mut new))
            .cloned()
            .collect();
        let pass_to_pass = before.iter().filter(|name| passes(name)).count();
        Some(Self { fail_to_pass, pass_to_pass, lost, flaky: flaky.into_iter().collect() })
    }
}

/// The results of a run with its repetitions.
struct Repeated<'a> {
    last: &'a TestReport,
    flaky: BTreeSet<TestName>,
}

impl<'a> Repeated<'a> {
    fn of(runs: &'a [TestRun]) -> Option<Self> {
        let last = runs.last()?.named()?;
        let failed = runs.iter().filter_map(TestRun::named);
        let failed = failed.flat_map(|names| names.with(TestOutcome::Failed));
        let passes = |name: &&TestName| last.outcome(name) == Some(TestOutcome::Passed);
        let flaky = failed.filter(passes).cloned().collect();
        Some(Self { last, flaky })
    }
}

/// The tests that failed by name without the change: on the base with the new tests, and on the
/// head less a hunk.
fn failing_without_the_change(report: &GateReport) -> BTreeSet<TestName> {
    let without = report
        .runs
        .iter()
        .filter(|(run, _)| matches!(run, GateRun::Red | GateRun::Without(_)))
        .flat_map(|(_, repeated)| repeated);
    let names = without.filter_map(TestRun::named);
    names.flat_map(|names| names.with(TestOutcome::Failed)).cloned().collect()
}

/// Whether the base with the new tests failed before it ran a test, as where the test uses a
/// function that is not there yet.
fn could_not_run(report: &GateReport, name: &TestName) -> bool {
    let red = report.of(GateRun::Red).last().filter(|run| !run.passed());
    red.is_some_and(|run| run.named().is_none_or(|names| names.outcome(name).is_none()))
}

/// The tests that fail by name on the head less a hunk, and pass on the head.
pub(super) fn failing_without(report: &GateReport, run: &TestRun) -> Vec<TestName> {
    let head = Repeated::of(report.of(GateRun::Green));
    let (Some(names), Some(head)) = (run.named(), head) else { return Vec::new() };
    let passes = |name: &&TestName| {
        head.last.outcome(name) == Some(TestOutcome::Passed) && !head.flaky.contains(*name)
    };
    names.with(TestOutcome::Failed).filter(passes).cloned().collect()
}

fn is_allowed(report: &GateReport, name: &TestName) -> bool {
    let name = name.0.as_received();
    report.rules.allow_removed.iter().any(|pattern| matches(pattern, name))
}

/// Whether a pattern with `*` for any text matches the whole name.
fn matches(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = parts.next().and_then(|first| name.strip_prefix(first)) else {
        return false;
    };
    let mut parts: Vec<&str> = parts.collect();
    let Some(last) = parts.pop() else { return rest.is_empty() };
    for part in parts {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

/// Whether a lost test has another name now: a new test has the same last part, or the difference
/// holds its line with only the name replaced. Each new test stands for one lost test.
fn is_renamed(report: &GateReport, lost: &TestName, new: &mut Vec<&TestName>) -> bool {
    let old = last_part(lost.0.as_received());
    let moved = new.iter().position(|name| {
        let name = last_part(name.0.as_received());
        name == old || renamed_in(report.change.diff.as_received(), old, name)
    });
    moved.map(|at| new.remove(at)).is_some()
}

/// The name of a test without the module or file that holds it.
fn last_part(name: &str) -> &str {
    let end = name.find('[').unwrap_or(name.len());
    let from = name[..end].rfind([':', '/', '.', ' ', '>']).map_or(0, |at| at + 1);
    &name[from..]
}

/// Whether the difference replaces `old` by `new` in one line and leaves the line as it is.
fn renamed_in(diff: &str, old: &str, new: &str) -> bool {
    let lines: Vec<&str> = diff.lines().collect();
    let removed = |line: &&str| line.starts_with('-') && line.contains(old);
    lines.iter().filter(|line| removed(line)).any(|line| {
        let now = format!("+{}", line[1..].replacen(old, new, 1));
        lines.contains(&now.as_str())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pattern_matches_whole_names() {
        for (pattern, name, matched) in [
            ("a::b", "a::b", true),
            ("a::b", "a::bc", false),
            ("a::*", "a::bc", true),
            ("*::old_*", "x::y::old_one", true),
            ("*old", "x::old_one", false),
            ("*a*b*", "xxaxxbxx", true),
            ("*", "", true),
        ] {
            assert_eq!(matches(pattern, name), matched, "{pattern} {name}");
        }
    }

    #[test]
    fn last_part_drops_module_file_and_parameters() {
        for (name, last) in [
            ("a::b::reads", "reads"),
            ("tests/test_a.py::test_b[1/2]", "test_b[1/2]"),
            ("pkg TestX/sub", "sub"),
            ("plain", "plain"),
        ] {
            assert_eq!(last_part(name), last, "{name}");
        }
    }
}
