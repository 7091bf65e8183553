//! Watching the tracker, the configuration and what controls it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use notify::Watcher as _;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until};

use super::control::{self, Values};
use super::outside::Outside;
use super::{Shell, Snapshot};
use crate::config::Config;
use crate::core::model::id::IssueKey;
use crate::core::model::input::Input;
use crate::tracker::Listing;
use crate::tracker::folder::FolderTracker;

/// Changes that come together are taken together.
const SETTLE: Duration = Duration::from_millis(50);
/// How often local time is looked at, where there are quiet hours.
const CLOCK: Duration = Duration::from_secs(60);

/// Where the configuration comes from.
pub(super) struct Control {
    /// The file's, with the environment over it.
    pub base: Config,
    /// The file.
    pub file: Option<PathBuf>,
    /// What was laid over it at the start.
    pub values: Values,
}

pub(super) fn start(
    shell: &Arc<Shell>,
    control: Control,
    snapshots: watch::Receiver<Arc<Snapshot>>,
) {
    let (changed, changes) = mpsc::channel(1);
    tokio::spawn(follow_tracker(shell.clone(), changed.clone(), changes, snapshots));
    let (tell, told) = watch::channel(control.values.clone());
    control::follow(shell, tell);
    tokio::spawn(follow_config(shell.clone(), control, told, changed));
}

async fn follow_tracker(
    shell: Arc<Shell>,
    changed: mpsc::Sender<()>,
    mut changes: mpsc::Receiver<()>,
    snapshots: watch::Receiver<Arc<Snapshot>>,
) {
    let mut known: Option<Listing> = None;
    let mut watching: Option<(Arc<FolderTracker>, Option<notify::RecommendedWatcher>)> = None;
    loop {
        let folder = shell.outside().tracker.folder.clone();
        watching = match (folder, watching) {
            (Some(folder), Some((of, Some(watcher)))) if Arc::ptr_eq(&of, &folder) => {
                Some((of, Some(watcher)))
            }
            // Without a watch the poll still comes; a folder may be made later.
            (Some(folder), _) => {
                let watcher = folder.watch(changed.clone()).ok();
                Some((folder, watcher))
            }
            (None, _) => None,
        };
        match shell.tracker().list(&followed(&snapshots)).await {
            Ok(listing) => {
                shell.problem("tracker", listing.problems.clone()).await;
                if known.as_ref() != Some(&listing) {
                    let Listing { issues, unread, .. } = listing.clone();
                    shell.send(Input::SomeIssues { issues, unread }).await;
                    known = Some(listing);
                }
            }
            Err(error) => {
                let line = format!("the tracker can't be read: {}", crate::error::chain(&error));
                shell
                    .problem("tracker", vec![crate::core::model::untrusted::clean_line(&line)])
                    .await;
            }
        }
        shell.problem("sinks", shell.outside().sinks.disabled()).await;
        let poll = Duration::from_secs(shell.config().tracker.poll_seconds.max(1));
        let next = Instant::now() + poll;
        tokio::select! {
            Some(()) = changes.recv() => {
                sleep(SETTLE).await;
                while changes.try_recv().is_ok() {}
            }
            () = sleep_until(next) => {}
            () = shell.cancel.cancelled() => return,
        }
    }
}

/// The issues of runs that live or keep their repository: they are looked at whatever their
/// labels are.
fn followed(snapshots: &watch::Receiver<Arc<Snapshot>>) -> BTreeSet<IssueKey> {
    let snapshot = snapshots.borrow();
    let fleet = &snapshot.fleet;
    let held = fleet.locks.values().chain(fleet.live.iter());
    let runs = held.filter_map(|run| fleet.runs.get(run));
    runs.filter_map(|run| run.work.issue().cloned()).collect()
}

/// Takes a changed configuration over; a bad file is told and the last good one stays.
async fn follow_config(
    shell: Arc<Shell>,
    mut from: Control,
    mut control: watch::Receiver<Values>,
    tracker_changed: mpsc::Sender<()>,
) {
    let (changed, mut changes) = mpsc::channel(1);
    let watcher = from.file.as_ref().map(|path| watch_file(path, changed));
    if let (Some(Err(error)), Some(path)) = (&watcher, &from.file) {
        let line = format!("{} can't be watched: {error}; restart after a change", path.display());
        shell.problem("configuration", vec![line]).await;
    }
    let (_, problem) = control::over(&from.base, &from.values);
    shell.problem("control", problem.into_iter().collect()).await;
    loop {
        let quiet = shell.config().notify.quiet.is_some();
        tokio::select! {
            Some(()) = changes.recv() => {
                sleep(SETTLE).await;
                while changes.try_recv().is_ok() {}
                let Some(path) = &from.file else { continue };
                match Config::load(path, &|name| std::env::var(name).ok()) {
                    Ok(config) => {
                        shell.problem("configuration", Vec::new()).await;
                        from.base = config;
                    }
                    Err(error) => {
                        let line = format!("{error}; the last good configuration stays in force");
                        shell.problem("configuration", vec![line]).await;
                        continue;
                    }
                }
            }
            Ok(()) = control.changed() => {}
            // Summer time begins and ends while afk runs.
            () = sleep(CLOCK), if quiet => {}
            () = shell.cancel.cancelled() => return,
        }
        let (config, problem) = control::over(&from.base, &control.borrow_and_update());
        shell.problem("control", problem.into_iter().collect()).await;
        take_over(&shell, config).await;
        let _ = tracker_changed.try_send(());
    }
}

async fn take_over(shell: &Shell, config: Config) {
    let policy = Box::new(config.policy());
    if *shell.config() != config {
        match Outside::new(&config, &shell.journal_id, Some(&shell.outside())) {
            Ok(outside) => {
                shell.problem("outside", Vec::new()).await;
                let mut slot = shell.outside.write().unwrap_or_else(PoisonError::into_inner);
                *slot = Arc::new(outside);
            }
            Err(why) => shell.problem("outside", vec![why]).await,
        }
        shell.supervisor.hide(super::breakglass::hidden(&config, &shell.state));
        *shell.config.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(config);
    }
    shell.send(Input::Policy(policy)).await;
}

fn watch_file(
    path: &Path,
    changed: mpsc::Sender<()>,
) -> notify::Result<notify::RecommendedWatcher> {
    // Editors replace the file, so its folder is watched.
    let name = path.file_name().map(std::ffi::OsStr::to_owned);
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        let ours = |event: &notify::Event| {
            !event.kind.is_access() && event.paths.iter().any(|p| p.file_name() == name.as_deref())
        };
        if event.is_ok_and(|event| ours(&event)) {
            let _ = changed.try_send(());
        }
    })?;
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    watcher.watch(folder, notify::RecursiveMode::NonRecursive)?;
    Ok(watcher)
}
