//! A rollout in a cluster, followed by watchers with read-only rights: tables T6 to T8.
//!
//! A watch that is open and silent is begun anew after 30 s; one that expired is listed anew,
//! and what vanished meanwhile is found by the list. Each watcher has a back-off of its own.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::pin::Pin;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::{Stream, StreamExt};
use kube::api::{ApiResource, DynamicObject, GroupVersionKind, ListParams, LogParams};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client};
use serde_json::Value;
use tokio::time::{Instant, interval, timeout};

use super::objects;
use crate::config::repository::{RolloutTarget, WorkloadKind};
use crate::core::model::id::Sha;
use crate::core::model::untrusted::{Untrusted, clean_line};
use crate::core::model::verdict::{Fact, Judgement, Verdict};
use crate::core::tables::rollout::{Image, RolloutState};
use crate::core::tables::{job, pod, rollout};

/// How long one watch may be silent, in seconds.
const WATCH: u32 = 30;
/// How long a workload may take to be read at all.
const READ: Duration = Duration::from_secs(30);
/// Longest time of one call.
const CALL: Duration = Duration::from_secs(20);
/// The end of a pod's log, in lines.
const LINES: i64 = 60;
/// Pods whose logs are kept.
const PODS: usize = 3;

/// Whether a commit, by a tag, contains the one that is rolled out.
pub type Contains<'a> = dyn Fn(String) -> BoxFuture<'a, bool> + Send + Sync + 'a;

/// A watcher as an operator sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Watcher {
    /// What it watches.
    pub what: String,
    /// When something was last heard, in milliseconds of the epoch.
    pub heard: i64,
    /// What went wrong last, until something is heard again.
    pub error: Option<String>,
}

/// What is told while a rollout is followed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    /// Where it stands.
    Stands(String),
    /// How a watcher fares.
    Watcher(Watcher),
}

/// Bounds of one rollout.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// How long it may take in all.
    pub deadline: Duration,
    /// How long it must hold without a restart.
    pub soak: Duration,
}

/// One rollout.
pub struct Rollout<'a> {
    /// The cluster.
    pub client: Client,
    /// What is rolled out.
    pub target: &'a RolloutTarget,
    /// The commit.
    pub sha: &'a Sha,
    /// Bounds.
    pub bounds: Bounds,
    /// Knows commits.
    pub contains: &'a Contains<'a>,
}

/// Objects of one kind, as far as they are known.
#[derive(Default)]
struct Known {
    objects: HashMap<String, Value>,
    /// What a list that is under way has told.
    listing: HashMap<String, Value>,
    complete: bool,
}

impl Known {
    fn take(&mut self, event: watcher::Event<DynamicObject>) {
        let named = |object: DynamicObject| {
            let name = object.metadata.name.clone().unwrap_or_default();
            (name, serde_json::to_value(object).unwrap_or_default())
        };
        match event {
            watcher::Event::Init => self.listing.clear(),
            watcher::Event::InitApply(object) => {
                self.listing.extend([named(object)]);
            }
            watcher::Event::InitDone => {
                self.objects = std::mem::take(&mut self.listing);
                self.complete = true;
            }
            watcher::Event::Apply(object) => {
                self.objects.extend([named(object)]);
            }
            watcher::Event::Delete(object) => {
                self.objects.remove(&named(object).0);
            }
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Workload,
    ReplicaSets,
    Pods,
}

type Events =
    Pin<Box<dyn Stream<Item = (Kind, Result<watcher::Event<DynamicObject>, String>)> + Send>>;

/// What is remembered of containers: restarts over the window, and since when one waits.
#[derive(Default)]
struct History {
    restarts: HashMap<(String, String), VecDeque<(i64, i32)>>,
    waiting: HashMap<(String, String, String), i64>,
}

impl History {
    fn note(&mut self, pod: &mut pod::Pod, now: i64) {
        for container in &mut pod.containers {
            let place = (pod.name.clone(), container.name.clone());
            let seen = self.restarts.entry(place.clone()).or_default();
            if seen.is_empty() && pod.age < pod::RESTART_WINDOW {
                seen.push_back((now, 0));
            }
            if seen.back().is_none_or(|(_, count)| *count != container.restarts) {
                seen.push_back((now, container.restarts));
            }
            while seen.len() > 1 && seen[1].0 <= now - pod::RESTART_WINDOW {
                seen.pop_front();
            }
            container.restarts_before = seen.front().map_or(0, |(_, count)| *count);
            if let Some(reason) = &container.waiting {
                let place = (place.0, place.1, reason.clone());
                let since = *self.waiting.entry(place).or_insert(now);
                pod.age = pod.age.min(now - since).max(0);
            }
        }
    }
}

fn now() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}

const fn resource(kind: WorkloadKind) -> (&'static str, &'static str) {
    match kind {
        WorkloadKind::Deployment => ("apps", "Deployment"),
        WorkloadKind::StatefulSet => ("apps", "StatefulSet"),
        WorkloadKind::DaemonSet => ("apps", "DaemonSet"),
        WorkloadKind::Job => ("batch", "Job"),
    }
}

impl Rollout<'_> {
    fn api(&self, group: &str, kind: &str) -> Api<DynamicObject> {
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, "v1", kind));
        Api::namespaced_with(self.client.clone(), &self.target.namespace, &resource)
    }

    fn watch(&self, kind: Kind, group: &str, name: &str, config: watcher::Config) -> Events {
        let api = self.api(group, name);
        let stream = watcher(api, config.timeout(WATCH)).default_backoff();
        Box::pin(stream.map(move |event| (kind, event.map_err(|error| error.to_string()))))
    }

    fn name(&self) -> String {
        self.target.name.replace("{sha8}", self.sha.0.get(..8).unwrap_or(&self.sha.0))
    }

    /// Follows it until it is healthy, broken, or its time is over.
    pub async fn judge(&self, mut tell: impl FnMut(Told)) -> Judgement {
        let began = Instant::now();
        let (group, kind) = resource(self.target.kind);
        let by_name = watcher::Config::default().fields(&format!("metadata.name={}", self.name()));
        let mut events =
            futures::stream::select_all([self.watch(Kind::Workload, group, kind, by_name)]);
        let mut known: BTreeMap<Kind, Known> = BTreeMap::new();
        let mut history = History::default();
        let mut stands = String::new();
        let mut follows: Option<String> = None;
        let mut healthy_since: Option<(Instant, i32)> = None;
        let mut newer: HashMap<String, bool> = HashMap::new();
        let mut second = interval(Duration::from_secs(1));
        loop {
            tokio::select! {
                Some((kind, event)) = events.next() => {
                    let what = format!("{} {kind:?}", self.target.summary());
                    let error = event.as_ref().err().map(|error| clean_line(error));
                    tell(Told::Watcher(Watcher { what, heard: now(), error }));
                    if let Ok(event) = event {
                        known.entry(kind).or_default().take(event);
                    }
                }
                _ = second.tick() => {}
            }
            let over = began.elapsed() >= self.bounds.deadline;
            let empty = Known::default();
            let workload = known.get(&Kind::Workload).unwrap_or(&empty);
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
                && follows.as_ref() != Some(&selector)
            {
                let config = || watcher::Config::default().labels(&selector);
                if self.target.kind == WorkloadKind::Deployment {
                    events.push(self.watch(Kind::ReplicaSets, "apps", "ReplicaSet", config()));
                }
                events.push(self.watch(Kind::Pods, "", "Pod", config()));
                follows = Some(selector);
            }
            let image = self.image(object, &mut newer).await;
            let mut pods = Vec::new();
            for found in self.pods(&known, object) {
                let mut read = objects::pod(found, now());
                history.note(&mut read, now());
                pods.push((found.clone(), read));
            }
            let says = self.says(object, image);
            let line = format!("{}: {}", self.target.summary(), name(&says));
            if line != stands {
                tell(Told::Stands(line.clone()));
                stands.clone_from(&line);
            }
            let degraded = pods.iter().find_map(|(_, pod)| match pod::state(pod) {
                pod::PodState::Degraded(why) => Some(why),
                _ => None,
            });
            let applied = !matches!(says, RolloutState::NotApplied | RolloutState::Missing);
            let facts = || self.facts(object, &pods);
            if let Some(why) = degraded.filter(|_| applied) {
                let log = self.evidence(&pods).await;
                let detail = format!("{}: {why}", self.target.summary());
                let judgement = Judgement::new(Verdict::Red, detail);
                return Judgement { log, facts: facts(), ..judgement };
            }
            match &says {
                RolloutState::Failed(why) => {
                    let log = self.evidence(&pods).await;
                    let detail = format!("{}: {why}", self.target.summary());
                    let judgement = Judgement::new(Verdict::Red, detail);
                    return Judgement { log, facts: facts(), ..judgement };
                }
                RolloutState::Complete | RolloutState::Superseded => {
                    let restarts = pods.iter().flat_map(|(_, pod)| &pod.containers);
                    let restarts = restarts.map(|c| c.restarts).sum::<i32>();
                    match healthy_since {
                        Some((since, known)) if known == restarts => {
                            if since.elapsed() >= self.bounds.soak {
                                let seconds = self.bounds.soak.as_secs();
                                let detail = format!("{line}, {seconds} s without a restart");
                                let judgement = Judgement::new(Verdict::Green, detail);
                                return Judgement { facts: facts(), ..judgement };
                            }
                        }
                        _ => healthy_since = Some((Instant::now(), restarts)),
                    }
                }
                _ => healthy_since = None,
            }
            if over {
                let verdict = if applied { Verdict::Stuck } else { Verdict::NotApplied };
                let log = self.evidence(&pods).await;
                return Judgement { log, facts: facts(), ..Judgement::new(verdict, line) };
            }
        }
    }

    /// T6 row 2: how the workload's image relates to the commit.
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

    fn says(&self, object: Option<&Value>, image: Image) -> RolloutState {
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
                    job::JobState::Suspended => RolloutState::Suspended("it is suspended".into()),
                    job::JobState::Lost => RolloutState::Missing,
                    job::JobState::Running | job::JobState::Ending => {
                        RolloutState::Progressing("it runs".into())
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
            says => says,
        }
    }

    /// The pods of the newest revision.
    fn pods<'k>(&self, known: &'k BTreeMap<Kind, Known>, object: Option<&Value>) -> Vec<&'k Value> {
        let Some(object) = object else { return Vec::new() };
        let Some(pods) = known.get(&Kind::Pods) else { return Vec::new() };
        let label = |pod: &Value, name: &str| pod["metadata"]["labels"][name].clone();
        let all = pods.objects.values();
        match self.target.kind {
            WorkloadKind::Deployment => {
                let sets = known.get(&Kind::ReplicaSets).map(|known| &known.objects);
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

    fn facts(&self, object: Option<&Value>, pods: &[(Value, pod::Pod)]) -> Vec<Fact> {
        let Some(object) = object else { return Vec::new() };
        let meta = &object["metadata"];
        let what = self.target.summary();
        let mut facts = vec![Fact::new(
            "rollout",
            format!("{what} generation {}", meta["generation"].as_i64().unwrap_or_default()),
        )];
        for (name, image) in objects::images(&object["spec"]["template"]) {
            facts.push(Fact::new("image", format!("{what}/{name} {image}")));
        }
        let mut digests: Vec<(String, String)> =
            pods.iter().flat_map(|(object, _)| objects::digests(object)).collect();
        digests.sort();
        digests.dedup();
        for (name, digest) in digests {
            facts.push(Fact::new("digest", format!("{what}/{name} {digest}")));
        }
        let template = &object["spec"]["template"]["metadata"]["annotations"];
        for (place, name) in [
            (template, "keel.sh/update-time"),
            (&meta["annotations"], "keel.sh/policy"),
            (&meta["annotations"], "kubernetes.io/change-cause"),
        ] {
            if let Some(value) = place[name].as_str() {
                facts.push(Fact::new(name, value));
            }
        }
        facts
    }

    /// What is kept of a rollout that did not go well: pods, events, and the ends of logs.
    async fn evidence(&self, pods: &[(Value, pod::Pod)]) -> Untrusted {
        let mut out = String::new();
        for (_, pod) in pods {
            out.push_str(&format!("pod {} {} {:?}\n", pod.name, pod.phase, pod::state(pod)));
        }
        let events = self.api("", "Event");
        let name = self.name();
        match timeout(CALL, events.list(&ListParams::default().limit(500))).await {
            Ok(Ok(all)) => {
                let of = |event: &&DynamicObject| {
                    let about = event.data["involvedObject"]["name"].as_str().unwrap_or_default();
                    about == name || about.starts_with(&format!("{name}-"))
                };
                let last: Vec<String> = all.items.iter().filter(of).map(event_line).collect();
                out.push_str(&last[last.len().saturating_sub(20)..].concat());
            }
            Ok(Err(error)) => out.push_str(&format!("(events can't be read: {error})\n")),
            Err(_) => out.push_str("(events can't be read in time)\n"),
        }
        let bad = |pod: &pod::Pod| !matches!(pod::state(pod), pod::PodState::Fine);
        for (_, pod) in pods.iter().filter(|(_, pod)| bad(pod)).take(PODS) {
            for container in &pod.containers {
                let logs: Api<k8s_openapi::api::core::v1::Pod> =
                    Api::namespaced(self.client.clone(), &self.target.namespace);
                let params = LogParams {
                    container: Some(container.name.clone()),
                    previous: container.restarts > 0,
                    tail_lines: Some(LINES),
                    ..LogParams::default()
                };
                out.push_str(&format!("== {}/{}\n", pod.name, container.name));
                match timeout(CALL, logs.logs(&pod.name, &params)).await {
                    Ok(Ok(text)) => out.push_str(&text),
                    Ok(Err(error)) => out.push_str(&format!("(its log can't be read: {error})\n")),
                    Err(_) => out.push_str("(its log can't be read in time)\n"),
                }
            }
        }
        out.into()
    }
}

fn event_line(event: &DynamicObject) -> String {
    let data = &event.data;
    let text = |key: &str| data[key].as_str().unwrap_or_default();
    let about = data["involvedObject"]["name"].as_str().unwrap_or_default();
    format!("event {} {about}: {} {}\n", text("type"), text("reason"), text("message"))
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

fn name(says: &RolloutState) -> String {
    match says {
        RolloutState::Missing => "is not there".into(),
        RolloutState::NotApplied => "has another image".into(),
        RolloutState::Superseded => "complete, with a newer commit that contains this one".into(),
        RolloutState::Progressing(why) => clean_line(why),
        RolloutState::Suspended(why) => format!("suspended: {}", clean_line(why)),
        RolloutState::Failed(why) => format!("failed: {}", clean_line(why)),
        RolloutState::ScaledToZero => "scaled to zero".into(),
        RolloutState::Complete => "complete".into(),
    }
}
