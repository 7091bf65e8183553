//! Decision table T3: the state of one check of a commit, which is a check run or a commit status.
//! [`super::commit`] combines the checks into a verdict.

/// One check as the CI reports it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// The fields that all repeats of a check share.
    pub identity: CheckIdentity,
    /// The identifier; the repeat with the highest one counts.
    pub id: u64,
    /// The identifier of its suite; 0 for a commit status.
    pub suite: u64,
    /// The status, an open set of strings: `queued`, `completed`, `pending`, …
    pub status: String,
    /// The conclusion, an open set of strings; none before the end.
    pub conclusion: Option<String>,
    /// The address at which a person can read it.
    pub url: Option<String>,
}

/// The identity of a check, equal in each of its repeats.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum CheckIdentity {
    /// A check run of an app.
    Run {
        /// The app's name, such as `actions`.
        app: String,
        /// The workflow's name; empty where there is none.
        workflow: String,
        /// The event that started it: `push`, `schedule`, …
        event: String,
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

/// The newest repeat of each check, by identifier.
#[must_use]
pub fn newest(checks: &[Check]) -> Vec<&Check> {
    let mut newest: std::collections::BTreeMap<&CheckIdentity, &Check> =
        std::collections::BTreeMap::new();
    for check in checks {
        let known = newest.entry(&check.identity).or_insert(check);
        if check.id > known.id {
            *known = check;
        }
    }
    newest.into_values().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(status: &str, conclusion: Option<&str>) -> Check {
        Check {
            identity: CheckIdentity::Status { context: "x".into() },
            id: 1,
            suite: 0,
            status: status.into(),
            conclusion: conclusion.map(Into::into),
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

    #[test]
    fn newest_keeps_one_repeat_per_identity() {
        let run = |workflow: &str, event: &str, id, conclusion: &str| Check {
            identity: CheckIdentity::Run {
                app: "actions".into(),
                workflow: workflow.into(),
                event: event.into(),
                name: "test".into(),
            },
            id,
            ..check("completed", Some(conclusion))
        };
        let all = [
            run("ci", "push", 7, "success"),
            run("ci", "push", 3, "failure"),
            run("ci", "schedule", 5, "failure"),
            run("nightly", "push", 6, "success"),
            check("success", None),
        ];
        let ids: Vec<u64> = newest(&all).iter().map(|check| check.id).collect();
        assert_eq!(ids, [7, 5, 6, 1]);
    }
}
