//! The workspaces of one repository.
//!
//! ```text
//! fresh/tree-<n>   prepared in advance by afk's git; nothing else has ever run there
//!        │ rename, once it is on the right commit
//!        ├──▶ wt-<n>   a run's workspace: from now on its agent's
//!        └──▶ prove    the proving tree: from now on the tests'
//!                │ rename
//!                └──▶ trash/, or aside/ where git can't read the work in it
//! ```
//!
//! `workspace_renewal` puts a fresh tree in place of a damaged workspace.
//!
//! The folder that a tree lies in is its state, and no agent can write to these folders. A run's
//! workspace keeps its path, so that an agent's conversation finds it again.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Mutex;

use super::base::{self, Base, refuse_link};
use super::caches::Caches;
use super::git::Git;
use super::import::{self, QUARANTINE};
use super::repository::{self, NewRepository};
use super::trash::{self, Trash};
use super::walled_git::WalledGit;
use super::{WorkspaceError, adopt, capsule};
use crate::core::model::id::Sha;
use crate::redact::without_credentials;
use crate::sandbox::Sandbox;

/// The most references of the remote that a workspace gets.
pub(super) const REFERENCES_LIMIT: usize = 10_000;

/// What the programs in a workspace may reach.
pub trait Sandboxes: std::fmt::Debug + Send + Sync {
    /// The sandbox of git in a workspace; none runs it with every right of ours.
    ///
    /// # Errors
    /// A line that says why the wall can't be built. git must not run then.
    fn of(&self, workspace: &Path) -> Result<Option<Sandbox>, String>;
}

/// A workspace that is on a run's branch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunWorktree {
    /// The folder, named `wt-<n>`.
    pub path: PathBuf,
    /// The upstream's commit that the branch starts at.
    pub base: Sha,
}

/// The workspaces of a repository.
#[derive(Debug)]
pub struct Pool {
    pub(super) base: Base,
    pub(super) dir: PathBuf,
    disk_free_mib: AtomicU64,
    sandboxes: Arc<dyn Sandboxes>,
    pub(super) trash: Trash,
    caches: Caches,
    /// The workspaces that belong to a run. Pools of one folder share them.
    taken: Arc<Mutex<BTreeSet<PathBuf>>>,
    /// Held while a fresh tree is made or moved: the number of the last one.
    pub(super) fresh: Arc<Mutex<u64>>,
}

impl Pool {
    /// Opens the pool in `dir`. `taken` are the workspaces that runs from before a restart still
    /// own.
    ///
    /// # Errors
    /// The folder can't be created, or is a link.
    pub async fn open(
        base: Base,
        dir: &Path,
        disk_free_mib: u64,
        sandboxes: Arc<dyn Sandboxes>,
        taken: BTreeSet<PathBuf>,
    ) -> Result<Self, WorkspaceError> {
        refuse_link(dir)?;
        std::fs::create_dir_all(dir).map_err(WorkspaceError::io(dir))?;
        let trash = Trash::new(dir.join("trash"));
        let caches = Caches::open(dir, trash.clone())?;
        let (taken, fresh) = (Arc::new(Mutex::new(taken)), Arc::default());
        let (dir, disk_free_mib) = (dir.to_owned(), AtomicU64::new(disk_free_mib));
        let pool = Self { base, dir, disk_free_mib, sandboxes, trash, caches, taken, fresh };
        pool.discard_unfinished();
        // A power cut may have emptied files of a tree that an earlier afk made in advance.
        for tree in folders(&pool.dir.join("fresh"), "tree-") {
            pool.trash.discard(&tree)?;
        }
        let mut adopted = true;
        for path in pool.folders() {
            let git = pool.walled(&path).owned_by("adopt");
            if let Err(error) = adopt::adopt(&pool.base, &git).await {
                tracing::warn!(path = %path.display(), %error, "the worktree stays as it is");
                adopted = false;
            }
            git.end_rest().await;
        }
        if adopted {
            pool.trash.discard(&adopt::records(&pool.base))?;
        }
        pool.trash.empty();
        Ok(pool)
    }

    /// The same workspaces over a base clone whose address or branch has changed. Runs keep theirs; the
    /// trees that were made in advance name the old address, and go.
    ///
    /// # Errors
    /// A tree can't be discarded.
    pub(crate) async fn over(&self, base: Base) -> Result<Self, WorkspaceError> {
        let making = self.fresh.lock().await;
        for tree in folders(&self.dir.join("fresh"), "tree-") {
            self.trash.discard(&tree)?;
        }
        drop(making);
        Ok(Self {
            base,
            dir: self.dir.clone(),
            disk_free_mib: AtomicU64::new(self.disk_free_mib.load(Ordering::Relaxed)),
            sandboxes: self.sandboxes.clone(),
            trash: self.trash.clone(),
            caches: self.caches.clone(),
            taken: self.taken.clone(),
            fresh: self.fresh.clone(),
        })
    }

    /// Discards what a killed afk left: trees and imports that it had not finished, credentials.
    fn discard_unfinished(&self) {
        let unfinished = |path: &Path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            name.starts_with(QUARANTINE)
                || name.starts_with("credential-")
                || name.starts_with("new-")
        };
        let all = [self.dir.clone(), self.dir.join("fresh")];
        let entries = all.iter().filter_map(|dir| std::fs::read_dir(dir).ok()).flatten().flatten();
        for path in entries.map(|entry| entry.path()).filter(|path| unfinished(path)) {
            if let Err(error) = trash::remove(&path) {
                tracing::warn!(path = %path.display(), %error, "can't be removed");
            }
        }
    }

    /// The base clone of the repository.
    #[must_use]
    pub const fn base(&self) -> &Base {
        &self.base
    }

    /// Takes the free space that the configuration requires now.
    pub(crate) fn require_free(&self, mib: u64) {
        self.disk_free_mib.store(mib, Ordering::Relaxed);
    }

    /// The caches of the repository.
    pub(crate) const fn caches(&self) -> &Caches {
        &self.caches
    }

    /// git in a workspace, inside its sandbox.
    #[must_use]
    pub fn walled(&self, workspace: &Path) -> WalledGit {
        self.base.git().walled(workspace, self.sandboxes.of(workspace))
    }

    fn folders(&self) -> Vec<PathBuf> {
        folders(&self.dir, "wt-")
    }

    /// Fetches, and puts a fresh workspace on `branch` at the upstream. Its path is `home` if that
    /// is free: an agent's conversation may be bound to that folder.
    ///
    /// # Errors
    /// The remote can't be fetched from, or no tree can be made.
    pub async fn take(
        &self,
        branch: &str,
        home: Option<&Path>,
    ) -> Result<RunWorktree, WorkspaceError> {
        let upstream = self.base.fetch().await?;
        let mut last = self.fresh.lock().await;
        let mut tree = self.fresh_tree(&mut last, &upstream).await?;
        tree.put_on(branch, &upstream, &upstream, &self.base).await?;
        let mut taken = self.taken.lock().await;
        let free =
            |path: &PathBuf| !taken.contains(path) && std::fs::symlink_metadata(path).is_err();
        let home = home.filter(|home| home.parent() == Some(&self.dir)).map(Path::to_owned);
        let path = home.filter(free).unwrap_or_else(|| {
            let mut all = (1..u32::MAX).map(|n| self.dir.join(format!("wt-{n}")));
            all.find(free).unwrap_or_else(|| self.dir.join("wt-0"))
        });
        self.forget_renewal(&path)?;
        tree.move_to(&path)?;
        taken.insert(path.clone());
        Ok(RunWorktree { path, base: upstream })
    }

    /// The workspace at `path`, which [`Pool::take`] has just made: nothing else has run there.
    #[must_use]
    pub fn fresh_workspace(&self, path: &Path, owner: &str) -> FreshTree {
        FreshTree { path: path.to_owned(), git: self.base.git().in_tree(path) }.owned_by(owner)
    }

    /// Makes a fresh tree in advance where there is none.
    ///
    /// # Errors
    /// No tree can be made.
    pub async fn warm(&self) -> Result<(), WorkspaceError> {
        let mut last = self.fresh.lock().await;
        if folders(&self.dir.join("fresh"), "tree-").is_empty() {
            let upstream = self.base.head().await?;
            let mut tree = self.make(&mut last, &upstream).await?;
            // The rename makes it appear as a whole.
            tree.move_to(&self.dir.join("fresh").join(format!("tree-{last}")))?;
        }
        Ok(())
    }

    /// Checks a commit out into `dir`, in place of whatever is there. The tree is fresh: it has
    /// nothing of an earlier checkout, ignored files included.
    ///
    /// # Errors
    /// No tree can be made, or the old one can't be moved away.
    pub async fn check_out(
        &self,
        dir: &Path,
        sha: &Sha,
        owner: &str,
    ) -> Result<FreshTree, WorkspaceError> {
        refuse_link(dir)?;
        self.trash.discard(dir)?;
        let mut last = self.fresh.lock().await;
        let mut tree = self.fresh_tree(&mut last, sha).await?;
        tree.detach(sha).await?;
        tree.move_to(dir)?;
        Ok(tree.owned_by(owner))
    }

    /// A fresh tree, made in advance or now, at `sha` if it is made now. It has the name of an
    /// unfinished one until its caller moves it to its place: whatever interrupts the caller, the
    /// tree is never used again.
    pub(super) async fn fresh_tree(
        &self,
        last: &mut u64,
        sha: &Sha,
    ) -> Result<FreshTree, WorkspaceError> {
        let fresh = self.dir.join("fresh");
        let Some(path) = folders(&fresh, "tree-").into_iter().next() else {
            return self.make(last, sha).await;
        };
        let number = path.file_name().unwrap_or_default().to_string_lossy().replace("tree-", "");
        let unfinished = fresh.join(format!("new-{number}"));
        self.trash.discard(&unfinished)?;
        let mut tree = FreshTree { git: self.base.git().in_tree(&path), path };
        tree.move_to(&unfinished)?;
        Ok(tree)
    }

    /// Makes a fresh tree at a commit, under the name of an unfinished one.
    async fn make(&self, last: &mut u64, sha: &Sha) -> Result<FreshTree, WorkspaceError> {
        check_disk(&self.dir, self.disk_free_mib.load(Ordering::Relaxed))?;
        let fresh = self.dir.join("fresh");
        refuse_link(&fresh)?;
        let number = loop {
            *last += 1;
            if std::fs::symlink_metadata(fresh.join(format!("tree-{last}"))).is_err() {
                break *last;
            }
        };
        let new = fresh.join(format!("new-{number}"));
        self.trash.discard(&new)?;
        let mut tree = FreshTree::make(&self.base, &new, self.base.remote(), sha).await?;
        tree.track(&self.base).await?;
        Ok(tree)
    }

    /// Takes the workspace of an ended run back. With `keep`, work that the upstream lacks is first
    /// imported under that reference; a workspace that git can't read is set aside.
    ///
    /// # Errors
    /// The base can't be written, or the folder can't be moved; the workspace then stays taken.
    pub async fn give_back(
        &self,
        path: &Path,
        keep: Option<&str>,
        owner: &str,
    ) -> Result<Option<PathBuf>, WorkspaceError> {
        let aside = match keep {
            Some(name) if std::fs::symlink_metadata(path).is_ok() => {
                self.keep_or_set_aside(path, name, owner).await?
            }
            _ => None,
        };
        self.caches.discard(path)?;
        self.trash.discard(path)?;
        self.forget_renewal(path)?;
        self.taken.lock().await.remove(path);
        Ok(aside)
    }

    /// Imports the work of a workspace. Sets the workspace aside and returns its new path where
    /// that fails for a reason that lies in the workspace.
    async fn keep_or_set_aside(
        &self,
        path: &Path,
        name: &str,
        owner: &str,
    ) -> Result<Option<PathBuf>, WorkspaceError> {
        let why = match self.keep(path, name, owner).await {
            Ok(()) => return Ok(None),
            Err(error @ (WorkspaceError::Io { .. } | WorkspaceError::Git2(_))) => {
                return Err(error);
            }
            Err(error) => error,
        };
        let aside = Trash::set_aside(path, &self.dir.join("aside"))?;
        tracing::warn!(
            path = %path.display(), aside = %aside.display(), error = %why,
            "the work in a workspace can't be kept as a commit; its folder was set aside"
        );
        Ok(Some(aside))
    }

    /// Imports the work that the upstream lacks under the reference `name`.
    async fn keep(&self, path: &Path, name: &str, owner: &str) -> Result<(), WorkspaceError> {
        let git = self.walled(path).owned_by(owner);
        let kept = self.import_work(&git, name).await;
        git.end_rest().await;
        kept
    }

    async fn import_work(&self, git: &WalledGit, name: &str) -> Result<(), WorkspaceError> {
        let snapshot = capsule::snapshot(git).await?;
        let pushed = match &snapshot.head {
            Some(head) => self.base.contains(head).await?,
            None => false,
        };
        if snapshot.dirty || !pushed {
            let upstream = self.base.head().await?;
            import::import(&self.base, git, &snapshot.commit, &upstream, name).await?;
        }
        Ok(())
    }

    /// Discards every workspace that no run owns, and returns their number. Work that the upstream
    /// lacks is first imported under `refs/afk/kept/<workspace>`.
    ///
    /// # Errors
    /// As [`Pool::give_back`].
    pub async fn recover(&self) -> Result<usize, WorkspaceError> {
        let mut count = 0;
        for path in self.folders() {
            if self.taken.lock().await.contains(&path) {
                continue;
            }
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let reference = base::kept(&name);
            self.give_back(&path, Some(&reference), &format!("recover-{name}")).await?;
            count += 1;
        }
        Ok(count)
    }
}

/// Checks that the disk of a folder has the free space that the configuration requires.
pub(crate) fn check_disk(folder: &Path, needed_mib: u64) -> Result<(), WorkspaceError> {
    let stat = rustix::fs::statvfs(folder)
        .map_err(|e| WorkspaceError::Io { path: folder.to_owned(), source: e.into() })?;
    let free_mib = stat.f_bavail * stat.f_frsize / (1024 * 1024);
    if free_mib < needed_mib {
        return Err(WorkspaceError::DiskFull { path: folder.to_owned(), free_mib, needed_mib });
    }
    Ok(())
}

/// The folders in `dir` whose names begin with `prefix`, in order.
fn folders(dir: &Path, prefix: &str) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = std::fs::read_dir(dir)
        .into_iter()
        .flatten()
        .flatten()
        .filter(|e| e.file_name().to_string_lossy().starts_with(prefix))
        .filter(|e| e.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|e| e.path())
        .collect();
    found.sort();
    found
}

/// A checkout with a repository of its own, in which nothing but afk's git has run. Drop it before
/// another program starts there.
#[derive(Debug)]
pub struct FreshTree {
    path: PathBuf,
    git: Git,
}

impl FreshTree {
    /// Makes a tree in the new folder `path`, on no branch, which borrows the objects of the base.
    pub(super) async fn make(
        base: &Base,
        path: &Path,
        remote: &str,
        sha: &Sha,
    ) -> Result<Self, WorkspaceError> {
        let borrows = Some(base.dir());
        // A token in the address is afk's, and not for the programs in the tree.
        let remote = without_credentials(remote);
        let new = NewRepository { bare: false, remote: Some(&remote), borrows };
        let git_dir = path.join(".git");
        new.write(&git_dir)?;
        repository::write(&git_dir.join("HEAD"), &format!("{sha}\n"))?;
        let git = base.git().in_tree(path);
        git.call(&["reset", "--quiet", "--hard", &sha.0]).await?;
        Ok(Self { path: path.to_owned(), git })
    }

    /// Makes a tree in the new folder `path`, on the repository's own branch at `sha`.
    pub(super) async fn on_branch(
        base: &Base,
        path: &Path,
        sha: &Sha,
    ) -> Result<Self, WorkspaceError> {
        let mut tree = Self::make(base, path, base.remote(), sha).await?;
        tree.track(base).await?;
        tree.put_on(base.branch(), sha, sha, base).await?;
        let branch = base.branch().replace('\\', "\\\\").replace('"', "\\\"");
        tree.configure(&format!(
            "[branch \"{branch}\"]\n\tremote = origin\n\tmerge = refs/heads/{branch}\n"
        ))?;
        Ok(tree)
    }

    /// Sends the pushes from the tree to a repository of ours.
    pub(super) fn push_to(&self, repository: &Path) -> Result<(), WorkspaceError> {
        let path = repository.display().to_string();
        let path = path.replace('\\', "\\\\").replace('"', "\\\"");
        let config = self.git.git_dir().join("config");
        let text = std::fs::read_to_string(&config).map_err(WorkspaceError::io(&config))?;
        let own = |line: &str| line.trim_start().starts_with("pushurl = ");
        let lines: Vec<String> = text
            .lines()
            .map(|line| if own(line) { format!("\tpushurl = \"{path}\"") } else { line.to_owned() })
            .collect();
        repository::write(&config, &(lines.join("\n") + "\n"))
    }

    /// The same tree with calls of git that are marked as `owner`'s.
    pub(super) fn owned_by(mut self, owner: &str) -> Self {
        self.git = self.git.owned_by(owner);
        self
    }

    /// The folder of the checkout.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Adds lines to the configuration of the tree's repository.
    pub(super) fn configure(&self, lines: &str) -> Result<(), WorkspaceError> {
        let path = self.git.git_dir().join("config");
        let mut text = std::fs::read_to_string(&path).map_err(WorkspaceError::io(&path))?;
        text.push_str(lines);
        repository::write(&path, &text)
    }

    /// Leaves only the files that sparse patterns name, and has git keep it so.
    pub(crate) async fn narrow(&self, patterns: &[String]) -> Result<(), WorkspaceError> {
        if patterns.is_empty() {
            return Ok(());
        }
        let path = self.git.git_dir().join("info/sparse-checkout");
        repository::write(&path, &(patterns.join("\n") + "\n"))?;
        self.configure("[core]\n\tsparseCheckout = true\n\tsparseCheckoutCone = false\n")?;
        self.git.call(&["read-tree", "-m", "-u", "HEAD"]).await.map(|_| ())
    }

    /// Has git ignore files that afk itself puts into the tree.
    pub(crate) fn ignore<'a>(
        &self,
        paths: impl Iterator<Item = &'a str>,
    ) -> Result<(), WorkspaceError> {
        let mut text = String::new();
        for path in paths {
            text.push('/');
            for c in path.trim_end_matches('/').chars() {
                if matches!(c, '*' | '?' | '[' | '\\' | ' ') {
                    text.push('\\');
                }
                text.push(c);
            }
            text.push('\n');
        }
        if text.is_empty() {
            return Ok(());
        }
        repository::write(&self.git.git_dir().join("info/exclude"), &text)
    }

    /// afk's git in the tree.
    #[must_use]
    pub const fn git(&self) -> &Git {
        &self.git
    }

    /// Replaces the checked-out files by those of a tree in the base's objects.
    ///
    /// # Errors
    /// git can't read the tree or write the files.
    pub(crate) async fn fill(&self, tree: git2::Oid) -> Result<(), WorkspaceError> {
        let name = tree.to_string();
        // Without `--reset`: it would put the pointers of LFS back in place of the files.
        self.git.call(&["read-tree", "-m", "-u", &name]).await.map(|_| ())
    }

    /// Copies the base's references of the remote's branches.
    async fn track(&mut self, base: &Base) -> Result<(), WorkspaceError> {
        let format = "--format=%(objectname) %(refname)";
        let count = format!("--count={REFERENCES_LIMIT}");
        let list = ["for-each-ref", format, "--sort=refname", &count, "refs/remotes/origin"];
        let listed = base.git().call(&list).await?;
        let packed = self.git.git_dir().join("packed-refs");
        let mut lines = vec!["# pack-refs with: sorted "];
        lines.extend(listed.lines());
        repository::write(&packed, &(lines.join("\n") + "\n"))
    }

    /// Puts the tree on a new branch at a commit, and shows its agent `upstream` as the remote's. The
    /// remote may have another address and newer commits than when the tree was made.
    pub(super) async fn put_on(
        &mut self,
        branch: &str,
        sha: &Sha,
        upstream: &Sha,
        base: &Base,
    ) -> Result<(), WorkspaceError> {
        self.detach(sha).await?;
        let git_dir = self.git.git_dir();
        let remote = without_credentials(base.remote());
        let remote = Some(remote.as_str());
        let new = NewRepository { bare: false, remote, borrows: Some(base.dir()) };
        repository::write(&git_dir.join("config"), &new.configuration())?;
        repository::copy_shallow(base.dir(), git_dir)?;
        repository::write(&git_dir.join(base.upstream()), &format!("{upstream}\n"))?;
        repository::write(&git_dir.join("refs/heads").join(branch), &format!("{sha}\n"))?;
        repository::write(&git_dir.join("HEAD"), &format!("ref: refs/heads/{branch}\n"))
    }

    /// Checks a commit out, on no branch. Starts no program if the tree is there already.
    async fn detach(&mut self, sha: &Sha) -> Result<(), WorkspaceError> {
        let head = self.git.git_dir().join("HEAD");
        let at = std::fs::read_to_string(&head).map_err(WorkspaceError::io(&head))?;
        if at.trim() == sha.0 {
            return Ok(());
        }
        self.git.call(&["checkout", "--quiet", "--force", "--detach", &sha.0]).await.map(|_| ())
    }

    /// Renames the tree. The times and numbers of its files stay, so its index stays right.
    pub(super) fn move_to(&mut self, path: &Path) -> Result<(), WorkspaceError> {
        std::fs::rename(&self.path, path).map_err(WorkspaceError::io(&self.path))?;
        path.clone_into(&mut self.path);
        self.git = self.git.in_tree(path);
        Ok(())
    }
}
