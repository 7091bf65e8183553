//! Reads the tracker and sends the issues to the core: at the start, after each poll interval, when
//! a folder of issues changes, and when the configuration changes.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::side_state::ProblemSource;
use super::{Context, Snapshot, outages};
use crate::core::model::id::IssueKey;
use crate::core::model::input::Input;
use crate::core::model::issue::Issue;
use crate::tracker::folder::FolderTracker;
use crate::tracker::{Listing, TrackerError};

/// Changes within this time lead to one read.
const SETTLE: Duration = Duration::from_millis(50);
/// The wait before a list that lacks the issue of a run is read again.
const MISSING: Duration = Duration::from_secs(1);
/// The longest time of a reading before a claim.
const READ: Duration = Duration::from_secs(120);

/// Starts reading until the context is cancelled. A message to the returned sender makes the next
/// read happen at once.
pub(super) fn start(
    context: &Arc<Context>,
    snapshots: watch::Receiver<Arc<Snapshot>>,
) -> mpsc::Sender<()> {
    let (changed, changes) = mpsc::channel(1);
    tokio::spawn(follow(context.clone(), changed.clone(), changes, snapshots));
    changed
}

async fn follow(
    context: Arc<Context>,
    changed: mpsc::Sender<()>,
    mut changes: mpsc::Receiver<()>,
    snapshots: watch::Receiver<Arc<Snapshot>>,
) {
    let mut known: Option<Listing> = None;
    let mut watching: Option<(Arc<FolderTracker>, Option<notify::RecommendedWatcher>)> = None;
    loop {
        let folder = context.services().tracker.folder.clone();
        watching = match (folder, watching) {
            (Some(folder), Some((of, Some(watcher)))) if Arc::ptr_eq(&of, &folder) => {
                Some((of, Some(watcher)))
            }
            // Without a watcher the poll still finds changes; the folder may appear later.
            (Some(folder), _) => {
                let watcher = folder.watch(changed.clone()).ok();
                Some((folder, watcher))
            }
            (None, _) => None,
        };
        match list(&context, &snapshots).await {
            Ok(listing) => {
                context.side_state.tracker_was_read();
                if !listing.unread.is_empty() {
                    report_outage(&context).await;
                }
                context.report_problems(ProblemSource::Tracker, listing.problems.clone()).await;
                if known.as_ref() != Some(&listing) || differs(&listing, &snapshots) {
                    let Listing { issues, unread, identities, .. } = listing.clone();
                    if known.as_ref().is_none_or(|known| known.identities != identities) {
                        context.send(Input::Identified(identities)).await;
                    }
                    context.send(Input::PartialIssues { issues, unread }).await;
                    known = Some(listing);
                }
            }
            Err(error) => {
                outages::report(&context, &error);
                let line = format!("the tracker can't be read: {}", crate::error::chain(&error));
                context.report_problems(ProblemSource::Tracker, vec![line]).await;
            }
        }
        let disabled = context.services().sinks.disabled();
        context.report_problems(ProblemSource::Sinks, disabled).await;
        let poll = Duration::from_secs(context.config().tracker.poll_seconds.max(1));
        let next = Instant::now() + poll;
        tokio::select! {
            Some(()) = changes.recv() => {
                sleep(SETTLE).await;
                while changes.try_recv().is_ok() {}
            }
            () = sleep_until(next) => {}
            () = context.cancel.cancelled() => return,
        }
    }
}

/// Reads the tracker's list. An issue of a run that is missing counts as gone only once a second
/// reading misses it too: an editor that saves a file may delete it for a moment.
async fn list(
    context: &Context,
    snapshots: &watch::Receiver<Arc<Snapshot>>,
) -> Result<Listing, TrackerError> {
    let in_use = issues_in_use(snapshots);
    let tracker = context.tracker();
    tracker.remember(&snapshots.borrow().fleet.identities);
    let listing = tracker.list(&in_use).await?;
    let listed = |key: &IssueKey| {
        listing.unread.contains_key(&key.repo) || listing.issues.iter().any(|i| i.key == *key)
    };
    let known = |key: &&IssueKey| snapshots.borrow().fleet.issues.contains_key(*key);
    if in_use.iter().filter(known).all(listed) {
        return Ok(listing);
    }
    sleep(MISSING).await;
    tracker.list(&in_use).await
}

/// Reports an outage of GitHub where a list lacks repositories because GitHub answers nothing at all.
async fn report_outage(context: &Context) {
    let Some(api) = context.services().github.clone() else { return };
    if let Err(error) = api.get::<serde_json::Value>("/rate_limit").await {
        outages::report(context, &error.into());
    }
}

/// Whether the fleet has another version of a listed issue than the list: a reading before a claim
/// can have brought an older or a newer one.
fn differs(listing: &Listing, snapshots: &watch::Receiver<Arc<Snapshot>>) -> bool {
    let snapshot = snapshots.borrow();
    let same = |issue: &Issue| {
        snapshot.fleet.issues.get(&issue.key).is_some_and(|known| **known == *issue)
    };
    !listing.issues.iter().all(same)
}

/// Reads an issue right before its claim and sends the version to the core. After a failure it waits
/// as long as between two polls, since the core then asks again.
pub(super) async fn read_issue(context: &Context, key: IssueKey) {
    let tracker = context.tracker();
    let read = match timeout(READ, tracker.read(&key)).await {
        Ok(Ok(issue)) => Ok(issue.map(Box::new)),
        Ok(Err(error)) => {
            outages::report(context, &error);
            Err(crate::error::chain(&error))
        }
        Err(_) => Err(format!("{key} was not read within {} s", READ.as_secs())),
    };
    if let Err(error) = &read {
        tracing::warn!(%key, error, "the issue can't be read before its claim");
        let poll = Duration::from_secs(context.config().tracker.poll_seconds.max(1));
        tokio::select! {
            () = sleep(poll) => {}
            () = context.cancel.cancelled() => return,
        }
    }
    context.send(Input::IssueRead { key, read }).await;
}

/// The issues of runs that are live or keep their repository. The tracker lists them whatever their
/// labels are.
fn issues_in_use(snapshots: &watch::Receiver<Arc<Snapshot>>) -> BTreeSet<IssueKey> {
    let snapshot = snapshots.borrow();
    let fleet = &snapshot.fleet;
    let held = fleet.locks.values().chain(fleet.live.iter());
    let runs = held.filter_map(|run| fleet.runs.get(run));
    runs.filter_map(|run| run.work.issue().cloned()).collect()
}
