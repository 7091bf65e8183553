//! Presence: which runs work where and which clients are attached, in a file for other tools.
//!
//! `start` keeps `presence.json` current while afk runs. Its format is versioned; `afk presence`
//! prints it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio::sync::watch;
use tokio::time::sleep;

use super::{Context, Snapshot};
use crate::core::model::untrusted::clean_line;
use crate::whole_file;

/// Changes within this time share a write.
const SETTLE: Duration = Duration::from_secs(1);

/// A live run, which has a permit or waits for one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct PresentRun {
    /// The run's name, such as `r7`.
    pub(crate) run: String,
    /// The repository, as `owner/name`.
    pub(crate) repo: String,
    /// The number of the issue; none for an ad-hoc prompt.
    pub(crate) issue: Option<u64>,
    /// The phase of the run, as screens name it.
    pub(crate) phase: &'static str,
    /// The agent, once the first turn has begun.
    pub(crate) agent: Option<String>,
    /// The run's branch, once it has a worktree.
    pub(crate) branch: Option<String>,
    /// The absolute path of the worktree.
    pub(crate) worktree: Option<String>,
    /// The root of the run's process tree.
    pub(crate) pid: Option<i32>,
    /// When the run was claimed, in milliseconds of the Unix epoch.
    pub(crate) since: i64,
}

/// A client that is attached to this afk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct PresentClient {
    /// The name of the client's user.
    pub(crate) actor: String,
    /// Where the client connects from.
    pub(crate) origin: String,
    /// When the client attached, in milliseconds of the Unix epoch.
    pub(crate) since: i64,
}

/// The content of the file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Presence {
    /// The version of the format.
    pub(crate) version: u32,
    /// The name of the machine.
    pub(crate) host: String,
    /// The process of afk; 0 once it has ended.
    pub(crate) pid: u32,
    /// Whether the kill switch stops all pickup.
    pub(crate) kill_switch: bool,
    /// One entry for each live run.
    pub(crate) at_work: Vec<PresentRun>,
    /// One entry for each attached client.
    pub(crate) looking: Vec<PresentClient>,
}

/// The path of the file in a state folder.
#[must_use]
pub fn path(state: &Path) -> PathBuf {
    state.join("presence.json")
}

/// The presence that a snapshot shows.
pub(crate) fn of(snapshot: &Snapshot) -> Presence {
    let fleet = &snapshot.fleet;
    let at_work = fleet.live_runs().map(|run| PresentRun {
        run: run.id.to_string(),
        repo: run.work.repo().to_string(),
        issue: run.work.issue().map(|key| key.number),
        phase: run.progress.phase.as_str(),
        agent: run.agent.equipment.as_ref().map(|agent| clean_line(&agent.agent)),
        branch: run.workspace.branch.clone(),
        worktree: run.workspace.worktree.clone(),
        pid: snapshot.worktrees.get(&run.id).and_then(|stats| stats.pid),
        since: run.progress.claimed.0,
    });
    let looking = snapshot.clients.iter().map(|client| PresentClient {
        actor: clean_line(&client.actor.0),
        origin: clean_line(&client.origin),
        since: client.since.0,
    });
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    Presence {
        version: 1,
        host: clean_line(&host),
        pid: std::process::id(),
        kill_switch: fleet.kill_switch(),
        at_work: at_work.collect(),
        looking: looking.collect(),
    }
}

/// Starts writing the file until the context is cancelled.
pub(super) fn start(context: &Arc<Context>, snapshots: watch::Receiver<Arc<Snapshot>>) {
    tokio::spawn(follow(context.clone(), snapshots));
}

async fn follow(context: Arc<Context>, mut snapshots: watch::Receiver<Arc<Snapshot>>) {
    let mut written: Option<Presence> = None;
    loop {
        let now = of(&snapshots.borrow_and_update().clone());
        if written.as_ref() != Some(&now) {
            write(&context.state, &now);
            written = Some(now);
        }
        tokio::select! {
            changed = snapshots.changed() => if changed.is_err() { break },
            () = context.cancel.cancelled() => break,
        }
        tokio::select! {
            () = sleep(SETTLE) => {}
            () = context.cancel.cancelled() => break,
        }
    }
    // Record that this afk has ended.
    if let Some(last) = written {
        write(&context.state, &Presence { pid: 0, at_work: vec![], looking: vec![], ..last });
    }
}

/// Replaces the file in one step, because other tools may read it at any time.
fn write(state: &Path, presence: &Presence) {
    let text = serde_json::to_vec_pretty(presence).unwrap_or_default();
    if let Err(error) = whole_file::replace(&path(state), &text, 0o666) {
        tracing::warn!(%error, "presence.json can't be written");
    }
}
