//! T8: a Kubernetes Job.

/// A condition of a Job: its type, whether its status is `True`, and its reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    /// `Failed`, `Complete`, …
    pub kind: String,
    /// `status` is `True`; being there is not enough.
    pub holds: bool,
    /// Why.
    pub reason: String,
}

/// What a Job says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JobState {
    /// Not ended.
    Running,
    /// It ends soon, and nobody knows how.
    Ending,
    /// It ended well.
    Succeeded,
    /// It ended badly.
    Failed(String),
    /// Somebody stopped it for now.
    Suspended,
    /// It was deleted before it ended.
    Lost,
}

/// The table; `None` is a Job that was deleted.
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
    fn every_row() {
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
