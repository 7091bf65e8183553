//! Recognizes, awaits and reaps processes that were orphaned to this process, the subreaper of all
//! its descendants.
//!
//! The runtime's worktree statistics task awaits [`orphaned`] and calls [`reap`]; the supervisor
//! asks [`any`] before it walks through `/proc`.

use std::time::Duration;

use rustix::process::{Pid, WaitOptions, waitpid};
use tokio::time::timeout;

use super::children::{CHILD_ENDED, awaited, awaited_when_settled};
use super::procfs;

/// The time between two checks while an orphan is alive.
const POLL: Duration = Duration::from_secs(2);

/// Tells orphans from our own helpers: an orphan is a child of ours in another session or process
/// group than ours. A child that we start without a session or group of its own (a probe's helper,
/// a shell) is not an orphan.
pub(super) struct OrphanTest {
    pub own_pid: i32,
    group: i32,
    session: i32,
}

impl OrphanTest {
    pub fn of_this_process() -> Self {
        let own_pid = procfs::own_pid();
        // Not by getsid: in a container whose session began outside it, getsid returns 0.
        let this = procfs::process(own_pid);
        let (group, session) = this.map_or((own_pid, own_pid), |p| (p.group, p.session));
        Self { own_pid, group, session }
    }

    pub const fn matches(&self, process: &procfs::Process) -> bool {
        let shares_ours = process.session == self.session && process.group == self.group;
        process.parent == self.own_pid && !shares_ours
    }
}

/// Whether a process was orphaned to us; `None` where the kernel doesn't list children.
pub(super) fn any() -> Option<bool> {
    let adopted = procfs::adopted()?;
    let owners = &awaited().owners;
    Some(adopted.iter().any(|pid| !owners.contains_key(pid)))
}

/// Resolves when a process may have been orphaned to us, or an orphan may have ended. It does not
/// use SIGCHLD, which would wake one of our threads at the end of every child.
pub(crate) async fn orphaned() {
    if any() == Some(true) {
        // A timeout is a reason to check, too.
        let _ = timeout(POLL, CHILD_ENDED.notified()).await;
    } else {
        CHILD_ENDED.notified().await;
    }
}

/// Reaps the orphans that are zombies.
pub(crate) fn reap() {
    // Waiting until no child is starting would block all starts while hundreds run.
    if any() == Some(false) {
        return;
    }
    let awaited = awaited_when_settled();
    let orphan_test = OrphanTest::of_this_process();
    let is_unawaited = |pid: &i32| !awaited.owners.contains_key(pid);
    let candidates: Vec<procfs::Process> = match procfs::children() {
        Some(pids) => pids.into_iter().filter(is_unawaited).filter_map(procfs::process).collect(),
        None => procfs::processes().collect(),
    };
    for process in candidates {
        if orphan_test.matches(&process)
            && process.state == b'Z'
            && is_unawaited(&process.pid)
            && let Some(pid) = Pid::from_raw(process.pid)
        {
            // An error means that it is already gone.
            let _ = waitpid(Some(pid), WaitOptions::NOHANG);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::process::Stdio;

    use tokio::io::{AsyncBufReadExt, BufReader};
    use tokio::process::Command;

    use super::super::children::ChildHandle;
    use super::*;

    #[tokio::test]
    async fn reap_collects_an_orphan_after_it_has_ended() {
        let _ = rustix::process::set_child_subreaper(Some(rustix::process::getpid()));
        let line = "exec 3<&0; setsid cat <&3 >/dev/null 2>&1 & echo $!";
        let mut command = Command::new("/bin/sh");
        command.args(["-c", line]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut started = ChildHandle::spawn(&mut command, "r1").unwrap();
        let (stdin, stdout) = (started.child.stdin.take(), started.child.stdout.take());
        let mut lines = BufReader::new(stdout.unwrap()).lines();
        let pid: i32 = lines.next_line().await.unwrap().unwrap().parse().unwrap();
        let reaped = async {
            started.child.wait().await.unwrap();
            drop(started);
            orphaned().await;
            reap();
            assert!(procfs::process(pid).is_some(), "it still reads");
            drop(stdin);
            while procfs::process(pid).is_some() {
                orphaned().await;
                reap();
            }
        };
        timeout(Duration::from_secs(30), reaped).await.unwrap();
    }
}
