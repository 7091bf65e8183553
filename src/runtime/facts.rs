//! What the worktrees pane shows beside the fleet: looked at only while runs have permits.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use super::{Message, Shell, Snapshot, WorktreeFacts};
use crate::core::model::id::RunId;
use crate::process::{Usage, strays};

/// Between two looks.
const LOOK: Duration = Duration::from_secs(2);
/// Between two looks at what was orphaned.
const REAP: Duration = Duration::from_millis(100);
/// Between two counts of disk space.
const COUNT: Duration = Duration::from_secs(60);

pub(super) fn start(shell: &Arc<Shell>, snapshots: watch::Receiver<Arc<Snapshot>>) {
    tokio::spawn(look(shell.clone(), snapshots));
    tokio::spawn(reap(shell.clone()));
}

/// Reaps what is orphaned once it has ended.
async fn reap(shell: Arc<Shell>) {
    loop {
        tokio::select! {
            () = strays::orphaned() => {}
            () = shell.cancel.cancelled() => return,
        }
        sleep(REAP).await;
        strays::reap();
    }
}

async fn look(shell: Arc<Shell>, mut snapshots: watch::Receiver<Arc<Snapshot>>) {
    let mut before: BTreeMap<RunId, (Instant, u64)> = BTreeMap::new();
    let mut counted: BTreeMap<RunId, Instant> = BTreeMap::new();
    loop {
        let wanted: Vec<(RunId, Option<String>, String)> = {
            let snapshot = snapshots.borrow_and_update();
            let upstream = |run: &crate::core::model::run::Run| {
                let config = shell.config();
                let branch = config.repos.get(run.work.repo()).map(|r| r.branch.clone());
                format!("refs/remotes/origin/{}", branch.unwrap_or_default())
            };
            let runs = snapshot.fleet.live_runs().filter(|run| run.has_permit());
            runs.map(|run| (run.id, run.worktree.clone(), upstream(run))).collect()
        };
        if wanted.is_empty() {
            clear(&shell).await;
            tokio::select! {
                changed = snapshots.changed() => if changed.is_err() { return },
                () = shell.cancel.cancelled() => return,
            }
            continue;
        }
        let now = Instant::now();
        let due: BTreeSet<RunId> = wanted
            .iter()
            .filter(|(_, worktree, _)| worktree.is_some())
            .map(|(run, ..)| *run)
            .filter(|run| counted.get(run).is_none_or(|at| now - *at >= COUNT))
            .collect();
        counted.extend(due.iter().map(|run| (*run, now)));
        let supervisor = shell.supervisor.clone();
        let looked = tokio::task::spawn_blocking(move || {
            let owners: Vec<String> = wanted.iter().map(|(run, ..)| run.to_string()).collect();
            let owners: Vec<&str> = owners.iter().map(String::as_str).collect();
            let used = supervisor.usages(&owners);
            strays::reap();
            let all = wanted.into_iter().zip(used).map(|((run, worktree, upstream), used)| {
                let disk = due.contains(&run);
                (run, facts(used, worktree.as_deref(), &upstream, disk))
            });
            all.collect::<Vec<_>>()
        })
        .await
        .unwrap_or_default();
        let changed = {
            let mut all = shell.worktrees.lock().unwrap_or_else(PoisonError::into_inner);
            let mut next = all.clone();
            next.values_mut().for_each(without_process);
            for (run, (mut facts, ticks)) in looked {
                let at = Instant::now();
                if let Some((then, known)) = before.insert(run, (at, ticks)) {
                    let ms = (at - then).as_millis().max(1);
                    // A tick is 10 ms.
                    let used = u128::from(ticks.saturating_sub(known)) * 10;
                    facts.cpu_permille = u32::try_from(used * 1000 / ms).unwrap_or(u32::MAX);
                }
                facts.disk = facts.disk.or_else(|| next.get(&run).and_then(|known| known.disk));
                next.insert(run, facts);
            }
            let changed = *all != next;
            *all = next;
            changed
        };
        if changed {
            let _ = shell.inputs.send(Message::Aside).await;
        }
        tokio::select! {
            () = sleep(LOOK) => {}
            () = shell.cancel.cancelled() => return,
        }
    }
}

/// A run that has ended has no process any more.
fn without_process(facts: &mut WorktreeFacts) {
    (facts.pid, facts.processes, facts.cpu_permille, facts.memory) = (None, 0, 0, 0);
}

/// Nothing runs: no worktree has a process.
async fn clear(shell: &Shell) {
    let changed = {
        let mut all = shell.worktrees.lock().unwrap_or_else(PoisonError::into_inner);
        let any = all.values().any(|facts| facts.pid.is_some());
        all.values_mut().for_each(without_process);
        any
    };
    if changed {
        let _ = shell.inputs.send(Message::Aside).await;
    }
}

fn facts(usage: Usage, worktree: Option<&str>, upstream: &str, disk: bool) -> (WorktreeFacts, u64) {
    let mut facts = WorktreeFacts {
        pid: usage.pid,
        processes: usage.processes,
        memory: usage.memory,
        ..WorktreeFacts::default()
    };
    if let Some(path) = worktree {
        if let Ok((dirty, ahead)) = standing(Path::new(path), upstream) {
            (facts.dirty, facts.ahead) = (dirty, ahead);
        }
        facts.disk = disk.then(|| size(Path::new(path), 0));
    }
    (facts, usage.cpu_ticks)
}

/// Changed files and commits ahead, read with git2.
fn standing(path: &Path, upstream: &str) -> Result<(usize, usize), git2::Error> {
    let repo = git2::Repository::open(path)?;
    let mut options = git2::StatusOptions::new();
    options.include_untracked(true).update_index(false);
    let dirty = repo.statuses(Some(&mut options))?.len();
    let head = repo.head()?.peel_to_commit()?.id();
    let upstream = repo.find_reference(upstream)?.peel_to_commit()?.id();
    Ok((dirty, repo.graph_ahead_behind(head, upstream)?.0))
}

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
