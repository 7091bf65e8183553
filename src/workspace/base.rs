//! The base clone of a repository: bare, kept across restarts, and fetched before each use.
//!
//! Its worktrees share its configuration, so an agent can write into it. Every fetch and push
//! therefore restores the configuration first.

use std::path::{Path, PathBuf};

use super::WorkspaceError;
use super::git::Git;
use crate::core::model::id::Sha;

/// The outcome of a push. All variants but the first carry the end of git's output, in one line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum PushOutcome {
    /// The remote has the head; a fetch after the push has confirmed it.
    Landed,
    /// The remote has newer commits: fetch, rebase, test and push again.
    Rejected(String),
    /// The remote protects the branch; neither a rebase nor another push would help.
    Protected(String),
    /// The remote does not accept our credentials, or hides the repository from us.
    Denied(String),
    /// The remote refused for another reason, or the connection was lost and the head is missing
    /// there.
    Refused(String),
}

/// Parts of the messages about a protected branch; GitHub's codes come first.
const PROTECTED: [&str; 6] = [
    "GH006",
    "GH013",
    "protected branch",
    "pre-receive hook declined",
    "repository rule violations",
    "Changes must be made through a pull request",
];
/// Parts of the messages about credentials that the remote does not accept.
const DENIED: [&str; 6] = [
    "Authentication failed",
    "error: 403",
    "error: 401",
    "Permission denied (publickey",
    "could not read Username",
    "Repository not found",
];

/// A bare clone with the remote's branches under `refs/remotes/origin`.
#[derive(Debug, Clone)]
pub(crate) struct Base {
    git: Git,
    branch: String,
    /// The address that pushes go to. The shared configuration names none, so that agents can't
    /// push.
    remote: String,
    configuration: String,
}

impl Base {
    /// Opens the base clone in `dir`, or clones the remote. The folder of `git` does not matter.
    pub async fn open(
        dir: &Path,
        remote: &str,
        branch: &str,
        git: &Git,
    ) -> Result<Self, WorkspaceError> {
        refuse_link(dir)?;
        let git = git.at(dir);
        if !dir.join("HEAD").exists() {
            let parent = dir.parent().unwrap_or(dir);
            std::fs::create_dir_all(parent).map_err(WorkspaceError::io(parent))?;
            let new = PathBuf::from(format!("{}.new", dir.display()));
            if new.exists() {
                std::fs::remove_dir_all(&new).map_err(WorkspaceError::io(&new))?;
            }
            // A rename at the end makes the clone appear as a whole.
            let up = git.at(parent);
            let new_name = new.as_os_str();
            up.call(&["init".as_ref(), "--quiet".as_ref(), "--bare".as_ref(), new_name]).await?;
            let at_new = git.at(&new);
            std::fs::write(new.join("config"), configuration(remote, true))
                .map_err(WorkspaceError::io(&new))?;
            at_new.call(&["fetch", "--quiet", "--no-tags", "origin"]).await?;
            std::fs::rename(&new, dir).map_err(WorkspaceError::io(dir))?;
        }
        let configuration = configuration(remote, true);
        let (branch, remote) = (branch.to_owned(), remote.to_owned());
        let base = Self { git, branch, remote, configuration };
        base.restore_configuration()?;
        Ok(base)
    }

    /// Restores our configuration. An agent can write into it from a worktree, and our own fetch
    /// and push would obey a `core.sshCommand`, `credential.helper` or `url.*.insteadOf` in it.
    fn restore_configuration(&self) -> Result<(), WorkspaceError> {
        let path = self.dir().join("config");
        refuse_link(&path)?;
        let found = std::fs::read_to_string(&path).unwrap_or_default();
        if found != self.configuration {
            let new = self.dir().join("config.afk");
            std::fs::write(&new, &self.configuration).map_err(WorkspaceError::io(&new))?;
            std::fs::rename(&new, &path).map_err(WorkspaceError::io(&path))?;
        }
        Ok(())
    }

    /// The folder of the clone.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.git.dir()
    }

    /// The git program in the folder of the clone.
    #[must_use]
    pub const fn git(&self) -> &Git {
        &self.git
    }

    /// The remote-tracking reference of the branch that we push to.
    #[must_use]
    pub fn upstream(&self) -> String {
        format!("refs/remotes/origin/{}", self.branch)
    }

    /// Fetches, and returns the upstream's commit.
    pub async fn fetch(&self) -> Result<Sha, WorkspaceError> {
        self.restore_configuration()?;
        self.git.call(&["fetch", "--quiet", "--prune", "--no-tags", "origin"]).await?;
        self.head().await
    }

    /// The upstream's commit as of the last fetch.
    pub async fn head(&self) -> Result<Sha, WorkspaceError> {
        let upstream = format!("{}^{{commit}}", self.upstream());
        let sha = self.git.call(&["rev-parse", "--verify", "--quiet", &upstream]).await;
        sha.map(Sha).map_err(|_| WorkspaceError::Git {
            subcommand: "rev-parse".into(),
            message: format!("the remote has no branch {}", self.branch),
        })
    }

    /// Whether the upstream, as of the last fetch, contains a commit.
    pub async fn contains(&self, sha: &Sha) -> Result<bool, WorkspaceError> {
        let upstream = self.upstream();
        let args = ["merge-base", "--is-ancestor", &sha.0, &upstream];
        Ok(self.git.ask(&args).await?.ok)
    }

    /// Pushes `head` to the branch, fast-forward only, unless the remote has it already. Fetches
    /// after the push, whatever its exit code, to learn whether the head has landed.
    ///
    /// # Errors
    /// The remote can't be fetched from. After an error of the second fetch the outcome is unknown.
    pub async fn push(&self, head: &Sha) -> Result<PushOutcome, WorkspaceError> {
        self.fetch().await?;
        if self.contains(head).await? {
            return Ok(PushOutcome::Landed);
        }
        let refspec = format!("{head}:refs/heads/{}", self.branch);
        let push = self.git.ask(&["push", "--porcelain", "--", &self.remote, &refspec]).await;
        self.fetch().await?;
        if self.contains(head).await? {
            return Ok(PushOutcome::Landed);
        }
        let push = push?;
        let message = push.summary();
        let text = format!("{}{}", push.out, push.err);
        // These name newer commits. A stale lock at the remote, which rejects a push too, is none.
        let newer_commits = ["fetch first", "non-fast-forward", "stale info", "but expected"];
        if newer_commits.iter().any(|part| text.contains(part)) {
            Ok(PushOutcome::Rejected(message))
        } else if PROTECTED.iter().any(|part| text.contains(part)) {
            Ok(PushOutcome::Protected(message))
        } else if DENIED.iter().any(|part| text.contains(part)) {
            Ok(PushOutcome::Denied(message))
        } else {
            Ok(PushOutcome::Refused(message))
        }
    }

    /// Removes the lock files that a killed git left. Call it only while no git of ours runs here.
    pub fn break_stale_locks(&self) {
        remove_locks(self.dir(), 0);
    }
}

/// The push address in a clone, where an agent's own `git push` fails with an error that explains
/// itself: afk alone pushes, once the gate is open.
const NO_PUSH: &str = "/nonexistent/agents-do-not-push--afk-does-once-the-gate-is-open";

/// The whole configuration of a clone of ours.
pub(super) fn configuration(remote: &str, bare: bool) -> String {
    let remote = remote.replace('\\', "\\\\").replace('"', "\\\"");
    format!(
        "[core]\n\trepositoryformatversion = 0\n\tfilemode = true\n\tbare = {bare}\n\
         [remote \"origin\"]\n\turl = \"{remote}\"\n\tpushurl = {NO_PUSH}\n\tfetch = +refs/heads/*:refs/remotes/origin/*\n"
    )
}

fn remove_locks(dir: &Path, depth: u32) {
    let Ok(entries) = std::fs::read_dir(dir) else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        let Ok(kind) = entry.file_type() else { continue };
        if kind.is_dir() && depth < 6 && entry.file_name() != "objects" {
            remove_locks(&path, depth + 1);
        } else if kind.is_file() && path.extension().is_some_and(|end| end == "lock") {
            // An error means that it is already gone.
            let _ = std::fs::remove_file(&path);
        }
    }
}

/// Refuses to work in a folder of ours that somebody has replaced by a symbolic link.
pub(super) fn refuse_link(path: &Path) -> Result<(), WorkspaceError> {
    match std::fs::symlink_metadata(path) {
        Ok(meta) if meta.is_symlink() => {
            Err(WorkspaceError::SymbolicLink { path: path.to_owned() })
        }
        _ => Ok(()),
    }
}
