//! Rollouts of a deployed commit in Kubernetes clusters: tables T6 to T8. Reports the health of the
//! watchers to the side state while they run.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::future::{BoxFuture, join_all};
use tokio::time::{Instant, sleep};

use super::deploy::join;
use super::{TaskContext, TaskError};
use crate::cluster;
use crate::config::repository::{DeployConfig, RolloutTarget};
use crate::core::model::id::Sha;
use crate::core::model::time::Timestamp;
use crate::core::model::verdict::{Judgement, Verdict};
use crate::deploy::kubernetes::{Bounds, Rollout, RolloutUpdate};
use crate::lock::LockExt;
use crate::runtime::{Context, LoopMessage, WatcherHealth, outages};
use crate::workspace::pool::Pool;

/// How long every watcher of a rollout may fail before the cluster counts as away.
const BLIND: Duration = Duration::from_secs(60);

/// Seconds that a rollout must stay healthy, unless the repository says otherwise.
const SOAK_SECONDS: u64 = 60;

/// Follows the rollouts of every target at once; the first in the repository's order that is not
/// green decides.
pub(super) async fn follow_all(
    task: &TaskContext,
    rules: &DeployConfig,
    sha: &Sha,
    pool: &Arc<Pool>,
    deadline: Duration,
) -> Result<Judgement, TaskError> {
    let soak = Duration::from_secs(rules.soak_seconds.unwrap_or(SOAK_SECONDS));
    let bounds = Bounds { deadline, soak };
    let one = |target| follow(task, target, sha, pool, bounds);
    let mut all = Judgement::new(Verdict::Green, "");
    let mut details = Vec::new();
    for judgement in join_all(rules.kubernetes.iter().map(one)).await {
        let judgement = judgement?;
        if judgement.verdict != Verdict::Green {
            return Ok(join(all, judgement));
        }
        details.push(judgement.detail.clean_line());
        all = join(all, judgement);
    }
    Ok(Judgement { detail: details.join("; ").into(), ..all })
}

async fn follow(
    task: &TaskContext,
    target: &RolloutTarget,
    sha: &Sha,
    pool: &Arc<Pool>,
    bounds: Bounds,
) -> Result<Judgement, TaskError> {
    let context = target.context.as_deref();
    let client = cluster::client(&task.config.kubernetes, context).await?;
    let contains = |tag: String| -> BoxFuture<'_, bool> {
        Box::pin(async move {
            let base = pool.base();
            // The tag may have been pushed a moment ago. If the fetch fails, the commits here decide.
            let _ = base.fetch().await;
            let name = format!("{tag}^{{commit}}");
            let Ok(found) = base.git().call(&["rev-parse", "--verify", "--quiet", &name]).await
            else {
                return false;
            };
            let args = ["merge-base", "--is-ancestor", &sha.0, &found];
            base.git().ask(&args).await.is_ok_and(|answer| answer.ok)
        })
    };
    let rollout = Rollout { client, target, sha, bounds, contains: &contains };
    let mut watchers = RolloutWatchers { runtime: &task.runtime, names: BTreeSet::new() };
    let blind = Mutex::new(None);
    let away = |Blind { why, denied, .. }: Blind| {
        TaskError::outage(outages::of_cluster(context, denied), why, 0)
    };
    let judging = rollout.judge(|update| match update {
        RolloutUpdate::State(line) => task.note(line),
        RolloutUpdate::Watcher(watcher) => {
            note_sight(&blind, watcher.error.as_deref(), watcher.denied);
            let last_seen = Timestamp(watcher.last_event);
            watchers.report(watcher.what, WatcherHealth { last_seen, error: watcher.error });
        }
    });
    let judgement = tokio::select! {
        judgement = judging => judgement,
        blind = blind_for_long(&blind) => return Err(away(blind)),
    };
    // A verdict without sight rests on the past alone.
    let rests_on_sight = matches!(judgement.verdict, Verdict::Green | Verdict::Red);
    let unseen = blind.locked().take().filter(|_| !rests_on_sight);
    match unseen {
        Some(blind) => Err(away(blind)),
        None => Ok(judgement),
    }
}

/// A time in which no watcher received anything but errors.
#[derive(Debug, Clone)]
struct Blind {
    since: Instant,
    /// The last of the errors.
    why: String,
    /// Whether each error was a refusal of the API server: then a human must grant the rights.
    denied: bool,
}

/// The present blindness; none while a watcher receives events.
type Blindness = Mutex<Option<Blind>>;

fn note_sight(blind: &Blindness, error: Option<&str>, denied: bool) {
    let mut blind = blind.locked();
    match (error, blind.as_mut()) {
        (None, _) => *blind = None,
        (Some(error), Some(known)) => {
            error.clone_into(&mut known.why);
            known.denied &= denied;
        }
        (Some(error), None) => {
            *blind = Some(Blind { since: Instant::now(), why: error.to_owned(), denied });
        }
    }
}

/// Resolves once every watcher has failed for [`BLIND`].
async fn blind_for_long(blind: &Blindness) -> Blind {
    loop {
        sleep(Duration::from_secs(1)).await;
        let long = |known: &&Blind| known.since.elapsed() >= BLIND;
        if let Some(known) = blind.locked().as_ref().filter(long) {
            return known.clone();
        }
    }
}

/// The watchers of one rollout. Dropping it, also on cancellation, removes them from the list.
struct RolloutWatchers<'a> {
    runtime: &'a Context,
    names: BTreeSet<String>,
}

impl RolloutWatchers<'_> {
    fn report(&mut self, name: String, health: WatcherHealth) {
        self.names.insert(name.clone());
        let error = health.error.clone();
        let before = self.runtime.side_state.watchers().insert(name, health);
        if before.is_none_or(|before| before.error != error) {
            // If the queue is full, the next snapshot shows it anyway.
            let _ = self.runtime.inputs.try_send(LoopMessage::SideStateChanged);
        }
    }
}

impl Drop for RolloutWatchers<'_> {
    fn drop(&mut self) {
        self.runtime.side_state.watchers().retain(|name, _| !self.names.contains(name));
    }
}
