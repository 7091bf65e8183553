//! Presence: who and what is working where, as a file that other tools can read.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio::sync::watch;
use tokio::time::sleep;

use super::{Shell, Snapshot};
use crate::core::model::untrusted::clean_line;

/// Changes that come within this time are written together.
const SETTLE: Duration = Duration::from_secs(1);

/// One run that has a permit or waits for one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AtWork {
    /// Its number.
    pub run: String,
    /// Where.
    pub repo: String,
    /// For which issue; none for an ad-hoc prompt.
    pub issue: Option<u64>,
    /// How far it has come.
    pub phase: &'static str,
    /// The agent, once one is at work.
    pub agent: Option<String>,
    /// The branch.
    pub branch: Option<String>,
    /// The folder.
    pub worktree: Option<String>,
    /// The first process of its tree.
    pub pid: Option<i32>,
    /// When it was claimed, in milliseconds of the epoch.
    pub since: i64,
}

/// Somebody who looks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Looking {
    /// Who.
    pub actor: String,
    /// From where.
    pub origin: String,
    /// Since when, in milliseconds of the epoch.
    pub since: i64,
}

/// All of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Presence {
    /// The format's version.
    pub version: u32,
    /// The machine.
    pub host: String,
    /// afk's process; 0 once it has ended.
    pub pid: u32,
    /// Nothing is picked up.
    pub kill_switch: bool,
    /// Runs.
    pub at_work: Vec<AtWork>,
    /// People.
    pub looking: Vec<Looking>,
}

/// Where the file is.
#[must_use]
pub fn path(state: &Path) -> PathBuf {
    state.join("presence.json")
}

/// The presence in a snapshot.
#[must_use]
pub fn of(snapshot: &Snapshot) -> Presence {
    let fleet = &snapshot.fleet;
    let at_work = fleet.live_runs().map(|run| AtWork {
        run: run.id.to_string(),
        repo: run.work.repo().to_string(),
        issue: run.work.issue().map(|key| key.number),
        phase: run.phase.as_str(),
        agent: run.equipment.as_ref().map(|agent| clean_line(&agent.agent)),
        branch: run.branch.clone(),
        worktree: run.worktree.clone(),
        pid: snapshot.worktrees.get(&run.id).and_then(|facts| facts.pid),
        since: run.claimed.0,
    });
    let looking = snapshot.clients.iter().map(|client| Looking {
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

pub(super) fn start(shell: &Arc<Shell>, snapshots: watch::Receiver<Arc<Snapshot>>) {
    tokio::spawn(follow(shell.clone(), snapshots));
}

async fn follow(shell: Arc<Shell>, mut snapshots: watch::Receiver<Arc<Snapshot>>) {
    let mut written: Option<Presence> = None;
    loop {
        let now = of(&snapshots.borrow_and_update().clone());
        if written.as_ref() != Some(&now) {
            write(&shell.state, &now);
            written = Some(now);
        }
        tokio::select! {
            changed = snapshots.changed() => if changed.is_err() { break },
            () = shell.cancel.cancelled() => break,
        }
        tokio::select! {
            () = sleep(SETTLE) => {}
            () = shell.cancel.cancelled() => break,
        }
    }
    // Nobody is there any more.
    if let Some(last) = written {
        write(&shell.state, &Presence { pid: 0, at_work: vec![], looking: vec![], ..last });
    }
}

/// Whole or not at all: others read it at any time.
fn write(state: &Path, presence: &Presence) {
    let aside = state.join("presence.json.new");
    let text = serde_json::to_vec_pretty(presence).unwrap_or_default();
    let done = std::fs::write(&aside, text).and_then(|()| std::fs::rename(&aside, path(state)));
    if let Err(error) = done {
        tracing::warn!(%error, "the presence can't be written");
    }
}
