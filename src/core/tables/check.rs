//! T3: one check of a commit: a check run or a commit status.

/// A check as it was told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// What repeats are told apart by.
    pub identity: Identity,
    /// The repeat with the highest counts.
    pub id: u64,
    /// Its suite; 0 for a commit status.
    pub suite: u64,
    /// An open string: `queued`, `completed`, `pending`, …
    pub status: String,
    /// An open string, once it is completed.
    pub conclusion: Option<String>,
    /// Where a person can read it.
    pub url: Option<String>,
}

/// The same in every repeat of a check.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Identity {
    /// A check run.
    Run {
        /// Of which app.
        app: String,
        /// Of which workflow; empty where there is none.
        workflow: String,
        /// Begun by what: `push`, `schedule`, …
        event: String,
        /// Its name.
        name: String,
    },
    /// A commit status.
    Status {
        /// Its context.
        context: String,
    },
}

impl Identity {
    /// The name that branch rules and people use.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Run { name, .. } => name,
            Self::Status { context } => context,
        }
    }
}

/// What one check says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CheckState {
    /// Not ended.
    Pending,
    /// Somebody must let it go on.
    NeedsApproval,
    /// Good.
    Pass,
    /// Not bad; never enough alone.
    PassWeak,
    /// Bad.
    Red,
    /// Bad, and only a person can mend it.
    RedForHuman,
    /// Cut off because something newer came.
    Superseded,
}

/// The table. `replaced`: a newer run of the same app, workflow, event and name is there, or the
/// branch has moved on.
#[must_use]
pub fn state(check: &Check, replaced: bool) -> CheckState {
    // A commit status has its conclusion in the place of a status.
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
        // Also `completed` without a conclusion, and every word that nobody knows.
        _ => CheckState::Pending,
    }
}

/// The newest of each check, by id.
#[must_use]
pub fn newest(checks: &[Check]) -> Vec<&Check> {
    let mut newest: std::collections::BTreeMap<&Identity, &Check> =
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
            identity: Identity::Status { context: "x".into() },
            id: 1,
            suite: 0,
            status: status.into(),
            conclusion: conclusion.map(Into::into),
            url: None,
        }
    }

    #[test]
    fn every_row() {
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
    fn the_newest_repeat_counts_and_others_stand_beside_it() {
        let run = |workflow: &str, event: &str, id, conclusion: &str| Check {
            identity: Identity::Run {
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
