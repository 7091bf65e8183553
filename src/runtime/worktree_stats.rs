//! Measures worktrees and process trees for the worktrees pane, and reaps orphans.
//!
//! The measurements go to the [side state](super::side_state). They stop while no run has a permit,
//! so that an idle afk costs nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use super::{Context, Snapshot, WorktreeStats};
use crate::core::model::id::RunId;
use crate::process::{Usage, orphans};
use crate::workspace::leftovers;
use crate::workspace::pool::Sandboxes;
use crate::workspace::walled_git::WalledGit;

/// The time between two measurements.
const INTERVAL: Duration = Duration::from_secs(2);
/// The time from an orphan's end until it is reaped, so that several are reaped together.
const REAP_DELAY: Duration = Duration::from_millis(100);
/// The time between two measurements of disk usage, which read the whole tree.
const DISK_INTERVAL: Duration = Duration::from_secs(60);
/// The time between two calls of git in a workspace, which run in its sandbox.
const GIT_INTERVAL: Duration = Duration::from_secs(10);
/// The longest that such a call may take.
const GIT_DEADLINE: Duration = Duration::from_secs(10);
/// The most such calls at the same time.
const GIT_AT_ONCE: usize = 2;
/// How many times as long as a round of such calls took the pause after it is: the calls of a hundred
/// workspaces must not take the machine from their agents.
const GIT_PAUSE: u32 = 9;
/// The longest such pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// Starts measuring and reaping until the context is cancelled.
pub(super) fn start(context: &Arc<Context>, snapshots: watch::Receiver<Arc<Snapshot>>) {
    tokio::spawn(measure(context.clone(), snapshots));
    tokio::spawn(reap(context.clone()));
}

/// Reaps orphans once they have ended.
async fn reap(context: Arc<Context>) {
    loop {
        tokio::select! {
            () = orphans::orphaned() => {}
            () = context.cancel.cancelled() => return,
        }
        sleep(REAP_DELAY).await;
        orphans::reap();
    }
}

async fn measure(context: Arc<Context>, mut snapshots: watch::Receiver<Arc<Snapshot>>) {
    let mut before: BTreeMap<RunId, (Instant, u64)> = BTreeMap::new();
    let mut counted: BTreeMap<RunId, Instant> = BTreeMap::new();
    let mut asked: BTreeMap<RunId, Instant> = BTreeMap::new();
    let mut pause_ends = Instant::now();
    loop {
        let wanted: Vec<(RunId, Option<String>, String)> = {
            let snapshot = snapshots.borrow_and_update();
            let upstream = |run: &crate::core::model::run::Run| {
                let config = context.config();
                let branch = config.repos.get(run.work.repo()).map(|r| r.branch.clone());
                format!("refs/remotes/origin/{}", branch.unwrap_or_default())
            };
            let runs = snapshot.fleet.live_runs().filter(|run| run.has_permit());
            runs.map(|run| (run.id, run.workspace.worktree.clone(), upstream(run))).collect()
        };
        if wanted.is_empty() {
            clear(&context).await;
            tokio::select! {
                changed = snapshots.changed() => if changed.is_err() { return },
                () = context.cancel.cancelled() => return,
            }
            continue;
        }
        let now = Instant::now();
        let due: BTreeSet<RunId> = wanted
            .iter()
            .filter(|(_, worktree, _)| worktree.is_some())
            .map(|(run, ..)| *run)
            .filter(|run| counted.get(run).is_none_or(|at| now - *at >= DISK_INTERVAL))
            .collect();
        counted.extend(due.iter().map(|run| (*run, now)));
        let mut counts = Vec::new();
        for (run, worktree, upstream) in &wanted {
            if let Some(worktree) = worktree
                && asked.get(run).is_none_or(|at| now >= pause_ends && now - *at >= GIT_INTERVAL)
            {
                asked.insert(*run, now);
                let (worktree, upstream) = (worktree.clone(), upstream.clone());
                counts.push(count_changes(context.clone(), *run, worktree, upstream));
            }
        }
        let counts = futures::stream::iter(counts).buffer_unordered(GIT_AT_ONCE);
        let counts: Vec<Option<(RunId, ChangeCounts)>> = counts.collect().await;
        if !counts.is_empty() {
            pause_ends = Instant::now() + (now.elapsed() * GIT_PAUSE).min(LONGEST_PAUSE);
        }
        let changes: BTreeMap<RunId, ChangeCounts> = counts.into_iter().flatten().collect();
        let supervisor = context.supervisor.clone();
        let measured = tokio::task::spawn_blocking(move || {
            let owners: Vec<String> = wanted.iter().map(|(run, ..)| run.to_string()).collect();
            let owners: Vec<&str> = owners.iter().map(String::as_str).collect();
            let used = supervisor.usages(&owners);
            orphans::reap();
            let all = wanted.into_iter().zip(used).map(|((run, worktree, _), used)| {
                let worktree = worktree.filter(|_| due.contains(&run));
                (run, stats(used, worktree.as_deref()))
            });
            all.collect::<Vec<_>>()
        })
        .await
        .unwrap_or_default();
        let changed = {
            let mut all = context.side_state.worktrees();
            let mut next = all.clone();
            next.values_mut().for_each(clear_processes);
            for (run, (mut stats, ticks)) in measured {
                let at = Instant::now();
                if let Some((then, known)) = before.insert(run, (at, ticks)) {
                    let ms = (at - then).as_millis().max(1);
                    // A tick is 10 ms.
                    let used = u128::from(ticks.saturating_sub(known)) * 10;
                    stats.cpu_permille = u32::try_from(used * 1000 / ms).unwrap_or(u32::MAX);
                }
                let known = next.get(&run);
                stats.disk = stats.disk.or_else(|| known.and_then(|known| known.disk));
                (stats.dirty, stats.ahead) = changes
                    .get(&run)
                    .copied()
                    .unwrap_or_else(|| known.map_or((0, 0), |known| (known.dirty, known.ahead)));
                next.insert(run, stats);
            }
            let changed = *all != next;
            *all = next;
            changed
        };
        if changed {
            context.side_state_changed().await;
        }
        tokio::select! {
            () = sleep(INTERVAL) => {}
            () = context.cancel.cancelled() => return,
        }
    }
}

/// Clears the measurements of processes and keeps those of the worktree.
fn clear_processes(stats: &mut WorktreeStats) {
    (stats.pid, stats.processes, stats.cpu_permille, stats.memory) = (None, 0, 0, 0);
}

/// Clears the measurements of processes of every run.
async fn clear(context: &Context) {
    let changed = {
        let mut all = context.side_state.worktrees();
        let any = all.values().any(|stats| stats.pid.is_some());
        all.values_mut().for_each(clear_processes);
        any
    };
    if changed {
        context.side_state_changed().await;
    }
}

/// The measurements of one run, without the CPU usage, and the CPU ticks of its tree so far.
fn stats(usage: Usage, measure_disk: Option<&str>) -> (WorktreeStats, u64) {
    let stats = WorktreeStats {
        pid: usage.pid,
        processes: usage.processes,
        memory: usage.memory,
        disk: measure_disk.map(|path| size(Path::new(path), 0)),
        ..WorktreeStats::default()
    };
    (stats, usage.cpu_ticks)
}

/// The number of changed files and of commits ahead of the upstream branch.
type ChangeCounts = (usize, usize);

/// Counts the changes of a run, as git in its sandbox reports them; none if it fails.
async fn count_changes(
    context: Arc<Context>,
    run: RunId,
    worktree: String,
    upstream: String,
) -> Option<(RunId, ChangeCounts)> {
    let worktree = Path::new(&worktree);
    let sandbox = context.wall.of(worktree);
    // Its processes end with the run's own.
    let owner = run.to_string();
    let git = WalledGit::new(worktree, &context.supervisor, &owner, GIT_DEADLINE, sandbox);
    Some((run, leftovers::counts(&git, &upstream).await.ok()?))
}

/// The disk usage of a folder in bytes, without following links.
fn size(path: &Path, depth: u32) -> u64 {
    let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.metadata() {
            Ok(found) if found.is_dir() && depth < 64 => size(&entry.path(), depth + 1),
            Ok(found) if found.is_file() => found.len(),
            _ => 0,
        })
        .sum()
}
