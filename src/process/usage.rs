//! The resources of each owner's processes: one walk through `/proc` answers for all owners.

use std::collections::{BTreeMap, HashMap};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use super::procfs;
use super::procfs::Process;
use super::supervisor::Supervisor;
use crate::lock::LockExt;

/// How old a walk may be that still answers. A hundred agents that each asked with a walk of their own
/// used a core for it.
const FRESH: Duration = Duration::from_secs(1);

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

impl Usage {
    fn of<'p>(tree: impl IntoIterator<Item = &'p Process>) -> Self {
        tree.into_iter().fold(Self::default(), |used, process| {
            let (pid, age) = (Some(process.pid), Some(procfs::age(process)));
            Self {
                processes: used.processes + 1,
                pid: used.pid.min(pid).or(pid),
                cpu_ticks: used.cpu_ticks + process.cpu_ticks,
                memory: used.memory + process.memory,
                youngest: used.youngest.min(age).or(age),
            }
        })
    }
}

/// The usage of every owner at the latest walk.
#[derive(Debug, Default)]
pub(super) struct LatestWalk(Mutex<Option<ProcessWalk>>);

#[derive(Debug)]
struct ProcessWalk {
    at: Instant,
    by_owner: BTreeMap<String, Usage>,
}

impl ProcessWalk {
    fn of(&self, owner: &str) -> Usage {
        let mut used = self.by_owner.get(owner).copied().unwrap_or_default();
        used.youngest = used.youngest.map(|age| age + self.at.elapsed());
        used
    }
}

impl Supervisor {
    /// The resources that an owner's processes used at most [`FRESH`] ago.
    pub(crate) fn usage(&self, owner: &str) -> Usage {
        let mut latest = self.latest_walk().0.locked();
        match &*latest {
            Some(walk) if walk.at.elapsed() < FRESH => walk.of(owner),
            _ => latest.insert(self.walk()).of(owner),
        }
    }

    /// The usage of several owners now, in their order.
    pub(crate) fn usages(&self, owners: &[&str]) -> Vec<Usage> {
        let walk = self.walk();
        let used = owners.iter().map(|owner| walk.of(owner)).collect();
        *self.latest_walk().0.locked() = Some(walk);
        used
    }

    fn walk(&self) -> ProcessWalk {
        let all = Self::live_processes();
        let mut children: HashMap<i32, Vec<&Process>> = HashMap::new();
        for process in &all {
            children.entry(process.parent).or_default().push(process);
        }
        let by_pid: HashMap<i32, &Process> = all.iter().map(|p| (p.pid, p)).collect();
        let by_owner = self.roots(&all, None).into_iter().map(|(owner, roots)| {
            let mut tree: BTreeMap<i32, &Process> = BTreeMap::new();
            let mut next: Vec<&Process> =
                roots.iter().filter_map(|pid| by_pid.get(pid).copied()).collect();
            while let Some(process) = next.pop() {
                if tree.insert(process.pid, process).is_none() {
                    next.extend(children.get(&process.pid).into_iter().flatten());
                }
            }
            (owner, Usage::of(tree.into_values()))
        });
        let by_owner = by_owner.collect();
        // The ages are of now. A walk that takes long on a starved machine must answer the others that wait for it.
        ProcessWalk { at: Instant::now(), by_owner }
    }
}

#[cfg(test)]
mod tests {
    use super::super::spec::{Spec, StdinMode};
    use super::*;

    fn supervisor() -> Supervisor {
        let state = format!("usage{}", procfs::own_pid());
        Supervisor::new("/nowhere/afk".into(), state, Duration::from_secs(5))
    }

    #[tokio::test]
    async fn one_walk_answers_for_every_owner() {
        let supervisor = supervisor();
        let folder = tempfile::tempdir().unwrap();
        let shell = |owner, line| Spec::shell(owner, line, folder.path());
        let mut first = supervisor.start(&shell("r1", "sleep 60 & wait"), StdinMode::Null).unwrap();
        let mut second = supervisor.start(&shell("r2", "exec sleep 60"), StdinMode::Null).unwrap();
        while supervisor.usages(&["r1", "r2"]).iter().map(|used| used.processes).ne([2, 1]) {
            tokio::task::yield_now().await;
        }
        let walked = supervisor.latest_walk().0.locked().as_ref().unwrap().at;
        let used = ["r1", "r2", "r3"].map(|owner| supervisor.usage(owner));
        assert_eq!(used.map(|used| used.processes), [2, 1, 0]);
        assert!(used[0].memory > 0 && used[0].pid == Some(first.pid), "{used:?}");
        let latest = supervisor.latest_walk().0.locked().as_ref().unwrap().at;
        assert!(
            latest == walked || walked.elapsed() >= FRESH,
            "three answers, and no walk of theirs"
        );
        supervisor.end("r1").await;
        supervisor.end("r2").await;
        assert_eq!(supervisor.usages(&["r1", "r2"]), [Usage::default(); 2]);
        first.child.wait().await.unwrap();
        second.child.wait().await.unwrap();
    }
}
