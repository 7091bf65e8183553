//! The comparison of two runs by the names of their tests.

use std::collections::{BTreeMap, BTreeSet};

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
    /// The number of those that passed on the base before the change edited them.
    edited: usize,
    /// Whether an old test is flaky on the head and was steady on the base so far.
    pub flaky_on_head_alone: bool,
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
        // A test that only the head makes flaky is lost: it no longer passes each time.
        let gone: Vec<&TestName> = before
            .iter()
            .copied()
            .filter(|name| !passes(name) || head.flaky.contains(*name))
            .filter(|name| !base.flaky.contains(*name))
            .collect();
        let gone: Vec<&TestName> =
            gone.into_iter().filter(|name| !is_allowed(report, name)).collect();
        let lost = if gone.is_empty() {
            Vec::new()
        } else {
            let moves = Moves::of(report.change.diff.as_received());
            gone.into_iter().filter(|name| !moves.explain(name, &mut new)).cloned().collect()
        };
        let pass_to_pass =
            before.iter().filter(|name| passes(name) && !head.flaky.contains(**name)).count();
        let old = |name: &&TestName| before.contains(*name) && !base.flaky.contains(*name);
        let flaky_on_head_alone = head.flaky.iter().any(|name| old(&name));
        let flaky = flaky.into_iter().collect();
        let edited = fail_to_pass.iter().filter(|name| before.contains(name)).count();
        Some(Self { fail_to_pass, pass_to_pass, lost, flaky, edited, flaky_on_head_alone })
    }

    /// Whether every test that proves the change passed on the base under the same name.
    pub(super) fn rests_on_old_names(&self) -> bool {
        !self.fail_to_pass.is_empty() && self.edited == self.fail_to_pass.len()
    }
}

/// The results of a run with its repetitions.
struct Repeated<'a> {
    last: &'a TestReport,
    flaky: BTreeSet<TestName>,
}

impl<'a> Repeated<'a> {
    fn of(runs: &'a [TestRun]) -> Option<Self> {
        // The run that passed at last, if one did.
        let last = runs.iter().rev().find(|run| run.passed()).or(runs.last())?.named()?;
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
    let red: Vec<&TestReport> = report.of(GateRun::Red).iter().filter_map(TestRun::named).collect();
    let each_time =
        |name: &&TestName| red.iter().all(|names| names.outcome(name) != Some(TestOutcome::Passed));
    let failed = red.iter().flat_map(|names| names.with(TestOutcome::Failed));
    let mut failing: BTreeSet<TestName> = failed.filter(each_time).cloned().collect();
    let hunks = report.runs.iter().filter(|(run, _)| matches!(run, GateRun::Without(_)));
    for run in hunks.flat_map(|(_, repeated)| repeated) {
        failing.extend(failing_without(report, run));
    }
    failing
}

/// Whether the base with the new tests failed before it ran a test, as where the test uses a
/// function that is not there yet.
fn could_not_run(report: &GateReport, name: &TestName) -> bool {
    let red = report.of(GateRun::Red);
    !red.is_empty()
        && red.iter().all(|run| {
            let names = run.named();
            !run.passed() && names.is_none_or(|names| names.outcome(name).is_none())
        })
}

/// The new tests that fail by name on the head less a hunk, and pass on the head. An old test needs
/// half of most changes, and shows nothing about the whole.
pub(super) fn failing_without(report: &GateReport, run: &TestRun) -> Vec<TestName> {
    let new = new_tests(report);
    let Some(names) = run.named() else { return Vec::new() };
    names.with(TestOutcome::Failed).filter(|name| new.contains(*name)).cloned().collect()
}

/// The tests that don't pass on the base, with or without the new tests laid over it, and pass on the
/// head.
fn new_tests(report: &GateReport) -> BTreeSet<TestName> {
    let base = report.of(GateRun::Baseline).last().and_then(TestRun::named);
    let red = report.of(GateRun::Red).last().and_then(TestRun::named);
    let Some(head) = Repeated::of(report.of(GateRun::Green)) else { return BTreeSet::new() };
    let is_new = |name: &&TestName| {
        base.is_none_or(|base| base.outcome(name) != Some(TestOutcome::Passed))
            && red.is_none_or(|red| red.outcome(name) != Some(TestOutcome::Passed))
            && !head.flaky.contains(*name)
    };
    head.last.with(TestOutcome::Passed).filter(is_new).cloned().collect()
}

/// The tests that passed on the base and don't pass on the head with the tests of the base, by name.
pub(super) fn failing_of_the_base(report: &GateReport) -> Vec<TestName> {
    let base = Repeated::of(report.of(GateRun::Baseline));
    let (Some(base), Some(run)) = (base, report.of(GateRun::OldTests).last()) else {
        return Vec::new();
    };
    // A run that failed without names fails as a whole.
    let Some(names) = run.named() else {
        let all = base.last.with(TestOutcome::Passed).cloned();
        return if run.passed() { all.collect() } else { Vec::new() };
    };
    let failing = |name: &&TestName| names.outcome(name) != Some(TestOutcome::Passed);
    let excused = |name: &TestName| base.flaky.contains(name) || is_allowed(report, name);
    base.last.with(TestOutcome::Passed).filter(failing).filter(|n| !excused(n)).cloned().collect()
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

/// What a difference moves: the lines that it removes and adds, and the files.
struct Moves<'a> {
    removed: Vec<Changed<'a>>,
    added: BTreeSet<(&'a str, Vec<&'a str>)>,
    /// The contents of deleted and of new files by path, as git names them.
    gone: BTreeMap<&'a str, &'a str>,
    new: BTreeMap<&'a str, &'a str>,
}

impl<'a> Moves<'a> {
    fn of(diff: &'a str) -> Self {
        let added = changed(diff, '+').into_iter().map(|line| (line.text, line.next)).collect();
        let (mut gone, mut new) = (BTreeMap::new(), BTreeMap::new());
        let mut lines = diff.lines();
        while let Some(line) = lines.next() {
            let Some(path) = line.strip_prefix("diff --git a/").and_then(same_path) else {
                continue;
            };
            let (mode, index) = (lines.next().unwrap_or_default(), lines.next());
            let index = index.and_then(|line| line.strip_prefix("index ")?.split_once(".."));
            let Some((before, after)) = index else { continue };
            if mode.starts_with("deleted file mode") {
                gone.insert(path, before);
            } else if mode.starts_with("new file mode") {
                new.insert(path, after);
            }
        }
        Self { removed: changed(diff, '-'), added, gone, new }
    }

    /// Whether a lost test has another name or place now: the difference removes its line and adds
    /// the same one with a new test's name, or moves its file unchanged. Each new test stands for
    /// one lost test.
    fn explain(&self, lost: &TestName, new: &mut Vec<&TestName>) -> bool {
        let lost = lost.0.as_received();
        let found = new.iter().position(|name| {
            let name = name.0.as_received();
            self.moves_line(last_part(lost), last_part(name)) || self.moves_file(lost, name)
        });
        found.map(|at| new.remove(at)).is_some()
    }

    /// Whether the difference removes a line with `old` and adds the same one with `new` in its
    /// place, whatever its indent, and the test goes on alike. The line alone would also fit a
    /// deleted test beside a new one, such as `def test_a():` and `def test_b():`.
    fn moves_line(&self, old: &str, new: &str) -> bool {
        // Such a part stands in many lines that define no test.
        if old.len() < SHORTEST_PART || new.len() < SHORTEST_PART {
            return false;
        }
        self.removed.iter().filter(|line| has_word(line.text, old)).any(|line| {
            let text = line.text.replacen(old, new, 1);
            self.added.contains(&(text.as_str(), line.next.clone()))
        })
    }

    /// Whether the difference deletes the file `old` and adds `new` with the same content.
    fn moves_file(&self, old: &str, new: &str) -> bool {
        let gone = self.gone.get(old);
        gone.is_some() && gone == self.new.get(new)
    }
}

/// The path in `PATH b/PATH`, as the head of a file's difference names it.
fn same_path(names: &str) -> Option<&str> {
    let path = names.get(..names.len().checked_sub(" b/".len())? / 2)?;
    let rest = names.strip_prefix(path)?.strip_prefix(" b/")?;
    (rest == path).then_some(path)
}

/// The name of a test without the module, class or file that holds it.
fn last_part(name: &str) -> &str {
    let end = name.find('[').unwrap_or(name.len());
    let from = name[..end].rfind([':', '/', '.', ' ', '>']).map_or(0, |at| at + 1);
    &name[from..end]
}

/// A line that a difference removes or adds, with the lines that follow on its side of the
/// difference, up to [`FOLLOWING`] or an empty one.
struct Changed<'a> {
    text: &'a str,
    next: Vec<&'a str>,
}

/// The lines of a test's body that tell whether it was moved.
const FOLLOWING: usize = 3;

/// The lines with a sign, `-` or `+`, without their indent.
fn changed(diff: &str, sign: char) -> Vec<Changed<'_>> {
    // The lines of one side of each hunk: whether a line has the sign, and its text.
    let mut hunks: Vec<Vec<(bool, &str)>> = vec![Vec::new()];
    for line in diff.lines() {
        let side = line.strip_prefix(sign).map(|text| (true, text.trim()));
        let side = side.or_else(|| line.strip_prefix(' ').map(|text| (false, text.trim())));
        if line.starts_with("@@") || line.starts_with("diff --git ") {
            hunks.push(Vec::new());
        } else if let (Some(side), Some(hunk)) = (side, hunks.last_mut()) {
            hunk.push(side);
        }
    }
    let mut found = Vec::new();
    for hunk in &hunks {
        for (at, (signed, text)) in hunk.iter().enumerate() {
            if *signed {
                let next = hunk[at + 1..].iter().map(|(_, text)| *text);
                let next = next.take_while(|text| !text.is_empty()).take(FOLLOWING).collect();
                found.push(Changed { text, next });
            }
        }
    }
    found
}

/// The shortest part of a name that is looked for in lines, in bytes.
const SHORTEST_PART: usize = 3;

/// Whether a line holds a word, and not only as a part of another one.
fn has_word(line: &str, word: &str) -> bool {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + word.len()..].chars().next();
        !before.is_some_and(is_word) && !after.is_some_and(is_word)
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
    fn only_the_same_line_or_file_is_a_move() {
        assert!(Moves::of("-    fn reads() {\n+fn reads() {\n").moves_line("reads", "reads"));
        assert!(Moves::of("-fn reads() {\n+fn parses() {\n").moves_line("reads", "parses"));
        assert!(
            !Moves::of("-fn reads_all() {\n+fn parses_all() {\n").moves_line("reads", "parses")
        );
        assert!(
            !Moves::of("-fn reads() {\n+fn reads() { return; }\n").moves_line("reads", "reads")
        );
        assert!(!Moves::of("-x\n+x\n").moves_line("sh", "sh"));
        // A test that is deleted beside a new one is not renamed.
        let python = "-def test_a():\n-    assert f(1)\n+def test_b():\n+    assert True\n";
        assert!(!Moves::of(python).moves_line("test_a", "test_b"));
        let elsewhere = "@@ -1 +0 @@\n-def test_a():\n-    assert f(1)\n-\n x\n\
                         @@ -9 +8 @@\n+    def test_b():\n+        assert f(1)\n";
        assert!(Moves::of(elsewhere).moves_line("test_a", "test_b"));
        let in_place = "-def test_a():\n+def test_b():\n     assert f(1)\n";
        assert!(Moves::of(in_place).moves_line("test_a", "test_b"));
        let moved = "diff --git a/t/a.sh b/t/a.sh\ndeleted file mode 100644\nindex 12..00\n-x\n\
                     diff --git a/u/a.sh b/u/a.sh\nnew file mode 100644\nindex 00..12\n+x\n";
        assert!(Moves::of(moved).moves_file("t/a.sh", "u/a.sh"));
        assert!(!Moves::of(&moved.replace("00..12", "00..34")).moves_file("t/a.sh", "u/a.sh"));
        assert!(!Moves::of(moved).moves_file("t/a.sh", "u/b.sh"));
    }

    #[test]
    fn last_part_drops_module_file_and_parameters() {
        for (name, last) in [
            ("a::b::reads", "reads"),
            ("tests/test_a.py::test_b[1/2]", "test_b"),
            ("pkg TestX/sub", "sub"),
            ("plain", "plain"),
        ] {
            assert_eq!(last_part(name), last, "{name}");
        }
    }
}
