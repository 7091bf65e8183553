//! T6: a rollout of a Deployment, a `StatefulSet` or a `DaemonSet`.
//!
//! Missing integers mean 0. Our own deadline must be longer than `progressDeadlineSeconds`.

/// How long a `ReplicaFailure` may stand before it counts, in milliseconds.
pub const REPLICA_FAILURE: i64 = 30_000;

/// How an image in the cluster relates to the commit that is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Image {
    /// It is the one that is expected, by tag or digest.
    Matches,
    /// It is that of a commit which contains the one that is looked for.
    Newer,
    /// Another.
    Other,
}

/// What a rollout says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RolloutState {
    /// The object isn't there.
    Missing,
    /// It still has another image.
    NotApplied,
    /// It has the image of a newer commit, which contains ours.
    Superseded,
    /// Under way, with where it stands.
    Progressing(String),
    /// Paused, or updated by hand: it waits for a person.
    Suspended(String),
    /// It went wrong.
    Failed(String),
    /// Nobody asked for a pod: no proof of anything.
    ScaledToZero,
    /// All pods are the new ones and available; healthy after the soak.
    Complete,
}

/// A Deployment, as far as the table looks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Deployment {
    /// `metadata.deletionTimestamp` is set.
    pub deleting: bool,
    /// `metadata.generation`.
    pub generation: i64,
    /// `status.observedGeneration`.
    pub observed: i64,
    /// `spec.paused`.
    pub paused: bool,
    /// `spec.replicas`; 1 where it isn't set.
    pub wanted: i32,
    /// `status.replicas`.
    pub replicas: i32,
    /// `status.updatedReplicas`.
    pub updated: i32,
    /// `status.availableReplicas`.
    pub available: i32,
    /// The reason of the condition `Progressing`.
    pub progressing: Option<String>,
    /// For how long `ReplicaFailure` has been True, in milliseconds, with its message.
    pub replica_failure: Option<(i64, String)>,
}

fn applied(image: Image) -> Option<RolloutState> {
    match image {
        Image::Matches => None,
        Image::Newer => Some(RolloutState::Superseded),
        Image::Other => Some(RolloutState::NotApplied),
    }
}

/// The table.
#[must_use]
pub fn deployment(seen: Option<&Deployment>, image: Image) -> RolloutState {
    let Some(d) = seen else { return RolloutState::Missing };
    if d.deleting {
        return RolloutState::Failed("it is being deleted".into());
    }
    if let Some(says) = applied(image) {
        return says;
    }
    if d.generation > d.observed {
        return RolloutState::Progressing("the controller has not seen it".into());
    }
    if d.paused {
        return RolloutState::Suspended("it is paused".into());
    }
    if d.progressing.as_deref() == Some("ProgressDeadlineExceeded") {
        return RolloutState::Failed("its progress deadline is over".into());
    }
    if let Some((age, message)) = &d.replica_failure
        && *age >= REPLICA_FAILURE
    {
        return RolloutState::Failed(format!("pods can't be made: {message}"));
    }
    if d.updated < d.wanted {
        return RolloutState::Progressing(format!("{} of {} updated", d.updated, d.wanted));
    }
    if d.replicas > d.updated {
        return RolloutState::Progressing(format!("{} old pods are left", d.replicas - d.updated));
    }
    if d.available < d.updated {
        return RolloutState::Progressing(format!("{} of {} available", d.available, d.updated));
    }
    if d.wanted == 0 {
        return RolloutState::ScaledToZero;
    }
    RolloutState::Complete
}

/// A `StatefulSet`, as far as the table looks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StatefulSet {
    /// `metadata.deletionTimestamp` is set.
    pub deleting: bool,
    /// `metadata.generation`.
    pub generation: i64,
    /// `status.observedGeneration`.
    pub observed: i64,
    /// The strategy is `OnDelete`.
    pub on_delete: bool,
    /// `spec.updateStrategy.rollingUpdate.partition`.
    pub partition: i32,
    /// `spec.replicas`; 1 where it isn't set.
    pub wanted: i32,
    /// `status.readyReplicas`.
    pub ready: i32,
    /// `status.updatedReplicas`.
    pub updated: i32,
    /// `status.updateRevision` is `status.currentRevision`.
    pub current: bool,
}

/// The table's rows for a `StatefulSet`.
#[must_use]
pub fn stateful_set(seen: Option<&StatefulSet>, image: Image) -> RolloutState {
    let Some(s) = seen else { return RolloutState::Missing };
    if s.deleting {
        return RolloutState::Failed("it is being deleted".into());
    }
    if let Some(says) = applied(image) {
        return says;
    }
    if s.observed == 0 || s.observed < s.generation {
        return RolloutState::Progressing("the controller has not seen it".into());
    }
    if s.on_delete {
        return RolloutState::Suspended("manual update: its strategy is OnDelete".into());
    }
    if s.ready < s.wanted {
        return RolloutState::Progressing(format!("{} of {} ready", s.ready, s.wanted));
    }
    if s.partition > 0 {
        if s.updated < s.wanted - s.partition {
            let most = s.wanted - s.partition;
            return RolloutState::Progressing(format!("{} of {most} updated", s.updated));
        }
    } else if !s.current {
        return RolloutState::Progressing("its revision is not the current one".into());
    }
    if s.wanted == 0 { RolloutState::ScaledToZero } else { RolloutState::Complete }
}

/// A `DaemonSet`, as far as the table looks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DaemonSet {
    /// `metadata.deletionTimestamp` is set.
    pub deleting: bool,
    /// `metadata.generation`.
    pub generation: i64,
    /// `status.observedGeneration`.
    pub observed: i64,
    /// The strategy is `OnDelete`.
    pub on_delete: bool,
    /// `status.desiredNumberScheduled`.
    pub wanted: i32,
    /// `status.updatedNumberScheduled`.
    pub updated: i32,
    /// `status.numberAvailable`.
    pub available: i32,
}

/// The table's rows for a `DaemonSet`.
#[must_use]
pub fn daemon_set(seen: Option<&DaemonSet>, image: Image) -> RolloutState {
    let Some(d) = seen else { return RolloutState::Missing };
    if d.deleting {
        return RolloutState::Failed("it is being deleted".into());
    }
    if let Some(says) = applied(image) {
        return says;
    }
    if d.observed < d.generation {
        return RolloutState::Progressing("the controller has not seen it".into());
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
            RolloutState::NotApplied => "not applied",
            RolloutState::Superseded => "superseded",
            RolloutState::Progressing(_) => "progressing",
            RolloutState::Suspended(_) => "suspended",
            RolloutState::Failed(_) => "failed",
            RolloutState::ScaledToZero => "scaled to zero",
            RolloutState::Complete => "complete",
        }
    }

    #[test]
    fn every_row_of_a_deployment() {
        let state = |d: Deployment, image| name(&deployment(Some(&d), image));
        let ours = |d| state(d, Image::Matches);
        assert_eq!(deployment(None, Image::Other), RolloutState::Missing);
        assert_eq!(ours(Deployment { deleting: true, ..whole() }), "failed");
        assert_eq!(state(whole(), Image::Other), "not applied");
        assert_eq!(state(whole(), Image::Newer), "superseded");
        // The answer to a PATCH: the condition still says that all is available.
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
    fn every_row_of_the_other_kinds() {
        let set = StatefulSet {
            generation: 2,
            observed: 2,
            wanted: 3,
            ready: 3,
            updated: 3,
            current: true,
            ..StatefulSet::default()
        };
        let state = |s: StatefulSet| name(&stateful_set(Some(&s), Image::Matches));
        assert_eq!(stateful_set(None, Image::Matches), RolloutState::Missing);
        assert_eq!(name(&stateful_set(Some(&set), Image::Other)), "not applied");
        assert_eq!(state(StatefulSet { observed: 0, generation: 0, ..set.clone() }), "progressing");
        assert_eq!(state(StatefulSet { observed: 1, ..set.clone() }), "progressing");
        assert_eq!(state(StatefulSet { ready: 2, ..set.clone() }), "progressing");
        assert_eq!(state(StatefulSet { current: false, ..set.clone() }), "progressing");
        let parted = StatefulSet { partition: 2, updated: 0, current: false, ..set.clone() };
        assert_eq!(state(parted.clone()), "progressing");
        assert_eq!(state(StatefulSet { updated: 1, ..parted }), "complete");
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
        let state = |d: DaemonSet| name(&daemon_set(Some(&d), Image::Matches));
        assert_eq!(daemon_set(None, Image::Matches), RolloutState::Missing);
        assert_eq!(name(&daemon_set(Some(&set), Image::Newer)), "superseded");
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
