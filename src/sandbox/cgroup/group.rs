//! The control group of one program.

use std::io;
use std::path::{Path, PathBuf};

use super::super::limits::PROCESSES;
use super::{CgroupError, read, write};

/// The share of the processor beside the 100 of afk's own group: that of niceness 5 beside niceness
/// 0, since the kernel compares niceness within a group alone.
const WEIGHT: u64 = 33;

/// The bounds of one program with all that it starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GroupLimits {
    /// Memory in bytes; unlimited if none.
    pub memory: Option<u64>,
    /// The most processes and threads at once.
    pub processes: u64,
}

impl Default for GroupLimits {
    fn default() -> Self {
        Self { memory: None, processes: PROCESSES }
    }
}

/// The memory of a program's processes is above its limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryExceeded {
    /// The memory that they used, in bytes.
    pub used: u64,
    /// The limit, in bytes.
    pub limit: u64,
}

impl std::fmt::Display for MemoryExceeded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mib = |bytes: u64| bytes / (1024 * 1024);
        let (used, limit) = (mib(self.used), mib(self.limit));
        write!(f, "its processes use {used} MiB; the limit is {limit} MiB")
    }
}

/// The control group of one program. It stays until [`ProgramGroup::remove`] succeeds.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ProgramGroup {
    folder: PathBuf,
}

impl ProgramGroup {
    /// The group of an earlier life.
    pub(super) const fn at(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// Writes the limits of a new group, and removes it if that fails.
    pub(super) fn set_up(
        folder: PathBuf,
        controllers: &[&str],
        limits: &GroupLimits,
    ) -> Result<Self, CgroupError> {
        let group = Self { folder };
        match group.limit(controllers, limits) {
            Ok(()) => Ok(group),
            Err(error) => {
                // It is empty. A failure leaves it for the next start.
                let _ = group.remove();
                Err(error)
            }
        }
    }

    fn limit(&self, controllers: &[&str], limits: &GroupLimits) -> Result<(), CgroupError> {
        let set = |name: &str, value: &str| write(&self.folder.join(name), value);
        if controllers.contains(&"memory") {
            // One process that is killed for memory would leave the rest in a state that nobody meant.
            set("memory.oom.group", "1")?;
            if let Some(memory) = limits.memory {
                set("memory.max", &memory.to_string())?;
                match set("memory.swap.max", "0") {
                    // A kernel without accounts of swap.
                    Err(CgroupError::Io { source, .. })
                        if source.kind() == io::ErrorKind::NotFound => {}
                    done => done?,
                }
            }
        }
        if controllers.contains(&"pids") {
            set("pids.max", &limits.processes.to_string())?;
        }
        if controllers.contains(&"cpu") {
            set("cpu.weight", &WEIGHT.to_string())?;
        }
        Ok(())
    }

    /// The folder of the group.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Moves this process into the group at `folder`.
    ///
    /// # Errors
    /// The group is gone, or the kernel refuses it.
    pub(crate) fn enter(folder: &Path) -> Result<(), CgroupError> {
        write(&folder.join("cgroup.procs"), "0")
    }

    /// The processes in the group; none once it is gone.
    #[must_use]
    pub fn members(&self) -> Vec<i32> {
        let text = read(&self.folder.join("cgroup.procs")).unwrap_or_default();
        text.lines().filter_map(|line| line.parse().ok()).collect()
    }

    /// Kills every process in the group at once, also those that are being started.
    ///
    /// # Errors
    /// The kernel refuses it; a group that is gone is no error.
    pub fn kill(&self) -> Result<(), CgroupError> {
        match write(&self.folder.join("cgroup.kill"), "1") {
            Err(CgroupError::Io { source, .. })
                if matches!(source.raw_os_error(), Some(libc::ENOENT | libc::ENODEV)) =>
            {
                Ok(())
            }
            done => done,
        }
    }

    /// Removes the group, which must hold no process.
    ///
    /// # Errors
    /// It holds one, or the kernel refuses it; a group that is gone is no error.
    pub fn remove(&self) -> io::Result<()> {
        match std::fs::remove_dir(&self.folder) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// The use and the limit of memory, if the kernel killed the program because of this limit.
    #[must_use]
    pub fn memory_exceeded(&self) -> Option<MemoryExceeded> {
        let value = |name: &str| read(&self.folder.join(name)).ok();
        let events = value("memory.events")?;
        let count = |name: &str| {
            let found = events.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
            found.and_then(|number| number.trim().parse::<u64>().ok()).unwrap_or(0)
        };
        // Without `oom`, the whole machine was out of memory, or a group above this one.
        if count("oom_kill") == 0 || count("oom") == 0 {
            return None;
        }
        let number = |name: &str| value(name)?.trim().parse::<u64>().ok();
        let limit = number("memory.max")?;
        Some(MemoryExceeded { used: number("memory.peak").unwrap_or(limit).max(limit), limit })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder with the files that the kernel makes.
    fn group(files: &[&str]) -> (tempfile::TempDir, ProgramGroup) {
        let dir = tempfile::tempdir().unwrap();
        for name in files {
            std::fs::write(dir.path().join(name), "").unwrap();
        }
        let group = ProgramGroup::at(dir.path().to_owned());
        (dir, group)
    }

    #[test]
    fn limits_are_written_for_the_controllers_that_work() {
        let limits = GroupLimits { memory: Some(1 << 30), processes: 100 };
        let files = ["memory.oom.group", "memory.max", "memory.swap.max", "pids.max", "cpu.weight"];
        let (dir, one) = group(&files);
        one.limit(&["memory", "pids", "cpu"], &limits).unwrap();
        let written = files.map(|name| std::fs::read_to_string(dir.path().join(name)).unwrap());
        assert_eq!(written, ["1", "1073741824", "0", "100", "33"]);
        // Without accounts of swap, and without a limit of memory.
        let (_dir, two) = group(&["memory.oom.group", "memory.max"]);
        two.limit(&["memory"], &limits).unwrap();
        two.limit(&["memory"], &GroupLimits::default()).unwrap();
        let (_dir, three) = group(&[]);
        three.limit(&[], &limits).unwrap();
        three.limit(&["pids"], &limits).unwrap_err();
    }

    #[test]
    fn kill_for_memory_is_told_from_other_kills() {
        let (dir, group) = group(&[]);
        let set = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
        assert_eq!(group.memory_exceeded(), None, "no controller");
        set("memory.max", "67108864\n");
        set("memory.events", "low 0\nhigh 0\nmax 3\noom 0\noom_kill 0\noom_group_kill 0\n");
        assert_eq!(group.memory_exceeded(), None);
        set("memory.events", "low 0\nhigh 0\nmax 0\noom 0\noom_kill 1\noom_group_kill 1\n");
        assert_eq!(group.memory_exceeded(), None, "the machine was out of memory");
        set("memory.events", "low 0\nhigh 0\nmax 9\noom 1\noom_kill 4\noom_group_kill 1\n");
        let text = group.memory_exceeded().unwrap().to_string();
        assert_eq!(text, "its processes use 64 MiB; the limit is 64 MiB");
        set("memory.peak", "67108865\n");
        assert_eq!(group.memory_exceeded().unwrap().used, 67_108_865);
    }

    #[test]
    fn group_that_is_gone_is_no_error() {
        let gone = ProgramGroup::at("/nonexistent/afk".into());
        gone.kill().unwrap();
        gone.remove().unwrap();
        assert_eq!(gone.members(), Vec::<i32>::new());
        assert!(ProgramGroup::enter(gone.folder()).is_err());
    }
}
