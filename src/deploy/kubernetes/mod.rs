//! A rollout in a cluster, followed by watchers with read-only rights until tables T6 to T8 decide.
//!
//! A watch that is open and silent starts again after 30 s; an expired one starts with a new list,
//! which also shows the objects that vanished meanwhile. Each watcher has a back-off of its own.
//!
//! ```text
//! API server → watch::WatchStream → KnownObjects ┐
//!            → look → LookedUp ──────────────────┼ Objects → tables → Observation → soak
//!                                 RolloutHistory ┘                        │
//! runtime::tasks::stages ← RolloutUpdate, Judgement ←─────────────────────┘ evidence after a failure
//! ```
//!
//! The watchers find every change soon. A rollout becomes green by looks alone, since an open watch shows
//! nothing while the API server is away; and the last look decides at the deadline.

mod evidence;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod history;
mod look;
mod observation;
mod watch;

use std::collections::BTreeMap;
use std::time::Duration;

use futures::StreamExt;
use futures::future::BoxFuture;
use kube::api::{ApiResource, DynamicObject, GroupVersionKind};
use kube::runtime::watcher;
use kube::{Api, Client};
use serde_json::Value;
use tokio::time::{Instant, interval};

use self::observation::{Memory, Objects, Observation};
use self::watch::{KnownObjects, WatchedKind, watch};
use crate::config::repository::{RolloutTarget, WorkloadKind};
use crate::core::model::id::Sha;
use crate::core::model::untrusted::clean_line;
use crate::core::model::verdict::{Judgement, Verdict};
use crate::core::tables::pod::HELD;
use crate::core::tables::rollout::RolloutState;
use crate::core::tables::soak::{Look, Soak};

/// How long a workload may take to be read at all.
const READ: Duration = Duration::from_secs(30);
/// The time limit of one call.
const CALL: Duration = Duration::from_secs(20);
/// The longest time between two looks while a rollout soaks.
const LOOK: Duration = Duration::from_secs(5);

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
    /// Whether the API server answered, and refused to let us watch.
    pub denied: bool,
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

impl Bounds {
    /// The longest that a rollout may take that is complete, or can't be read, at its deadline.
    fn longest(self) -> Duration {
        self.deadline + self.soak + READ
    }
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

/// The workloads of a target's kind in its namespace.
pub(super) fn workload_api(client: &Client, target: &RolloutTarget) -> Api<DynamicObject> {
    let (group, kind) = resource(target.kind);
    namespaced(client, target, group, kind)
}

fn namespaced(
    client: &Client,
    target: &RolloutTarget,
    group: &str,
    kind: &str,
) -> Api<DynamicObject> {
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, "v1", kind));
    Api::namespaced_with(client.clone(), &target.namespace, &resource)
}

impl Rollout<'_> {
    /// Objects of one kind in the target's namespace.
    fn api(&self, group: &str, kind: &str) -> Api<DynamicObject> {
        namespaced(&self.client, self.target, group, kind)
    }

    /// The workload's name, with the commit in it where the target asks for that.
    fn name(&self) -> String {
        self.target.name.replace("{sha8}", self.sha.0.get(..8).unwrap_or(&self.sha.0))
    }

    /// Follows the rollout until it is healthy, broken, or out of time; `report` receives each
    /// change of its state and each event of a watcher.
    pub async fn judge(&self, mut report: impl FnMut(RolloutUpdate)) -> Judgement {
        let began = Instant::now();
        let by_name = watcher::Config::default().fields(&format!("metadata.name={}", self.name()));
        let workload = workload_api(&self.client, self.target);
        let workload = watch(WatchedKind::Workload, workload, by_name);
        let mut events = futures::stream::select_all([workload]);
        let mut known: BTreeMap<WatchedKind, KnownObjects> = BTreeMap::new();
        let mut watched_selector: Option<String> = None;
        let mut course = Course::new(self.bounds.soak);
        let mut second = interval(Duration::from_secs(1));
        loop {
            tokio::select! {
                Some((kind, event)) = events.next() => {
                    let what = format!("{} {kind:?}", self.target.summary());
                    let failure = event.as_ref().err();
                    let denied = failure.is_some_and(|failure| failure.denied);
                    let error = failure.map(|failure| clean_line(&failure.line));
                    let status = WatcherStatus { what, last_event: now(), error, denied };
                    // A watcher begins before its list is asked for, which may fail each time.
                    if !matches!(event, Ok(watcher::Event::Init)) {
                        report(RolloutUpdate::Watcher(status));
                    }
                    if let Ok(event) = event {
                        known.entry(kind).or_default().apply(event);
                    }
                }
                _ = second.tick() => {}
            }
            let over = began.elapsed() >= self.bounds.deadline;
            if !known.get(&WatchedKind::Workload).is_some_and(|known| known.complete) {
                if over && began.elapsed() >= READ {
                    return self.unreadable();
                }
                continue;
            }
            let found = self.watched(&known);
            if let Some(object) = found.workload
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
            let seen = self.observe(&found, &mut course.memory).await;
            course.report_watched(seen.summary(&self.target.summary()), &mut report);
            if let Some(judgement) = self.decided(&seen).await {
                return judgement;
            }
            if !seen.is_complete() {
                course.soak.look(0, Look::Unhealthy);
            }
            if over || (seen.is_complete() && course.is_look_due(self.bounds.soak)) {
                let outcome = self.look_again(&mut course, began, &mut report).await;
                if let Some(judgement) = outcome {
                    return judgement;
                }
            }
        }
    }

    /// The objects as the watchers know them.
    fn watched<'k>(&self, known: &'k BTreeMap<WatchedKind, KnownObjects>) -> Objects<'k> {
        let of = |kind| known.get(&kind).into_iter().flat_map(|known| known.objects.values());
        Objects {
            workload: known
                .get(&WatchedKind::Workload)
                .and_then(|known| known.objects.get(&self.name())),
            sets: of(WatchedKind::ReplicaSets).collect(),
            pods: of(WatchedKind::Pods).collect(),
        }
    }

    /// The judgement that an observation alone decides: the commit broke the rollout, the world holds it
    /// up for too long, or a Job has succeeded.
    async fn decided(&self, seen: &Observation) -> Option<Judgement> {
        let target = self.target.summary();
        if let Some(why) = seen.broken(self.target.kind) {
            return Some(self.judgement(Verdict::Red, format!("{target}: {why}"), seen).await);
        }
        if let Some((why, _)) = seen.held().filter(|(_, ms)| *ms >= HELD) {
            return Some(self.judgement(Verdict::Stuck, format!("{target}: {why}"), seen).await);
        }
        if self.target.kind == WorkloadKind::Job && seen.is_complete() {
            return Some(self.green(seen, seen.summary(&target)));
        }
        None
    }

    /// Reads everything from the API server. Decides where the soak is over, or the deadline has passed.
    async fn look_again(
        &self,
        course: &mut Course,
        began: Instant,
        report: &mut impl FnMut(RolloutUpdate),
    ) -> Option<Judgement> {
        let at = began.elapsed();
        course.last_look = Some(Instant::now());
        let target = self.target.summary();
        let found = match self.look().await {
            Ok(found) => found,
            Err(why) => {
                course.soak.look(ms(at), Look::Failed);
                course
                    .report(format!("{target}: can't be read, and the soak waits: {why}"), report);
                // Shortly before or after an outage, a few seconds more cost nothing.
                return (at >= self.bounds.longest()).then(|| self.unreadable());
            }
        };
        let seen = self.observe(&found.objects(), &mut course.memory).await;
        let line = seen.summary(&target);
        course.report(line.clone(), report);
        if let Some(judgement) = self.decided(&seen).await {
            return Some(judgement);
        }
        if course.soak.look(ms(at), seen.look()) {
            let seconds = self.bounds.soak.as_secs();
            return Some(self.green(&seen, format!("{line}, {seconds} s without a restart")));
        }
        let limit = if seen.is_complete() { self.bounds.longest() } else { self.bounds.deadline };
        if at < limit {
            return None;
        }
        let verdict = if seen.is_applied() { Verdict::Stuck } else { Verdict::NotApplied };
        let detail = match seen.held() {
            Some((why, _)) => format!("{line}; {why}"),
            None => line,
        };
        Some(self.judgement(verdict, detail, &seen).await)
    }

    fn unreadable(&self) -> Judgement {
        Judgement::new(Verdict::Unknown, format!("{} can't be read", self.target.summary()))
    }

    fn green(&self, seen: &Observation, detail: String) -> Judgement {
        Judgement { facts: self.facts(seen), ..Judgement::new(Verdict::Green, detail) }
    }

    /// The judgement of a rollout that did not succeed, with the evidence.
    async fn judgement(&self, verdict: Verdict, detail: String, seen: &Observation) -> Judgement {
        let log = self.evidence(&seen.pods).await;
        Judgement { log, facts: self.facts(seen), ..Judgement::new(verdict, detail) }
    }
}

/// The state of following one rollout.
struct Course {
    memory: Memory,
    soak: Soak,
    last_look: Option<Instant>,
    /// The last line that the operator was shown.
    reported: String,
    /// The last line that the watchers gave. They may lag behind a look, and repeating their line would
    /// only take turns with the look's.
    watched: String,
}

impl Course {
    fn new(soak: Duration) -> Self {
        let soak = Soak::new(ms(soak));
        let (reported, watched) = (String::new(), String::new());
        Self { memory: Memory::default(), soak, last_look: None, reported, watched }
    }

    fn report_watched(&mut self, line: String, report: &mut impl FnMut(RolloutUpdate)) {
        if line != self.watched {
            self.watched.clone_from(&line);
            self.report(line, report);
        }
    }

    fn report(&mut self, line: String, report: &mut impl FnMut(RolloutUpdate)) {
        if line != self.reported {
            report(RolloutUpdate::State(line.clone()));
            self.reported = line;
        }
    }

    /// Whether it is time to look again while the soak lasts.
    fn is_look_due(&self, soak: Duration) -> bool {
        let every = (soak / 5).clamp(Duration::from_secs(1), LOOK);
        self.last_look.is_none_or(|last| last.elapsed() >= every)
    }
}

fn ms(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
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
        RolloutState::NotApplied(why) => clean_line(why),
        RolloutState::Superseded => "complete, with a newer commit that contains this one".into(),
        RolloutState::Progressing(why) => clean_line(why),
        RolloutState::Suspended(why) => format!("suspended: {}", clean_line(why)),
        RolloutState::Failed(why) => format!("failed: {}", clean_line(why)),
        RolloutState::ScaledToZero => "scaled to zero".into(),
        RolloutState::Complete => "complete".into(),
    }
}
