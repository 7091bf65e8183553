//! The children that tokio waits for, across all supervisors of this process.
//!
//! [`super::orphans::reap`] may only collect zombies that nobody else waits for; it asks here. A
//! child counts as *starting* until its pid is known, so that one that ends at once is not taken
//! for an orphan.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use tokio::process::{Child, Command};
use tokio::sync::Notify;

use super::groups::ChildGroup;
use crate::lock::LockExt;
use crate::sandbox::cgroup::MemoryExceeded;

/// The children that tokio waits for.
#[derive(Debug, Default)]
pub(super) struct AwaitedChildren {
    /// The owner of each child, by pid.
    pub owners: BTreeMap<i32, String>,
    /// The number of children that are being started and have no pid yet.
    starting: usize,
}

static AWAITED: Mutex<AwaitedChildren> =
    Mutex::new(AwaitedChildren { owners: BTreeMap::new(), starting: 0 });
/// Notified when a start has succeeded or failed.
static START_FINISHED: Condvar = Condvar::new();
/// Notified when an awaited child has ended.
pub(super) static CHILD_ENDED: Notify = Notify::const_new();

/// Locks the table as it is; children that are being started are missing from it.
pub(super) fn awaited() -> MutexGuard<'static, AwaitedChildren> {
    AWAITED.locked()
}

/// Locks the table once no child is being started: a child that is not in it then is not awaited by
/// anybody. No child can start while the guard is held.
pub(super) fn awaited_when_settled() -> MutexGuard<'static, AwaitedChildren> {
    let settled = START_FINISHED.wait_while(awaited(), |awaited| awaited.starting > 0);
    settled.unwrap_or_else(PoisonError::into_inner)
}

/// A running child; drop it only after `child.wait()`, since the drop hands the pid to the reaper.
#[derive(Debug)]
pub struct ChildHandle {
    /// tokio's handle, with the child's pipes.
    pub child: Child,
    pub(super) pid: i32,
    /// The control group of the child and of all that it starts.
    pub(super) group: Option<ChildGroup>,
}

impl ChildHandle {
    pub(super) fn spawn(command: &mut Command, owner: &str) -> io::Result<Self> {
        // The lock is released during the spawn: loading a program takes about a millisecond, and
        // other tasks start their own meanwhile.
        awaited().starting += 1;
        let child = command.spawn();
        let pid = child.as_ref().ok().and_then(Child::id);
        super::descriptors::restore_limit(pid);
        let pid = pid.and_then(|pid| i32::try_from(pid).ok()).unwrap_or(0);
        let mut awaited = awaited();
        awaited.starting -= 1;
        if child.is_ok() {
            awaited.owners.insert(pid, owner.to_owned());
        }
        drop(awaited);
        START_FINISHED.notify_all();
        let child = child?;
        Ok(Self { child, pid, group: None })
    }

    /// The use and the limit of memory, if the kernel killed the child because of its limit.
    pub(crate) fn memory_exceeded(&self) -> Option<MemoryExceeded> {
        self.group.as_ref()?.memory_exceeded()
    }
}

impl Drop for ChildHandle {
    fn drop(&mut self) {
        awaited().owners.remove(&self.pid);
        CHILD_ENDED.notify_one();
    }
}
