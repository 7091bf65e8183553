//! The folders that runs and jobs work in, and the git operations on them.
//!
//! ```text
//! remote ─ fetch ─► base: one bare clone a repository ─ push, once the gate is open ─► remote
//!                     │ lends its objects to            ▲
//!                     ├► pool: workspaces wt-1, … ──────┤ import: the commits of a workspace
//!                     ├► pool: the proving tree         │
//!                     └► throwaway: clones of jobs      │
//! leftovers: commits the rest, in the sandbox ──────────┘      seal: trailers, in the base
//! renewal: a damaged base clone (damage) is set aside, and the remote cloned anew
//! workspace_renewal: a fresh tree takes the place of a run's damaged workspace
//! leaks: secrets, huge files and links in the commits of a run
//! lfs: the files that Git LFS stores, from the workspace to the remote
//! fitness: whose commits they are, what they undo (undone) and what programs left (content)
//! ```
//!
//! afk's own git ([`git`]) works in the base and in trees that nobody else has touched. Once an
//! agent, a test or a job has worked in a tree, only git inside its sandbox ([`walled_git`]) reads
//! it, and it is never used again. git2 rewrites commits in the base; the git program does the
//! rest (docs/adr/0003-git-program-and-git2.md).

mod adopt;
pub mod base;
pub(crate) mod caches;
mod call;
pub(crate) mod capsule;
pub(crate) mod change;
mod content;
mod copy_tree;
pub(crate) mod credential;
pub(crate) mod damage;
mod droppings;
mod durable;
mod environment;
pub mod first_clone;
pub(crate) mod fitness;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
pub mod git;
mod hunks;
pub(crate) mod import;
pub(crate) mod leaks;
pub(crate) mod leftovers;
pub(crate) mod lfs;
pub(crate) mod lfs_checkout;
pub mod name;
pub(crate) mod outage;
pub mod pool;
mod protected;
pub(crate) mod renewal;
mod repository;
pub(crate) mod seal;
pub(crate) mod submodules;
pub(crate) mod throwaway;
pub(crate) mod trash;
mod undone;
pub mod walled_git;
pub(crate) mod workspace_renewal;

use std::path::PathBuf;

use crate::core::model::outage::OutageCause;

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
    /// A part of the environment is away: the remote, its login, or a limit of this machine.
    #[error("git {subcommand}: {message}")]
    Unavailable {
        /// The part that is away.
        cause: OutageCause,
        /// The first argument of the call.
        subcommand: String,
        /// The end of git's output, in one line.
        message: String,
    },
    /// The first clone did not end within its limit.
    #[error(
        "the first clone took longer than {minutes} min and was stopped; is the remote reachable? \
         Otherwise raise limits.clone_minutes"
    )]
    CloneDeadline {
        /// The limit in minutes.
        minutes: u64,
    },
    /// The configuration gave the remote another address in the meantime; a retry uses that one.
    #[error("the remote has another address now")]
    RemoteChanged,
    /// Nobody waited for the repository any more while it was opened, or afk ended.
    #[error("the clone was stopped before its end")]
    Stopped,
    /// The agent left its workspace in a state that can't become a commit.
    #[error("{why}")]
    Unfit {
        /// The state, and what the agent can do.
        why: String,
    },
    /// The remote has no branch for the run's commits, so that a retry would not help.
    #[error("{why}")]
    Upstream {
        /// The branch, and what a person can do.
        why: String,
    },
    /// Commits are not as afk requires, so that they don't leave the workspace or don't count.
    #[error("afk refuses the commits: {why}")]
    Refused {
        /// The requirement that they break.
        why: String,
    },
    /// The repository keeps files in Git LFS, and the machine has no git-lfs.
    #[error(
        "the repository keeps files in Git LFS, and git-lfs is not installed here: install it, or \
         set `lfs = false` under [setup] in .afk.toml to work with the pointers alone"
    )]
    MissingLfs,
    /// The wall around git in an agent's tree can't be built.
    #[error("git in the workspace was not started: {why}")]
    Wall {
        /// The cause, in one line.
        why: String,
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

/// The output of git as text, without the last line break.
fn without_line_break(out: &[u8]) -> String {
    let text = String::from_utf8_lossy(out);
    text.strip_suffix('\n').unwrap_or(&text).to_owned()
}

/// A path of a repository for a person: other bytes than text, and control characters, escaped.
pub(crate) fn shown(path: &[u8]) -> String {
    let mut text = String::new();
    for chunk in path.utf8_chunks() {
        for c in chunk.valid().chars() {
            if c.is_control() {
                text.extend(c.escape_default());
            } else {
                text.push(c);
            }
        }
        for byte in chunk.invalid() {
            text.push_str(&format!("\\x{byte:02x}"));
        }
    }
    text
}
