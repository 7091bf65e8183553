//! Reusable scratch directories for jobs and questions without a clone. A directory that is still
//! empty afterwards is used again under its name, because recreating one that was just deleted is
//! slow on ext4.

use std::collections::HashMap;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::lock::LockExt;

/// The largest number of free directories that are kept.
const MOST_FREE: usize = 64;
/// Longer than one tick of the clock with which file systems stamp changes.
const TICK: Duration = Duration::from_millis(50);
/// The prefix of directories that any owner may have next; others belong to a conversation.
const PREFIX: &str = "empty-";

/// The directories below one folder, each with at most one owner.
#[derive(Debug)]
pub(crate) struct ScratchDirs {
    root: PathBuf,
    inventory: Mutex<Inventory>,
}

#[derive(Debug, Default)]
struct Inventory {
    free: Vec<ScratchDir>,
    /// The directory of each owner.
    taken: HashMap<String, ScratchDir>,
    /// The largest number in a name so far.
    last: u64,
}

/// One directory.
#[derive(Debug)]
struct ScratchDir {
    name: String,
    /// Its change time in seconds and nanoseconds, if it was empty then: while the time stays the
    /// same, it still is.
    unchanged: Option<(i64, i64)>,
}

impl ScratchDir {
    fn named(name: impl Into<String>) -> Self {
        Self { name: name.into(), unchanged: None }
    }
}

impl ScratchDirs {
    /// Finds the directories below a folder. Runs of an earlier afk still own those in `kept`.
    pub(super) fn new(root: PathBuf, kept: &[&str]) -> Self {
        let mut inventory = Inventory::default();
        let mut free = Vec::new();
        for entry in std::fs::read_dir(&root).into_iter().flatten().flatten() {
            let Ok(name) = entry.file_name().into_string() else { continue };
            let number = name.strip_prefix(PREFIX).and_then(|number| number.parse().ok());
            let Some(number) = number else { continue };
            inventory.last = inventory.last.max(number);
            if !kept.contains(&name.as_str()) {
                free.push(ScratchDir::named(name));
            }
        }
        let dirs = Self { root, inventory: Mutex::default() };
        inventory.free =
            free.into_iter().filter_map(|dir| dirs.unused(dir)).take(MOST_FREE).collect();
        *dirs.inventory() = inventory;
        dirs
    }

    fn inventory(&self) -> MutexGuard<'_, Inventory> {
        self.inventory.locked()
    }

    /// The path of the directory with this name.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// Gives the owner a directory and returns its name. An owner that had one `before` gets it
    /// again.
    ///
    /// # Errors
    /// The directory can't be created.
    pub(super) fn take(&self, owner: &str, before: Option<&str>) -> Result<String, String> {
        let name = {
            let mut inventory = self.inventory();
            let again = inventory.taken.remove(owner);
            let before = before.map(ScratchDir::named);
            let dir = again.or(before).or_else(|| inventory.free.pop()).unwrap_or_else(|| {
                inventory.last = inventory.last.saturating_add(1);
                ScratchDir::named(format!("{PREFIX}{}", inventory.last))
            });
            let name = dir.name.clone();
            inventory.taken.insert(owner.to_owned(), dir);
            name
        };
        let path = self.path(&name);
        if !path.is_dir() {
            let created = std::fs::create_dir_all(&path);
            created.map_err(|error| format!("{}: {error}", path.display()))?;
        }
        Ok(name)
    }

    /// Takes the owner's directory back. It becomes free if it is empty, and is deleted otherwise;
    /// one that can't be deleted stays.
    pub(super) fn give_back(&self, owner: &str, before: Option<&str>) {
        let taken = self.inventory().taken.remove(owner);
        let Some(dir) = taken.or(before.map(ScratchDir::named)) else { return };
        let path = self.path(&dir.name);
        if dir.name.starts_with(PREFIX)
            && let Some(dir) = self.unused(dir)
        {
            let mut inventory = self.inventory();
            if inventory.free.len() < MOST_FREE {
                return inventory.free.push(dir);
            }
        }
        // Nobody reads it again; one that can't be deleted is only litter.
        let _ = std::fs::remove_dir_all(path);
    }

    /// The directory, if it is as it was created: empty, and with the permissions of its parent.
    fn unused(&self, dir: ScratchDir) -> Option<ScratchDir> {
        let path = self.path(&dir.name);
        let stat = |path| std::fs::symlink_metadata(path).ok().filter(std::fs::Metadata::is_dir);
        let found = stat(&path)?;
        let changed = (found.ctime(), found.ctime_nsec());
        if dir.unchanged == Some(changed) {
            return Some(dir);
        }
        let empty = std::fs::read_dir(&path).is_ok_and(|mut all| all.next().is_none());
        let unused = empty && found.mode() == stat(&self.root)?.mode();
        // Another change within the same tick would leave the same time, so trust only an older
        // one.
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let then = Duration::new(changed.0.try_into().ok()?, changed.1.try_into().ok()?);
        let trusted = now.saturating_sub(then) >= TICK;
        unused.then(|| ScratchDir { unchanged: trusted.then_some(changed), ..dir })
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn take_reuses_empty_directories_only() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("questions");
        let dirs = ScratchDirs::new(root.clone(), &[]);
        let names = || {
            let all = std::fs::read_dir(&root).unwrap().flatten();
            let mut all: Vec<String> =
                all.map(|entry| entry.file_name().into_string().unwrap()).collect();
            all.sort();
            all
        };
        let one = dirs.take("r1", None).unwrap();
        assert_eq!(dirs.take("r1", None).unwrap(), one);
        assert_ne!(dirs.take("r2", None).unwrap(), one);
        dirs.give_back("r1", None);
        assert_eq!(dirs.take("r3", None).unwrap(), one);
        assert_eq!(names(), ["empty-1", "empty-2"]);
        // No later owner gets a directory with somebody's file or permissions.
        std::fs::write(dirs.path(&one).join("left"), "x").unwrap();
        dirs.give_back("r3", None);
        assert_eq!(names(), ["empty-2"]);
        let mode = std::fs::Permissions::from_mode(0o500);
        std::fs::set_permissions(dirs.path("empty-2"), mode).unwrap();
        dirs.give_back("r2", None);
        assert!(names().is_empty());
        // A conversation's directory has a name of its own and is deleted with it.
        assert_eq!(dirs.take("talk", Some("talk")).unwrap(), "talk");
        dirs.give_back("talk", Some("talk"));
        assert!(names().is_empty());
    }

    #[test]
    fn give_back_notices_a_change_after_a_long_rest() {
        let dir = tempfile::tempdir().unwrap();
        let dirs = ScratchDirs::new(dir.path().to_owned(), &[]);
        let one = dirs.take("r1", None).unwrap();
        let rested = |name: &str| {
            let inventory = dirs.inventory();
            inventory
                .free
                .iter()
                .find(|free| free.name == name)
                .map(|free| free.unchanged.is_some())
        };
        // Repeats until the last change is older than a tick.
        for run in 2.. {
            dirs.give_back(&format!("r{}", run - 1), None);
            let unchanged = rested(&one).unwrap();
            assert_eq!(dirs.take(&format!("r{run}"), None).unwrap(), one);
            if unchanged {
                std::fs::write(dirs.path(&one).join("left"), "x").unwrap();
                dirs.give_back(&format!("r{run}"), None);
                break;
            }
        }
        assert_eq!(rested(&one), None);
        assert!(!dirs.path(&one).exists());
    }

    #[test]
    fn restart_keeps_each_owner_its_directory() {
        let dir = tempfile::tempdir().unwrap();
        let dirs = ScratchDirs::new(dir.path().to_owned(), &[]);
        let [one, two] = ["r1", "r2"].map(|owner| dirs.take(owner, None).unwrap());
        std::fs::write(dirs.path(&dirs.take("r3", None).unwrap()).join("left"), "x").unwrap();
        let dirs = ScratchDirs::new(dir.path().to_owned(), &[&one]);
        assert_eq!(dirs.take("r4", None).unwrap(), two, "its owner is gone");
        assert_eq!(dirs.take("r1", Some(&one)).unwrap(), one);
        assert_eq!(dirs.take("r5", None).unwrap(), "empty-4");
        dirs.give_back("r6", Some(&one));
        assert_eq!(
            dirs.take("r7", None).unwrap(),
            one,
            "given back without a turn since the restart"
        );
    }
}
