//! What was orphaned to this process, the subreaper of all that it starts: known, waited for, reaped.

use std::time::Duration;

use rustix::process::{Pid, WaitOptions, waitpid};
use tokio::time::timeout;

use super::{ENDED, procfs, settled, waited};

/// Between two looks at what was orphaned and goes on.
const LOOK: Duration = Duration::from_secs(2);

/// What was orphaned to this process: a child of ours in another session or group than ours. What we
/// start ourselves without one of its own (a probe's helper, a shell) is none.
pub(super) struct Strays {
    /// This process.
    pub us: i32,
    group: i32,
    session: i32,
}

impl Strays {
    pub fn of_this_process() -> Self {
        let us = rustix::process::getpid().as_raw_nonzero().get();
        // Not by getsid: in a container whose session began outside it, that is 0 and no pid.
        let (group, session) = procfs::process(us).map_or((us, us), |p| (p.group, p.session));
        Self { us, group, session }
    }

    pub const fn has(&self, process: &procfs::Process) -> bool {
        let ours = process.session == self.session && process.group == self.group;
        process.parent == self.us && !ours
    }
}

/// Whether something was orphaned to us that nobody waits for; none where the kernel does not tell.
pub(super) fn any() -> Option<bool> {
    let adopted = procfs::adopted()?;
    let known = &waited().known;
    Some(adopted.iter().any(|pid| !known.contains_key(pid)))
}

/// Resolves when something may have been orphaned to us, or may have ended after it was. Without
/// SIGCHLD, which any of our threads would be woken for at the end of every child.
pub async fn orphaned() {
    if any() == Some(true) {
        // Either is a reason to look.
        let _ = timeout(LOOK, ENDED.notified()).await;
    } else {
        ENDED.notified().await;
    }
}

/// Reaps the zombies that became ours by being orphaned.
pub fn reap() {
    // While programs are started and end by the hundred, a closer look would hold them all up.
    if any() == Some(false) {
        return;
    }
    let waited = settled();
    let strays = Strays::of_this_process();
    let unknown = |pid: &i32| !waited.known.contains_key(pid);
    let all: Vec<procfs::Process> = match procfs::children() {
        Some(pids) => pids.into_iter().filter(unknown).filter_map(procfs::process).collect(),
        None => procfs::processes().collect(),
    };
    for process in all {
        if strays.has(&process)
            && process.state == b'Z'
            && !waited.known.contains_key(&process.pid)
            && let Some(pid) = Pid::from_raw(process.pid)
        {
            // Gone already is as good.
            let _ = waitpid(Some(pid), WaitOptions::NOHANG);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::process::Stdio;

    use tokio::io::{AsyncBufReadExt, BufReader};
    use tokio::process::Command;

    use super::super::Supervisor;
    use super::*;

    #[tokio::test]
    async fn an_orphan_is_reaped_once_it_has_ended() {
        let _ = rustix::process::set_child_subreaper(Some(rustix::process::getpid()));
        let line = "exec 3<&0; setsid cat <&3 >/dev/null 2>&1 & echo $!";
        let mut command = Command::new("/bin/sh");
        command.args(["-c", line]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut started = Supervisor::spawn(&mut command, "r1").unwrap();
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
