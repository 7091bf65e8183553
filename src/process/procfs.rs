//! `/proc`, as far as a tree of processes needs it.

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// One process as it was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// Its id.
    pub pid: i32,
    /// Its parent's.
    pub parent: i32,
    /// The process group that it is in.
    pub group: i32,
    /// The session that it is in.
    pub session: i32,
    /// Its controlling terminal; 0 is none.
    pub terminal: i64,
    /// `R`, `S`, `Z`, …
    pub state: u8,
    /// When it began, in ticks since boot: with the pid it names the process for ever.
    pub started: u64,
    /// User and system time, in ticks.
    pub cpu_ticks: u64,
    /// Resident memory, in bytes.
    pub memory: u64,
    environment: Vec<u8>,
}

impl Process {
    /// The value of an environment name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.environment.split(|b| *b == 0).find_map(|pair| {
            let rest = pair.strip_prefix(name.as_bytes())?.strip_prefix(b"=")?;
            std::str::from_utf8(rest).ok()
        })
    }

    /// Whether an environment name has a value.
    #[must_use]
    pub fn has(&self, name: &str, value: &str) -> bool {
        self.get(name) == Some(value)
    }
}

/// Every process that can be seen. What ends while it is read is left out.
pub fn processes() -> impl Iterator<Item = Process> {
    let folder = std::fs::read_dir("/proc").ok();
    folder
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok())
        .filter_map(process)
}

/// The children of this process, those that were orphaned to it among them; none where the kernel
/// does not tell.
#[must_use]
pub fn children() -> Option<Vec<i32>> {
    let mut all = Vec::new();
    for thread in std::fs::read_dir("/proc/self/task").ok()?.flatten() {
        // A thread that ended meanwhile gave its children to another one, which is read as well only
        // if it comes later: not knowing is no answer.
        let text = std::fs::read_to_string(thread.path().join("children")).ok()?;
        all.extend(text.split_ascii_whitespace().filter_map(|pid| pid.parse::<i32>().ok()));
    }
    Some(all)
}

/// What was orphaned to this process, if the kernel tells: it gives an orphan to the first thread that
/// is alive (`find_new_reaper`), which is the main one. A child that the main thread started itself
/// is among them.
#[must_use]
pub fn adopted() -> Option<Vec<i32>> {
    let us = rustix::process::getpid().as_raw_nonzero();
    let text = std::fs::read_to_string(format!("/proc/self/task/{us}/children")).ok()?;
    Some(text.split_ascii_whitespace().filter_map(|pid| pid.parse().ok()).collect())
}

/// One process, if it is there.
#[must_use]
pub fn process(pid: i32) -> Option<Process> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold anything; the fields begin after the last `)`.
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
    let state = *fields.next()?.as_bytes().first()?;
    let parent = fields.next()?.parse().ok()?;
    // From `man proc_pid_stat`: 5 pgrp, 6 session, 7 tty_nr, 14 utime, 15 stime, 22 starttime,
    // 24 rss; 5 is the next one here.
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

/// The folder that a process is in.
#[must_use]
pub fn cwd(pid: i32) -> Option<std::path::PathBuf> {
    std::fs::read_link(format!("/proc/{pid}/cwd")).ok()
}

/// Signals exactly this process: through a pidfd, after a look that its pid was not given away.
pub fn signal(target: &Process, signal: Signal) {
    let Some(pid) = Pid::from_raw(target.pid) else { return };
    let Ok(fd) = pidfd_open(pid, PidfdFlags::empty()) else { return };
    if process(target.pid).is_some_and(|now| now.started == target.started) {
        // Gone already is as good.
        let _ = pidfd_send_signal(&fd, signal);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_finds_its_children() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let found = children().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(found.contains(&child.id().cast_signed()), "{found:?}");
        assert!(!children().unwrap().contains(&child.id().cast_signed()));
    }

    #[test]
    fn it_finds_itself() {
        let us = std::process::id().cast_signed();
        let process = process(us).unwrap();
        assert_eq!(process.parent, std::os::unix::process::parent_id().cast_signed());
        assert!(process.memory > 0 && process.started > 0);
        assert!(processes().any(|p| p.pid == us));
        let path = std::env::var("PATH").unwrap();
        assert!(process.has("PATH", &path) && !process.has("PAT", &path));
    }
}
