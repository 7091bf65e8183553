//! Decision table T3: the state of one check of a commit, which is a check run or a commit status, and
//! which repeats of a check count. [`super::commit`] combines the checks into a verdict.
//!
//! | a newer check of the same identity | the older one |
//! | --- | --- |
//! | is skipped or neutral, and the older one is red | counts too: nothing has run again |
//! | Actions: began before the older one ended, or that one has not ended | counts too: two jobs with one name |
//! | otherwise, in a suite or with a context | is replaced: a true repeat |
//!
//! Names alone identify nothing: two workflow files can have one name, and their jobs too. The suite
//! tells them apart; [`super::suite`] drops the suites of workflow runs that a newer run replaced.

use std::collections::BTreeMap;

/// The app of GitHub's own CI.
pub const ACTIONS: &str = "github-actions";

/// One check as the CI reports it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// The fields that all repeats of a check share.
    pub identity: CheckIdentity,
    /// The identifier; of two repeats, the one with the higher identifier is newer.
    pub id: u64,
    /// The status, an open set of strings: `queued`, `completed`, `pending`, …
    pub status: String,
    /// The conclusion, an open set of strings; none before the end.
    pub conclusion: Option<String>,
    /// When it began and ended, in milliseconds by the CI's own clock; none where it isn't reported.
    pub began: Option<i64>,
    /// The end on the same clock.
    pub ended: Option<i64>,
    /// The address at which a person can read it.
    pub url: Option<String>,
}

impl Check {
    /// The suite that it belongs to; 0 for a commit status.
    #[must_use]
    pub const fn suite(&self) -> u64 {
        match self.identity {
            CheckIdentity::Run { suite, .. } => suite,
            CheckIdentity::Status { .. } => 0,
        }
    }

    /// Whether it is a repeat of `older`, an earlier check of the same identity.
    fn replaces(&self, older: &Self) -> bool {
        let was_red = matches!(state(older, false), CheckState::Red | CheckState::RedForHuman);
        if was_red && state(self, false) == CheckState::PassWeak {
            return false;
        }
        // Actions begins a repeat only after the end; other apps may leave the older check open.
        let is_actions = matches!(&self.identity, CheckIdentity::Run { app, .. } if app == ACTIONS);
        if !is_actions {
            return true;
        }
        let overlaps = match (self.began, older.ended) {
            (Some(began), Some(ended)) => began < ended,
            _ => false,
        };
        older.status == "completed" && !overlaps
    }
}

/// The identity of a check, equal in each of its repeats.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum CheckIdentity {
    /// A check run of an app.
    Run {
        /// The app's name, such as `github-actions`.
        app: String,
        /// The identifier of its suite, which belongs to one run of one workflow.
        suite: u64,
        /// The name of the check run.
        name: String,
    },
    /// A commit status, set through the older API.
    Status {
        /// The context, which is its name.
        context: String,
    },
}

impl CheckIdentity {
    /// The name that branch rules and people use.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Run { name, .. } => name,
            Self::Status { context } => context,
        }
    }
}

/// The state of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CheckState {
    /// Queued or running, or a word that the table doesn't list.
    Pending,
    /// A person must approve the run before it starts.
    NeedsApproval,
    /// Passed: a positive signal.
    Pass,
    /// Neutral or skipped, which is no signal by itself.
    PassWeak,
    /// Failed: a negative signal.
    Red,
    /// Failed in a way that only a person can fix.
    RedForHuman,
    /// Cancelled, because something newer replaced it.
    Superseded,
}

/// Applies the table. `replaced` says that a newer repeat of the check exists, or that the branch
/// has moved on.
#[must_use]
pub fn state(check: &Check, replaced: bool) -> CheckState {
    // A commit status holds its conclusion in the status.
    let word = match (check.status.as_str(), check.conclusion.as_deref()) {
        ("completed", Some(conclusion)) => conclusion,
        (status, _) => status,
    };
    match word {
        "waiting" => CheckState::NeedsApproval,
        "success" => CheckState::Pass,
        "neutral" | "skipped" => CheckState::PassWeak,
        "failure" | "error" | "timed_out" | "startup_failure" | "stale" => CheckState::Red,
        "action_required" => CheckState::RedForHuman,
        "cancelled" if replaced => CheckState::Superseded,
        "cancelled" => CheckState::Red,
        // Also `completed` without a conclusion, and every unlisted word.
        _ => CheckState::Pending,
    }
}

/// The checks that count, in the order of their identities: each without the repeats that a newer one
/// replaced.
#[must_use]
pub fn current(checks: &[Check]) -> Vec<&Check> {
    let mut by_identity: BTreeMap<&CheckIdentity, Vec<&Check>> = BTreeMap::new();
    for check in checks {
        by_identity.entry(&check.identity).or_default().push(check);
    }
    for repeats in by_identity.values_mut() {
        repeats.sort_by_key(|check| check.id);
        let all = repeats.clone();
        repeats
            .retain(|older| !all.iter().any(|newer| newer.id > older.id && newer.replaces(older)));
    }
    by_identity.into_values().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(status: &str, conclusion: Option<&str>) -> Check {
        Check {
            identity: CheckIdentity::Status { context: "x".into() },
            id: 1,
            status: status.into(),
            conclusion: conclusion.map(Into::into),
            began: None,
            ended: None,
            url: None,
        }
    }

    #[test]
    fn state_follows_every_row() {
        for status in ["queued", "in_progress", "requested", "pending", "expected"] {
            assert_eq!(state(&check(status, None), false), CheckState::Pending, "{status}");
        }
        for (status, conclusion, said) in [
            ("waiting", None, CheckState::NeedsApproval),
            ("completed", Some("success"), CheckState::Pass),
            ("success", None, CheckState::Pass),
            ("completed", Some("neutral"), CheckState::PassWeak),
            ("completed", Some("skipped"), CheckState::PassWeak),
            ("completed", Some("failure"), CheckState::Red),
            ("failure", None, CheckState::Red),
            ("error", None, CheckState::Red),
            ("completed", Some("timed_out"), CheckState::Red),
            ("completed", Some("startup_failure"), CheckState::Red),
            ("completed", Some("action_required"), CheckState::RedForHuman),
            ("completed", Some("cancelled"), CheckState::Red),
            ("completed", Some("stale"), CheckState::Red),
            ("completed", None, CheckState::Pending),
            ("completed", Some("splendid"), CheckState::Pending),
            ("dreaming", None, CheckState::Pending),
            ("queued", Some("success"), CheckState::Pending),
        ] {
            assert_eq!(state(&check(status, conclusion), false), said, "{status} {conclusion:?}");
        }
        assert_eq!(state(&check("completed", Some("cancelled")), true), CheckState::Superseded);
        assert_eq!(state(&check("completed", Some("failure")), true), CheckState::Red);
    }

    fn run(suite: u64, id: u64, conclusion: &str) -> Check {
        let identity = CheckIdentity::Run { app: ACTIONS.into(), suite, name: "test".into() };
        Check { identity, id, ..check("completed", Some(conclusion)) }
    }

    fn counting(all: &[Check]) -> Vec<u64> {
        current(all).iter().map(|check| check.id).collect()
    }

    #[test]
    fn current_follows_every_row() {
        let spans = |check: Check, began, ended| Check { began: Some(began), ended, ..check };
        let red = |id| spans(run(5, id, "failure"), 10, Some(20));
        for (row, all, ids) in [
            ("a true repeat", vec![red(3), spans(run(5, 7, "success"), 20, Some(30))], vec![7]),
            ("a repeat without times", vec![run(5, 3, "failure"), run(5, 7, "success")], vec![7]),
            ("a skipped repeat", vec![red(3), run(5, 7, "skipped")], vec![3, 7]),
            (
                "two jobs at once",
                vec![red(3), spans(run(5, 7, "success"), 19, Some(30))],
                vec![3, 7],
            ),
            (
                "two jobs, one open",
                vec![
                    Check { status: "in_progress".into(), conclusion: None, ..run(5, 3, "") },
                    run(5, 7, "success"),
                ],
                vec![3, 7],
            ),
            (
                "two workflows of one name",
                vec![run(5, 3, "failure"), run(6, 7, "success")],
                vec![3, 7],
            ),
        ] {
            assert_eq!(counting(&all), ids, "{row}");
        }
        let of = |check: Check| {
            let identity = CheckIdentity::Run { app: "jenkins".into(), suite: 5, name: "t".into() };
            Check { identity, ..check }
        };
        let open = Check { status: "in_progress".into(), ..of(run(5, 3, "")) };
        assert_eq!(counting(&[open, of(run(5, 7, "success"))]), [7], "another app");
        let status = |id, word: &str| Check { id, ..check(word, None) };
        assert_eq!(counting(&[status(7, "success"), status(3, "failure")]), [7], "a context");
    }
}
