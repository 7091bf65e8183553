//! Empty folders for what works without a clone. One that is still empty afterwards is used again, under
//! its name: file systems are slow to make what was just taken away.

use crate::lock::LockExt;
use std::collections::HashMap;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Kept for later at most.
const FREE: usize = 64;
/// Longer than one of the ticks in which file systems tell the time.
const TICK: Duration = Duration::from_millis(50);
/// What the name of one begins with that anybody may have next.
const PREFIX: &str = "empty-";

/// See the module.
#[derive(Debug)]
pub(crate) struct Folders {
    root: PathBuf,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    free: Vec<Folder>,
    /// Who has which.
    taken: HashMap<String, Folder>,
    /// The largest number that one had.
    last: u64,
}

/// One by its name.
#[derive(Debug)]
struct Folder {
    name: String,
    /// When it was changed last, as seconds and nanoseconds, where nothing was in it since.
    unchanged: Option<(i64, i64)>,
}

impl Folder {
    fn named(name: impl Into<String>) -> Self {
        Self { name: name.into(), unchanged: None }
    }
}

impl Folders {
    /// Those below a folder; `kept` are somebody's from an earlier life.
    pub fn new(root: PathBuf, kept: &[&str]) -> Self {
        let mut known = Known::default();
        let mut free = Vec::new();
        for entry in std::fs::read_dir(&root).into_iter().flatten().flatten() {
            let Ok(name) = entry.file_name().into_string() else { continue };
            let number = name.strip_prefix(PREFIX).and_then(|number| number.parse().ok());
            let Some(number) = number else { continue };
            known.last = known.last.max(number);
            if !kept.contains(&name.as_str()) {
                free.push(Folder::named(name));
            }
        }
        let folders = Self { root, known: Mutex::default() };
        known.free = free.into_iter().filter_map(|one| folders.as_new(one)).take(FREE).collect();
        *folders.known() = known;
        folders
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.locked()
    }

    /// Where the folder of this name is.
    pub fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// The name of a folder that nobody else has, made where it isn't there: the one that its owner had
    /// before, where that is known.
    ///
    /// # Errors
    /// Where it can't be made, in a line.
    pub fn take(&self, owner: &str, before: Option<&str>) -> Result<String, String> {
        let name = {
            let mut known = self.known();
            let again = known.taken.remove(owner);
            let before = before.map(Folder::named);
            let folder = again.or(before).or_else(|| known.free.pop()).unwrap_or_else(|| {
                known.last = known.last.saturating_add(1);
                Folder::named(format!("{PREFIX}{}", known.last))
            });
            let name = folder.name.clone();
            known.taken.insert(owner.to_owned(), folder);
            name
        };
        let path = self.path(&name);
        if !path.is_dir() {
            let made = std::fs::create_dir_all(&path);
            made.map_err(|error| format!("{}: {error}", path.display()))?;
        }
        Ok(name)
    }

    /// Gives it back, with whatever is in it. What can't be taken away stays.
    pub fn give_back(&self, owner: &str, before: Option<&str>) {
        let taken = self.known().taken.remove(owner);
        let Some(folder) = taken.or(before.map(Folder::named)) else { return };
        let path = self.path(&folder.name);
        if folder.name.starts_with(PREFIX)
            && let Some(folder) = self.as_new(folder)
        {
            let mut known = self.known();
            if known.free.len() < FREE {
                return known.free.push(folder);
            }
        }
        // Nothing of value is in it.
        let _ = std::fs::remove_dir_all(path);
    }

    /// A folder that is as it was made.
    fn as_new(&self, folder: Folder) -> Option<Folder> {
        let path = self.path(&folder.name);
        let dir = |path| std::fs::symlink_metadata(path).ok().filter(std::fs::Metadata::is_dir);
        let is = dir(&path)?;
        let changed = (is.ctime(), is.ctime_nsec());
        if folder.unchanged == Some(changed) {
            return Some(folder);
        }
        let empty = std::fs::read_dir(&path).is_ok_and(|mut all| all.next().is_none());
        let new = empty && is.mode() == dir(&self.root)?.mode();
        // A change within one tick of the clock could not be told from this one.
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let then = Duration::new(changed.0.try_into().ok()?, changed.1.try_into().ok()?);
        let told = now.saturating_sub(then) >= TICK;
        new.then(|| Folder { unchanged: told.then_some(changed), ..folder })
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn an_empty_folder_is_used_again_and_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("questions");
        let folders = Folders::new(root.clone(), &[]);
        let names = || {
            let all = std::fs::read_dir(&root).unwrap().flatten();
            let mut all: Vec<String> =
                all.map(|entry| entry.file_name().into_string().unwrap()).collect();
            all.sort();
            all
        };
        let one = folders.take("r1", None).unwrap();
        assert_eq!(folders.take("r1", None).unwrap(), one);
        assert_ne!(folders.take("r2", None).unwrap(), one);
        folders.give_back("r1", None);
        assert_eq!(folders.take("r3", None).unwrap(), one);
        assert_eq!(names(), ["empty-1", "empty-2"]);
        // What somebody left in it, or did to it, is seen by nobody else.
        std::fs::write(folders.path(&one).join("left"), "x").unwrap();
        folders.give_back("r3", None);
        assert_eq!(names(), ["empty-2"]);
        let mode = std::fs::Permissions::from_mode(0o500);
        std::fs::set_permissions(folders.path("empty-2"), mode).unwrap();
        folders.give_back("r2", None);
        assert!(names().is_empty());
        // A name of its owner's is nobody else's, and goes with it.
        assert_eq!(folders.take("talk", Some("talk")).unwrap(), "talk");
        folders.give_back("talk", Some("talk"));
        assert!(names().is_empty());
    }

    #[test]
    fn what_was_done_to_one_that_was_unchanged_for_long_is_seen() {
        let dir = tempfile::tempdir().unwrap();
        let folders = Folders::new(dir.path().to_owned(), &[]);
        let one = folders.take("r1", None).unwrap();
        let known = |name: &str| {
            let known = folders.known();
            known.free.iter().find(|free| free.name == name).map(|free| free.unchanged.is_some())
        };
        // Until its last change is long enough ago.
        for run in 2.. {
            folders.give_back(&format!("r{}", run - 1), None);
            let unchanged = known(&one).unwrap();
            assert_eq!(folders.take(&format!("r{run}"), None).unwrap(), one);
            if unchanged {
                std::fs::write(folders.path(&one).join("left"), "x").unwrap();
                folders.give_back(&format!("r{run}"), None);
                break;
            }
        }
        assert_eq!(known(&one), None);
        assert!(!folders.path(&one).exists());
    }

    #[test]
    fn after_a_restart_each_has_its_own() {
        let dir = tempfile::tempdir().unwrap();
        let folders = Folders::new(dir.path().to_owned(), &[]);
        let [one, two] = ["r1", "r2"].map(|owner| folders.take(owner, None).unwrap());
        std::fs::write(folders.path(&folders.take("r3", None).unwrap()).join("left"), "x").unwrap();
        let folders = Folders::new(dir.path().to_owned(), &[&one]);
        assert_eq!(folders.take("r4", None).unwrap(), two, "its owner is gone");
        assert_eq!(folders.take("r1", Some(&one)).unwrap(), one);
        assert_eq!(folders.take("r5", None).unwrap(), "empty-4");
        folders.give_back("r6", Some(&one));
        assert_eq!(
            folders.take("r7", None).unwrap(),
            one,
            "given back without a turn in this life"
        );
    }
}
