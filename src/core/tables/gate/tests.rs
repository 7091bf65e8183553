//! A test for each row of the table, and properties that hold for every report.

use proptest::prelude::*;

use super::*;
use crate::model::gate_report::{GateRules, Unready};
use crate::model::id::Sha;
use crate::model::test_report::{TestOutcome, TestReport};

/// A report on a change of one source file and one new test file, before any run.
fn report() -> GateReport {
    let rules = GateRules { needed: false, ..GateRules::default() };
    let mut report = GateReport::new(Sha("base0000".into()), Sha("head0000".into()), rules);
    report.change.tests = vec!["tests/new.sh".into()];
    report.change.sources = vec!["src/lib.sh".into()];
    report.change.hunks = vec!["src/lib.sh:1".into()];
    report
}

fn passed() -> TestRun {
    TestRun::new(TestExit::Passed)
}

fn failed() -> TestRun {
    TestRun::new(TestExit::Failed { code: 1, log: "the log".into() })
}

/// A run with names: `+name` passed, `-name` failed, `~name` was skipped.
fn named(names: &[&str]) -> TestRun {
    let mut all = TestReport::default();
    for name in names {
        let outcome = match &name[..1] {
            "+" => TestOutcome::Passed,
            "-" => TestOutcome::Failed,
            _ => TestOutcome::Skipped,
        };
        all.record(name[1..].into(), outcome);
    }
    let red = all.with(TestOutcome::Failed).next().is_some();
    TestRun { names: Some(all), ..if red { failed() } else { passed() } }
}

/// Answers the table's wishes until it decides: the last result of a run stands for its repetitions.
fn decided(mut report: GateReport, results: &[(GateRun, TestRun)]) -> GateVerdict {
    for _ in 0..40 {
        match report.verdict() {
            GateVerdict::Run(run) => {
                let of: Vec<&TestRun> =
                    results.iter().filter(|(known, _)| *known == run).map(|(_, r)| r).collect();
                let index = report.of(run).len().min(of.len().saturating_sub(1));
                // Without another result, the head passes what the base passes.
                let base = report.of(B).last();
                let same = base.filter(|_| run == GateRun::OldTests);
                let result = of.get(index).copied().or(same);
                let result = result.unwrap_or_else(|| panic!("{run:?} was not expected"));
                let result = result.clone();
                report.record(run, result);
            }
            verdict => return verdict,
        }
    }
    panic!("the gate does not decide");
}

fn closed_because(verdict: &GateVerdict) -> String {
    match verdict {
        GateVerdict::Closed { why, .. } => why.as_received().to_owned(),
        other => panic!("not closed: {other:?}"),
    }
}

fn broken_because(verdict: &GateVerdict) -> String {
    match verdict {
        GateVerdict::Broken(why) => why.as_received().to_owned(),
        other => panic!("not broken: {other:?}"),
    }
}

fn asked(verdict: GateVerdict) -> GateQuestion {
    match verdict {
        GateVerdict::Ask(question) => question,
        other => panic!("nobody is asked: {other:?}"),
    }
}

const B: GateRun = GateRun::Baseline;
const R: GateRun = GateRun::Red;
const G: GateRun = GateRun::Green;
const K: GateRun = GateRun::OldTests;

#[test]
fn red_then_green_opens() {
    let runs = [(B, passed()), (R, failed()), (G, passed())];
    assert_eq!(decided(report(), &runs), GateVerdict::Open);
}

#[test]
fn red_base_is_broken_and_needs_no_other_run() {
    let why = broken_because(&decided(report(), &[(B, failed())]));
    assert!(why.starts_with("Your suite is red on base0000 without any change"), "{why}");
    let why = broken_because(&decided(report(), &[(B, named(&["-a", "+b"]))]));
    assert!(why.contains("1 test fails there:\n- a\n"), "{why}");
}

#[test]
fn base_that_is_not_ready_is_told_apart_from_a_failing_test() {
    for (log, words) in [
        ("ModuleNotFoundError: No module named 'x'", "A dependency is missing"),
        ("connect ECONNREFUSED 127.0.0.1:5432", "out of reach"),
        ("sh: 1: jq: not found", "A program is missing"),
        ("write: No space left on device", "The disk is full"),
    ] {
        let run = TestRun::new(TestExit::Failed { code: 1, log: log.into() });
        let why = broken_because(&decided(report(), &[(B, run)]));
        assert!(why.contains(words), "{log}: {why}");
    }
}

#[test]
fn flaky_base_must_be_red_each_time_without_names() {
    let flaky = [(B, failed()), (B, passed())];
    let once = [&flaky[..], &[(R, failed()), (R, passed()), (G, passed())]].concat();
    closed_because(&decided(report(), &once));
    let steady = [&flaky[..], &[(R, failed()), (G, passed())]].concat();
    assert_eq!(decided(report(), &steady), GateVerdict::Open);
}

#[test]
fn test_that_passes_on_the_base_closes() {
    let why = closed_because(&decided(report(), &[(B, passed()), (R, passed())]));
    assert!(why.contains("already pass") && why.contains("- tests/new.sh"), "{why}");
}

#[test]
fn endless_loop_on_the_base_is_red() {
    let died = TestRun::new(TestExit::Died { how: "ran too long".into(), log: "".into() });
    let runs = [(B, passed()), (R, died.clone()), (G, passed())];
    assert_eq!(decided(report(), &runs), GateVerdict::Open);
    let why = closed_because(&decided(report(), &[(B, passed()), (R, failed()), (G, died)]));
    assert!(why.contains("ran too long"), "{why}");
}

#[test]
fn failing_setup_is_broken_on_every_side() {
    let broken = || TestRun::new(TestExit::Broken { why: "make: not found".into() });
    for runs in [
        vec![(B, broken())],
        vec![(B, passed()), (R, broken())],
        vec![(B, passed()), (R, failed()), (G, broken())],
    ] {
        let why = broken_because(&decided(report(), &runs));
        assert!(why.contains("make: not found"), "{why}");
    }
}

#[test]
fn failing_head_closes_after_each_repetition() {
    let why = closed_because(&decided(report(), &[(B, passed()), (R, failed()), (G, failed())]));
    assert!(why.contains("exits with 1"), "{why}");
    let runs = [(B, passed()), (R, failed()), (G, failed()), (G, passed())];
    let why = closed_because(&decided(report(), &runs));
    assert!(why.contains("pass and fail"), "{why}");
}

#[test]
fn old_flaky_test_is_no_blame_and_no_proof() {
    let base = named(&["+old"]);
    // The head meets the flaky test first, and the base shows it when it runs as often.
    let runs = [
        (B, base.clone()),
        (B, named(&["-old"])),
        (R, named(&["+old", "-new"])),
        (G, named(&["-old", "+new"])),
        (G, named(&["+old", "+new"])),
        (K, base.clone()),
    ];
    assert_eq!(decided(report(), &runs), GateVerdict::Open);
    // The only red test is one that fails now and then.
    let runs = [
        (B, named(&["-old"])),
        (B, base),
        (R, named(&["-old", "+new"])),
        (G, named(&["+old", "+new"])),
    ];
    let why = closed_because(&decided(report(), &runs));
    assert!(why.contains("no test that fails there passes"), "{why}");
}

#[test]
fn old_test_that_fails_once_with_the_new_tests_is_no_proof() {
    let base = named(&["+old", "+moody"]);
    let new = named(&["+old", "+moody", "+new"]);
    let moody = named(&["+old", "-moody", "+new"]);
    let flaky = [(B, base.clone()), (R, moody.clone()), (R, new.clone()), (G, new.clone())];
    let why = closed_because(&decided(report(), &flaky));
    assert!(why.contains("already pass") || why.contains("fails without"), "{why}");
    // A test that the change edited fails each time.
    let mut report = report();
    report.change.old_tests = vec!["tests/moody.sh".into()];
    let edited = [(B, base), (R, moody.clone()), (R, moody), (G, new)];
    assert_eq!(decided(report, &edited), GateVerdict::Open);
}

#[test]
fn lost_tests_close_with_their_names() {
    for head in [&["+new"][..], &["~old", "+new"]] {
        let runs = [(B, named(&["+old"])), (R, named(&["+old", "-new"])), (G, named(head))];
        let verdict = decided(report(), &runs);
        let why = closed_because(&verdict);
        assert!(why.contains("1 test that passed") && why.contains("- old\n"), "{why}");
        let GateVerdict::Closed { or_ask: Some(question), .. } = verdict else {
            panic!("a human can't be asked");
        };
        let mut approved = report();
        approved.rules.approved = Some(question.digest);
        assert_eq!(decided(approved, &runs), GateVerdict::Open);
    }
}

#[test]
fn removal_that_is_allowed_or_a_new_name_loses_nothing() {
    let runs = [
        (B, named(&["+a::old", "+a::kept"])),
        (R, named(&["+a::kept", "-new"])),
        (G, named(&["+b::old", "+a::kept", "+new"])),
    ];
    closed_because(&decided(report(), &runs));
    let mut moved = report();
    moved.change.diff = "-    fn old() {\n@@\n+fn old() {\n".into();
    assert_eq!(decided(moved, &runs), GateVerdict::Open, "moved to another module");
    let runs = [
        (B, named(&["+a::old", "+a::kept"])),
        (R, named(&["+a::kept", "-new"])),
        (G, named(&["+a::kept", "+new", "+a::fresh"])),
    ];
    closed_because(&decided(report(), &runs));
    let mut renamed = report();
    renamed.change.diff = "@@\n-fn old() {\n+fn fresh() {\n".into();
    assert_eq!(decided(renamed, &runs), GateVerdict::Open, "renamed in its place");
    let mut allowed = report();
    allowed.rules.allow_removed = vec!["a::*".into()];
    assert_eq!(decided(allowed, &runs), GateVerdict::Open);
}

#[test]
fn edited_old_tests_ask_a_human_where_the_head_fails_them() {
    let edited = || {
        let mut edited = report();
        edited.change.old_tests = vec!["tests/old.sh".into()];
        edited.change.diff = "-true\n+false\n".into();
        edited
    };
    let runs = [(B, passed()), (R, failed()), (G, passed())];
    let with = |k| [&runs[..], &[(K, k)]].concat();
    assert_eq!(decided(edited(), &with(passed())), GateVerdict::Open);
    let question = asked(decided(edited(), &with(failed())));
    assert!(question.line.contains("tests/old.sh"), "{}", question.line);
    assert!(question.detail.as_received().ends_with("-true\n+false\n"));
    let mut approved = edited();
    approved.rules.approved = Some(question.digest);
    assert_eq!(decided(approved.clone(), &with(failed())), GateVerdict::Open);
    approved.change.diff = "-true\n+exit 0\n".into();
    asked(decided(approved, &with(failed())));
    let mut labelled = edited();
    labelled.rules.class = ChangeClass::TestsChange;
    assert_eq!(decided(labelled, &runs), GateVerdict::Open);
}

#[test]
fn new_name_stands_for_one_lost_test_alone() {
    let mut report = report();
    report.change.diff = "-fn t_old_a() {\n-\n-fn t_old_b() {\n+fn t_merged() {\n".into();
    let old = ["+t_old_a", "+t_old_b"];
    let red = ["+t_old_a", "+t_old_b", "-t_merged"];
    let runs = [(B, named(&old)), (R, named(&red)), (G, named(&["+t_merged"]))];
    let why = closed_because(&decided(report, &runs));
    assert!(why.contains("t_old_b") && !why.contains("t_old_a"), "{why}");
}

#[test]
fn deleted_test_file_asks_where_no_names_show_the_loss() {
    let mut report = report();
    report.change.old_tests = vec!["tests/old.sh".into()];
    report.change.deleted_tests = vec!["tests/old.sh".into()];
    let results = [(B, passed()), (R, failed()), (G, passed())];
    let question = asked(decided(report.clone(), &results));
    assert!(question.line.contains("deletes tests") && question.line.contains("tests/old.sh"));
    report.rules.approved = Some(question.digest);
    assert_eq!(decided(report.clone(), &results), GateVerdict::Open);
    // With names, the lost tests are named themselves.
    report.rules.approved = None;
    let names = [(B, named(&["+a"])), (R, named(&["+a", "-new"])), (G, named(&["+a", "+new"]))];
    assert_eq!(decided(report, &names), GateVerdict::Open);
}

#[test]
fn protected_file_always_asks() {
    let mut protected = report();
    protected.change.protected = vec!["test.sh".into()];
    let runs = [(B, passed()), (R, failed()), (G, passed()), (K, passed())];
    let question = asked(decided(protected, &runs));
    assert!(question.line.contains("test.sh"), "{}", question.line);
}

#[test]
fn exempt_files_need_no_red_side() {
    let mut exempt = report();
    exempt.change = crate::model::gate_report::ProposedChange::default();
    assert_eq!(decided(exempt.clone(), &[(B, passed()), (G, passed())]), GateVerdict::Open);
    closed_because(&decided(exempt, &[(B, passed()), (G, failed())]));
}

#[test]
fn classes_without_a_new_test_keep_what_was_tested() {
    let of = |class| {
        let mut report = report();
        report.change.tests.clear();
        report.rules.class = class;
        report
    };
    let keeps = [(B, named(&["+a"])), (G, named(&["+a"]))];
    let loses = [(B, named(&["+a", "+b"])), (G, named(&["+a"]))];
    assert_eq!(decided(of(ChangeClass::Refactor), &keeps), GateVerdict::Open);
    closed_because(&decided(of(ChangeClass::Refactor), &loses));
    asked(decided(of(ChangeClass::NoTest), &keeps));
    closed_because(&decided(of(ChangeClass::NoTest), &loses));
    let question = asked(decided(of(ChangeClass::Removal), &loses));
    assert!(question.line.contains("1 lost test that passed before: b"), "{}", question.line);
}

#[test]
fn change_without_a_test_is_proven_by_a_hunk_that_a_named_test_needs() {
    let beside = || {
        let mut beside = report();
        beside.change.tests.clear();
        beside.change.inline_tests = true;
        beside.change.hunks = vec!["src/a.rs:1".into(), "src/a.rs:9".into()];
        beside
    };
    let (first, second) = (GateRun::Without(0), GateRun::Without(1));
    let green = [(B, named(&["+a"])), (G, named(&["+a", "+b"]))];
    let with = |runs: &[(GateRun, TestRun)]| [&green[..], runs].concat();
    let needed = with(&[(first, named(&["+a", "+b"])), (second, named(&["+a", "-b"]))]);
    assert_eq!(decided(beside(), &needed), GateVerdict::Open);
    // Code that no longer compiles shows nothing, and neither does an old test that fails.
    for run in [failed(), named(&["-a", "+b"])] {
        asked(decided(beside(), &with(&[(first, run.clone()), (second, run)])));
    }
    let mut no_test = beside();
    no_test.change.inline_tests = false;
    closed_because(&decided(no_test, &green));
    let mut nothing = beside();
    nothing.change.hunks.clear();
    closed_because(&decided(nothing, &green));
}

#[test]
fn old_test_that_fails_on_half_a_change_is_no_fail_to_pass() {
    let mut report = report();
    report.rules.needed = true;
    for (run, names) in [
        (B, vec!["+a"]),
        (R, vec!["+a", "-b"]),
        (G, vec!["+a", "+b"]),
        (GateRun::Without(0), vec!["-a", "-b"]),
    ] {
        report.record(run, named(&names));
    }
    let names = Comparison::of(&report).unwrap();
    assert_eq!(names.fail_to_pass, ["b".into()]);
}

#[test]
fn inline_test_is_laid_over_the_base_like_a_file() {
    let mut inline = report();
    inline.change.tests.clear();
    (inline.change.inline_tests, inline.change.inline_alone) = (true, true);
    let runs = [(B, passed()), (R, failed()), (G, passed())];
    assert_eq!(decided(inline.clone(), &runs), GateVerdict::Open);
    let trivial = [(B, passed()), (R, passed()), (G, passed()), (GateRun::Without(0), passed())];
    asked(decided(inline, &trivial));
}

#[test]
fn what_must_not_be_pushed_closes_before_any_run() {
    for (unready, words) in [
        (Unready::NoChange, "no change to push"),
        (Unready::CiSkipped, "Reword your commits"),
        (Unready::Unfit { why: "a merge".into() }, "a merge"),
        (
            Unready::Leaks { places: vec!["b: .env line 1: a key".into(); 25] },
            "- b: .env line 1: a key\n",
        ),
    ] {
        let mut report = report();
        report.unready = Some(unready);
        let why = closed_because(&report.verdict());
        assert!(why.contains(words), "{why}");
    }
}

#[test]
fn report_names_hunks_within_the_cost_of_the_gate() {
    // Red, green, the old tests and one hunk take twice as long as red and green.
    for (took_ms, expected) in [(3_000, 1), (80, HUNK_GROUPS)] {
        let mut wide = report();
        wide.rules.needed = true;
        wide.change.hunks = (0..20).map(|line| format!("a:{line}").as_str().into()).collect();
        let slow = |run: TestRun| TestRun { took_ms, ..run };
        for (run, result) in [(B, passed()), (R, failed()), (G, passed())] {
            wide.record(run, slow(result));
        }
        let mut further = 0;
        while let GateVerdict::Run(run) = wide.verdict() {
            wide.record(run, slow(passed()));
            further += usize::from(matches!(run, GateRun::Without(_)));
        }
        assert_eq!(further, expected, "runs of {took_ms} ms");
    }
}

fn any_exit() -> impl Strategy<Value = TestRun> {
    let outcome = prop_oneof![Just("+"), Just("-"), Just("~")];
    let names = proptest::collection::vec((outcome, 0_u8..4), 0..4);
    (0_u8..4, names).prop_map(|(exit, names)| {
        let names: Vec<String> = names.iter().map(|(how, n)| format!("{how}t{n}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let exit = match exit {
            0 | 1 => return named(&names),
            2 => TestExit::Died { how: "timed out".into(), log: "".into() },
            _ => TestExit::Broken { why: "no shell".into() },
        };
        TestRun { exit, ..named(&names) }
    })
}

proptest! {
    /// Whatever the runs report, the gate decides after few of them, and opens only where the base
    /// and the head passed at last.
    #[test]
    fn gate_decides_and_opens_only_on_green(
        results in proptest::collection::vec(any_exit(), 40),
        tests in 0_usize..2, old in 0_usize..2, protected in 0_usize..2, hunks in 0_usize..12,
        inline in any::<(bool, bool)>(), class in 0_usize..5, needed in any::<bool>(),
    ) {
        let mut report = report();
        report.change.tests.truncate(tests);
        report.change.old_tests = vec!["o".into(); old];
        report.change.protected = vec!["p".into(); protected];
        report.change.hunks = vec!["h".into(); hunks];
        (report.change.inline_tests, report.change.inline_alone) = (inline.0, inline.0 && inline.1);
        report.rules.needed = needed;
        report.rules.class = [
            ChangeClass::Behaviour, ChangeClass::Refactor, ChangeClass::TestsChange,
            ChangeClass::Removal, ChangeClass::NoTest,
        ][class];
        let mut results = results.into_iter();
        let verdict = loop {
            match report.verdict() {
                GateVerdict::Run(run) => {
                    let Some(result) = results.next() else {
                        return Err(TestCaseError::fail("the gate asks for ever"));
                    };
                    report.record(run, result);
                }
                verdict => break verdict,
            }
        };
        if verdict == GateVerdict::Open {
            prop_assert!(report.of(B).last().is_some_and(TestRun::passed));
            prop_assert!(report.of(G).last().is_some_and(TestRun::passed));
            prop_assert!(report.change.protected.is_empty());
        }
    }
}

#[test]
fn new_tests_never_stand_for_old_ones() {
    // With the new tests out of the way, an old one fails: they had replaced or silenced it.
    let runs = [
        (B, named(&["+old"])),
        (R, named(&["+old", "-new"])),
        (G, named(&["+old", "+new"])),
        (K, named(&["-old"])),
    ];
    let question = asked(decided(report(), &runs));
    assert!(question.line.contains("old version of old"), "{}", question.line);
    // A skipped old test is as lost as a failing one, whatever the exit code is.
    let runs = [&runs[..3], &[(K, named(&["~old"]))]].concat();
    asked(decided(report(), &runs));
    let runs = [(B, passed()), (R, failed()), (G, passed()), (K, failed())];
    asked(decided(report(), &runs));
}

#[test]
fn head_that_silences_the_runner_closes() {
    let runs = [(B, named(&["+old"])), (R, named(&["+old", "-new"])), (G, passed())];
    let why = closed_because(&decided(report(), &runs));
    assert!(why.contains("silences the runner"), "{why}");
}

#[test]
fn old_test_that_the_head_makes_flaky_is_lost() {
    let runs = [
        (B, named(&["+old"])),
        (R, named(&["+old", "-new"])),
        (G, named(&["-old", "+new"])),
        (G, named(&["+old", "+new"])),
    ];
    let why = closed_because(&decided(report(), &runs));
    assert!(why.contains("- old\n"), "{why}");
}

#[test]
fn same_files_that_failed_and_passed_close() {
    let mut contradicted = report();
    contradicted.rules.needed = true;
    for (run, result) in [(B, passed()), (R, failed()), (G, passed()), (K, passed())] {
        contradicted.record(run, TestRun { took_ms: 10, ..result });
    }
    contradicted.record(GateRun::Without(0), passed());
    let why = closed_because(&contradicted.verdict());
    assert!(why.contains("failed and passed"), "{why}");
}

#[test]
fn missing_program_on_the_red_side_is_red_and_on_the_head_the_agents() {
    let missing = || TestRun::new(TestExit::Missing { why: "tool: not found".into() });
    let runs = [(B, passed()), (R, missing()), (G, passed())];
    assert_eq!(decided(report(), &runs), GateVerdict::Open);
    let runs = [(B, passed()), (R, failed()), (G, missing())];
    let why = closed_because(&decided(report(), &runs));
    assert!(why.contains("tool: not found"), "{why}");
}

#[test]
fn change_of_nothing_but_protected_files_asks_without_a_red_side() {
    let mut only = report();
    only.change = crate::model::gate_report::ProposedChange {
        protected: vec!["ci.yml".into()],
        ..Default::default()
    };
    asked(decided(only, &[(B, passed()), (G, passed())]));
}

#[test]
fn red_side_without_a_test_of_the_change_proves_nothing() {
    // The run fails there, and everything that it names passes: the runner had another complaint.
    let red = TestRun { exit: failed().exit, ..named(&["+old"]) };
    let runs = [(B, named(&["+old"])), (R, red), (G, named(&["+old"]))];
    let why = closed_because(&decided(report(), &runs));
    assert!(why.contains("no test that fails there passes"), "{why}");
}
