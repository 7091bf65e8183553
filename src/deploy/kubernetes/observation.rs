//! An observation: the state of a rollout by tables T6 to T8, from its objects at one moment. The objects
//! come from the watchers or from a look.

use std::collections::HashMap;

use serde_json::Value;
use tokio::time::Instant;

use super::history::RolloutHistory;
use super::{Rollout, describe};
use crate::config::repository::WorkloadKind;
use crate::core::tables::image::{self, Image, Relation, TemplateContainer};
use crate::core::tables::rollout::RolloutState;
use crate::core::tables::soak::{HealthyRollout, Look};
use crate::core::tables::{job, pod, rollout};
use crate::deploy::objects;

/// The objects of a rollout at one moment.
#[derive(Default)]
pub(super) struct Objects<'a> {
    pub workload: Option<&'a Value>,
    /// The `ReplicaSets` of a Deployment.
    pub sets: Vec<&'a Value>,
    /// All pods that the workload's selector finds.
    pub pods: Vec<&'a Value>,
}

/// What a rollout's earlier observations leave for later ones.
#[derive(Default)]
pub(super) struct Memory {
    pub history: RolloutHistory,
    /// Whether a tag names a commit that contains ours.
    newer: HashMap<String, bool>,
}

/// The state of a rollout at one moment.
pub(super) struct Observation {
    pub workload: Option<Value>,
    pub state: RolloutState,
    /// The pods of the newest revision.
    pub pods: Vec<(Value, pod::Pod)>,
}

impl Observation {
    /// Whether the workload has the image of the commit.
    pub(super) const fn is_applied(&self) -> bool {
        !matches!(self.state, RolloutState::NotApplied(_) | RolloutState::Missing)
    }

    /// Whether every pod is new and available.
    pub(super) const fn is_complete(&self) -> bool {
        matches!(self.state, RolloutState::Complete | RolloutState::Superseded)
    }

    /// Why the commit broke the rollout, where it did.
    pub(super) fn broken(&self, kind: WorkloadKind) -> Option<String> {
        if let RolloutState::Failed(why) = &self.state {
            return Some(why.clone());
        }
        // The pods that failed before a Job succeeded don't matter.
        if !self.is_applied() || (kind == WorkloadKind::Job && self.is_complete()) {
            return None;
        }
        self.pods.iter().find_map(|(_, pod)| match pod::state(pod) {
            pod::PodState::Degraded(why) => Some(why),
            _ => None,
        })
    }

    /// What outside of the commit holds a pod up, and for how many milliseconds.
    pub(super) fn held(&self) -> Option<(String, i64)> {
        if !self.is_applied() || self.is_complete() {
            return None;
        }
        let held = |pod: &pod::Pod| match pod::state(pod) {
            pod::PodState::Held(why, ms) => Some((why, ms)),
            _ => None,
        };
        self.pods.iter().filter_map(|(_, pod)| held(pod)).max_by_key(|(_, ms)| *ms)
    }

    /// The observation as a look of the soak.
    pub(super) fn look(&self) -> Look {
        let Some(workload) = self.workload.as_ref().filter(|_| self.is_complete()) else {
            return Look::Unhealthy;
        };
        let containers = self.pods.iter().flat_map(|(_, pod)| &pod.containers);
        Look::Healthy(HealthyRollout {
            uid: objects::uid(workload),
            generation: objects::generation(workload),
            restarts: objects::restarts(containers),
        })
    }

    /// The state in a line, after the target's name.
    pub(super) fn summary(&self, target: &str) -> String {
        format!("{target}: {}", describe(&self.state))
    }
}

impl Rollout<'_> {
    /// Judges the objects by the tables.
    pub(super) async fn observe(&self, found: &Objects<'_>, memory: &mut Memory) -> Observation {
        let now = Instant::now();
        let image = self.image(found, &mut memory.newer).await;
        let fails = found.workload.is_some_and(|o| objects::replica_failure(o).is_some());
        let failing = memory.history.failing_for(fails, now);
        let mut pods = Vec::new();
        for object in self.newest_pods(found) {
            let mut read = objects::pod(object);
            let uid = objects::uid(object);
            let key = if uid.is_empty() { read.name.clone() } else { uid };
            memory.history.complete(&key, &mut read, now);
            pods.push((object.clone(), read));
        }
        let state = self.state(found.workload, &image, failing);
        Observation { workload: found.workload.cloned(), state, pods }
    }

    /// Row 2 of table T6: how the workload's image relates to the commit.
    async fn image(&self, found: &Objects<'_>, newer: &mut HashMap<String, bool>) -> Image {
        let template = |object: &Value| objects::images(&object["spec"]["template"]);
        let images = found.workload.map(template).unwrap_or_default();
        let earlier: Vec<_> = found.sets.iter().flat_map(|set| template(set)).collect();
        let expected = self.target.tag(self.sha);
        let mut containers = Vec::new();
        for one in images {
            let (tag, digest) = objects::tag(&one.image);
            let is_stale = objects::only_the_tag_is_new(&one.image, &earlier);
            let is_ours = tag == Some(&expected) && !is_stale;
            let relation = if is_ours || digest == Some(&expected) {
                Relation::Matches
            } else if !is_stale && self.is_newer(tag, newer).await {
                Relation::Newer
            } else {
                Relation::Other
            };
            containers.push(TemplateContainer { name: one.name, init: one.init, relation });
        }
        image::relation(&containers, self.target.expected())
    }

    /// Whether a tag names a commit that contains ours.
    async fn is_newer(&self, tag: Option<&str>, newer: &mut HashMap<String, bool>) -> bool {
        let commit = |tag: &&str| {
            (7..=40).contains(&tag.len()) && tag.bytes().all(|b| b.is_ascii_hexdigit())
        };
        let Some(tag) = tag.filter(commit) else { return false };
        if let Some(known) = newer.get(tag) {
            return *known;
        }
        let contains = (self.contains)(tag.to_owned()).await;
        newer.insert(tag.to_owned(), contains);
        contains
    }

    /// The state of the workload by table T6, or T8 for a Job. `failing` is for how long it has been
    /// unable to create pods, in milliseconds.
    fn state(&self, object: Option<&Value>, image: &Image, failing: i64) -> RolloutState {
        let of = |image: &Image| match self.target.kind {
            WorkloadKind::Deployment => {
                rollout::deployment(object.map(|o| objects::deployment(o, failing)).as_ref(), image)
            }
            WorkloadKind::StatefulSet => {
                rollout::stateful_set(object.map(objects::stateful_set).as_ref(), image)
            }
            WorkloadKind::DaemonSet => {
                rollout::daemon_set(object.map(objects::daemon_set).as_ref(), image)
            }
            WorkloadKind::Job => job::rollout(object.map(objects::conditions).as_deref(), image),
        };
        // A newer commit's image, which contains ours, is judged as ours would be.
        match of(image) {
            RolloutState::Superseded => match of(&Image::Matches) {
                RolloutState::Complete => RolloutState::Superseded,
                other => other,
            },
            state => state,
        }
    }

    /// The pods of the newest revision.
    fn newest_pods<'o>(&self, found: &Objects<'o>) -> Vec<&'o Value> {
        let Some(object) = found.workload else { return Vec::new() };
        let label = |pod: &Value, name: &str| pod["metadata"]["labels"][name].clone();
        let all = found.pods.iter().copied();
        match self.target.kind {
            WorkloadKind::Deployment => {
                let uid = &object["metadata"]["uid"];
                let owned = |set: &&Value| {
                    let owners = set["metadata"]["ownerReferences"].as_array();
                    owners.into_iter().flatten().any(|owner| owner["uid"] == *uid)
                };
                let revision = |set: &&Value| {
                    let name = "deployment.kubernetes.io/revision";
                    let text = set["metadata"]["annotations"][name].as_str();
                    text.and_then(|text| text.parse::<u64>().ok()).unwrap_or_default()
                };
                let newest = found.sets.iter().copied().filter(owned).max_by_key(revision);
                let Some(newest) = newest else { return Vec::new() };
                let hash = label(newest, "pod-template-hash");
                all.filter(|pod| label(pod, "pod-template-hash") == hash).collect()
            }
            WorkloadKind::StatefulSet => {
                let revision = &object["status"]["updateRevision"];
                all.filter(|pod| label(pod, "controller-revision-hash") == *revision).collect()
            }
            WorkloadKind::DaemonSet | WorkloadKind::Job => {
                let images = objects::images(&object["spec"]["template"]);
                all.filter(|pod| objects::images(pod) == images).collect()
            }
        }
    }
}
