//! Decision table T8: the state of a Kubernetes Job from its conditions. Called by the Kubernetes
//! executor, which runs a turn as a Job.

/// A condition of a Job, from `status.conditions`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    /// The type: `Failed`, `Complete`, …
    pub kind: String,
    /// Whether its `status` is `True`; a condition with another status is no signal.
    pub holds: bool,
    /// The reason, as the controller states it.
    pub reason: String,
}

/// The state of a Job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JobState {
    /// The Job has not ended.
    Running,
    /// The Job is about to end, and its result is not yet known.
    Ending,
    /// The Job ended with success.
    Succeeded,
    /// The Job failed, for this reason.
    Failed(String),
    /// Somebody suspended the Job.
    Suspended,
    /// The Job was deleted before it ended.
    Lost,
}

/// Applies the table; `None` is a deleted Job.
#[must_use]
pub fn state(conditions: Option<&[Condition]>) -> JobState {
    let Some(conditions) = conditions else { return JobState::Lost };
    let holds = |kind: &str| conditions.iter().find(|c| c.holds && c.kind == kind);
    if let Some(failed) = holds("Failed") {
        return JobState::Failed(failed.reason.clone());
    }
    if holds("Complete").is_some() {
        return JobState::Succeeded;
    }
    if holds("FailureTarget").is_some() || holds("SuccessCriteriaMet").is_some() {
        return JobState::Ending;
    }
    if holds("Suspended").is_some() {
        return JobState::Suspended;
    }
    JobState::Running
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn state_follows_every_row() {
        let of = |all: &[(&str, bool)]| {
            let conditions: Vec<Condition> = all
                .iter()
                .map(|(kind, holds)| Condition {
                    kind: (*kind).into(),
                    holds: *holds,
                    reason: "DeadlineExceeded".into(),
                })
                .collect();
            state(Some(&conditions))
        };
        assert_eq!(of(&[("Failed", true)]), JobState::Failed("DeadlineExceeded".into()));
        assert_eq!(of(&[("Complete", true)]), JobState::Succeeded);
        assert_eq!(of(&[("FailureTarget", true)]), JobState::Ending);
        assert_eq!(of(&[("SuccessCriteriaMet", true)]), JobState::Ending);
        assert_eq!(
            of(&[("FailureTarget", true), ("Failed", true)]),
            JobState::Failed("DeadlineExceeded".into())
        );
        assert_eq!(of(&[("Suspended", true)]), JobState::Suspended);
        assert_eq!(of(&[("Complete", false), ("Failed", false)]), JobState::Running, "not True");
        assert_eq!(of(&[]), JobState::Running);
        assert_eq!(state(None), JobState::Lost);
    }
}
