//! Reads the tracker and sends the issues to the core: at the start, after each poll interval, when
//! a folder of issues changes, and when the configuration changes.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until};

use super::side_state::ProblemSource;
use super::{Context, Snapshot, outages};
use crate::core::model::id::IssueKey;
use crate::core::model::input::Input;
use crate::tracker::Listing;
use crate::tracker::folder::FolderTracker;

/// Changes within this time lead to one read.
const SETTLE: Duration = Duration::from_millis(50);

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
        match context.tracker().list(&issues_in_use(&snapshots)).await {
            Ok(listing) => {
                context.report_problems(ProblemSource::Tracker, listing.problems.clone()).await;
                if known.as_ref() != Some(&listing) {
                    let Listing { issues, unread, .. } = listing.clone();
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

/// The issues of runs that are live or keep their repository. The tracker lists them whatever their
/// labels are.
fn issues_in_use(snapshots: &watch::Receiver<Arc<Snapshot>>) -> BTreeSet<IssueKey> {
    let snapshot = snapshots.borrow();
    let fleet = &snapshot.fleet;
    let held = fleet.locks.values().chain(fleet.live.iter());
    let runs = held.filter_map(|run| fleet.runs.get(run));
    runs.filter_map(|run| run.work.issue().cloned()).collect()
}
