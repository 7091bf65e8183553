//! The base clone of a repository: bare, kept across restarts, and fetched before each use.
//!
//! It is afk's alone: no agent, test or job can write to it. Workspaces borrow its objects, and
//! their commits come in by `import`.
//!
//! | references | contain |
//! | --- | --- |
//! | `refs/remotes/origin/*` | the remote's branches as of the last fetch |
//! | `refs/afk/imports/<run>` | the newest commit that came in from a run, as its agent made it |
//! | `refs/afk/runs/<run>` | the same commit with its trailers, which the gate proves |
//! | `refs/afk/withdrawn/<sha>` | a commit that the remote's branch had before somebody rewrote it |
//! | `refs/afk/kept/…`, `refs/afk/capsules/…` | work that a run left |

use std::path::Path;
use std::sync::Arc;

use tokio::sync::{RwLock, RwLockReadGuard};

use super::WorkspaceError;
use super::call::GitOutput;
use super::first_clone::FirstClone;
use super::fitness::{self, Question, RunCommits};
use super::git::Git;
use super::lfs;
use super::repository::{self, NewRepository};
use crate::core::model::id::{RunId, Sha};

/// The outcome of a push. Most variants carry the end of git's output, in one line.
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
    /// Somebody rewrote the branch, and the head has commits that are no longer on it.
    Rewritten(Question),
    /// The remote refused for another reason, or the connection was lost and the head is missing
    /// there.
    Refused(String),
}

/// The name of a base clone in the folder of its repository.
pub(crate) const FOLDER: &str = "base.git";

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
pub struct Base {
    git: Git,
    branch: String,
    /// The address that pushes go to. The configuration names none.
    remote: String,
    /// The address of the clone's remote, for all who work with the clone. Whoever is reaching the remote
    /// holds it, so that the address does not change in the middle of a push.
    address: Arc<RwLock<String>>,
}

/// Whether a folder has a base clone. A first clone that was cut off leaves none.
pub(crate) fn is_clone(dir: &Path) -> bool {
    dir.join("HEAD").exists()
}

impl Base {
    /// Opens the base clone in `dir`, or clones the remote. The repository of `git` does not matter.
    ///
    /// # Errors
    /// The remote can't be cloned, or a file can't be written.
    pub async fn open(
        dir: &Path,
        remote: &str,
        branch: &str,
        git: &Git,
        first_clone: FirstClone<'_>,
    ) -> Result<Self, WorkspaceError> {
        refuse_link(dir)?;
        let new = NewRepository { bare: true, remote: Some(remote), borrows: None };
        if !is_clone(dir) {
            first_clone.run(dir, &new, branch, git).await?;
        }
        // An earlier afk let agents write into it, and the remote may have another address now.
        configure(dir, remote)?;
        let (branch, remote) = (branch.to_owned(), remote.to_owned());
        let address = Arc::new(RwLock::new(remote.clone()));
        Ok(Self { git: git.at(dir), branch, remote, address })
    }

    /// The same clone with another address or branch, once nobody reaches the old remote any more. Its
    /// references are those of the old remote until the next fetch.
    ///
    /// # Errors
    /// The configuration of the clone can't be written.
    pub(crate) async fn toward(&self, remote: &str, branch: &str) -> Result<Self, WorkspaceError> {
        // Each call that holds it has a deadline.
        let mut address = self.address.write().await;
        refuse_link(self.dir())?;
        configure(self.dir(), remote)?;
        remote.clone_into(&mut address);
        let (branch, remote) = (branch.to_owned(), remote.to_owned());
        Ok(Self { git: self.git.toward(&remote), branch, remote, address: self.address.clone() })
    }

    /// Keeps the clone's address as it is until the guard is dropped.
    ///
    /// # Errors
    /// The address has changed since this was opened: its owner should open the clone again.
    async fn still(&self) -> Result<RwLockReadGuard<'_, String>, WorkspaceError> {
        let address = self.address.read().await;
        if *address == self.remote { Ok(address) } else { Err(WorkspaceError::RemoteChanged) }
    }

    /// The same clone with calls of git that are marked as another owner's.
    #[must_use]
    pub(crate) fn owned_by(&self, owner: &str) -> Self {
        Self { git: self.git.owned_by(owner), ..self.clone() }
    }

    /// The folder of the clone.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.git.dir()
    }

    /// The git program in the clone.
    #[must_use]
    pub const fn git(&self) -> &Git {
        &self.git
    }

    /// The address that the clone fetches from.
    #[must_use]
    pub fn remote(&self) -> &str {
        &self.remote
    }

    /// The branch that we push to.
    #[must_use]
    pub fn branch(&self) -> &str {
        &self.branch
    }

    /// The remote-tracking reference of the branch that we push to.
    #[must_use]
    pub fn upstream(&self) -> String {
        format!("refs/remotes/origin/{}", self.branch)
    }

    /// Fetches, and returns the upstream's commit. Remembers the commit before under
    /// `refs/afk/withdrawn` if somebody took it off the branch.
    ///
    /// # Errors
    /// The remote can't be fetched from, or lacks the branch.
    pub async fn fetch(&self) -> Result<Sha, WorkspaceError> {
        let _still = self.still().await?;
        self.fetch_still().await
    }

    /// [`Base::fetch`] for a caller that keeps the address.
    async fn fetch_still(&self) -> Result<Sha, WorkspaceError> {
        let before = self.known_head().await?;
        fetch(&self.git).await?;
        let now = self.head().await?;
        if let Some(before) = before
            && before != now
            && !self.has(&now, &before).await?
        {
            self.keep(&format!("refs/afk/withdrawn/{before}"), &before).await?;
        }
        Ok(now)
    }

    /// The upstream's commit as of the last fetch.
    ///
    /// # Errors
    /// The remote lacks the branch.
    pub async fn head(&self) -> Result<Sha, WorkspaceError> {
        if let Some(sha) = self.known_head().await? {
            return Ok(sha);
        }
        let any = ["for-each-ref", "--count=1", "refs/remotes/origin"];
        let why = if self.git.call(&any).await?.is_empty() {
            format!("the remote has no commit yet: push a first one to {}", self.branch)
        } else {
            format!("the remote has no branch {}; was it renamed or deleted?", self.branch)
        };
        Err(WorkspaceError::Upstream { why })
    }

    /// The upstream's commit as of the last fetch; none where the remote lacked the branch.
    async fn known_head(&self) -> Result<Option<Sha>, WorkspaceError> {
        let upstream = format!("{}^{{commit}}", self.upstream());
        let found = self.git.ask(&["rev-parse", "--verify", "--quiet", &upstream]).await?;
        Ok(found.ok.then(|| Sha(found.text().trim().to_owned())))
    }

    /// Whether the clone has a commit.
    ///
    /// # Errors
    /// git can't be started.
    pub(crate) async fn knows(&self, sha: &Sha) -> Result<bool, WorkspaceError> {
        Ok(self.git.ask(&["cat-file", "-e", &sha.0]).await?.ok)
    }

    /// Whether the history of `sha` has a commit.
    ///
    /// # Errors
    /// git can't be started.
    pub(crate) async fn has(&self, sha: &Sha, commit: &Sha) -> Result<bool, WorkspaceError> {
        let args = ["merge-base", "--is-ancestor", &commit.0, &sha.0];
        Ok(self.git.ask(&args).await?.ok)
    }

    /// Whether the upstream, as of the last fetch, contains a commit.
    ///
    /// # Errors
    /// git can't be started.
    pub async fn contains(&self, sha: &Sha) -> Result<bool, WorkspaceError> {
        let upstream = self.upstream();
        let args = ["merge-base", "--is-ancestor", &sha.0, &upstream];
        Ok(self.git.ask(&args).await?.ok)
    }

    /// Pushes the head of a run to the branch, fast-forward only, unless the remote has it already.
    /// Fetches after the push, whatever its exit code, to learn whether the head has landed.
    ///
    /// # Errors
    /// The remote can't be fetched from, or is away. After an error of the second fetch the outcome is
    /// unknown: the next push looks first whether the head has landed.
    pub(crate) async fn push(
        &self,
        commits: RunCommits<'_>,
    ) -> Result<PushOutcome, WorkspaceError> {
        let head = commits.head;
        let _still = self.still().await?;
        let upstream = self.fetch_still().await?;
        if self.contains(head).await? {
            return Ok(PushOutcome::Landed);
        }
        if let Some(question) = fitness::withdrawn(self, commits, &upstream).await? {
            return Ok(PushOutcome::Rewritten(question));
        }
        if !self.has(head, &upstream).await? {
            let now = upstream.short();
            return Ok(PushOutcome::Rejected(format!("{} is at {now} now", self.branch)));
        }
        if let Some(why) = lfs::upload(self, head, &upstream).await? {
            return Ok(PushOutcome::Refused(why));
        }
        let branch = format!("refs/heads/{}", self.branch);
        let refspec = format!("{head}:{branch}");
        // The head contains the upstream, so nothing is overwritten. The lease makes the remote
        // refuse if somebody moves the branch from now on, even backwards.
        let lease = format!("--force-with-lease={branch}:{upstream}");
        let args = ["push", "--porcelain", &lease, "--", &self.remote, &refspec];
        let push = self.git.reach(&args).await;
        let now = self.fetch_still().await?;
        if self.contains(head).await? {
            return self.same_tree(head, &now).await.map(|()| PushOutcome::Landed);
        }
        let push = push?;
        let message = push.summary();
        let text = push.all_text();
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

    /// Compares the tree of a pushed commit with the one that the remote has under its name.
    async fn same_tree(&self, pushed: &Sha, remote: &Sha) -> Result<(), WorkspaceError> {
        if pushed != remote {
            // The branch has newer commits, which contain it.
            return Ok(());
        }
        let tree = |revision: String| async move {
            self.git.call(&["rev-parse", "--verify", "--quiet", &revision]).await
        };
        let (proved, theirs) = (
            tree(format!("{pushed}^{{tree}}")).await?,
            tree(format!("{}^{{tree}}", self.upstream())).await?,
        );
        if proved == theirs {
            return Ok(());
        }
        let why = format!("the remote has other files in {} than afk proved", pushed.short());
        Err(WorkspaceError::Refused { why })
    }

    /// Points a reference of afk's at a commit.
    ///
    /// # Errors
    /// git fails.
    pub(crate) async fn keep(&self, reference: &str, sha: &Sha) -> Result<(), WorkspaceError> {
        self.git.call(&["update-ref", reference, &sha.0]).await.map(|_| ())
    }

    /// Removes a reference of afk's.
    ///
    /// # Errors
    /// git fails.
    pub(crate) async fn forget(&self, reference: &str) -> Result<(), WorkspaceError> {
        self.git.call(&["update-ref", "-d", reference]).await.map(|_| ())
    }

    /// Forgets that the commits of a run may not be on the remote: afk has pushed them.
    ///
    /// # Errors
    /// git fails.
    pub(crate) async fn pushed(&self, run: RunId) -> Result<(), WorkspaceError> {
        for name in [imports(run), runs(run)] {
            self.git.call(&["update-ref", "-d", &name]).await?;
        }
        Ok(())
    }

    /// The commit of a run that the upstream has, as of the last fetch, although afk did not push
    /// it: somebody else did, past the gate.
    ///
    /// # Errors
    /// git fails.
    pub(crate) async fn bypassed(&self, run: RunId) -> Result<Option<Sha>, WorkspaceError> {
        let merged = format!("--merged={}", self.upstream());
        let names = [imports(run), runs(run)];
        let list = ["for-each-ref", "--format=%(objectname)", &merged, &names[0], &names[1]];
        let listed = self.git.call(&list).await?;
        Ok(listed.lines().next().map(|sha| Sha(sha.to_owned())))
    }

    /// Whether the remote of `git` answers, and accepts the login.
    ///
    /// # Errors
    /// The remote is away, or answers with an error.
    pub(crate) async fn answers(
        git: &Git,
        folder: &Path,
        remote: &str,
    ) -> Result<(), WorkspaceError> {
        // Without a repository, which a first clone may not have made yet.
        let output = git.at(folder).reach(&["ls-remote", "--quiet", "--", remote, "HEAD"]).await?;
        output.success("ls-remote").map(|_| ())
    }

    /// Removes the lock files that a killed git left. Call it only while no git of ours runs here.
    pub(crate) fn break_stale_locks(&self) {
        remove_locks(self.dir(), 0);
    }
}

/// Writes the configuration of the clone in `dir`, with the address that it fetches from.
fn configure(dir: &Path, remote: &str) -> Result<(), WorkspaceError> {
    let config = dir.join("config");
    refuse_link(&config)?;
    let text = NewRepository { bare: true, remote: Some(remote), borrows: None }.configuration();
    if std::fs::read_to_string(&config).unwrap_or_default() != text {
        let written = dir.join("config.afk");
        repository::write(&written, &text)?;
        std::fs::rename(&written, &config).map_err(WorkspaceError::io(&config))?;
    }
    Ok(())
}

/// The option with which a fetch accepts a shallow remote, whose oldest commits lack their parents.
pub(super) const SHALLOW: &str = "--update-shallow";

async fn fetch(git: &Git) -> Result<(), WorkspaceError> {
    let args = ["fetch", "--quiet", "--prune", "--no-tags", SHALLOW, "origin"];
    fetched(git.reach(&args).await?)
}

/// The result of a fetch, in words where the remote is of a kind that afk doesn't work with.
pub(super) fn fetched(output: GitOutput) -> Result<(), WorkspaceError> {
    if output.all_text().contains("mismatched algorithms") {
        let why =
            "the remote uses SHA-256; afk works with repositories that use SHA-1, git's default";
        return Err(WorkspaceError::Upstream { why: why.into() });
    }
    output.success("fetch").map(|_| ())
}

/// The reference of the newest commit that came in from a run.
pub(crate) fn imports(run: RunId) -> String {
    format!("refs/afk/imports/{run}")
}

/// The reference of the work that a run or a workspace left.
pub(crate) fn kept(owner: &str) -> String {
    format!("refs/afk/kept/{owner}")
}

/// The reference of a run's commit with its trailers.
pub(super) fn runs(run: RunId) -> String {
    format!("refs/afk/runs/{run}")
}

/// Removes the lock files in a repository. Call it only while no git works there.
pub(super) fn remove_locks(dir: &Path, depth: u32) {
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
