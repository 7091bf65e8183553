//! Control groups (version 2) around the programs behind the wall: bounds on memory, processes and
//! processor time, and an end that no process survives.
//!
//! ```text
//! a folder that afk may divide     cgroup.subtree_control: memory pids cpu
//!   ├── afk                        afk itself: a folder that shares controllers out holds no process
//!   └── afk.<instance>.<n>         a program and whatever it starts; the launcher enters it
//! ```
//!
//! The runtime opens a [`Subtree`] at its start, and the supervisor makes a [`ProgramGroup`] for each
//! program behind the wall. A program sees no file of these folders, so it can't leave its own. Where
//! nothing is delegated to afk, resource limits and the PID namespace are all that bounds a program.

mod find;
mod group;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::core::model::digest::Digest;
use find::{DivisibleFolder, find};
pub use group::{GroupLimits, MemoryExceeded, ProgramGroup};

/// The folder that holds afk itself; `DelegateSubgroup=` in a unit has the same name.
const LEAF: &str = "afk";
/// The controllers that bound a program, where the system offers them.
const CONTROLLERS: [&str; 3] = ["memory", "pids", "cpu"];

/// Where afk makes control groups: `cgroup` in `[sandbox]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
pub enum CgroupChoice {
    /// Below the control group that afk is started in, if that is delegated to it.
    #[default]
    Delegated,
    /// It makes no control group at all.
    Off,
    /// Below this folder of a cgroup2 file system.
    Folder(PathBuf),
}

impl From<CgroupChoice> for String {
    fn from(choice: CgroupChoice) -> Self {
        match choice {
            CgroupChoice::Delegated => "auto".into(),
            CgroupChoice::Off => "off".into(),
            CgroupChoice::Folder(folder) => folder.display().to_string(),
        }
    }
}

impl TryFrom<String> for CgroupChoice {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match text.as_str() {
            "auto" => Ok(Self::Delegated),
            "off" => Ok(Self::Off),
            folder if folder.starts_with('/') => Ok(Self::Folder(folder.into())),
            other => Err(format!(
                "{other:?} is neither \"auto\" nor \"off\" nor the absolute path of a control group"
            )),
        }
    }
}

/// The reason why afk can't make control groups.
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    /// The configuration switches them off.
    #[error("switched off by sandbox.cgroup")]
    Off,
    /// There is no file system of control groups of version 2, or this process is not in it.
    #[error("this system has no control groups of version 2 (cgroup2), or doesn't show them here")]
    NoVersion2,
    /// The configured folder is no control group.
    #[error("{} is no control group of version 2", .0.display())]
    NoGroup(PathBuf),
    /// Nobody gave the folder of afk's own control group to afk.
    #[error("{} isn't delegated to this user; a systemd unit does that with Delegate=yes", .0.display())]
    NotDelegated(PathBuf),
    /// Processes of others are in afk's own control group.
    #[error("{} also holds other processes; start afk in a unit of its own", .0.display())]
    Shared(PathBuf),
    /// `cgroup.kill` came with Linux 5.14.
    #[error("the kernel can't kill a control group; it must be 5.14 or newer")]
    NoKill,
    /// A file or folder can't be used.
    #[error("{}", path.display())]
    Io {
        /// The file or folder that the error is about.
        path: PathBuf,
        /// The error of the system.
        source: io::Error,
    },
}

impl CgroupError {
    /// An error about one path, for `map_err`.
    fn io<E: Into<io::Error>>(path: impl Into<PathBuf>) -> impl FnOnce(E) -> Self {
        let path = path.into();
        |source| Self::Io { path, source: source.into() }
    }
}

/// A folder in which afk makes control groups, with the controllers that work there.
#[derive(Debug)]
pub struct Subtree {
    folder: PathBuf,
    controllers: Vec<&'static str>,
    /// What the names of this afk's groups begin with: several afks may share a configured folder.
    prefix: String,
    /// The number of the last group.
    last: AtomicU64,
}

impl Subtree {
    /// Finds the folder, moves this process out of it into a leaf, and shares the controllers out to
    /// the groups of programs. `instance` identifies this afk across restarts.
    ///
    /// # Errors
    /// There is no such folder, or no group can be made in it.
    pub fn open(choice: &CgroupChoice, instance: &str) -> Result<Self, CgroupError> {
        if let CgroupChoice::Folder(folder) = choice {
            // A system without systemd has no unit that makes it. A failure shows below.
            let _ = std::fs::create_dir(folder);
        }
        let DivisibleFolder { folder, holds_process } = find(choice, None)?;
        if holds_process {
            enter_leaf(&folder)?;
        }
        let controllers = share_out(&folder)?;
        let prefix = format!("afk.{}.", Digest::of_bytes(instance.as_bytes()).short());
        let subtree = Self { folder, controllers, prefix, last: AtomicU64::new(0) };
        let first = subtree.group(&GroupLimits::default())?;
        let kills = first.folder().join("cgroup.kill").exists();
        first.remove().map_err(CgroupError::io(first.folder()))?;
        if kills { Ok(subtree) } else { Err(CgroupError::NoKill) }
    }

    /// Makes the group of one program.
    ///
    /// # Errors
    /// The folder can't be made, or a limit can't be written.
    pub fn group(&self, limits: &GroupLimits) -> Result<ProgramGroup, CgroupError> {
        loop {
            let number = self.last.fetch_add(1, Ordering::Relaxed) + 1;
            let folder = self.folder.join(format!("{}{number}", self.prefix));
            match std::fs::create_dir(&folder) {
                Ok(()) => return ProgramGroup::set_up(folder, &self.controllers, limits),
                // A killed afk left it.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(CgroupError::io(folder)(error)),
            }
        }
    }

    /// The groups of this afk that exist, also those of an earlier life.
    #[must_use]
    pub fn groups(&self) -> Vec<ProgramGroup> {
        let entries = std::fs::read_dir(&self.folder).into_iter().flatten().flatten();
        let is_ours = |name: &std::ffi::OsStr| name.to_string_lossy().starts_with(&self.prefix);
        entries
            .filter(|entry| is_ours(&entry.file_name()))
            .map(|entry| ProgramGroup::at(entry.path()))
            .collect()
    }

    /// The folder and its controllers, for a person.
    #[must_use]
    pub fn summary(&self) -> String {
        summary(&self.folder, &self.controllers)
    }
}

/// The folder that a runtime uses, or would use if it was started here, with its controllers. `pid`
/// is the runtime that runs.
///
/// # Errors
/// As [`Subtree::open`]; nothing is changed.
pub fn survey(choice: &CgroupChoice, pid: Option<i32>) -> Result<String, CgroupError> {
    let found = find(choice, pid)?;
    // The controllers are shared out once a runtime runs.
    let file = if pid.is_some() { "cgroup.subtree_control" } else { "cgroup.controllers" };
    let offered = read(&found.folder.join(file))?;
    let controllers: Vec<&str> =
        CONTROLLERS.into_iter().filter(|name| lists(&offered, name)).collect();
    Ok(summary(&found.folder, &controllers))
}

fn summary(folder: &Path, controllers: &[&str]) -> String {
    let with = match controllers {
        [] => "without controllers, for the end of programs alone".to_owned(),
        some => format!("with {}", some.join(", ")),
    };
    format!("{}, {with}", folder.display())
}

/// Moves this process into a leaf of its control group.
fn enter_leaf(folder: &Path) -> Result<(), CgroupError> {
    let leaf = folder.join(LEAF);
    match std::fs::create_dir(&leaf) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            return Err(CgroupError::io(leaf)(error));
        }
        _ => {}
    }
    // 0 is the process that writes, with all of its threads.
    write(&leaf.join("cgroup.procs"), "0")
}

/// Lets the groups in a folder have the controllers that it offers, and returns those. One that can't
/// be shared out is left out: a folder that still holds a process has none.
fn share_out(folder: &Path) -> Result<Vec<&'static str>, CgroupError> {
    let offered = read(&folder.join("cgroup.controllers"))?;
    let file = folder.join("cgroup.subtree_control");
    let mut shared = Vec::new();
    for name in CONTROLLERS.into_iter().filter(|name| lists(&offered, name)) {
        match write(&file, &format!("+{name}")) {
            Ok(()) => shared.push(name),
            Err(error) => {
                let error = crate::error::chain(&error);
                tracing::warn!(controller = name, %error, "a controller can't be used");
            }
        }
    }
    Ok(shared)
}

fn lists(words: &str, name: &str) -> bool {
    words.split_ascii_whitespace().any(|word| word == name)
}

fn read(path: &Path) -> Result<String, CgroupError> {
    std::fs::read_to_string(path).map_err(CgroupError::io(path))
}

/// Writes to a file of the kernel, which must exist.
fn write(path: &Path, text: &str) -> Result<(), CgroupError> {
    let file = std::fs::File::options().write(true).open(path);
    file.and_then(|mut file| io::Write::write_all(&mut file, text.as_bytes()))
        .map_err(CgroupError::io(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choice_is_a_word_or_an_absolute_path() {
        let choice = |text: &str| CgroupChoice::try_from(text.to_owned());
        assert_eq!(choice("auto"), Ok(CgroupChoice::Delegated));
        assert_eq!(choice("off"), Ok(CgroupChoice::Off));
        let folder = CgroupChoice::Folder("/sys/fs/cgroup/afk".into());
        assert_eq!(choice("/sys/fs/cgroup/afk"), Ok(folder));
        for wrong in ["", "on", "sys/fs/cgroup"] {
            assert!(choice(wrong).unwrap_err().contains("absolute path"), "{wrong}");
        }
    }

    #[test]
    fn controllers_that_are_offered_are_shared_out() {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str| dir.path().join(name);
        std::fs::write(file("cgroup.controllers"), "cpuset cpu io memory hugetlb pids\n").unwrap();
        assert_eq!(share_out(dir.path()).unwrap(), Vec::<&str>::new(), "nothing can be written");
        std::fs::write(file("cgroup.subtree_control"), "").unwrap();
        assert_eq!(share_out(dir.path()).unwrap(), ["memory", "pids", "cpu"]);
        std::fs::write(file("cgroup.controllers"), "cpuset memory_x\n").unwrap();
        assert_eq!(share_out(dir.path()).unwrap(), Vec::<&str>::new());
    }

    #[test]
    fn folder_that_is_no_control_group_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let choice = CgroupChoice::Folder(dir.path().to_owned());
        assert!(matches!(Subtree::open(&choice, "x"), Err(CgroupError::NoGroup(_))));
        assert!(matches!(survey(&CgroupChoice::Off, None), Err(CgroupError::Off)));
    }
}
