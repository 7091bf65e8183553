//! Finds an owner's whole process tree, measures it, and ends it.
//!
//! A tree is: the processes with the owner's marks, those in the owner's control groups, the orphans
//! that cleared their environment and live in one of the owner's folders, and the descendants of all.
//! Left out are the children of a deploy command that has ended: they may stay.

use std::collections::BTreeSet;
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

/// The resources that the processes of an owner use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// The number of live processes.
    pub processes: usize,
    /// The lowest pid, which is mostly the root of the tree.
    pub pid: Option<i32>,
    /// CPU time so far, in clock ticks.
    pub cpu_ticks: u64,
    /// Resident memory, in bytes.
    pub memory: u64,
    /// The age of the youngest live process; none without one.
    pub youngest: Option<Duration>,
}

/// How many processes an end took.
struct EndCounts {
    /// Processes that received TERM.
    signalled: usize,
    /// Processes that did not end within the grace and received KILL.
    killed: usize,
}

impl Supervisor {
    fn is_marked(&self, process: &Process, owner: &str) -> bool {
        self.is_ours(process) && process.has(marks::RUN, owner)
    }

    /// Whether an orphan without marks was this owner's: it is in one of the folders in which the
    /// owner's children were started, or no other owner has a folder.
    fn orphan_belongs_to(&self, process: &Process, owner: &str) -> bool {
        let folders = self.folders();
        let Some(cwd) = procfs::cwd(process.pid) else { return false };
        let within = |all: &BTreeSet<PathBuf>| all.iter().any(|folder| cwd.starts_with(folder));
        match folders.get(owner) {
            Some(own) if within(own) => true,
            // A deploy's children may stay; an orphan of no other owner lives in none of our
            // folders.
            Some(_) => folders.len() == 1,
            None => false,
        }
    }

    /// All live processes but this one.
    fn live_processes() -> Vec<Process> {
        let own_pid = procfs::own_pid();
        procfs::processes().filter(|p| p.pid != own_pid && p.state != b'Z').collect()
    }

    /// All live processes of an owner's tree; see the module.
    fn tree(&self, owner: &str, all: &[Process]) -> Vec<Process> {
        let mut members: BTreeSet<i32> =
            all.iter().filter(|p| self.is_marked(p, owner)).map(|p| p.pid).collect();
        let orphan_test = OrphanTest::of_this_process();
        let awaited = awaited_when_settled().owners.clone();
        members.extend(
            all.iter()
                .filter(|p| orphan_test.matches(p) && !awaited.contains_key(&p.pid))
                .filter(|p| p.get(marks::STATE).is_none() && self.orphan_belongs_to(p, owner))
                .map(|p| p.pid),
        );
        members.extend(self.groups().members(owner));
        members.retain(|pid| {
            all.iter().find(|p| p.pid == *pid).is_none_or(|p| !self.may_stay(p, all))
        });
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

    /// The resources that an owner's processes use now.
    pub(crate) fn usage(&self, owner: &str) -> Usage {
        self.usages(&[owner]).pop().unwrap_or_default()
    }

    /// The usage of several owners, in their order, from one walk through `/proc`.
    pub(crate) fn usages(&self, owners: &[&str]) -> Vec<Usage> {
        let all = Self::live_processes();
        let used = owners.iter().map(|owner| {
            let tree = self.tree(owner, &all);
            let live = tree.iter().filter(|p| p.state != b'Z');
            Usage {
                youngest: live.map(procfs::age).min(),
                processes: tree.len(),
                pid: tree.iter().map(|p| p.pid).min(),
                cpu_ticks: tree.iter().map(|p| p.cpu_ticks).sum(),
                memory: tree.iter().map(|p| p.memory).sum(),
            }
        });
        used.collect()
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
