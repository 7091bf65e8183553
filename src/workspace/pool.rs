//! The pool of worktrees of one repository.
//!
//! A slot is a worktree `wt-<n>` whose path never changes, so that an agent's sessions and build
//! caches find it again. A free slot is clean and detached at the upstream. The runtime takes a
//! slot for a run and gives it back afterwards.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use tokio::sync::Mutex;

use super::base::{Base, refuse_link};
use super::{WorkspaceError, capsule};
use crate::core::model::id::Sha;

/// A slot that is switched to a run's branch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RunWorktree {
    pub path: PathBuf,
    /// The upstream's commit that the branch starts at.
    pub base: Sha,
}

/// The worktree slots of a repository.
#[derive(Debug)]
pub(crate) struct Pool {
    base: Base,
    dir: PathBuf,
    disk_free_mib: u64,
    // Held during calls of git, which lock each other out anyway.
    slots: Mutex<Slots>,
}

/// The states of the slots.
#[derive(Debug, Default)]
struct Slots {
    /// The slots that belong to a run.
    taken: BTreeSet<PathBuf>,
    /// The free slots that this process created or cleaned, so that `take` need not clean them
    /// again.
    clean: BTreeSet<PathBuf>,
}

impl Pool {
    /// Opens the pool in `dir`. `taken` are the slots that runs from before a restart still own.
    pub async fn open(
        base: Base,
        dir: &Path,
        disk_free_mib: u64,
        taken: BTreeSet<PathBuf>,
    ) -> Result<Self, WorkspaceError> {
        refuse_link(dir)?;
        std::fs::create_dir_all(dir).map_err(WorkspaceError::io(dir))?;
        // Drops the records of worktrees that a killed call left or an agent deleted.
        base.git().call(&["worktree", "prune"]).await?;
        let slots = Slots { taken, clean: BTreeSet::new() };
        let pool = Self { base, dir: dir.to_owned(), disk_free_mib, slots: Mutex::new(slots) };
        pool.empty_trash();
        Ok(pool)
    }

    /// The base clone of the repository.
    #[must_use]
    pub const fn base(&self) -> &Base {
        &self.base
    }

    fn folders(&self) -> Vec<PathBuf> {
        let mut slots: Vec<PathBuf> = std::fs::read_dir(&self.dir)
            .into_iter()
            .flatten()
            .flatten()
            .filter(|e| e.file_name().to_string_lossy().starts_with("wt-"))
            .filter(|e| e.file_type().is_ok_and(|kind| kind.is_dir()))
            .map(|e| e.path())
            .collect();
        slots.sort();
        slots
    }

    /// Fetches, takes a slot and switches it to `branch` at the upstream. Prefers the free slot
    /// that has the branch already (an interrupted call left it), then `home`: an agent's
    /// conversation may be bound to that folder.
    pub async fn take(
        &self,
        branch: &str,
        home: Option<&Path>,
    ) -> Result<RunWorktree, WorkspaceError> {
        let mut slots = self.slots.lock().await;
        let upstream = self.base.fetch().await?;
        let free: Vec<PathBuf> =
            self.folders().into_iter().filter(|slot| !slots.taken.contains(slot)).collect();
        let head = format!("ref: refs/heads/{branch}");
        let has_branch = |slot: &&PathBuf| {
            self.git_dir(slot)
                .and_then(|git_dir| std::fs::read_to_string(git_dir.join("HEAD")).ok())
                .is_some_and(|text| text.trim() == head)
        };
        let at_home = || free.iter().find(|slot| Some(slot.as_path()) == home);
        let path = match free.iter().find(has_branch).or_else(at_home).or_else(|| free.first()) {
            Some(slot) => slot.clone(),
            None => self.add(&mut slots, &upstream).await?,
        };
        let git = self.base.git().at(&path);
        let switch = ["checkout", "--quiet", "--force", "--no-track", "-B", branch, &upstream.0];
        if git.ask(&switch).await?.ok {
            if !slots.clean.contains(&path) {
                git.call(&["clean", "--quiet", "-ffd"]).await?;
            }
        } else {
            // The worktree is damaged: create it again at the same path.
            self.discard(&path).await?;
            self.add_at(&path, &upstream).await?;
            git.call(&switch).await?;
        }
        slots.clean.remove(&path);
        slots.taken.insert(path.clone());
        Ok(RunWorktree { path, base: upstream })
    }

    /// Creates a slot in advance where none is free.
    pub async fn warm(&self) -> Result<(), WorkspaceError> {
        let mut slots = self.slots.lock().await;
        if self.folders().iter().any(|slot| !slots.taken.contains(slot)) {
            return Ok(());
        }
        let upstream = self.base.head().await?;
        self.add(&mut slots, &upstream).await.map(|_| ())
    }

    /// Gives a slot back: resets, cleans and detaches it. With `keep`, work that the upstream lacks
    /// is first committed under that reference.
    ///
    /// # Errors
    /// A call of git failed; the slot then stays taken.
    pub async fn give_back(&self, path: &Path, keep: Option<&str>) -> Result<(), WorkspaceError> {
        let mut slots = self.slots.lock().await;
        if !path.is_dir() {
            slots.taken.remove(path);
            self.base.git().call(&["worktree", "prune"]).await?;
            return Ok(());
        }
        if let Some(name) = keep
            && self.has_work(path).await?
        {
            capsule::snapshot(&self.base.git().at(path), name).await?;
        }
        self.reset(path).await?;
        slots.taken.remove(path);
        slots.clean.insert(path.to_owned());
        Ok(())
    }

    async fn reset(&self, path: &Path) -> Result<(), WorkspaceError> {
        let git = self.base.git().at(path);
        let branch = git.ask(&["symbolic-ref", "--quiet", "--short", "HEAD"]).await?;
        let upstream = self.base.head().await?;
        git.call(&["checkout", "--quiet", "--force", "--detach", &upstream.0]).await?;
        git.call(&["clean", "--quiet", "-ffd"]).await?;
        let branch = branch.out.trim();
        if branch.starts_with("afk/") {
            git.ask(&["branch", "--quiet", "-D", branch]).await?;
        }
        Ok(())
    }

    /// Whether a worktree holds changes or commits that the upstream lacks.
    async fn has_work(&self, path: &Path) -> Result<bool, WorkspaceError> {
        let git = self.base.git().at(path);
        if !git.call(&["status", "--porcelain"]).await?.is_empty() {
            return Ok(true);
        }
        let range = format!("{}..HEAD", self.base.upstream());
        Ok(git.call(&["rev-list", "--count", &range]).await? != "0")
    }

    /// Resets every free slot that is not clean, and returns their number. Work that the upstream
    /// lacks is first committed under `refs/afk/kept/<slot>`.
    pub async fn recover(&self) -> Result<usize, WorkspaceError> {
        let mut slots = self.slots.lock().await;
        let mut count = 0;
        for slot in self.folders() {
            if slots.taken.contains(&slot) {
                continue;
            }
            let git = self.base.git().at(&slot);
            let on_branch = git.ask(&["symbolic-ref", "--quiet", "HEAD"]).await?;
            match self.has_work(&slot).await {
                Ok(false) if !on_branch.ok => {
                    slots.clean.insert(slot);
                    continue;
                }
                Ok(true) => {
                    let name = slot.file_name().map(|n| n.to_string_lossy().into_owned());
                    let name = format!("refs/afk/kept/{}", name.unwrap_or_default());
                    capsule::snapshot(&git, &name).await?;
                    self.reset(&slot).await?;
                    slots.clean.insert(slot);
                }
                Ok(false) => {
                    self.reset(&slot).await?;
                    slots.clean.insert(slot);
                }
                // git can't read a worktree whose creation was interrupted.
                Err(_) => self.discard(&slot).await?,
            }
            count += 1;
        }
        Ok(count)
    }

    async fn add(&self, slots: &mut Slots, at: &Sha) -> Result<PathBuf, WorkspaceError> {
        let known: BTreeSet<PathBuf> = self.folders().into_iter().collect();
        let path = (1..u32::MAX)
            .map(|n| self.dir.join(format!("wt-{n}")))
            .find(|path| !known.contains(path) && !slots.taken.contains(path))
            .unwrap_or_else(|| self.dir.join("wt-0"));
        self.add_at(&path, at).await?;
        slots.clean.insert(path.clone());
        Ok(path)
    }

    async fn add_at(&self, path: &Path, at: &Sha) -> Result<(), WorkspaceError> {
        self.check_disk()?;
        self.base.git().add_worktree(path, at).await
    }

    /// The folder in the base clone that a slot's `.git` points at.
    fn git_dir(&self, slot: &Path) -> Option<PathBuf> {
        let text = std::fs::read_to_string(slot.join(".git")).ok()?;
        let git_dir = PathBuf::from(text.trim().strip_prefix("gitdir: ")?);
        git_dir.starts_with(self.base.dir()).then_some(git_dir)
    }

    /// Removes a worktree by rename and prune; a thread deletes the files later.
    async fn discard(&self, path: &Path) -> Result<(), WorkspaceError> {
        let trash = self.dir.join(".trash");
        std::fs::create_dir_all(&trash).map_err(WorkspaceError::io(&trash))?;
        let nanos = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .map_or(0, |since| since.as_nanos());
        let target = trash.join(nanos.to_string());
        std::fs::rename(path, &target).map_err(WorkspaceError::io(path))?;
        self.base.git().call(&["worktree", "prune"]).await?;
        self.empty_trash();
        Ok(())
    }

    /// Deletes discarded worktrees on a thread of its own.
    fn empty_trash(&self) {
        let trash = self.dir.join(".trash");
        if trash.is_dir() {
            let _ = std::thread::Builder::new().name("trash".into()).spawn(move || {
                // A failure to delete is retried at the next start.
                let _ = rustix::process::nice(10);
                let _ = std::fs::remove_dir_all(&trash);
            });
        }
    }

    fn check_disk(&self) -> Result<(), WorkspaceError> {
        let stat = rustix::fs::statvfs(&self.dir)
            .map_err(|e| WorkspaceError::Io { path: self.dir.clone(), source: e.into() })?;
        let free_mib = stat.f_bavail * stat.f_frsize / (1024 * 1024);
        if free_mib < self.disk_free_mib {
            let (path, needed_mib) = (self.dir.clone(), self.disk_free_mib);
            return Err(WorkspaceError::DiskFull { path, free_mib, needed_mib });
        }
        Ok(())
    }
}
