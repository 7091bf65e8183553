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
pub enum Says {
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

fn applied(image: Image) -> Option<Says> {
    match image {
        Image::Matches => None,
        Image::Newer => Some(Says::Superseded),
        Image::Other => Some(Says::NotApplied),
    }
}

/// The table.
#[must_use]
pub fn deployment(seen: Option<&Deployment>, image: Image) -> Says {
    let Some(d) = seen else { return Says::Missing };
    if d.deleting {
        return Says::Failed("it is being deleted".into());
    }
    if let Some(says) = applied(image) {
        return says;
    }
    if d.generation > d.observed {
        return Says::Progressing("the controller has not seen it".into());
    }
    if d.paused {
        return Says::Suspended("it is paused".into());
    }
    if d.progressing.as_deref() == Some("ProgressDeadlineExceeded") {
        return Says::Failed("its progress deadline is over".into());
    }
    if let Some((age, message)) = &d.replica_failure
        && *age >= REPLICA_FAILURE
    {
        return Says::Failed(format!("pods can't be made: {message}"));
    }
    if d.updated < d.wanted {
        return Says::Progressing(format!("{} of {} updated", d.updated, d.wanted));
    }
    if d.replicas > d.updated {
        return Says::Progressing(format!("{} old pods are left", d.replicas - d.updated));
    }
    if d.available < d.updated {
        return Says::Progressing(format!("{} of {} available", d.available, d.updated));
    }
    if d.wanted == 0 {
        return Says::ScaledToZero;
    }
    Says::Complete
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
pub fn stateful_set(seen: Option<&StatefulSet>, image: Image) -> Says {
    let Some(s) = seen else { return Says::Missing };
    if s.deleting {
        return Says::Failed("it is being deleted".into());
    }
    if let Some(says) = applied(image) {
        return says;
    }
    if s.observed == 0 || s.observed < s.generation {
        return Says::Progressing("the controller has not seen it".into());
    }
    if s.on_delete {
        return Says::Suspended("manual update: its strategy is OnDelete".into());
    }
    if s.ready < s.wanted {
        return Says::Progressing(format!("{} of {} ready", s.ready, s.wanted));
    }
    if s.partition > 0 {
        if s.updated < s.wanted - s.partition {
            let most = s.wanted - s.partition;
            return Says::Progressing(format!("{} of {most} updated", s.updated));
        }
    } else if !s.current {
        return Says::Progressing("its revision is not the current one".into());
    }
    if s.wanted == 0 { Says::ScaledToZero } else { Says::Complete }
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
pub fn daemon_set(seen: Option<&DaemonSet>, image: Image) -> Says {
    let Some(d) = seen else { return Says::Missing };
    if d.deleting {
        return Says::Failed("it is being deleted".into());
    }
    if let Some(says) = applied(image) {
        return says;
    }
    if d.observed < d.generation {
        return Says::Progressing("the controller has not seen it".into());
    }
    if d.on_delete {
        return Says::Suspended("manual update: its strategy is OnDelete".into());
    }
    if d.updated < d.wanted {
        return Says::Progressing(format!("{} of {} updated", d.updated, d.wanted));
    }
    if d.available < d.wanted {
        return Says::Progressing(format!("{} of {} available", d.available, d.wanted));
    }
    if d.wanted == 0 { Says::ScaledToZero } else { Says::Complete }
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

    fn word(says: &Says) -> &'static str {
        match says {
            Says::Missing => "missing",
            Says::NotApplied => "not applied",
            Says::Superseded => "superseded",
            Says::Progressing(_) => "progressing",
            Says::Suspended(_) => "suspended",
            Says::Failed(_) => "failed",
            Says::ScaledToZero => "scaled to zero",
            Says::Complete => "complete",
        }
    }

    #[test]
    fn every_row_of_a_deployment() {
        let says = |d: Deployment, image| word(&deployment(Some(&d), image));
        let ours = |d| says(d, Image::Matches);
        assert_eq!(deployment(None, Image::Other), Says::Missing);
        assert_eq!(ours(Deployment { deleting: true, ..whole() }), "failed");
        assert_eq!(says(whole(), Image::Other), "not applied");
        assert_eq!(says(whole(), Image::Newer), "superseded");
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
        let says = |s: StatefulSet| word(&stateful_set(Some(&s), Image::Matches));
        assert_eq!(stateful_set(None, Image::Matches), Says::Missing);
        assert_eq!(word(&stateful_set(Some(&set), Image::Other)), "not applied");
        assert_eq!(says(StatefulSet { observed: 0, generation: 0, ..set.clone() }), "progressing");
        assert_eq!(says(StatefulSet { observed: 1, ..set.clone() }), "progressing");
        assert_eq!(says(StatefulSet { ready: 2, ..set.clone() }), "progressing");
        assert_eq!(says(StatefulSet { current: false, ..set.clone() }), "progressing");
        let parted = StatefulSet { partition: 2, updated: 0, current: false, ..set.clone() };
        assert_eq!(says(parted.clone()), "progressing");
        assert_eq!(says(StatefulSet { updated: 1, ..parted }), "complete");
        assert_eq!(says(StatefulSet { on_delete: true, ..set.clone() }), "suspended");
        assert_eq!(says(StatefulSet { deleting: true, ..set.clone() }), "failed");
        assert_eq!(says(StatefulSet { wanted: 0, ready: 0, ..set.clone() }), "scaled to zero");
        assert_eq!(says(set), "complete");

        let set = DaemonSet {
            generation: 2,
            observed: 2,
            wanted: 3,
            updated: 3,
            available: 3,
            ..DaemonSet::default()
        };
        let says = |d: DaemonSet| word(&daemon_set(Some(&d), Image::Matches));
        assert_eq!(daemon_set(None, Image::Matches), Says::Missing);
        assert_eq!(word(&daemon_set(Some(&set), Image::Newer)), "superseded");
        assert_eq!(says(DaemonSet { observed: 1, ..set.clone() }), "progressing");
        assert_eq!(says(DaemonSet { updated: 2, ..set.clone() }), "progressing");
        assert_eq!(says(DaemonSet { available: 2, ..set.clone() }), "progressing");
        assert_eq!(says(DaemonSet { on_delete: true, ..set.clone() }), "suspended");
        assert_eq!(says(DaemonSet { deleting: true, ..set.clone() }), "failed");
        let none = DaemonSet { wanted: 0, updated: 0, available: 0, ..set.clone() };
        assert_eq!(says(none), "scaled to zero");
        assert_eq!(says(set), "complete");
    }
}
