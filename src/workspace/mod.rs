//! Folders to work in: a base clone a repository, a pool of worktrees, throwaway clones.
//!
//! A run's worktree is a slot of the pool: it keeps its path, is switched to the run's branch by
//! `git checkout -B`, and is given back by reset and clean. git2 reads and rewrites commits; the
//! git program does checkout, fetch and push (docs/adr/0003-git-program-and-git2.md).

pub mod base;
pub mod capsule;
pub mod git;
pub mod name;
pub mod overlay;
pub mod pool;
pub mod seal;
pub mod throwaway;

use std::path::PathBuf;

/// What can go wrong in a workspace.
#[derive(Debug, thiserror::Error)]
pub enum WorkspaceError {
    /// A file or folder.
    #[error("{}: {source}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The git program said no.
    #[error("git {what}: {said}")]
    Git {
        /// The subcommand.
        what: String,
        /// The end of what it said, in a line.
        said: String,
    },
    /// It took too long.
    #[error("git {what} took longer than {seconds} s and was ended; is the remote reachable?")]
    Deadline {
        /// The subcommand.
        what: String,
        /// Its limit.
        seconds: u64,
    },
    /// libgit2 said no.
    #[error("reading the repository: {0}")]
    Git2(#[from] git2::Error),
    /// There is too little space.
    #[error("only {free_mib} MiB are free at {}, and limits.disk_free_mib asks for {needed_mib}", path.display())]
    DiskFull {
        /// Where.
        path: PathBuf,
        /// What there is.
        free_mib: u64,
        /// What there should be.
        needed_mib: u64,
    },
    /// The worktree isn't there any more.
    #[error("the worktree {} is gone", path.display())]
    Gone {
        /// Where it was.
        path: PathBuf,
    },
    /// Something of ours was replaced by a link.
    #[error("{} is a symbolic link and not a folder of ours", path.display())]
    Planted {
        /// Where.
        path: PathBuf,
    },
}

impl WorkspaceError {
    fn io(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        |source| Self::Io { path, source }
    }
}
