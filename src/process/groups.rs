//! The control groups of the programs that a supervisor started: which owner each belongs to, and
//! the end of them.
//!
//! A group is removed when its program's handle is dropped. One that still holds a process then,
//! since a program left something behind, stays until its owner ends.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Mutex, OnceLock, RwLock};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::spec::Spec;
use super::supervisor::Supervisor;
use crate::error::chain;
use crate::lock::{LockExt, RwLockExt};
use crate::sandbox::cgroup::{GroupLimits, MemoryExceeded, ProgramGroup, Subtree};

/// How long killed processes may take to leave a group before it is given up.
const AFTER_KILL: Duration = Duration::from_secs(10);
/// The time between two attempts to remove a group.
const POLL: Duration = Duration::from_millis(2);

/// The groups of one supervisor. Without a subtree no program has one.
#[derive(Debug, Default)]
pub(super) struct Groups {
    subtree: OnceLock<Subtree>,
    limits: RwLock<GroupLimits>,
    by_group: Mutex<BTreeMap<ProgramGroup, GroupState>>,
}

#[derive(Debug)]
struct GroupState {
    owner: String,
    /// Whether the program has ended; something that it left may still be there.
    ended: bool,
}

impl Groups {
    /// Removes the groups of ended programs that have become empty.
    fn sweep(&self) {
        let mut all = self.by_group.locked();
        all.retain(|group, state| !(state.ended && group.remove().is_ok()));
    }

    fn of(&self, owner: &str) -> Vec<ProgramGroup> {
        let all = self.by_group.locked();
        all.iter()
            .filter(|(_, state)| state.owner == owner)
            .map(|(group, _)| group.clone())
            .collect()
    }

    /// The processes in the groups of each owner that is wanted.
    pub(super) fn members(
        &self,
        is_wanted: impl Fn(&str) -> bool,
    ) -> BTreeMap<String, BTreeSet<i32>> {
        let groups: Vec<(ProgramGroup, String)> = {
            let all = self.by_group.locked();
            let wanted = all.iter().filter(|(_, state)| is_wanted(&state.owner));
            wanted.map(|(group, state)| (group.clone(), state.owner.clone())).collect()
        };
        let mut found: BTreeMap<String, BTreeSet<i32>> = BTreeMap::new();
        for (group, owner) in groups {
            found.entry(owner).or_default().extend(group.members());
        }
        found
    }

    /// Whether an owner's programs and all that they left are gone.
    pub(super) fn are_gone(&self, owner: &str) -> bool {
        self.sweep();
        self.of(owner).is_empty()
    }

    /// Kills all that is left in an owner's groups.
    pub(super) async fn end(&self, owner: &str) {
        self.end_groups(self.of(owner)).await;
    }

    /// Kills all that is left in any group of this afk, also of an earlier life.
    pub(super) async fn end_all(&self) {
        let all = self.subtree.get().map(Subtree::groups);
        self.end_groups(all.unwrap_or_default()).await;
    }

    async fn end_groups(&self, mut left: Vec<ProgramGroup>) {
        for group in &left {
            if let Err(error) = group.kill() {
                let error = chain(&error);
                tracing::error!(%error, "a control group can't be killed");
            }
        }
        let deadline = Instant::now() + AFTER_KILL;
        loop {
            left.retain(|group| {
                let removed = group.remove().is_ok();
                if removed {
                    self.by_group.locked().remove(group);
                }
                !removed
            });
            if left.is_empty() {
                return;
            }
            if Instant::now() > deadline {
                tracing::error!(?left, "control groups can't be removed; they are left");
                return;
            }
            sleep(POLL).await;
        }
    }
}

/// The group of one child.
#[derive(Debug)]
pub(super) struct ChildGroup {
    supervisor: Supervisor,
    group: ProgramGroup,
}

impl ChildGroup {
    pub(super) const fn group(&self) -> &ProgramGroup {
        &self.group
    }

    pub(super) fn memory_exceeded(&self) -> Option<MemoryExceeded> {
        self.group.memory_exceeded()
    }
}

impl Drop for ChildGroup {
    fn drop(&mut self) {
        let groups = self.supervisor.groups();
        if let Some(state) = groups.by_group.locked().get_mut(&self.group) {
            state.ended = true;
        }
        groups.sweep();
    }
}

impl Supervisor {
    /// Puts every program behind the wall into a control group of its own from now on. The first
    /// call counts.
    pub fn use_groups(&self, subtree: Subtree) {
        let _ = self.groups().subtree.set(subtree);
    }

    /// Limits the control groups of programs that start from now on.
    pub fn limit(&self, limits: GroupLimits) {
        *self.groups().limits.write_locked() = limits;
    }

    /// Makes the group of a child. What a deploy leaves must outlive it, so that a deploy has none.
    pub(super) fn group_for(&self, spec: &Spec) -> io::Result<Option<ChildGroup>> {
        let Some(subtree) = self.groups().subtree.get() else { return Ok(None) };
        if spec.sandbox.is_none() || spec.may_leave_children() {
            return Ok(None);
        }
        let limits = *self.groups().limits.read_locked();
        let group = subtree.group(&limits).map_err(|error| {
            io::Error::other(format!("make a control group: {}", chain(&error)))
        })?;
        let state = GroupState { owner: spec.owner.clone(), ended: false };
        self.groups().by_group.locked().insert(group.clone(), state);
        Ok(Some(ChildGroup { supervisor: self.clone(), group }))
    }
}
