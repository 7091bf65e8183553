//! Decision table T11: whether a run's commits may be pushed. It reads the observations of a
//! [`GateReport`] and answers with the next run of the test command, or with a decision.
//!
//! | observation | decision |
//! | --- | --- |
//! | nothing to push, leaks, an unfit workspace | closed |
//! | the base is red by itself, or its tests can't run | broken: a human is asked |
//! | a new test passes on the base | closed |
//! | the head's tests fail, each time | closed |
//! | a test that passed on the base is gone, skipped or fails | closed, with its name |
//! | the head fails the tests of the base | a human is asked |
//! | a test file is deleted, and no names show what is lost | a human is asked |
//! | a protected file changed, or a class of work without a test | a human is asked |
//! | a test fails without the change and passes with it | open |
//!
//! The source of the rules is the measure of the field, `FAIL_TO_PASS` and `PASS_TO_PASS` of SWE-bench;
//! docs/gate.md has the whole table.

mod compare;
mod concern;
#[cfg(test)]
mod tests;
mod words;

pub use compare::Comparison;

use concern::Concern;

use crate::model::digest::Digest;
use crate::model::gate_report::{ChangeClass, GateReport, GateRun, TestExit, TestRun};
use crate::model::untrusted::Untrusted;

/// The most groups of source hunks that the gate takes back, one at a time.
pub const HUNK_GROUPS: usize = 8;
/// How much longer than the first red and green run together all runs but the baseline take before
/// the gate looks for no further hunks that no test needs, in tenths. The gate may cost 2.5 times
/// these two, and a run can take longer than the one before.
const REPORT_TENTHS: u64 = 22;
/// How long all runs but the baseline may always take while the gate looks for such hunks, in
/// milliseconds.
const REPORT_FLOOR_MS: u64 = 1_000;

/// The gate's decision on a report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GateVerdict {
    /// The test command must run once more before the gate can decide.
    Run(GateRun),
    /// The head may be pushed.
    Open,
    /// The agent gets another turn with this explanation.
    Closed {
        /// The explanation that the agent reads.
        why: Untrusted,
        /// What a human can approve instead, if the agent can't change it.
        or_ask: Option<GateQuestion>,
    },
    /// No agent can change it, so afk asks a human.
    Broken(Untrusted),
    /// The change is proven as far as it can be, and a human must approve it.
    Ask(GateQuestion),
}

/// A change that a human must approve before it is pushed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GateQuestion {
    /// The concerns in one line.
    pub line: String,
    /// The concerns with the difference that they are about.
    pub detail: Untrusted,
    /// The digest of both: an approval is for exactly this change.
    pub digest: Digest,
}

impl GateReport {
    /// Decides on the observations so far.
    #[must_use]
    pub fn verdict(&self) -> GateVerdict {
        decide(self).unwrap_or_else(|decided| decided)
    }
}

/// The decision comes as an error, so that `?` ends at the first rule that applies.
type Rule<T> = Result<T, GateVerdict>;

fn decide(report: &GateReport) -> Rule<GateVerdict> {
    if let Some(unready) = &report.unready {
        return Err(closed(words::unready(unready, &report.base)));
    }
    let base_is_flaky = baseline(report)?;
    let class = report.rules.class;
    let change = &report.change;
    // Exempt files need no test, and a human judges a change of nothing but protected files whole.
    let to_prove = [&change.tests, &change.old_tests, &change.sources];
    let needs_red = matches!(class, ChangeClass::Behaviour | ChangeClass::TestsChange)
        && to_prove.iter().any(|files| !files.is_empty());
    let red = if needs_red { red(report, base_is_flaky)? } else { RedSide::NotNeeded };
    green(report, base_is_flaky)?;
    let comparison = Comparison::of(report);
    // A test that is flaky on the head alone may be so on the base too: afk looks as often there.
    let only_on_head = comparison.as_ref().is_some_and(|names| names.flaky_on_head_alone);
    if only_on_head && report.of(GateRun::Baseline).len() <= rerun_limit(report) {
        return Err(GateVerdict::Run(GateRun::Baseline));
    }
    // A test that passed on the base and fails there with the new tests was edited, or is flaky.
    let in_doubt = comparison.as_ref().is_some_and(Comparison::rests_on_old_names);
    if in_doubt && report.of(GateRun::Red).len() == 1 && rerun_limit(report) > 0 {
        return Err(GateVerdict::Run(GateRun::Red));
    }
    let mut concerns = Vec::new();
    if let Some(comparison) = &comparison {
        lost(report, comparison, &mut concerns)?;
    }
    let red_was_seen = matches!(red, RedSide::Seen);
    match red {
        RedSide::NotNeeded => {}
        RedSide::Seen => {
            // A red side without a single test that passes with the change failed for another
            // reason, unless an edited test no longer compiles there.
            let red = report.of(GateRun::Red).last();
            let compiles = red.is_some_and(|run| run.named().is_some());
            let edits = !report.change.old_tests.is_empty() || report.change.inline_tests;
            let none = comparison.as_ref().is_some_and(|names| names.fail_to_pass.is_empty());
            if none && (compiles || !edits) {
                return Err(closed(words::no_fail_to_pass().into()));
            }
        }
        RedSide::ByHunk => by_hunk(report, &mut concerns)?,
    }
    old_tests(report, &mut concerns)?;
    needed(report)?;
    // One group of hunks is the whole change: the same files failed and passed.
    let one_group = report.change.hunks.len() == 1 && change_is_split(report);
    if red_was_seen && one_group && is_needed(report, 0) == Some(false) {
        return Err(closed(words::contradiction()));
    }
    if comparison.is_none() && !report.change.deleted_tests.is_empty() {
        concerns.push(Concern::DeletedTests);
    }
    if !report.change.protected.is_empty() {
        concerns.push(Concern::Protected);
    }
    if matches!(class, ChangeClass::NoTest | ChangeClass::Removal) {
        concerns.push(Concern::Class);
    }
    if concerns.is_empty() {
        return Ok(GateVerdict::Open);
    }
    let question = question(report, &concerns);
    Ok(if is_approved(report, &question) { GateVerdict::Open } else { GateVerdict::Ask(question) })
}

fn is_approved(report: &GateReport, question: &GateQuestion) -> bool {
    report.rules.approved == Some(question.digest)
}

fn question(report: &GateReport, concerns: &[Concern]) -> GateQuestion {
    let lines: Vec<String> = concerns.iter().map(|c| words::concern(report, c)).collect();
    let line = lines.join("; ");
    let diff = report.change.diff.as_received();
    let digest = Digest::of(&[line.as_bytes(), diff.as_bytes()]);
    let list = lines.join("\n- ");
    GateQuestion { line, detail: format!("- {list}\n\n{diff}").into(), digest }
}

/// Judges the base as it is. Returns whether its tests are flaky.
fn baseline(report: &GateReport) -> Rule<bool> {
    let runs = steady(report, GateRun::Baseline)?;
    match runs.last() {
        _ if runs.iter().any(TestRun::passed) => Ok(!runs.iter().all(TestRun::passed)),
        Some(TestRun { exit: TestExit::Missing { why } | TestExit::Broken { why }, .. }) => {
            Err(GateVerdict::Broken(words::broken(&report.base, why)))
        }
        Some(run) => Err(GateVerdict::Broken(words::red_base(&report.base, run))),
        None => Err(GateVerdict::Run(GateRun::Baseline)),
    }
}

/// Whether the source hunks are the only difference between the red side and the head.
fn change_is_split(report: &GateReport) -> bool {
    report.change.old_tests.is_empty() && !report.change.inline_tests
}

/// What the base with the new tests has shown.
enum RedSide {
    /// The class of work needs no red side.
    NotNeeded,
    /// The tests fail there.
    Seen,
    /// No test can be laid over the base alone, so source hunks are taken back from the head.
    ByHunk,
}

fn red(report: &GateReport, base_is_flaky: bool) -> Rule<RedSide> {
    let change = &report.change;
    if change.tests.is_empty() && !change.inline_alone {
        return if change.inline_tests && !change.hunks.is_empty() {
            Ok(RedSide::ByHunk)
        } else {
            Err(closed(words::no_tests()))
        };
    }
    let runs = report.of(GateRun::Red);
    let Some(run) = runs.last() else { return Err(GateVerdict::Run(GateRun::Red)) };
    match &run.exit {
        // The base could run its own tests, so the new tests alone need the missing program.
        TestExit::Missing { .. } => Ok(RedSide::Seen),
        TestExit::Broken { why } => Err(GateVerdict::Broken(words::broken(&report.base, why))),
        TestExit::Passed if change.inline_tests && !change.hunks.is_empty() => Ok(RedSide::ByHunk),
        TestExit::Passed => Err(closed(words::already_pass(report))),
        // The names say whether the failure is one of a flaky test.
        TestExit::Failed { .. } | TestExit::Died { .. } if run.named().is_some() => {
            Ok(RedSide::Seen)
        }
        // By exit code, a flaky base could have failed without the new tests too.
        TestExit::Failed { .. } if base_is_flaky && runs.len() <= rerun_limit(report) => {
            Err(GateVerdict::Run(GateRun::Red))
        }
        // A base that hangs with the new tests alone shows an endless loop.
        TestExit::Failed { .. } | TestExit::Died { .. } => Ok(RedSide::Seen),
    }
}

fn green(report: &GateReport, base_is_flaky: bool) -> Rule<()> {
    let runs = steady(report, GateRun::Green)?;
    let Some(run) = runs.last() else { return Err(GateVerdict::Run(GateRun::Green)) };
    match &run.exit {
        // Without names nobody can tell an old flaky test from a new one.
        TestExit::Passed if runs.len() > 1 && !base_is_flaky && run.named().is_none() => {
            Err(closed(words::flaky_head(runs)))
        }
        // Otherwise a change that silences the runner would hide what it loses.
        TestExit::Passed if run.named().is_none() && base_is_named(report) => {
            Err(closed(words::silent_head()))
        }
        TestExit::Passed => Ok(()),
        TestExit::Missing { why } => Err(closed(words::broken(&report.head, why))),
        TestExit::Broken { why } => Err(GateVerdict::Broken(words::broken(&report.head, why))),
        TestExit::Failed { .. } | TestExit::Died { .. } => Err(closed(words::red_head(run))),
    }
}

/// Whether the base reported its tests by name.
fn base_is_named(report: &GateReport) -> bool {
    report.of(GateRun::Baseline).last().is_some_and(|run| run.named().is_some())
}

/// The repetitions of a run that is expected to pass, once they suffice: it passed, it can't pass,
/// or it failed as often as it is repeated.
fn steady(report: &GateReport, run: GateRun) -> Rule<&[TestRun]> {
    let runs = report.of(run);
    let again = match runs.last().map(|last| &last.exit) {
        _ if runs.iter().any(TestRun::passed) => false,
        None => true,
        Some(TestExit::Failed { .. }) => runs.len() <= rerun_limit(report),
        Some(
            TestExit::Passed
            | TestExit::Died { .. }
            | TestExit::Missing { .. }
            | TestExit::Broken { .. },
        ) => false,
    };
    if again { Err(GateVerdict::Run(run)) } else { Ok(runs) }
}

fn rerun_limit(report: &GateReport) -> usize {
    report.rules.reruns as usize
}

fn lost(report: &GateReport, names: &Comparison, concerns: &mut Vec<Concern>) -> Rule<()> {
    if names.lost.is_empty() {
        return Ok(());
    }
    let concern = Concern::Lost(names.lost.clone());
    match report.rules.class {
        // Under these labels tests change or go, and a human sees which.
        ChangeClass::TestsChange | ChangeClass::Removal => concerns.push(concern),
        ChangeClass::Behaviour | ChangeClass::Refactor | ChangeClass::NoTest => {
            let question = question(report, &[concern]);
            if !is_approved(report, &question) {
                let why = words::lost(&names.lost);
                return Err(GateVerdict::Closed { why, or_ask: Some(question) });
            }
        }
    }
    Ok(())
}

/// The runs without one group of source hunks each.
fn without(report: &GateReport) -> impl Iterator<Item = GateRun> {
    (0..report.change.hunks.len().min(HUNK_GROUPS)).map(GateRun::Without)
}

/// Takes the source hunks back, one group at a time, until a new test fails by name: that test needs
/// the hunk. An old one may fail only because one half of the change needs the other. A run that
/// fails without a name may be code that no longer compiles, and shows nothing.
fn by_hunk(report: &GateReport, concerns: &mut Vec<Concern>) -> Rule<()> {
    for run in without(report) {
        let Some(done) = report.of(run).last() else { return Err(GateVerdict::Run(run)) };
        if !compare::failing_without(report, done).is_empty() {
            return Ok(());
        }
    }
    concerns.push(Concern::OneHunk);
    Ok(())
}

/// Runs the tests of the base on the head, without those of the run: these could replace or silence
/// the old ones. A test that passed on the base must pass there by name.
fn old_tests(report: &GateReport, concerns: &mut Vec<Concern>) -> Rule<()> {
    let change = &report.change;
    let touched = [&change.old_tests, &change.protected, &change.tests];
    // Under this label the tests change, and what is lost by name is a concern of its own.
    if report.rules.class == ChangeClass::TestsChange || touched.iter().all(|f| f.is_empty()) {
        return Ok(());
    }
    let runs = steady(report, GateRun::OldTests)?;
    let failing = compare::failing_of_the_base(report);
    if !runs.last().is_some_and(TestRun::passed) || !failing.is_empty() {
        concerns.push(Concern::OldTests(failing));
    }
    Ok(())
}

/// Takes further hunks back for the report, for as long as the whole gate stays within its cost.
fn needed(report: &GateReport) -> Rule<()> {
    if !report.rules.needed || report.change.is_exempt() {
        return Ok(());
    }
    let first = |run| report.of(run).first().map_or(0, |run| run.took_ms);
    let bound = (first(GateRun::Red) + first(GateRun::Green)) * REPORT_TENTHS / 10;
    let paid = report.runs.iter().filter(|(run, _)| **run != GateRun::Baseline);
    let spent: u64 = paid.flat_map(|(_, runs)| runs).map(|run| run.took_ms).sum();
    let next = first(GateRun::Green);
    match without(report).find(|run| report.of(*run).is_empty()) {
        Some(run) if spent + next <= bound.max(REPORT_FLOOR_MS) => Err(GateVerdict::Run(run)),
        _ => Ok(()),
    }
}

/// Whether a test needs a group of source hunks; none if the gate did not take it back.
#[must_use]
pub fn is_needed(report: &GateReport, index: usize) -> Option<bool> {
    report.of(GateRun::Without(index)).last().map(|run| !run.passed())
}

fn closed(why: Untrusted) -> GateVerdict {
    GateVerdict::Closed { why, or_ask: None }
}
