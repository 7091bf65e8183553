//! Decision table T6: the state of a rollout of a Deployment, a `StatefulSet` or a `DaemonSet`. The
//! deploy adapter for Kubernetes calls it on every change of the workload.
//!
//! Missing integers mean 0. afk's own deadline must be longer than `progressDeadlineSeconds`. Row 2, the
//! image, is in [`super::image`].

use super::image::Image;
use crate::model::plural::plural;

/// The time for which `ReplicaFailure` may hold before it counts, in milliseconds.
pub(crate) const REPLICA_FAILURE: i64 = 30_000;

/// The state of a rollout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RolloutState {
    /// The workload does not exist.
    Missing,
    /// The workload doesn't have the commit's image, for this reason.
    NotApplied(String),
    /// The workload has the image of a later commit, which contains the deployed one.
    Superseded,
    /// The rollout is under way, at this point.
    Progressing(String),
    /// The workload is paused or updated by hand, and waits for a person.
    Suspended(String),
    /// The rollout failed, for this reason.
    Failed(String),
    /// The workload wants no pods, which proves nothing.
    ScaledToZero,
    /// All pods are new and available; the soak time decides whether they are healthy.
    Complete,
}

/// The fields of a Deployment that the table reads.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Deployment {
    /// Whether `metadata.deletionTimestamp` is set.
    pub deleting: bool,
    /// The field `metadata.generation`, raised by each change.
    pub generation: i64,
    /// The field `status.observedGeneration`, which follows it.
    pub observed: i64,
    /// The field `spec.paused`, false by default.
    pub paused: bool,
    /// The field `spec.replicas`; 1 where it isn't set.
    pub wanted: i32,
    /// The field `status.replicas`: old and new pods.
    pub replicas: i32,
    /// The field `status.updatedReplicas`: new pods.
    pub updated: i32,
    /// The field `status.availableReplicas`: pods that serve.
    pub available: i32,
    /// The reason of the condition `Progressing`.
    pub progressing: Option<String>,
    /// The time for which afk has seen `ReplicaFailure` as `True`, in milliseconds, with its message.
    pub replica_failure: Option<(i64, String)>,
}

/// Row 2: none where the workload has the commit's image.
pub(super) fn applied(image: &Image) -> Option<RolloutState> {
    match image {
        Image::Matches => None,
        Image::Newer => Some(RolloutState::Superseded),
        Image::Other(why) => Some(RolloutState::NotApplied(why.clone())),
    }
}

/// Applies the table to a Deployment; `None` is a missing one.
#[must_use]
pub fn deployment(seen: Option<&Deployment>, image: &Image) -> RolloutState {
    let Some(d) = seen else { return RolloutState::Missing };
    if d.deleting {
        return RolloutState::Failed("it is being deleted".into());
    }
    if let Some(says) = applied(image) {
        return says;
    }
    if d.generation > d.observed {
        return RolloutState::Progressing("the controller has not observed the change".into());
    }
    if d.paused {
        return RolloutState::Suspended("it is paused".into());
    }
    if d.progressing.as_deref() == Some("ProgressDeadlineExceeded") {
        return RolloutState::Failed("its progress deadline has passed".into());
    }
    if let Some((age, message)) = &d.replica_failure
        && *age >= REPLICA_FAILURE
    {
        return RolloutState::Failed(format!("pods can't be created: {message}"));
    }
    if d.updated < d.wanted {
        return RolloutState::Progressing(format!("{} of {} updated", d.updated, d.wanted));
    }
    if d.replicas > d.updated {
        return RolloutState::Progressing(format!(
            "{} left",
            plural(d.replicas - d.updated, "old pod")
        ));
    }
    if d.available < d.updated {
        return RolloutState::Progressing(format!("{} of {} available", d.available, d.updated));
    }
    if d.wanted == 0 {
        return RolloutState::ScaledToZero;
    }
    RolloutState::Complete
}

/// The fields of a `StatefulSet` that the table reads.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StatefulSet {
    /// Whether `metadata.deletionTimestamp` is set.
    pub deleting: bool,
    /// The field `metadata.generation`, raised by each change.
    pub generation: i64,
    /// The field `status.observedGeneration`, which follows it.
    pub observed: i64,
    /// Whether the update strategy is `OnDelete`.
    pub on_delete: bool,
    /// The field `spec.updateStrategy.rollingUpdate.partition`: pods below it keep their revision.
    pub partition: i32,
    /// The field `spec.replicas`; 1 where it isn't set.
    pub wanted: i32,
    /// The field `status.readyReplicas`: pods that serve.
    pub ready: i32,
    /// The field `status.updatedReplicas`: new pods.
    pub updated: i32,
    /// Whether `status.updateRevision` equals `status.currentRevision`.
    pub current: bool,
}

/// Applies the table to a `StatefulSet`; `None` is a missing one.
#[must_use]
pub fn stateful_set(seen: Option<&StatefulSet>, image: &Image) -> RolloutState {
    let Some(s) = seen else { return RolloutState::Missing };
    if s.deleting {
        return RolloutState::Failed("it is being deleted".into());
    }
    if let Some(says) = applied(image) {
        return says;
    }
    if s.observed == 0 || s.observed < s.generation {
        return RolloutState::Progressing("the controller has not observed the change".into());
    }
    if s.on_delete {
        return RolloutState::Suspended("manual update: its strategy is OnDelete".into());
    }
    if s.ready < s.wanted {
        return RolloutState::Progressing(format!("{} of {} ready", s.ready, s.wanted));
    }
    if s.partition > 0 && s.wanted > 0 {
        let most = (s.wanted - s.partition).max(0);
        if s.updated < most {
            return RolloutState::Progressing(format!("{} of {most} updated", s.updated));
        }
        // The pods below the partition keep the old revision: a canary proves only itself.
        let held = plural(s.wanted - most, "pod");
        return RolloutState::Suspended(format!("its partition keeps {held} at the old revision"));
    }
    if !s.current {
        return RolloutState::Progressing("the new revision is not yet current".into());
    }
    if s.wanted == 0 { RolloutState::ScaledToZero } else { RolloutState::Complete }
}

/// The fields of a `DaemonSet` that the table reads.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DaemonSet {
    /// Whether `metadata.deletionTimestamp` is set.
    pub deleting: bool,
    /// The field `metadata.generation`, raised by each change.
    pub generation: i64,
    /// The field `status.observedGeneration`, which follows it.
    pub observed: i64,
    /// Whether the update strategy is `OnDelete`.
    pub on_delete: bool,
    /// The field `status.desiredNumberScheduled`: one pod a node.
    pub wanted: i32,
    /// The field `status.updatedNumberScheduled`: new pods.
    pub updated: i32,
    /// The field `status.numberAvailable`: pods that serve.
    pub available: i32,
}

/// Applies the table to a `DaemonSet`; `None` is a missing one.
#[must_use]
pub fn daemon_set(seen: Option<&DaemonSet>, image: &Image) -> RolloutState {
    let Some(d) = seen else { return RolloutState::Missing };
    if d.deleting {
        return RolloutState::Failed("it is being deleted".into());
    }
    if let Some(says) = applied(image) {
        return says;
    }
    if d.observed < d.generation {
        return RolloutState::Progressing("the controller has not observed the change".into());
    }
    if d.on_delete {
        return RolloutState::Suspended("manual update: its strategy is OnDelete".into());
    }
    if d.updated < d.wanted {
        return RolloutState::Progressing(format!("{} of {} updated", d.updated, d.wanted));
    }
    if d.available < d.wanted {
        return RolloutState::Progressing(format!("{} of {} available", d.available, d.wanted));
    }
    if d.wanted == 0 { RolloutState::ScaledToZero } else { RolloutState::Complete }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole() -> Deployment {
        Deployment {
            generation: 2,
            observed: 2,
            wanted: 3,
            replicas: 3,
            updated: 3,
            available: 3,
            progressing: Some("NewReplicaSetAvailable".into()),
            ..Deployment::default()
        }
    }

    fn name(state: &RolloutState) -> &'static str {
        match state {
            RolloutState::Missing => "missing",
            RolloutState::NotApplied(_) => "not applied",
            RolloutState::Superseded => "superseded",
            RolloutState::Progressing(_) => "progressing",
            RolloutState::Suspended(_) => "suspended",
            RolloutState::Failed(_) => "failed",
            RolloutState::ScaledToZero => "scaled to zero",
            RolloutState::Complete => "complete",
        }
    }

    #[test]
    fn deployment_follows_every_row() {
        let state = |d: Deployment, image: &Image| name(&deployment(Some(&d), image));
        let ours = |d| state(d, &Image::Matches);
        let other = Image::Other("has another image".into());
        assert_eq!(deployment(None, &other), RolloutState::Missing);
        assert_eq!(ours(Deployment { deleting: true, ..whole() }), "failed");
        assert_eq!(state(whole(), &other), "not applied");
        assert_eq!(state(whole(), &Image::Newer), "superseded");
        // The answer to a PATCH: the condition still reports the old rollout.
        assert_eq!(ours(Deployment { observed: 1, ..whole() }), "progressing");
        assert_eq!(ours(Deployment { paused: true, ..whole() }), "suspended");
        let over = Some("ProgressDeadlineExceeded".into());
        assert_eq!(ours(Deployment { progressing: over, ..whole() }), "failed");
        let failure = |age| Some((age, "quota".to_owned()));
        let fresh = Deployment { replica_failure: failure(29_999), ..whole() };
        assert_eq!(ours(fresh), "complete");
        let stands = Deployment { replica_failure: failure(30_000), ..whole() };
        assert_eq!(ours(stands), "failed");
        assert_eq!(ours(Deployment { updated: 2, ..whole() }), "progressing");
        assert_eq!(ours(Deployment { replicas: 4, ..whole() }), "progressing");
        assert_eq!(ours(Deployment { available: 2, ..whole() }), "progressing");
        let none = Deployment { wanted: 0, replicas: 0, updated: 0, available: 0, ..whole() };
        assert_eq!(ours(none), "scaled to zero");
        assert_eq!(ours(whole()), "complete");
    }

    #[test]
    fn stateful_set_and_daemon_set_follow_every_row() {
        let set = StatefulSet {
            generation: 2,
            observed: 2,
            wanted: 3,
            ready: 3,
            updated: 3,
            current: true,
            ..StatefulSet::default()
        };
        let state = |s: StatefulSet| name(&stateful_set(Some(&s), &Image::Matches));
        assert_eq!(stateful_set(None, &Image::Matches), RolloutState::Missing);
        let other = Image::Other("has another image".into());
        assert_eq!(name(&stateful_set(Some(&set), &other)), "not applied");
        assert_eq!(state(StatefulSet { observed: 0, generation: 0, ..set.clone() }), "progressing");
        assert_eq!(state(StatefulSet { observed: 1, ..set.clone() }), "progressing");
        assert_eq!(state(StatefulSet { ready: 2, ..set.clone() }), "progressing");
        assert_eq!(state(StatefulSet { current: false, ..set.clone() }), "progressing");
        let parted = StatefulSet { partition: 2, updated: 0, current: false, ..set.clone() };
        assert_eq!(state(parted.clone()), "progressing");
        let canary = StatefulSet { updated: 1, ..parted.clone() };
        let RolloutState::Suspended(why) = stateful_set(Some(&canary), &Image::Matches) else {
            panic!("two pods are old");
        };
        assert_eq!(why, "its partition keeps 2 pods at the old revision");
        assert_eq!(state(StatefulSet { partition: 9, ..parted }), "suspended");
        assert_eq!(state(StatefulSet { on_delete: true, ..set.clone() }), "suspended");
        assert_eq!(state(StatefulSet { deleting: true, ..set.clone() }), "failed");
        assert_eq!(state(StatefulSet { wanted: 0, ready: 0, ..set.clone() }), "scaled to zero");
        assert_eq!(state(set), "complete");

        let set = DaemonSet {
            generation: 2,
            observed: 2,
            wanted: 3,
            updated: 3,
            available: 3,
            ..DaemonSet::default()
        };
        let state = |d: DaemonSet| name(&daemon_set(Some(&d), &Image::Matches));
        assert_eq!(daemon_set(None, &Image::Matches), RolloutState::Missing);
        assert_eq!(name(&daemon_set(Some(&set), &Image::Newer)), "superseded");
        assert_eq!(state(DaemonSet { observed: 1, ..set.clone() }), "progressing");
        assert_eq!(state(DaemonSet { updated: 2, ..set.clone() }), "progressing");
        assert_eq!(state(DaemonSet { available: 2, ..set.clone() }), "progressing");
        assert_eq!(state(DaemonSet { on_delete: true, ..set.clone() }), "suspended");
        assert_eq!(state(DaemonSet { deleting: true, ..set.clone() }), "failed");
        let none = DaemonSet { wanted: 0, updated: 0, available: 0, ..set.clone() };
        assert_eq!(state(none), "scaled to zero");
        assert_eq!(state(set), "complete");
    }
}
