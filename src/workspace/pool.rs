//! The pool of worktrees of one repository.
//!
//! A slot is a worktree `wt-<n>` with a path for life, so that an agent's sessions and build
//! caches find it again. A free slot is clean and detached at the upstream, ready to be switched.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use tokio::sync::Mutex;

use super::base::{Base, refuse_link};
use super::{WorkspaceError, capsule};
use crate::core::model::id::Sha;

/// A worktree on a run's branch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken {
    /// Its folder.
    pub path: PathBuf,
    /// The upstream's commit that its branch begins at.
    pub base: Sha,
}

/// The slots of a repository; see the module.
#[derive(Debug)]
pub struct Pool {
    base: Base,
    dir: PathBuf,
    disk_free_mib: u64,
    // Held over git's calls: they would lock each other out anyway.
    slots: Mutex<Slots>,
}

/// What is known of the slots.
#[derive(Debug, Default)]
struct Slots {
    /// Those that a run has.
    taken: BTreeSet<PathBuf>,
    /// Free ones that were made or cleaned in this life: a look through all their files is saved.
    clean: BTreeSet<PathBuf>,
}

impl Pool {
    /// The pool in `dir`. `taken` are the folders that runs of an earlier life still have.
    ///
    /// # Errors
    /// [`WorkspaceError`].
    pub async fn open(
        base: Base,
        dir: &Path,
        disk_free_mib: u64,
        taken: BTreeSet<PathBuf>,
    ) -> Result<Self, WorkspaceError> {
        refuse_link(dir)?;
        std::fs::create_dir_all(dir).map_err(WorkspaceError::io(dir))?;
        // The folders of killed calls, and worktrees that agents deleted.
        base.git().call(&["worktree", "prune"]).await?;
        let slots = Slots { taken, clean: BTreeSet::new() };
        let pool = Self { base, dir: dir.to_owned(), disk_free_mib, slots: Mutex::new(slots) };
        pool.empty_trash();
        Ok(pool)
    }

    /// The base clone.
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

    /// Fetches, takes a slot and switches it to `branch` at the upstream. The slot that has the
    /// branch already (from a call that was cut) is the one that is taken; else `home`, where it
    /// is free: a conversation may know no other folder.
    ///
    /// # Errors
    /// [`WorkspaceError`].
    pub async fn take(&self, branch: &str, home: Option<&Path>) -> Result<Taken, WorkspaceError> {
        let mut slots = self.slots.lock().await;
        let upstream = self.base.fetch().await?;
        let free: Vec<PathBuf> =
            self.folders().into_iter().filter(|slot| !slots.taken.contains(slot)).collect();
        let head = format!("ref: refs/heads/{branch}");
        let has_branch = |slot: &&PathBuf| {
            self.admin(slot)
                .and_then(|admin| std::fs::read_to_string(admin.join("HEAD")).ok())
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
            // Damaged beyond a switch: made anew under the same name.
            self.discard(&path).await?;
            self.add_at(&path, &upstream).await?;
            git.call(&switch).await?;
        }
        slots.clean.remove(&path);
        slots.taken.insert(path.clone());
        Ok(Taken { path, base: upstream })
    }

    /// Makes sure that a clean slot is ready.
    ///
    /// # Errors
    /// [`WorkspaceError`].
    pub async fn warm(&self) -> Result<(), WorkspaceError> {
        let mut slots = self.slots.lock().await;
        if self.folders().iter().any(|slot| !slots.taken.contains(slot)) {
            return Ok(());
        }
        let upstream = self.base.head().await?;
        self.add(&mut slots, &upstream).await.map(|_| ())
    }

    /// Gives a slot back: reset, cleaned, detached. With `keep`, whatever in it is neither
    /// committed nor in the upstream is kept first as a commit under that ref.
    ///
    /// # Errors
    /// [`WorkspaceError`]; the slot is then still taken.
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

    /// Whether a worktree holds anything that is neither committed nor in the upstream.
    ///
    /// # Errors
    /// [`WorkspaceError`].
    pub async fn has_work(&self, path: &Path) -> Result<bool, WorkspaceError> {
        let git = self.base.git().at(path);
        if !git.call(&["status", "--porcelain"]).await?.is_empty() {
            return Ok(true);
        }
        let range = format!("{}..HEAD", self.base.upstream());
        Ok(git.call(&["rev-list", "--count", &range]).await? != "0")
    }

    /// Resets every slot that no run has and that isn't clean; what would be lost is kept under
    /// `refs/afk/kept/<slot>`. Says how many there were.
    ///
    /// # Errors
    /// [`WorkspaceError`].
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
                // A worktree that git can't read was cut in the middle of being made.
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

    /// The folder in the base that a worktree's `.git` points at.
    fn admin(&self, slot: &Path) -> Option<PathBuf> {
        let text = std::fs::read_to_string(slot.join(".git")).ok()?;
        let admin = PathBuf::from(text.trim().strip_prefix("gitdir: ")?);
        admin.starts_with(self.base.dir()).then_some(admin)
    }

    /// Removes a worktree by rename and prune; the files are deleted later.
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

    /// Deletes what was discarded, on a thread of its own.
    fn empty_trash(&self) {
        let trash = self.dir.join(".trash");
        if trash.is_dir() {
            let _ = std::thread::Builder::new().name("trash".into()).spawn(move || {
                // Deletion lowers its own priority; a failure is tried again at the next start.
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
