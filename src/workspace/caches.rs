//! The caches of a repository: folders that the setup of a checkout fills, so that later checkouts
//! need not begin from nothing.
//!
//! ```text
//! caches/keys/<digest>/<folder>   what a setup left on a commit of the upstream; nobody writes it
//!        │ copy, before a program runs in the tree
//!        ▼
//! caches/trees/<tree>/<folder>    the cache of one checkout, which its programs write
//!        │ copy, once the setup has ended well and nothing else has run there
//!        ▼
//! caches/keys/<digest>
//! ```
//!
//! An agent, or a test of its commits, only ever writes to the cache of its own tree. Another run
//! gets a copy of what the upstream's own setup made, and the copy ends with its tree.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use super::WorkspaceError;
use super::copy_tree::copy_tree;
use super::durable::sync_file_system;
use super::trash::Trash;
use crate::core::model::digest::Digest;

/// The most keys that are kept; the one that was used longest ago goes first.
const KEYS_KEPT: usize = 4;
/// Below the folder of a repository.
const CACHES: &str = "caches";

/// The caches of one repository. Calls block: use them on a thread for that.
#[derive(Debug, Clone)]
pub(crate) struct Caches {
    dir: PathBuf,
    trash: Trash,
}

impl Caches {
    /// Opens the caches below the folder of a repository, and discards those of trees that don't
    /// exist any more, and those of an earlier afk, which every run could write.
    ///
    /// # Errors
    /// A folder can't be moved away.
    pub(super) fn open(repository: &Path, trash: Trash) -> Result<Self, WorkspaceError> {
        let this = Self { dir: repository.join(CACHES), trash };
        for name in names(&this.dir).filter(|name| name != "keys" && name != "trees") {
            this.trash.discard(&this.dir.join(name))?;
        }
        for name in names(&this.dir.join("trees")) {
            if !repository.join(&name).exists() {
                this.trash.discard(&this.dir.join("trees").join(name))?;
            }
        }
        for name in names(&this.dir.join("keys")).filter(|name| name.starts_with("new-")) {
            this.trash.discard(&this.dir.join("keys").join(name))?;
        }
        Ok(this)
    }

    /// The cache of a tree, in the folder of its repository.
    pub(crate) fn of_tree(repository: &Path, tree: &Path) -> PathBuf {
        repository.join(CACHES).join("trees").join(tree.file_name().unwrap_or_default())
    }

    fn tree(&self, tree: &Path) -> PathBuf {
        self.dir.join("trees").join(tree.file_name().unwrap_or_default())
    }

    fn key(&self, key: &Digest) -> PathBuf {
        self.dir.join("keys").join(key.to_string())
    }

    /// Whether something is kept under a key.
    pub(crate) fn has(&self, key: &Digest) -> bool {
        self.key(key).is_dir()
    }

    /// Gives a tree a cache of its own, in place of what an earlier tree of its name left: a copy of
    /// what is kept under the key, or else empty folders. Returns whether there was something.
    ///
    /// # Errors
    /// A folder can't be made.
    pub(crate) fn fill(
        &self,
        tree: &Path,
        key: &Digest,
        folders: &BTreeSet<&str>,
    ) -> Result<bool, WorkspaceError> {
        let own = self.tree(tree);
        self.trash.discard(&own)?;
        if folders.is_empty() {
            return Ok(false);
        }
        let kept = self.key(key);
        std::fs::create_dir_all(&own).map_err(WorkspaceError::io(&own))?;
        let mut copied = kept.is_dir();
        if copied {
            if let Err(error) = copy_tree(&kept, &own) {
                // Another run may have pruned it. An empty cache costs time, half a one more.
                tracing::warn!(path = %kept.display(), %error, "the cache can't be copied");
                copied = false;
                self.trash.discard(&own)?;
            } else {
                touch(&kept);
            }
        }
        for folder in folders {
            let path = own.join(folder);
            std::fs::create_dir_all(&path).map_err(WorkspaceError::io(&path))?;
        }
        Ok(copied)
    }

    /// Keeps a copy of a tree's cache under the key, unless something is kept there. Call it only
    /// after the setup of a commit of the upstream, before anything else has run in the tree.
    ///
    /// # Errors
    /// The copy can't be made.
    pub(crate) fn publish(&self, tree: &Path, key: &Digest) -> Result<bool, WorkspaceError> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let (own, kept) = (self.tree(tree), self.key(key));
        if kept.exists() || !own.is_dir() {
            return Ok(false);
        }
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let new = self.dir.join("keys").join(format!("new-{}-{number}", std::process::id()));
        self.trash.discard(&new)?;
        std::fs::create_dir_all(&new).map_err(WorkspaceError::io(&new))?;
        let copied = copy_tree(&own, &new).map_err(WorkspaceError::io(&kept));
        // A power cut must not leave empty files under a key, which each later run would get.
        let copied = copied.and_then(|()| sync_file_system(&new));
        let copied =
            copied.and_then(|()| std::fs::rename(&new, &kept).map_err(WorkspaceError::io(&kept)));
        if let Err(error) = copied {
            self.trash.discard(&new)?;
            // Another tree of this key may have been quicker.
            return if kept.exists() { Ok(false) } else { Err(error) };
        }
        touch(&kept);
        self.prune()?;
        Ok(true)
    }

    /// Discards the cache of a tree.
    ///
    /// # Errors
    /// It can't be moved away.
    pub(crate) fn discard(&self, tree: &Path) -> Result<(), WorkspaceError> {
        self.trash.discard(&self.tree(tree))
    }

    fn prune(&self) -> Result<(), WorkspaceError> {
        let keys = self.dir.join("keys");
        let used = |path: &Path| path.metadata().and_then(|found| found.modified()).ok();
        let mut all: Vec<(Option<SystemTime>, PathBuf)> = names(&keys)
            .filter(|name| !name.starts_with("new-"))
            .map(|name| keys.join(name))
            .map(|path| (used(&path), path))
            .collect();
        all.sort();
        let surplus = all.len().saturating_sub(KEYS_KEPT);
        all.iter().take(surplus).try_for_each(|(_, path)| self.trash.discard(path))
    }
}

/// Notes that a key was used now.
fn touch(path: &Path) {
    let now = std::fs::File::open(path).and_then(|folder| folder.set_modified(SystemTime::now()));
    if let Err(error) = now {
        tracing::debug!(path = %path.display(), %error, "the time of a cache stays old");
    }
}

fn names(dir: &Path) -> impl Iterator<Item = String> + use<> {
    let entries: Vec<io::Result<std::fs::DirEntry>> =
        std::fs::read_dir(dir).into_iter().flatten().collect();
    entries.into_iter().flatten().map(|entry| entry.file_name().to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tree_gets_a_copy_and_changes_only_its_own() {
        let dir = tempfile::tempdir().unwrap();
        let repository = dir.path();
        std::fs::create_dir_all(repository.join("caches/old")).unwrap();
        std::fs::create_dir_all(repository.join("caches/trees/wt-9/target")).unwrap();
        let caches = Caches::open(repository, Trash::new(repository.join("trash"))).unwrap();
        assert!(!repository.join("caches/old").exists());
        assert!(!repository.join("caches/trees/wt-9").exists());
        let folders = BTreeSet::from(["target"]);
        let (prove, agent) = (repository.join("prove"), repository.join("wt-1"));
        let file = |tree: &Path| Caches::of_tree(repository, tree).join("target/lib");
        let key = Digest::of(&[b"a"]);

        assert!(!caches.fill(&prove, &key, &folders).unwrap());
        std::fs::write(file(&prove), "good").unwrap();
        assert!(caches.publish(&prove, &key).unwrap());
        assert!(caches.fill(&agent, &key, &folders).unwrap());
        std::fs::write(file(&agent), "evil").unwrap();
        assert!(!caches.publish(&agent, &key).unwrap(), "the first result stays");
        assert!(caches.fill(&prove, &key, &folders).unwrap());
        assert_eq!(std::fs::read_to_string(file(&prove)).unwrap(), "good");
        assert!(!caches.fill(&prove, &Digest::of(&[b"b"]), &folders).unwrap());
        assert!(!file(&prove).exists());
        caches.discard(&agent).unwrap();
        assert!(!file(&agent).exists());
    }

    #[test]
    fn keys_that_were_used_longest_ago_are_pruned() {
        let dir = tempfile::tempdir().unwrap();
        let caches = Caches::open(dir.path(), Trash::new(dir.path().join("trash"))).unwrap();
        let prove = dir.path().join("prove");
        let key = |n: u8| Digest::of(&[&[n]]);
        let long_ago = |n: u8| SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(n.into());
        for n in 1..=5 {
            caches.fill(&prove, &key(n), &BTreeSet::from(["a"])).unwrap();
            assert!(caches.publish(&prove, &key(n)).unwrap());
            let folder = std::fs::File::open(caches.key(&key(n))).unwrap();
            folder.set_modified(long_ago(n)).unwrap();
        }
        let kept: Vec<bool> = (1..=5).map(|n| caches.key(&key(n)).exists()).collect();
        assert_eq!(kept, [false, true, true, true, true]);
    }
}
