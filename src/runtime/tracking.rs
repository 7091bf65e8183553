//! Watching the tracker and the configuration.

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use notify::Watcher as _;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until};

use super::Shell;
use crate::config::Config;
use crate::core::input::Input;
use crate::tracker::Listing;
use crate::tracker::folder::Folder;

/// Changes that come together are taken together.
const SETTLE: Duration = Duration::from_millis(50);

pub(super) fn start(shell: &Arc<Shell>, config_file: Option<PathBuf>) {
    let (changed, changes) = mpsc::channel(1);
    tokio::spawn(follow_tracker(shell.clone(), changed.clone(), changes));
    if let Some(path) = config_file {
        tokio::spawn(follow_config(shell.clone(), path, changed));
    }
}

async fn follow_tracker(
    shell: Arc<Shell>,
    changed: mpsc::Sender<()>,
    mut changes: mpsc::Receiver<()>,
) {
    let mut known: Option<Listing> = None;
    let mut watching: Option<(Arc<Folder>, Option<notify::RecommendedWatcher>)> = None;
    loop {
        let folder = shell.folder();
        if watching
            .as_ref()
            .is_none_or(|(of, watcher)| !Arc::ptr_eq(of, &folder) || watcher.is_none())
        {
            // Without a watch the poll still comes; a folder may be made later.
            let watcher = folder.watch(changed.clone()).ok();
            watching = Some((folder, watcher));
        }
        match shell.tracker().list().await {
            Ok(listing) => {
                shell.problem("tracker", listing.problems.clone()).await;
                if known.as_ref() != Some(&listing) {
                    shell.send(Input::Issues(listing.issues.clone())).await;
                    known = Some(listing);
                }
            }
            Err(error) => {
                let line = format!("the tracker can't be read: {error}");
                shell.problem("tracker", vec![crate::core::untrusted::clean_line(&line)]).await;
            }
        }
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

/// Takes a changed configuration over; a bad one is told and the last good one stays.
async fn follow_config(shell: Arc<Shell>, path: PathBuf, tracker_changed: mpsc::Sender<()>) {
    let (changed, mut changes) = mpsc::channel(1);
    // Editors replace the file, so its folder is watched.
    let name = path.file_name().map(std::ffi::OsStr::to_owned);
    let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        let ours = |event: &notify::Event| {
            !event.kind.is_access() && event.paths.iter().any(|p| p.file_name() == name.as_deref())
        };
        if event.is_ok_and(|event| ours(&event)) {
            let _ = changed.try_send(());
        }
    });
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let watching =
        watcher.and_then(|mut w| w.watch(folder, notify::RecursiveMode::NonRecursive).map(|()| w));
    if let Err(error) = &watching {
        let line = format!("{} can't be watched: {error}; restart after a change", path.display());
        shell.problem("configuration", vec![line]).await;
        return;
    }
    loop {
        tokio::select! {
            Some(()) = changes.recv() => {}
            () = shell.cancel.cancelled() => return,
        }
        sleep(SETTLE).await;
        while changes.try_recv().is_ok() {}
        match Config::load(&path, &|name| std::env::var(name).ok()) {
            Ok(config) => {
                shell.problem("configuration", Vec::new()).await;
                let policy = Box::new(config.policy());
                if let Some(folder) = config.tracker.folder.clone() {
                    let trusted = config.trusted.clone();
                    let journal = shell.journal_id.clone();
                    let folder = Folder::new(folder, config.labels.clone(), trusted, journal);
                    let mut slot = shell.tracker.write().unwrap_or_else(PoisonError::into_inner);
                    *slot = Arc::new(folder);
                }
                *shell.config.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(config);
                shell.send(Input::Policy(policy)).await;
                let _ = tracker_changed.try_send(());
            }
            Err(error) => {
                let line = format!("{error}; the last good configuration stays in force");
                shell.problem("configuration", vec![line]).await;
            }
        }
    }
}
