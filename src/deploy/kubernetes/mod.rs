//! A rollout in a cluster, followed by watchers with read-only rights until tables T6 to T8 decide.
//!
//! A watch that is open and silent starts again after 30 s; an expired one starts with a new list,
//! which also shows the objects that vanished meanwhile. Each watcher has a back-off of its own.
//!
//! ```text
//! API server → watch::WatchStream → KnownObjects ┐
//!                                                ├ objects::* → tables → RolloutState
//!                              ContainerHistory ┘        │
//! runtime::tasks::stages ← RolloutUpdate, Judgement ←────┘ evidence after a failure
//! ```

mod evidence;
mod history;
mod watch;

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use futures::StreamExt;
use futures::future::BoxFuture;
use kube::api::{ApiResource, DynamicObject, GroupVersionKind};
use kube::runtime::watcher;
use kube::{Api, Client};
use serde_json::Value;
use tokio::time::{Instant, interval};

use self::history::ContainerHistory;
use self::watch::{KnownObjects, WatchedKind, watch};
use super::objects;
use crate::config::repository::{RolloutTarget, WorkloadKind};
use crate::core::model::id::Sha;
use crate::core::model::untrusted::clean_line;
use crate::core::model::verdict::{Judgement, Verdict};
use crate::core::tables::rollout::{Image, RolloutState};
use crate::core::tables::{job, pod, rollout};

/// How long a workload may take to be read at all.
const READ: Duration = Duration::from_secs(30);
/// The time limit of one call.
const CALL: Duration = Duration::from_secs(20);

/// Whether the commit that a tag names contains the one that is rolled out.
pub type Contains<'a> = dyn Fn(String) -> BoxFuture<'a, bool> + Send + Sync + 'a;

/// The state of one watcher, as the operator sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WatcherStatus {
    /// The target and the kind of the watched objects.
    pub what: String,
    /// When the last event came, in milliseconds of the epoch.
    pub last_event: i64,
    /// The last error, until the next event comes.
    pub error: Option<String>,
}

/// A report while a rollout is followed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RolloutUpdate {
    /// The target with its new state, in a line.
    State(String),
    /// A watcher received an event or an error.
    Watcher(WatcherStatus),
}

/// The time limits of one rollout.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// How long the rollout may take in all.
    pub deadline: Duration,
    /// How long it must stay complete without a restart to be green.
    pub soak: Duration,
}

/// One rollout of one commit to one target.
pub struct Rollout<'a> {
    /// The client of the target's cluster.
    pub client: Client,
    /// The workload that is rolled out.
    pub target: &'a RolloutTarget,
    /// The commit that is expected.
    pub sha: &'a Sha,
    /// How long the rollout may take and must hold.
    pub bounds: Bounds,
    /// Recognizes a newer commit that contains this one.
    pub contains: &'a Contains<'a>,
}

fn now() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}

/// The API group and the kind of a target.
const fn resource(kind: WorkloadKind) -> (&'static str, &'static str) {
    match kind {
        WorkloadKind::Deployment => ("apps", "Deployment"),
        WorkloadKind::StatefulSet => ("apps", "StatefulSet"),
        WorkloadKind::DaemonSet => ("apps", "DaemonSet"),
        WorkloadKind::Job => ("batch", "Job"),
    }
}

impl Rollout<'_> {
    /// Objects of one kind in the target's namespace.
    fn api(&self, group: &str, kind: &str) -> Api<DynamicObject> {
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, "v1", kind));
        Api::namespaced_with(self.client.clone(), &self.target.namespace, &resource)
    }

    /// The workload's name, with the commit in it where the target asks for that.
    fn name(&self) -> String {
        self.target.name.replace("{sha8}", self.sha.0.get(..8).unwrap_or(&self.sha.0))
    }

    /// Follows the rollout until it is healthy, broken, or out of time; `report` receives each
    /// change of its state and each event of a watcher.
    pub async fn judge(&self, mut report: impl FnMut(RolloutUpdate)) -> Judgement {
        let began = Instant::now();
        let (group, kind) = resource(self.target.kind);
        let by_name = watcher::Config::default().fields(&format!("metadata.name={}", self.name()));
        let workload = watch(WatchedKind::Workload, self.api(group, kind), by_name);
        let mut events = futures::stream::select_all([workload]);
        let mut known: BTreeMap<WatchedKind, KnownObjects> = BTreeMap::new();
        let mut history = ContainerHistory::default();
        let mut reported = String::new();
        let mut watched_selector: Option<String> = None;
        let mut healthy_since: Option<(Instant, i32)> = None;
        let mut newer: HashMap<String, bool> = HashMap::new();
        let mut second = interval(Duration::from_secs(1));
        loop {
            tokio::select! {
                Some((kind, event)) = events.next() => {
                    let what = format!("{} {kind:?}", self.target.summary());
                    let error = event.as_ref().err().map(|error| clean_line(error));
                    let status = WatcherStatus { what, last_event: now(), error };
                    report(RolloutUpdate::Watcher(status));
                    if let Ok(event) = event {
                        known.entry(kind).or_default().apply(event);
                    }
                }
                _ = second.tick() => {}
            }
            let over = began.elapsed() >= self.bounds.deadline;
            let empty = KnownObjects::default();
            let workload = known.get(&WatchedKind::Workload).unwrap_or(&empty);
            if !workload.complete {
                if over && began.elapsed() >= READ {
                    return Judgement::new(
                        Verdict::Unknown,
                        format!("{} can't be read", self.target.summary()),
                    );
                }
                continue;
            }
            let object = workload.objects.get(&self.name());
            if let Some(object) = object
                && let Some(selector) = selector(object)
                && watched_selector.as_ref() != Some(&selector)
            {
                let config = || watcher::Config::default().labels(&selector);
                if self.target.kind == WorkloadKind::Deployment {
                    let sets = self.api("apps", "ReplicaSet");
                    events.push(watch(WatchedKind::ReplicaSets, sets, config()));
                }
                events.push(watch(WatchedKind::Pods, self.api("", "Pod"), config()));
                watched_selector = Some(selector);
            }
            let image = self.image(object, &mut newer).await;
            let mut pods = Vec::new();
            for found in self.pods(&known, object) {
                let mut read = objects::pod(found, now());
                history.complete(&mut read, now());
                pods.push((found.clone(), read));
            }
            let state = self.state(object, image);
            let line = format!("{}: {}", self.target.summary(), describe(&state));
            if line != reported {
                report(RolloutUpdate::State(line.clone()));
                reported.clone_from(&line);
            }
            let degraded = pods.iter().find_map(|(_, pod)| match pod::state(pod) {
                pod::PodState::Degraded(why) => Some(why),
                _ => None,
            });
            let applied = !matches!(state, RolloutState::NotApplied | RolloutState::Missing);
            let broken = match (&state, degraded) {
                (_, Some(why)) if applied => Some(why),
                (RolloutState::Failed(why), _) => Some(why.clone()),
                _ => None,
            };
            if let Some(why) = broken {
                let detail = format!("{}: {why}", self.target.summary());
                return self.judgement(Verdict::Red, detail, object, &pods).await;
            }
            if matches!(state, RolloutState::Complete | RolloutState::Superseded) {
                let restarts = pods.iter().flat_map(|(_, pod)| &pod.containers);
                let restarts = restarts.map(|c| c.restarts).sum::<i32>();
                match healthy_since {
                    Some((since, before)) if before == restarts => {
                        if since.elapsed() >= self.bounds.soak {
                            let seconds = self.bounds.soak.as_secs();
                            let detail = format!("{line}, {seconds} s without a restart");
                            let judgement = Judgement::new(Verdict::Green, detail);
                            return Judgement { facts: self.facts(object, &pods), ..judgement };
                        }
                    }
                    _ => healthy_since = Some((Instant::now(), restarts)),
                }
            } else {
                healthy_since = None;
            }
            if over {
                let verdict = if applied { Verdict::Stuck } else { Verdict::NotApplied };
                return self.judgement(verdict, line, object, &pods).await;
            }
        }
    }

    /// The judgement of a rollout that did not succeed, with the evidence.
    async fn judgement(
        &self,
        verdict: Verdict,
        detail: String,
        object: Option<&Value>,
        pods: &[(Value, pod::Pod)],
    ) -> Judgement {
        let log = self.evidence(pods).await;
        Judgement { log, facts: self.facts(object, pods), ..Judgement::new(verdict, detail) }
    }

    /// Row 2 of table T6: how the workload's image relates to the commit.
    async fn image(&self, object: Option<&Value>, newer: &mut HashMap<String, bool>) -> Image {
        let Some(object) = object else { return Image::Other };
        let expected = self.target.tag(self.sha);
        let images = objects::images(&object["spec"]["template"]);
        let ours = images
            .iter()
            .filter(|(name, _)| self.target.container.as_ref().is_none_or(|wanted| wanted == name));
        let mut other = Image::Other;
        for (_, image) in ours {
            let (tag, digest) = objects::tag(image);
            if tag == Some(&expected) || digest == Some(&expected) {
                return Image::Matches;
            }
            let commit = |tag: &&str| {
                (7..=40).contains(&tag.len()) && tag.bytes().all(|b| b.is_ascii_hexdigit())
            };
            if let Some(tag) = tag.filter(commit) {
                let contains = if let Some(known) = newer.get(tag) {
                    *known
                } else {
                    let contains = (self.contains)(tag.to_owned()).await;
                    newer.insert(tag.to_owned(), contains);
                    contains
                };
                if contains {
                    other = Image::Newer;
                }
            }
        }
        other
    }

    /// The state of the workload by table T6, or T8 for a Job.
    fn state(&self, object: Option<&Value>, image: Image) -> RolloutState {
        let of = |image| match self.target.kind {
            WorkloadKind::Deployment => {
                rollout::deployment(object.map(|o| objects::deployment(o, now())).as_ref(), image)
            }
            WorkloadKind::StatefulSet => {
                rollout::stateful_set(object.map(objects::stateful_set).as_ref(), image)
            }
            WorkloadKind::DaemonSet => {
                rollout::daemon_set(object.map(objects::daemon_set).as_ref(), image)
            }
            WorkloadKind::Job => match object {
                None => RolloutState::Missing,
                Some(object) => match job::state(Some(&objects::conditions(object))) {
                    job::JobState::Succeeded => RolloutState::Complete,
                    job::JobState::Failed(why) => RolloutState::Failed(why),
                    job::JobState::Suspended => {
                        RolloutState::Suspended("the Job is suspended".into())
                    }
                    job::JobState::Lost => RolloutState::Missing,
                    job::JobState::Running | job::JobState::Ending => {
                        RolloutState::Progressing("running".into())
                    }
                },
            },
        };
        // A newer commit's image, which contains ours, is judged as ours would be.
        match of(image) {
            RolloutState::Superseded => match of(Image::Matches) {
                RolloutState::Complete => RolloutState::Superseded,
                other => other,
            },
            state => state,
        }
    }

    /// The pods of the newest revision.
    fn pods<'k>(
        &self,
        known: &'k BTreeMap<WatchedKind, KnownObjects>,
        object: Option<&Value>,
    ) -> Vec<&'k Value> {
        let Some(object) = object else { return Vec::new() };
        let Some(pods) = known.get(&WatchedKind::Pods) else { return Vec::new() };
        let label = |pod: &Value, name: &str| pod["metadata"]["labels"][name].clone();
        let all = pods.objects.values();
        match self.target.kind {
            WorkloadKind::Deployment => {
                let sets = known.get(&WatchedKind::ReplicaSets).map(|known| &known.objects);
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
                let newest =
                    sets.into_iter().flat_map(HashMap::values).filter(owned).max_by_key(revision);
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

/// `spec.selector.matchLabels`, as a label selector.
fn selector(object: &Value) -> Option<String> {
    let labels = object["spec"]["selector"]["matchLabels"].as_object()?;
    let pairs: Vec<String> = labels
        .iter()
        .filter_map(|(name, value)| Some(format!("{name}={}", value.as_str()?)))
        .collect();
    (!pairs.is_empty()).then(|| pairs.join(","))
}

/// A state as the operator reads it after the target's name.
fn describe(state: &RolloutState) -> String {
    match state {
        RolloutState::Missing => "does not exist".into(),
        RolloutState::NotApplied => "has another image".into(),
        RolloutState::Superseded => "complete, with a newer commit that contains this one".into(),
        RolloutState::Progressing(why) => clean_line(why),
        RolloutState::Suspended(why) => format!("suspended: {}", clean_line(why)),
        RolloutState::Failed(why) => format!("failed: {}", clean_line(why)),
        RolloutState::ScaledToZero => "scaled to zero".into(),
        RolloutState::Complete => "complete".into(),
    }
}
