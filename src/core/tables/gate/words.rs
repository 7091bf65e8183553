//! The explanations of the gate, for the agent that repairs its findings and for the human who is
//! asked.

use super::concern::Concern;
use crate::model::gate_report::{ChangeClass, GateReport, TestExit, TestRun, Unready};
use crate::model::id::Sha;
use crate::model::plural::plural;
use crate::model::test_report::{TestName, TestOutcome};
use crate::model::untrusted::Untrusted;

/// The most names that an explanation lists.
const NAMED: usize = 20;

/// A list with a line each, cut after [`NAMED`] of them.
fn list<'a>(names: impl ExactSizeIterator<Item = &'a Untrusted>) -> String {
    let count = names.len();
    let mut text = String::new();
    for name in names.take(NAMED) {
        text.push_str(&format!("- {}\n", name.clean_line()));
    }
    if count > NAMED {
        text.push_str(&format!("- and {} more\n", count - NAMED));
    }
    text
}

pub(super) fn unready(unready: &Unready, base: &Sha) -> Untrusted {
    match unready {
        Unready::NoChange => {
            "There is no change to push: no commit was made and no file differs.".into()
        }
        Unready::CiSkipped => "A commit message makes CI skip the commit, which is never allowed. \
                               Reword your commits."
            .into(),
        Unready::Unfit { why } => why.clone(),
        Unready::Leaks { places } => leaks(places, base).into(),
    }
}

/// The explanation for an agent whose commits can't be pushed.
fn leaks(places: &[Untrusted], base: &Sha) -> String {
    format!(
        "Your commits hold what must not be pushed:\n{}\nEvery commit is pushed, so another commit \
         that deletes it does not help. Rewrite your commits so that none of them holds it: for \
         example `git reset --soft {}`, take it out, and commit again. Delete or ignore files that \
         are no part of the change, because afk commits what is left over. A secret belongs into \
         the environment, never into the repository.",
        list(places.iter()),
        base.short()
    )
}

/// The end of a run in words, with the end of its log.
fn end_of(run: &TestRun) -> String {
    match &run.exit {
        TestExit::Passed => "exits with 0".into(),
        TestExit::Failed { code, log } => {
            format!("exits with {code}. The end of its output:\n{}", log.as_received())
        }
        TestExit::Died { how, log } => {
            format!("{}. The end of its output:\n{}", how.clean_line(), log.as_received())
        }
        TestExit::Missing { why } | TestExit::Broken { why } => why.as_received().to_owned(),
    }
}

/// The tests that failed in a run, by name; nothing where it reported none.
fn failing(run: &TestRun, place: &str) -> String {
    let names = run.named().into_iter().flat_map(|names| names.with(TestOutcome::Failed));
    let names: Vec<&Untrusted> = names.map(|name| &name.0).collect();
    if names.is_empty() {
        return String::new();
    }
    let count = plural(names.len(), "test");
    let verb = if names.len() == 1 { "fails" } else { "fail" };
    format!("{count} {verb} {place}:\n{}", list(names.into_iter()))
}

pub(super) fn red_base(base: &Sha, run: &TestRun) -> Untrusted {
    let names = failing(run, "there");
    let end = end_of(run);
    format!(
        "Your suite is red on {} without any change, so no test can prove anything. {}{names}The \
         test command {end}",
        base.short(),
        hint(&end)
    )
    .into()
}

/// What a log suggests beside a failing test: the machine is not ready for the tests.
fn hint(log: &str) -> &'static str {
    let log = log.to_ascii_lowercase();
    let has = |words: &[&str]| words.iter().any(|word| log.contains(word));
    if has(&["modulenotfounderror", "no module named", "cannot find module", "cannot find package"])
    {
        "A dependency is missing, which is no failing test: install it with `[setup] command`. "
    } else if has(&[
        "connection refused",
        "econnrefused",
        "could not resolve host",
        "name resolution",
    ]) {
        "A service or the network was out of reach, which is no failing test. "
    } else if has(&["no space left on device", "enospc"]) {
        "The disk is full, which is no failing test. "
    } else if has(&["command not found", ": not found"]) {
        "A program is missing, which is no failing test. "
    } else {
        ""
    }
}

pub(super) fn broken(at: &Sha, why: &Untrusted) -> Untrusted {
    format!("The tests can't be run on {}: {}", at.short(), why.as_received()).into()
}

pub(super) fn red_head(run: &TestRun) -> Untrusted {
    let names = failing(run, "on your commit");
    format!("{names}On your commit the test command {}", end_of(run)).into()
}

pub(super) fn flaky_head(runs: &[TestRun]) -> Untrusted {
    let failed = runs.iter().find(|run| !run.passed()).map(end_of).unwrap_or_default();
    format!(
        "On your commit the tests pass and fail, so they prove nothing. On the commit you started \
         from they passed at once. Make them steady. The failing run {failed}"
    )
    .into()
}

pub(super) fn silent_head() -> Untrusted {
    "On the commit you started from the tests are reported by name; on your commit the run reports \
     none, so nothing shows that they still pass. Undo what silences the runner."
        .into()
}

pub(super) fn contradiction() -> Untrusted {
    "The same files failed and passed: your tests fail on the commit you started from, and pass on \
     your commit without your change. Write a test that depends on nothing but the code."
        .into()
}

pub(super) fn already_pass(report: &GateReport) -> Untrusted {
    let files = list(report.change.tests.iter());
    format!(
        "Your new tests already pass on the commit you started from, so they prove nothing:\n\
         {files}Write a test that fails there and passes with your change."
    )
    .into()
}

pub(super) const fn no_fail_to_pass() -> &'static str {
    "The test command fails on the commit you started from with your tests, but no test that fails \
     there passes with your change. Write a test that fails there and passes with your change."
}

pub(super) fn no_tests() -> Untrusted {
    "No test was added or changed that fails without your change. Write one and commit it. Name its \
     file as `[gate] tests` in `.afk.toml` expects it; a test in the same file as the code must be \
     reported by its name."
        .into()
}

pub(super) fn lost(names: &[TestName]) -> Untrusted {
    format!(
        "Your commits delete, skip or break {} that passed on the commit you started from:\n\
         {}Restore what they test. If the issue asks for their end, leave them out and say so in \
         your last message: afk then asks a human.",
        plural(names.len(), "test"),
        list(names.iter().map(|name| &name.0))
    )
    .into()
}

/// A concern in one line.
pub(super) fn concern(report: &GateReport, concern: &Concern) -> String {
    let first = |files: &[Untrusted]| {
        let names: Vec<String> = files.iter().take(3).map(Untrusted::clean_line).collect();
        let more = files.len().saturating_sub(3);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        format!("{}{more}", names.join(", "))
    };
    match concern {
        Concern::Protected => format!(
            "the change edits what decides how the tests run: {}",
            first(&report.change.protected)
        ),
        Concern::OldTests(names) if !names.is_empty() => {
            let names: Vec<Untrusted> = names.iter().map(|name| name.0.clone()).collect();
            format!("the head fails the old version of {}", first(&names))
        }
        Concern::OldTests(_) => {
            let files = [&report.change.old_tests, &report.change.protected];
            match files.into_iter().find(|files| !files.is_empty()) {
                Some(files) => format!("the head fails the old version of {}", first(files)),
                None => "the head fails the tests of the base without the new ones".into(),
            }
        }
        Concern::Lost(names) => {
            let names: Vec<Untrusted> = names.iter().map(|name| name.0.clone()).collect();
            format!("{} that passed before: {}", plural(names.len(), "lost test"), first(&names))
        }
        Concern::DeletedTests => format!(
            "the change deletes tests, and no names show which are lost: {}",
            first(&report.change.deleted_tests)
        ),
        Concern::Class => match report.rules.class {
            ChangeClass::Removal => "the issue removes something, so no new test proves it".into(),
            class => format!("the issue is labelled {}, so no test proves it", class.as_str()),
        },
        Concern::OneHunk => {
            "the tests stand so close to the code that no run shows which code they need".into()
        }
    }
}
