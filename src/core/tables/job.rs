//! Decision table T8: the state of a Kubernetes Job from its conditions. Called by the Kubernetes
//! executor, which runs a turn as a Job, and by the deploy adapter, which follows a Job of the
//! repository.
//!
//! A Job that a deploy waits for must have the commit's image ([`super::image`]): an older Job of the same
//! name is complete too. Its success is its end, so that it needs no soak.

use super::image::Image;
use super::rollout::{RolloutState, applied};

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

/// Applies the table to a Job that is the target of a deploy; `None` is a missing one.
#[must_use]
pub fn rollout(conditions: Option<&[Condition]>, image: &Image) -> RolloutState {
    let Some(conditions) = conditions else { return RolloutState::Missing };
    if let Some(says) = applied(image) {
        return says;
    }
    match state(Some(conditions)) {
        JobState::Succeeded => RolloutState::Complete,
        JobState::Failed(why) => RolloutState::Failed(why),
        JobState::Suspended => RolloutState::Suspended("the Job is suspended".into()),
        JobState::Lost => RolloutState::Missing,
        JobState::Running | JobState::Ending => RolloutState::Progressing("running".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn job_of_a_deploy_must_have_the_image_of_the_commit() {
        let complete = [Condition { kind: "Complete".into(), holds: true, reason: String::new() }];
        let of = |image: &Image| rollout(Some(&complete), image);
        assert_eq!(of(&Image::Matches), RolloutState::Complete);
        let old = Image::Other("has another image".into());
        assert_eq!(of(&old), RolloutState::NotApplied("has another image".into()));
        assert_eq!(of(&Image::Newer), RolloutState::Superseded);
        assert_eq!(rollout(None, &Image::Matches), RolloutState::Missing);
        let running = RolloutState::Progressing("running".into());
        assert_eq!(rollout(Some(&[]), &Image::Matches), running);
    }

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
