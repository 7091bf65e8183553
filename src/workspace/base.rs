//! The base clone of a repository: bare, persistent, fetched before each use.

use std::path::{Path, PathBuf};

use super::WorkspaceError;
use super::git::Git;
use crate::core::model::id::Sha;

/// How a push ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pushed {
    /// The remote was read back and has the head.
    Landed,
    /// The remote has moved on: fetch, rebase, test, push again.
    Rejected(String),
    /// The remote's rules for the branch say no; neither rebasing nor pushing again would help.
    Protected(String),
    /// The remote does not know us, or there is nothing that we may see.
    Denied(String),
    /// The remote says no for another reason, or the connection was lost and it has not the head.
    Refused(String),
}

/// What hosts say of a branch that may not be pushed to (GitHub's codes first).
const PROTECTED: [&str; 6] = [
    "GH006",
    "GH013",
    "protected branch",
    "pre-receive hook declined",
    "repository rule violations",
    "Changes must be made through a pull request",
];
/// What git and ssh say of a remote that lets nobody in.
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
pub struct Base {
    git: Git,
    branch: String,
    /// Where pushes go; the configuration, which worktrees share, names no such place.
    remote: String,
    configuration: String,
}

impl Base {
    /// Opens the base clone in `dir`, or makes it. `git`'s folder does not matter.
    ///
    /// # Errors
    /// [`WorkspaceError`]: no such remote, no space, a planted link.
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
            // Made aside and renamed: what is there under its name is whole.
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

    /// Puts the clone's configuration back to ours. It is shared with the worktrees, so an agent
    /// can write into it, and `core.sshCommand`, `credential.helper` or `url.*.insteadOf` in it
    /// would be obeyed by our own fetch and push.
    fn restore_configuration(&self) -> Result<(), WorkspaceError> {
        let path = self.dir().join("config");
        refuse_link(&path)?;
        let found = std::fs::read_to_string(&path).unwrap_or_default();
        if found != self.configuration {
            let aside = self.dir().join("config.afk");
            std::fs::write(&aside, &self.configuration).map_err(WorkspaceError::io(&aside))?;
            std::fs::rename(&aside, &path).map_err(WorkspaceError::io(&path))?;
        }
        Ok(())
    }

    /// Its folder.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.git.dir()
    }

    /// git in it.
    #[must_use]
    pub const fn git(&self) -> &Git {
        &self.git
    }

    /// The branch that is pushed to, as the base knows it: `origin/<branch>`.
    #[must_use]
    pub fn upstream(&self) -> String {
        format!("refs/remotes/origin/{}", self.branch)
    }

    /// Fetches and gives the upstream's commit.
    ///
    /// # Errors
    /// [`WorkspaceError`].
    pub async fn fetch(&self) -> Result<Sha, WorkspaceError> {
        self.restore_configuration()?;
        self.git.call(&["fetch", "--quiet", "--prune", "--no-tags", "origin"]).await?;
        self.head().await
    }

    /// The upstream's commit as last fetched.
    ///
    /// # Errors
    /// [`WorkspaceError`].
    pub async fn head(&self) -> Result<Sha, WorkspaceError> {
        let upstream = format!("{}^{{commit}}", self.upstream());
        let sha = self.git.call(&["rev-parse", "--verify", "--quiet", &upstream]).await;
        sha.map(Sha).map_err(|_| WorkspaceError::Git {
            what: "rev-parse".into(),
            said: format!("the remote has no branch {}", self.branch),
        })
    }

    /// Whether the upstream, as last fetched, contains a commit.
    ///
    /// # Errors
    /// [`WorkspaceError`].
    pub async fn contains(&self, sha: &Sha) -> Result<bool, WorkspaceError> {
        let upstream = self.upstream();
        let args = ["merge-base", "--is-ancestor", &sha.0, &upstream];
        Ok(self.git.ask(&args).await?.ok)
    }

    /// Pushes `head` to the branch, fast-forward only, unless the remote has it; then reads the
    /// remote back, whatever the push said.
    ///
    /// # Errors
    /// [`WorkspaceError`] where the remote can't be read: the outcome is unknown.
    pub async fn push(&self, head: &Sha) -> Result<Pushed, WorkspaceError> {
        self.fetch().await?;
        if self.contains(head).await? {
            return Ok(Pushed::Landed);
        }
        let refspec = format!("{head}:refs/heads/{}", self.branch);
        let answer = self.git.ask(&["push", "--porcelain", "--", &self.remote, &refspec]).await;
        self.fetch().await?;
        if self.contains(head).await? {
            return Ok(Pushed::Landed);
        }
        let answer = answer?;
        let said = answer.said();
        let text = format!("{}{}", answer.out, answer.err);
        // A lock that somebody left there is no commit that somebody pushed.
        let moved_on = ["fetch first", "non-fast-forward", "stale info", "but expected"];
        if moved_on.iter().any(|words| text.contains(words)) {
            Ok(Pushed::Rejected(said))
        } else if PROTECTED.iter().any(|words| text.contains(words)) {
            Ok(Pushed::Protected(said))
        } else if DENIED.iter().any(|words| text.contains(words)) {
            Ok(Pushed::Denied(said))
        } else {
            Ok(Pushed::Refused(said))
        }
    }

    /// Removes lock files that a killed git left. Only when no git of ours runs in it.
    pub fn break_stale_locks(&self) {
        remove_locks(self.dir(), 0);
    }
}

/// Where an agent's own `git push` goes: nowhere, and the error says why. What is pushed is decided
/// by the gate alone.
pub const NO_PUSH: &str = "/nonexistent/agents-do-not-push--afk-does-once-the-gate-is-open";

/// All that the configuration of a clone of ours holds.
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
            // Gone already is as good.
            let _ = std::fs::remove_file(&path);
        }
    }
}

/// Refuses to work in a folder of ours that somebody replaced by a link.
pub fn refuse_link(path: &Path) -> Result<(), WorkspaceError> {
    match std::fs::symlink_metadata(path) {
        Ok(found) if found.is_symlink() => Err(WorkspaceError::Planted { path: path.to_owned() }),
        _ => Ok(()),
    }
}
