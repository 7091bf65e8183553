//! Decision table T4, the suites and workflow runs of a commit: whether more of its checks can come, and
//! whether one failed without a check. The checks that are there say nothing about those that aren't, so
//! [`super::commit`] is green only once these are completed.
//!
//! | # | fact | result |
//! | --- | --- | --- |
//! | 1 | an older run of the same workflow, event and branch | replaced with its suite and its checks |
//! | 2 | a suite that is queued and has no check, of an app other than Actions | ignored: GitHub makes one for every installed app, also for those that never do anything |
//! | 2 | the same of Actions, two minutes after it appeared, where the runs can be read and none has it | ignored: nothing runs |
//! | 3 | one of its checks is pending | the check counts |
//! | 4 | waiting | PENDING, needs an approval |
//! | 5 | not completed, or completed without a known conclusion | PENDING |
//! | 6 | completed as failed, and none of its checks failed (a workflow file that can't start) | as a check with this conclusion (T3) |
//! | 7 | otherwise | its checks count |
//!
//! An app whose suite is ignored can still add a check later. Name such a check in `required`.

use std::collections::{BTreeMap, BTreeSet};

use super::check::{ACTIONS, Check, CheckState, current, state};

/// How long a workflow run may take to show after its suite, in milliseconds.
pub(crate) const LAG: i64 = 120_000;

/// A suite of checks: one for each app, and for Actions one for each workflow run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Suite {
    /// The identifier, which its checks name.
    pub id: u64,
    /// The name of its app, such as `github-actions`.
    pub app: String,
    /// The status, an open set of strings.
    pub status: String,
    /// The conclusion, an open set of strings; none before the end.
    pub conclusion: Option<String>,
    /// The number of its checks, as the service counts them.
    pub checks: u64,
    /// The time since it appeared by the service's clock, in milliseconds; none where the workflow runs
    /// can't be read, so that it is unknown whether one has it.
    pub unclaimed: Option<i64>,
}

/// One run of a workflow of Actions.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WorkflowRun {
    /// The identifier, the same in each attempt.
    pub id: u64,
    /// The identifier of the workflow's file.
    pub workflow: u64,
    /// The workflow's name, which others may have too.
    pub name: String,
    /// The event that started it: `push`, `schedule`, …
    pub event: String,
    /// The branch or tag of that event.
    pub branch: String,
    /// The suite of its checks.
    pub suite: u64,
    /// The status, an open set of strings.
    pub status: String,
    /// The conclusion, an open set of strings; none before the end.
    pub conclusion: Option<String>,
}

/// Row 1: the suites of the runs that a newer run replaced.
#[must_use]
pub fn replaced(runs: &[WorkflowRun]) -> BTreeSet<u64> {
    let mut newest: BTreeMap<(u64, &str, &str), &WorkflowRun> = BTreeMap::new();
    let mut replaced = BTreeSet::new();
    for run in runs {
        // Without the workflow's identifier, two runs have nothing in common.
        let key = (run.workflow, run.event.as_str(), run.branch.as_str());
        if run.workflow == 0 {
            continue;
        }
        match newest.get(&key) {
            Some(known) if known.id >= run.id => {
                replaced.insert(run.suite);
            }
            known => {
                replaced.extend(known.map(|known| known.suite));
                newest.insert(key, run);
            }
        }
    }
    // A run without a known suite replaces nothing, and each attempt of a run has the run's suite.
    replaced.remove(&0);
    for run in newest.values() {
        replaced.remove(&run.suite);
    }
    replaced
}

/// Rows 2 to 7: the groups that decide something beside their checks, with their names. The caller
/// passes only runs, suites and checks that row 1 left.
#[must_use]
pub(super) fn states(
    runs: &[&WorkflowRun],
    suites: &[&Suite],
    checks: &[Check],
    moved: bool,
) -> Vec<(String, CheckState)> {
    let counting = current(checks);
    let of = |suite: u64| counting.iter().filter(move |check| suite != 0 && check.suite() == suite);
    let judge = |suite: u64, status: &str, conclusion: Option<&str>| {
        let group = Check {
            identity: super::check::CheckIdentity::Status { context: String::new() },
            id: 0,
            status: status.to_owned(),
            conclusion: conclusion.map(str::to_owned),
            began: None,
            ended: None,
            url: None,
        };
        let waits = |state| matches!(state, CheckState::Pending | CheckState::NeedsApproval);
        let failed = |state| {
            let failures = [CheckState::Red, CheckState::RedForHuman, CheckState::Superseded];
            failures.contains(&state)
        };
        let group = if status == "completed" || status == "waiting" {
            state(&group, moved)
        } else {
            CheckState::Pending
        };
        let said_by_a_check = if waits(group) {
            of(suite).any(|check| waits(state(check, moved)))
        } else if failed(group) {
            // A replaced check may be the one that the conclusion is about.
            checks.iter().any(|check| check.suite() == suite && failed(state(check, moved)))
        } else {
            true
        };
        (!said_by_a_check).then_some(group)
    };
    let mut states = Vec::new();
    for run in runs {
        if let Some(state) = judge(run.suite, &run.status, run.conclusion.as_deref()) {
            states.push((format!("the workflow {}", run.name), state));
        }
    }
    for suite in suites {
        let run = runs.iter().find(|run| run.suite == suite.id);
        let is_empty = suite.checks == 0 && of(suite.id).next().is_none();
        let is_idle = match run {
            None => suite.app != ACTIONS || suite.unclaimed.is_some_and(|age| age >= LAG),
            Some(run) => run.status == "completed",
        };
        if suite.status == "queued" && is_empty && is_idle {
            continue;
        }
        // The run counts already.
        if run.is_some_and(|run| run.status != "completed" || suite.status == "completed") {
            continue;
        }
        if let Some(state) = judge(suite.id, &suite.status, suite.conclusion.as_deref()) {
            states.push((format!("the check suite of {}", suite.app), state));
        }
    }
    states
}

#[cfg(test)]
mod tests {
    use super::super::check::CheckIdentity;
    use super::*;

    fn run(id: u64, status: &str, conclusion: Option<&str>) -> WorkflowRun {
        WorkflowRun {
            id,
            workflow: 7,
            name: "ci".into(),
            event: "push".into(),
            branch: "master".into(),
            suite: id * 10,
            status: status.into(),
            conclusion: conclusion.map(Into::into),
        }
    }

    fn check(suite: u64, status: &str, conclusion: Option<&str>) -> Check {
        Check {
            identity: CheckIdentity::Run { app: ACTIONS.into(), suite, name: "test".into() },
            id: suite,
            status: status.into(),
            conclusion: conclusion.map(Into::into),
            began: None,
            ended: None,
            url: None,
        }
    }

    #[test]
    fn newer_run_replaces_one_of_the_same_workflow_event_and_branch() {
        let old = run(1, "completed", Some("failure"));
        let new = run(2, "completed", Some("success"));
        assert_eq!(replaced(&[old.clone(), new.clone()]), [10].into());
        assert_eq!(replaced(&[new.clone(), old.clone()]), [10].into(), "in any order");
        for other in [
            WorkflowRun { workflow: 8, ..new.clone() },
            WorkflowRun { event: "schedule".into(), ..new.clone() },
            WorkflowRun { branch: "release".into(), ..new.clone() },
            // A further attempt keeps the run's suite.
            WorkflowRun { suite: 10, ..new.clone() },
        ] {
            assert_eq!(replaced(&[old.clone(), other.clone()]), BTreeSet::new(), "{other:?}");
        }
    }

    #[test]
    fn states_follow_every_row() {
        use CheckState::{NeedsApproval, Pending, Red, RedForHuman};
        let passed = || check(10, "completed", Some("success"));
        let of_run = |status: &str, conclusion, checks: &[Check]| {
            states(&[&run(1, status, conclusion)], &[], checks, false).first().map(|(_, s)| *s)
        };
        assert_eq!(of_run("in_progress", None, &[passed()]), Some(Pending), "5");
        assert_eq!(of_run("queued", None, &[]), Some(Pending), "5");
        assert_eq!(of_run("completed", None, &[passed()]), Some(Pending), "5");
        assert_eq!(of_run("completed", Some("splendid"), &[passed()]), Some(Pending), "5");
        assert_eq!(of_run("in_progress", None, &[check(10, "queued", None)]), None, "3");
        assert_eq!(of_run("waiting", None, &[passed()]), Some(NeedsApproval), "4");
        assert_eq!(of_run("completed", Some("startup_failure"), &[]), Some(Red), "6");
        assert_eq!(of_run("completed", Some("failure"), &[passed()]), Some(Red), "6");
        assert_eq!(of_run("completed", Some("action_required"), &[]), Some(RedForHuman), "6");
        let mut failed = vec![check(10, "completed", Some("failure"))];
        assert_eq!(of_run("completed", Some("failure"), &failed), None, "7");
        failed.push(Check { id: 11, ..passed() });
        assert_eq!(of_run("completed", Some("failure"), &failed), None, "7, repeated");
        assert_eq!(of_run("completed", Some("success"), &[passed()]), None, "7");

        let suite = |app: &str, status: &str, checks| Suite {
            id: 10,
            app: app.into(),
            status: status.into(),
            conclusion: None,
            checks,
            unclaimed: Some(LAG - 1),
        };
        let of_suite = |suite: Suite, runs: &[&WorkflowRun]| {
            states(runs, &[&suite], &[passed()], false).first().map(|(_, state)| *state)
        };
        let other = |status, checks| Suite { id: 30, ..suite("renovate", status, checks) };
        assert_eq!(of_suite(other("queued", 0), &[]), None, "2");
        assert_eq!(of_suite(other("queued", 1), &[]), Some(Pending), "a check is about to show");
        assert_eq!(of_suite(other("in_progress", 0), &[]), Some(Pending), "5");
        let actions = |status| Suite { id: 30, ..suite(ACTIONS, status, 0) };
        assert_eq!(of_suite(actions("queued"), &[]), Some(Pending), "its run may not show yet");
        let old = |unclaimed| Suite { unclaimed, ..actions("queued") };
        assert_eq!(of_suite(old(Some(LAG)), &[]), None, "2");
        assert_eq!(of_suite(old(None), &[]), Some(Pending), "runs can't be read");
        let done = run(1, "completed", Some("success"));
        assert_eq!(of_suite(suite(ACTIONS, "in_progress", 1), &[&done]), Some(Pending), "5");
        let ended = Suite { conclusion: Some("success".into()), ..suite(ACTIONS, "completed", 1) };
        assert_eq!(of_suite(ended, &[&done]), None, "7");
    }
}
