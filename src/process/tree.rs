//! Finds an owner's whole process tree, and ends it. `usage` measures the trees.
//!
//! A tree is: the processes with the owner's marks, those in the owner's control groups, the orphans
//! that cleared their environment and live in one of the owner's folders, and the descendants of all.
//! Left out are the children of a deploy command that has ended: they may stay.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;
use std::time::Duration;

use rustix::process::Signal;
use tokio::time::{Instant, sleep};

use super::children::{awaited, awaited_when_settled};
use super::orphans::OrphanTest;
use super::procfs::Process;
use super::supervisor::Supervisor;
use super::{marks, orphans, procfs};

/// How long a git call of an earlier life may take to end by itself.
const OWN_CALLS: Duration = Duration::from_secs(10);
/// How long processes may take to die after KILL before we give up on them.
const AFTER_KILL: Duration = Duration::from_secs(10);
/// The time between two walks through `/proc` while processes end.
const POLL: Duration = Duration::from_millis(10);

/// How many processes an end took.
struct EndCounts {
    /// Processes that received TERM.
    signalled: usize,
    /// Processes that did not end within the grace and received KILL.
    killed: usize,
}

impl Supervisor {
    /// All live processes but this one.
    pub(super) fn live_processes() -> Vec<Process> {
        let own_pid = procfs::own_pid();
        procfs::processes().filter(|p| p.pid != own_pid && p.state != b'Z').collect()
    }

    /// The processes that belong to each owner, or to one alone, by themselves and not through their parents; see
    /// the module.
    pub(super) fn roots(
        &self,
        all: &[Process],
        only: Option<&str>,
    ) -> BTreeMap<String, BTreeSet<i32>> {
        let is_wanted = |owner: &str| only.is_none_or(|only| only == owner);
        let mut roots: BTreeMap<String, BTreeSet<i32>> = self.groups().members(is_wanted);
        let by_pid: HashMap<i32, &Process> = all.iter().map(|p| (p.pid, p)).collect();
        for process in all.iter().filter(|p| self.is_ours(p)) {
            if let Some(owner) = process.get(marks::RUN).filter(|owner| is_wanted(owner)) {
                roots.entry(owner.to_owned()).or_default().insert(process.pid);
            }
        }
        let orphans = self.orphans_without_marks(all).into_iter();
        for (owner, pid) in orphans.filter(|(owner, _)| is_wanted(owner)) {
            roots.entry(owner).or_default().insert(pid);
        }
        for pids in roots.values_mut() {
            pids.retain(|pid| by_pid.get(pid).is_none_or(|p| !self.may_stay(p, all)));
        }
        roots
    }

    /// The orphans that cleared their environment, each with every owner in one of whose folders it is. Where
    /// one owner alone has folders, an orphan elsewhere is that owner's.
    fn orphans_without_marks(&self, all: &[Process]) -> Vec<(String, i32)> {
        let orphan_test = OrphanTest::of_this_process();
        let is_unmarked = |p: &&Process| orphan_test.matches(p) && p.get(marks::STATE).is_none();
        let mut orphans: Vec<&Process> = all.iter().filter(is_unmarked).collect();
        if !orphans.is_empty() {
            let awaited = awaited_when_settled();
            orphans.retain(|p| !awaited.owners.contains_key(&p.pid));
        }
        let mut found = Vec::new();
        for orphan in orphans {
            let Some(cwd) = procfs::cwd(orphan.pid) else { continue };
            let folders = self.folders();
            // A deploy's children may stay; an orphan of no other owner lives in none of our folders.
            let lives_in = |own: &BTreeSet<PathBuf>| {
                folders.len() == 1 || own.iter().any(|folder| cwd.starts_with(folder))
            };
            let owners = folders.iter().filter(|(_, own)| lives_in(own));
            found.extend(owners.map(|(owner, _)| (owner.clone(), orphan.pid)));
        }
        found
    }

    /// All live processes of an owner's tree; see the module.
    fn tree(&self, owner: &str, all: &[Process]) -> Vec<Process> {
        let mut members = self.roots(all, Some(owner)).remove(owner).unwrap_or_default();
        loop {
            let more: Vec<i32> = all
                .iter()
                .filter(|p| members.contains(&p.parent) && !members.contains(&p.pid))
                .map(|p| p.pid)
                .collect();
            if more.is_empty() {
                break;
            }
            members.extend(more);
        }
        all.iter().filter(|p| members.contains(&p.pid)).cloned().collect()
    }

    /// Whether a process was started by a deploy command that has ended since.
    fn may_stay(&self, process: &Process, all: &[Process]) -> bool {
        process.get(marks::DEPLOY).is_some()
            && process
                .get(marks::LEADER)
                .and_then(|pid| pid.parse::<i32>().ok())
                .is_none_or(|leader| !all.iter().any(|p| p.pid == leader && self.is_ours(p)))
    }

    /// Ends an owner's whole tree: TERM, the grace, KILL, until no process is left. Returns the
    /// number of processes that needed KILL.
    pub async fn end(&self, owner: &str) -> usize {
        let killed = self.end_all(|| self.tree(owner, &Self::live_processes())).await.killed;
        self.groups().end(owner).await;
        self.folders().remove(owner);
        killed
    }

    /// Like [`Supervisor::end`], but cheap where the owner's children ended by themselves and left
    /// no process: orphans come to us, so our own children show that, and `/proc` is not walked.
    pub(crate) async fn end_rest(&self, owner: &str) {
        if !self.folders().contains_key(owner) {
            return;
        }
        if Self::left_nothing(owner) && self.groups().are_gone(owner) {
            self.folders().remove(owner);
        } else {
            self.end(owner).await;
        }
    }

    /// Whether an owner left no process: none of our children is the owner's, and we have no
    /// orphan.
    fn left_nothing(owner: &str) -> bool {
        let ended = awaited().owners.values().all(|other| other != owner);
        ended && orphans::any() == Some(false)
    }

    async fn end_all(&self, find: impl Fn() -> Vec<Process>) -> EndCounts {
        let deadline = Instant::now() + self.grace();
        let mut signalled = BTreeSet::new();
        let mut killed = BTreeSet::new();
        loop {
            let left = find();
            if left.is_empty() {
                break;
            }
            let late = Instant::now() >= deadline || self.is_hastened();
            for process in &left {
                if late {
                    procfs::signal(process, Signal::KILL);
                    killed.insert(process.pid);
                } else if signalled.insert(process.pid) {
                    procfs::signal(process, Signal::TERM);
                    // A stopped process does not act on TERM until it continues.
                    procfs::signal(process, Signal::CONT);
                }
            }
            if Instant::now() >= deadline + AFTER_KILL {
                tracing::error!(left = left.len(), "some processes survived KILL; they are left");
                break;
            }
            sleep(POLL).await;
        }
        orphans::reap();
        EndCounts { signalled: signalled.len(), killed: killed.len() }
    }

    /// Ends the processes that an earlier life of this journal left behind, and returns their
    /// number.
    pub(crate) async fn end_orphans(&self) -> usize {
        let find = |own_calls_too: bool| {
            let all = Self::live_processes();
            let is_orphan =
                |p: &Process| (self.is_ours(p) && !self.may_stay(p, &all)) || self.descends(p);
            let is_wanted =
                |p: &&Process| is_orphan(p) && (own_calls_too || p.get(marks::OWN).is_none());
            all.iter().filter(is_wanted).cloned().collect::<Vec<_>>()
        };
        let signalled = self.end_all(|| find(false)).await.signalled;
        // A push that is under way ends by itself, and is then found in the remote.
        let give_up = Instant::now() + OWN_CALLS;
        while !find(true).is_empty() && Instant::now() < give_up {
            sleep(POLL).await;
        }
        let late = self.end_all(|| find(true)).await.signalled;
        self.groups().end_all().await;
        signalled + late
    }
}
