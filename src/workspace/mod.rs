//! The folders that runs and jobs work in, and the git operations on them.
//!
//! ```text
//! remote ─ fetch ─► base: one bare clone a repository ─ push, once the gate is open ─► remote
//!                     ├► pool: worktrees wt-1, wt-2, … of runs; a slot keeps its path
//!                     ├► overlay: the proving tree of the gate
//!                     └► throwaway: clones of jobs
//! seal: leftovers and trailers before the gate      capsule: evidence of a frozen run
//! leaks: secrets, huge files and links in the commits of a run
//! ```
//!
//! The runtime's tasks call these. A run's worktree is a slot of the pool: `git checkout -B`
//! switches it to the run's branch, and reset and clean make it free again. git2 reads and rewrites
//! commits; the git program does checkout, fetch and push (docs/adr/0003-git-program-and-git2.md).

pub mod base;
pub mod capsule;
pub mod git;
pub(crate) mod leaks;
pub mod name;
pub mod overlay;
pub mod pool;
pub mod seal;
pub mod throwaway;

use std::path::PathBuf;

/// A step in a workspace failed.
#[derive(Debug, thiserror::Error)]
pub enum WorkspaceError {
    /// A file or folder can't be read or written, or git can't be started.
    #[error("{}: {source}", path.display())]
    Io {
        /// The path of the file or folder, or `git` for the program.
        path: PathBuf,
        /// The error of the system.
        source: std::io::Error,
    },
    /// The git program ended with an error.
    #[error("git {subcommand}: {message}")]
    Git {
        /// The first argument of the call.
        subcommand: String,
        /// The end of git's output, in one line.
        message: String,
    },
    /// The git program did not end within its limit.
    #[error(
        "git {subcommand} took longer than {seconds} s and was stopped; is the remote reachable?"
    )]
    Deadline {
        /// The first argument of the call.
        subcommand: String,
        /// The limit in seconds.
        seconds: u64,
    },
    /// The commits of a run can't be searched for secrets, so nothing may be pushed.
    #[error("search the commits for secrets: {why}")]
    Scan {
        /// The bound that was exceeded, or the object that hides something.
        why: String,
    },
    /// libgit2 can't read or write the repository.
    #[error("access the repository: {0}")]
    Git2(#[from] git2::Error),
    /// The disk has too little free space for another worktree.
    #[error(
        "only {free_mib} MiB are free at {}, and limits.disk_free_mib requires {needed_mib}; free \
         some space or lower the limit",
        path.display()
    )]
    DiskFull {
        /// The folder of the pool.
        path: PathBuf,
        /// The free space in MiB.
        free_mib: u64,
        /// The configured minimum in MiB.
        needed_mib: u64,
    },
    /// Somebody has replaced a folder of ours by a symbolic link.
    #[error("{} is a symbolic link and not a folder of afk's; remove it", path.display())]
    SymbolicLink {
        /// The path of the link.
        path: PathBuf,
    },
}

impl WorkspaceError {
    fn io(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        |source| Self::Io { path, source }
    }
}
