//! Decision table T4: the verdict on a commit from all of its checks. The CI adapter for GitHub
//! calls it on every poll whose fetch succeeded.
//!
//! | # | fact | verdict |
//! | --- | --- | --- |
//! | 0 | the branch lacks the commit | LOST |
//! | 1 | nothing can be read with this token | UNREADABLE: a human, at once |
//! | 2 | a red check of the required ones, or of all where none is required | RED |
//! | 3 | a required check is missing | PENDING; STUCK after the deadline while a check, suite or run hasn't ended, else NO CI after its own; UNREADABLE once all is quiet, where a source can't be read |
//! | 4 | nothing at all | the same |
//! | 5 | a pending check, or (where none is required) a suite or run that isn't completed | PENDING; STUCK after the deadline |
//! | 6 | cancelled because the branch moved on | SUPERSEDED |
//! | 7 | no check passed | as 4 |
//! | 8 | a suite appeared or a check ended less than the quiet time ago | PENDING |
//! | 9 | otherwise | GREEN |
//!
//! The age counts on afk's clock, from its own push. The quiet time counts on the service's clock, since
//! the times of its checks are the service's.

use std::collections::BTreeSet;

use super::check::{current, state};
use super::suite::{Suite, WorkflowRun, replaced, states};
use crate::tables::check::{Check, CheckState};

/// The facts about a commit that the table reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommitChecks {
    /// Whether the remote branch still contains the commit.
    pub ancestor: bool,
    /// Whether the branch has newer commits.
    pub moved: bool,
    /// Every repeat of every check.
    pub checks: Vec<Check>,
    /// The workflow runs of the commit, as far as the token may read them.
    pub runs: Vec<WorkflowRun>,
    /// The check suites of the commit, as far as the token may read them.
    pub suites: Vec<Suite>,
    /// The sources that the token may not read.
    pub unread: Unread,
    /// The names of checks that must pass, from the configuration and the branch rules. When empty,
    /// every check must pass.
    pub required: Vec<String>,
    /// The time since the push by afk's clock, in milliseconds.
    pub age: i64,
    /// The time since a suite appeared or a check ended, in milliseconds.
    pub quiet: i64,
    /// The quiet time that a green commit needs, in milliseconds.
    pub quiet_needed: i64,
}

/// How much of a commit's checks the token may not read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Unread {
    /// Everything can be read.
    #[default]
    Nothing,
    /// One source of checks can't be read, and others can.
    Some,
    /// No source can be read.
    All,
}

/// afk's own deadlines, counted from the push in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deadlines {
    /// The deadline by which a check must have appeared.
    pub appear: i64,
    /// The deadline by which a check must have ended.
    pub run: i64,
}

/// The default time without a new suite or an ended check before a commit can be green, in
/// milliseconds.
pub const QUIET: i64 = 30_000;

/// The name of a check that is missing where none is required.
const ANY: &str = "any check";

/// The verdict on a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CommitVerdict {
    /// The branch no longer contains the commit.
    Lost,
    /// The named checks failed.
    Red(Vec<String>),
    /// The named checks failed, and only a person can fix them.
    RedForHuman(Vec<String>),
    /// The commit waits for the named check or condition.
    Pending(String),
    /// The named check never appeared.
    NoCi(String),
    /// The named check may be in a source that the token can't read.
    Unreadable(String),
    /// The named checks never ended.
    Stuck(Vec<String>),
    /// The checks were cancelled, because the branch moved on.
    Superseded,
    /// All checks are good, and so many of them passed.
    Green(usize),
}

/// Applies the table. The caller skips it when a fetch fails.
#[must_use]
pub fn judge(seen: &CommitChecks, deadlines: Deadlines) -> CommitVerdict {
    if !seen.ancestor {
        return CommitVerdict::Lost;
    }
    if seen.unread == Unread::All {
        return CommitVerdict::Unreadable(ANY.into());
    }
    let all = states_of(seen);
    let said: Vec<&CheckSummary> = all.iter().filter(|one| one.decides).collect();
    let names = |wanted: &[CheckState]| -> Vec<String> {
        let those = said.iter().filter(|one| wanted.contains(&one.state));
        those.map(|one| one.name.clone()).collect()
    };
    let red = names(&[CheckState::Red]);
    if !red.is_empty() {
        return CommitVerdict::Red(red);
    }
    let human = names(&[CheckState::RedForHuman]);
    if !human.is_empty() {
        return CommitVerdict::RedForHuman(human);
    }
    let missing = seen.required.iter().find(|name| !said.iter().any(|one| one.name == **name));
    if let Some(name) = missing {
        let open = |one: &CheckSummary| OPEN.contains(&one.state);
        return appears(
            seen,
            deadlines,
            &format!("the required check {name}"),
            all.iter().any(open),
        );
    }
    if said.is_empty() {
        return appears(seen, deadlines, ANY, false);
    }
    let pending = names(&OPEN);
    if !pending.is_empty() {
        if seen.age >= deadlines.run {
            return CommitVerdict::Stuck(pending);
        }
        let approval = names(&[CheckState::NeedsApproval]);
        let what = if approval.is_empty() {
            pending.join(", ")
        } else {
            format!("{}: needs approval", approval.join(", "))
        };
        return CommitVerdict::Pending(what);
    }
    if said.iter().any(|one| one.state == CheckState::Superseded) {
        return CommitVerdict::Superseded;
    }
    let passed = names(&[CheckState::Pass]).len();
    if passed == 0 {
        // Skipped and neutral checks alone are no signal.
        return appears(seen, deadlines, "a successful check", false);
    }
    if seen.quiet < seen.quiet_needed {
        return CommitVerdict::Pending("further checks that may appear".into());
    }
    CommitVerdict::Green(passed)
}

/// The states of what has not ended.
const OPEN: [CheckState; 2] = [CheckState::Pending, CheckState::NeedsApproval];

/// Rows 3, 4 and 7: `missing` is awaited. `open`: something else of the commit has not ended, so
/// that it may still come.
fn appears(seen: &CommitChecks, deadlines: Deadlines, missing: &str, open: bool) -> CommitVerdict {
    let is_quiet = seen.quiet.min(seen.age) >= 2 * seen.quiet_needed;
    if open && seen.age >= deadlines.run {
        CommitVerdict::Stuck(vec![missing.to_owned()])
    } else if !open && seen.unread == Unread::Some && is_quiet {
        CommitVerdict::Unreadable(missing.to_owned())
    } else if !open && seen.age >= deadlines.appear {
        CommitVerdict::NoCi(missing.to_owned())
    } else {
        CommitVerdict::Pending(missing.to_owned())
    }
}

/// A check, a suite or a run with its state.
struct CheckSummary {
    name: String,
    state: CheckState,
    /// Whether it is required, or nothing is.
    decides: bool,
}

/// The states of all checks, and of the suites and runs that add something to their checks.
fn states_of(seen: &CommitChecks) -> Vec<CheckSummary> {
    let replaced: BTreeSet<u64> = replaced(&seen.runs);
    let lasts = |suite: u64| suite == 0 || !replaced.contains(&suite);
    let checks: Vec<Check> =
        seen.checks.iter().filter(|check| lasts(check.suite())).cloned().collect();
    let runs: Vec<&WorkflowRun> = seen.runs.iter().filter(|run| lasts(run.suite)).collect();
    let suites: Vec<&Suite> = seen.suites.iter().filter(|suite| lasts(suite.id)).collect();
    let all_decide = seen.required.is_empty();
    let of_check = |check: &Check| {
        let name = check.identity.name().to_owned();
        let decides = all_decide || seen.required.contains(&name);
        CheckSummary { name, state: state(check, seen.moved), decides }
    };
    let of_group = |(name, state)| CheckSummary { name, state, decides: all_decide };
    let groups = states(&runs, &suites, &checks, seen.moved);
    current(&checks).into_iter().map(of_check).chain(groups.into_iter().map(of_group)).collect()
}

#[cfg(test)]
mod tests {
    use super::super::check::CheckIdentity;
    use super::*;

    const DEADLINES: Deadlines = Deadlines { appear: 600_000, run: 3_600_000 };

    fn check(name: &str, status: &str) -> Check {
        Check {
            identity: CheckIdentity::Status { context: name.into() },
            id: 1,
            status: status.into(),
            conclusion: None,
            began: None,
            ended: None,
            url: None,
        }
    }

    fn seen(checks: &[(&str, &str)]) -> CommitChecks {
        CommitChecks {
            ancestor: true,
            moved: false,
            checks: checks.iter().map(|(name, status)| check(name, status)).collect(),
            runs: vec![],
            suites: vec![],
            unread: Unread::Nothing,
            required: vec![],
            age: 60_000,
            quiet: QUIET,
            quiet_needed: QUIET,
        }
    }

    #[test]
    fn judge_follows_every_row() {
        let names = |all: &[&str]| all.iter().map(|&n| n.to_owned()).collect::<Vec<_>>();
        let late = |seen: CommitChecks| CommitChecks { age: 600_000, ..seen };
        let ages = |seen: CommitChecks| CommitChecks { age: 3_600_000, ..seen };
        let requires =
            |seen: CommitChecks, all: &[&str]| CommitChecks { required: names(all), ..seen };
        let any = "any check";
        for (row, seen, verdict) in [
            (
                "0",
                CommitChecks { ancestor: false, ..seen(&[("a", "success")]) },
                CommitVerdict::Lost,
            ),
            ("2", seen(&[("a", "failure"), ("b", "pending")]), CommitVerdict::Red(names(&["a"]))),
            (
                "2 required only",
                requires(seen(&[("a", "failure"), ("b", "success")]), &["b"]),
                CommitVerdict::Green(1),
            ),
            (
                "2 human",
                seen(&[("a", "action_required")]),
                CommitVerdict::RedForHuman(names(&["a"])),
            ),
            (
                "3",
                requires(seen(&[("a", "success")]), &["a", "b"]),
                CommitVerdict::Pending("the required check b".into()),
            ),
            (
                "3 late",
                late(requires(seen(&[("a", "success")]), &["a", "b"])),
                CommitVerdict::NoCi("the required check b".into()),
            ),
            (
                "3 while another check runs",
                late(requires(seen(&[("a", "pending")]), &["b"])),
                CommitVerdict::Pending("the required check b".into()),
            ),
            (
                "3 while another check runs for ever",
                ages(requires(seen(&[("a", "pending")]), &["b"])),
                CommitVerdict::Stuck(names(&["the required check b"])),
            ),
            ("4", seen(&[]), CommitVerdict::Pending(any.into())),
            ("4 late", late(seen(&[])), CommitVerdict::NoCi(any.into())),
            (
                "5",
                late(seen(&[("a", "success"), ("b", "pending")])),
                CommitVerdict::Pending("b".into()),
            ),
            ("5 late", ages(seen(&[("b", "pending")])), CommitVerdict::Stuck(names(&["b"]))),
            (
                "5 approval",
                seen(&[("b", "waiting")]),
                CommitVerdict::Pending("b: needs approval".into()),
            ),
            ("9", seen(&[("a", "success"), ("b", "skipped")]), CommitVerdict::Green(1)),
            (
                "8",
                CommitChecks { quiet: QUIET - 1, ..seen(&[("a", "success")]) },
                CommitVerdict::Pending("further checks that may appear".into()),
            ),
            (
                "7",
                late(seen(&[("a", "skipped"), ("b", "neutral")])),
                CommitVerdict::NoCi("a successful check".into()),
            ),
            (
                "6",
                CommitChecks { moved: true, ..seen(&[("a", "cancelled"), ("b", "success")]) },
                CommitVerdict::Superseded,
            ),
        ] {
            assert_eq!(judge(&seen, DEADLINES), verdict, "row {row}");
        }
    }
    #[test]
    fn green_waits_for_suites_and_runs() {
        let run = |status: &str, conclusion: Option<&str>| WorkflowRun {
            id: 1,
            workflow: 7,
            name: "ci".into(),
            event: "push".into(),
            branch: "master".into(),
            suite: 10,
            status: status.into(),
            conclusion: conclusion.map(Into::into),
        };
        let built = || seen(&[("build", "success")]);
        // `test` needs `build`, so that it isn't there yet.
        let between = CommitChecks { runs: vec![run("in_progress", None)], ..built() };
        let what = "the workflow ci".to_owned();
        assert_eq!(judge(&between, DEADLINES), CommitVerdict::Pending(what.clone()));
        let late = CommitChecks { age: 3_600_000, ..between.clone() };
        assert_eq!(judge(&late, DEADLINES), CommitVerdict::Stuck(vec![what.clone()]));
        let required = CommitChecks { required: vec!["build".into()], ..between };
        assert_eq!(judge(&required, DEADLINES), CommitVerdict::Green(1), "as branch rules");
        let done = CommitChecks { runs: vec![run("completed", Some("success"))], ..built() };
        assert_eq!(judge(&done, DEADLINES), CommitVerdict::Green(1));
        let broken = run("completed", Some("startup_failure"));
        let broken = CommitChecks { runs: vec![broken], ..built() };
        assert_eq!(judge(&broken, DEADLINES), CommitVerdict::Red(vec![what]));
        let idle =
            Suite { id: 3, app: "renovate".into(), status: "queued".into(), ..Suite::default() };
        let idle = CommitChecks { suites: vec![idle], ..built() };
        assert_eq!(judge(&idle, DEADLINES), CommitVerdict::Green(1), "it would wait for ever");
    }

    #[test]
    fn replaced_run_takes_its_checks_along() {
        let run = |id: u64, workflow: u64| WorkflowRun {
            id,
            workflow,
            event: "push".into(),
            suite: id * 10,
            status: "completed".into(),
            conclusion: Some("success".into()),
            ..WorkflowRun::default()
        };
        let check = |suite: u64, conclusion: &str| Check {
            identity: CheckIdentity::Run { app: "github-actions".into(), suite, name: "t".into() },
            id: suite,
            status: "completed".into(),
            conclusion: Some(conclusion.into()),
            ..check("t", "")
        };
        let checks = vec![check(10, "failure"), check(20, "success")];
        let of = |runs| CommitChecks { runs, checks: checks.clone(), ..seen(&[]) };
        assert_eq!(judge(&of(vec![run(1, 7), run(2, 7)]), DEADLINES), CommitVerdict::Green(1));
        // Two files with one name and one job name: the older red counts.
        let red = CommitVerdict::Red(vec!["t".into()]);
        assert_eq!(judge(&of(vec![run(1, 7), run(2, 8)]), DEADLINES), red);
        assert_eq!(judge(&of(vec![]), DEADLINES), red, "where runs can't be read");
    }

    #[test]
    fn unreadable_source_is_said_and_the_rest_decides() {
        let some = |seen: CommitChecks| CommitChecks { unread: Unread::Some, ..seen };
        let asks = |what: &str| CommitVerdict::Unreadable(what.into());
        let none = CommitChecks { unread: Unread::All, age: 0, ..seen(&[]) };
        assert_eq!(judge(&none, DEADLINES), asks("any check"), "1");
        assert_eq!(judge(&some(seen(&[("a", "success")])), DEADLINES), CommitVerdict::Green(1));
        let quiet = |seen: CommitChecks| CommitChecks { quiet: 2 * QUIET, ..some(seen) };
        assert_eq!(judge(&quiet(seen(&[])), DEADLINES), asks("any check"), "4");
        let young = CommitChecks { age: 2 * QUIET - 1, ..quiet(seen(&[])) };
        assert_eq!(judge(&young, DEADLINES), CommitVerdict::Pending("any check".into()), "4");
        let requires = |seen: CommitChecks| CommitChecks { required: vec!["b".into()], ..seen };
        let what = "the required check b";
        assert_eq!(judge(&requires(quiet(seen(&[("a", "success")]))), DEADLINES), asks(what), "3");
        let open = requires(quiet(seen(&[("a", "pending")])));
        assert_eq!(judge(&open, DEADLINES), CommitVerdict::Pending(what.into()), "3, it may come");
    }
}
