//! Reads processes from `/proc`: state, parent, session, usage and environment.
//!
//! The supervisor builds its trees from these; tests and benches measure afk itself with them.

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// A snapshot of one process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// The process id; the kernel reuses it later.
    pub pid: i32,
    /// The parent's pid; of an orphan, the subreaper's.
    pub parent: i32,
    pub(super) group: i32,
    pub(super) session: i32,
    /// The device number of the controlling terminal; 0 means none.
    pub(super) terminal: i64,
    /// The kernel's letter: `R` running, `S` sleeping, `Z` zombie.
    pub state: u8,
    /// The start time in ticks since boot; together with the pid it identifies a process uniquely.
    pub(super) started: u64,
    /// User and system time so far, in clock ticks.
    pub cpu_ticks: u64,
    /// Resident memory, in bytes.
    pub memory: u64,
    environment: Vec<u8>,
}

impl Process {
    /// The value of an environment name at the start of the process.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.environment.split(|b| *b == 0).find_map(|pair| {
            let rest = pair.strip_prefix(name.as_bytes())?.strip_prefix(b"=")?;
            std::str::from_utf8(rest).ok()
        })
    }

    /// Whether an environment name has exactly this value.
    #[must_use]
    pub fn has(&self, name: &str, value: &str) -> bool {
        self.get(name) == Some(value)
    }
}

/// The pid of this process.
pub(crate) fn own_pid() -> i32 {
    rustix::process::getpid().as_raw_nonzero().get()
}

/// Every process that we may see; a process that ends during the walk is left out.
pub fn processes() -> impl Iterator<Item = Process> {
    let folder = std::fs::read_dir("/proc").ok();
    folder
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok())
        .filter_map(process)
}

/// The children of this process, including its orphans; `None` where the kernel doesn't list them.
pub(super) fn children() -> Option<Vec<i32>> {
    children_of(own_pid())
}

/// The children of a process; `None` where the kernel doesn't list them, or the process has ended.
pub(super) fn children_of(pid: i32) -> Option<Vec<i32>> {
    let mut all = Vec::new();
    for thread in std::fs::read_dir(format!("/proc/{pid}/task")).ok()?.flatten() {
        // A thread that ends during the walk hands its children to another thread, which may have
        // been read already: the list would be incomplete, so there is none.
        let text = std::fs::read_to_string(thread.path().join("children")).ok()?;
        all.extend(text.split_ascii_whitespace().filter_map(|pid| pid.parse::<i32>().ok()));
    }
    Some(all)
}

/// The orphans of this process, and the children that its main thread started itself; `None` where
/// the kernel doesn't list them. The kernel hands an orphan to the first live thread
/// (`find_new_reaper`), which is the main thread.
pub(super) fn adopted() -> Option<Vec<i32>> {
    let pid = own_pid();
    let text = std::fs::read_to_string(format!("/proc/self/task/{pid}/children")).ok()?;
    Some(text.split_ascii_whitespace().filter_map(|pid| pid.parse().ok()).collect())
}

/// Reads one process; `None` where it doesn't exist or is not ours to read.
#[must_use]
pub fn process(pid: i32) -> Option<Process> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may contain anything; the fields begin after the last `)`.
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
    let state = *fields.next()?.as_bytes().first()?;
    let parent = fields.next()?.parse().ok()?;
    // From `man proc_pid_stat`: 5 pgrp, 6 session, 7 tty_nr, 14 utime, 15 stime, 22 starttime,
    // 24 rss. The next field here is 5.
    let rest: Vec<i64> = fields.map(|field| field.parse().unwrap_or(0)).collect();
    let field = |number: usize| rest.get(number - 5).copied().unwrap_or(0);
    let count = |number: usize| u64::try_from(field(number)).unwrap_or(0);
    let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    Some(Process {
        pid,
        parent,
        group: i32::try_from(field(5)).unwrap_or(0),
        session: i32::try_from(field(6)).unwrap_or(0),
        terminal: field(7),
        state,
        started: count(22),
        cpu_ticks: count(14) + count(15),
        memory: count(24) * 4096,
        environment,
    })
}

/// The time since a process was started, to a hundredth of a second.
pub(super) fn age(process: &Process) -> std::time::Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    let hundredths = u64::try_from(now.tv_nsec).unwrap_or(0) / 10_000_000;
    let ticks = (seconds * 100 + hundredths).saturating_sub(process.started);
    std::time::Duration::from_millis(ticks * 10)
}

/// The working directory of a process.
pub(super) fn cwd(pid: i32) -> Option<std::path::PathBuf> {
    std::fs::read_link(format!("/proc/{pid}/cwd")).ok()
}

/// Signals exactly this process: through a pidfd, after a check that its pid was not reused.
pub fn signal(target: &Process, signal: Signal) {
    let Some(pid) = Pid::from_raw(target.pid) else { return };
    let Ok(fd) = pidfd_open(pid, PidfdFlags::empty()) else { return };
    if process(target.pid).is_some_and(|now| now.started == target.started) {
        // An error means that it is already gone.
        let _ = pidfd_send_signal(&fd, signal);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn children_lists_a_child_until_it_is_reaped() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let found = children().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(found.contains(&child.id().cast_signed()), "{found:?}");
        assert!(!children().unwrap().contains(&child.id().cast_signed()));
    }

    #[test]
    fn process_reads_this_process() {
        let us = std::process::id().cast_signed();
        let process = process(us).unwrap();
        assert_eq!(process.parent, std::os::unix::process::parent_id().cast_signed());
        assert!(process.memory > 0 && process.started > 0);
        assert!(processes().any(|p| p.pid == us));
        let path = std::env::var("PATH").unwrap();
        assert!(process.has("PATH", &path) && !process.has("PAT", &path));
    }
}
