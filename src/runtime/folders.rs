//! Empty folders for what works without a clone. One that is still empty afterwards is used again, under
//! its name: file systems are slow to make what was just taken away.

use std::collections::HashMap;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Kept for later at most.
const FREE: usize = 64;
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
    free: Vec<String>,
    /// Who has which.
    taken: HashMap<String, String>,
    /// The largest number that one had.
    last: u64,
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
                free.push(name);
            }
        }
        let folders = Self { root, known: Mutex::default() };
        known.free = free.into_iter().filter(|name| folders.as_new(name)).take(FREE).collect();
        *folders.known() = known;
        folders
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
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
            let name = before.map(str::to_owned).or_else(|| known.taken.get(owner).cloned());
            let name = name.or_else(|| known.free.pop()).unwrap_or_else(|| {
                known.last = known.last.saturating_add(1);
                format!("{PREFIX}{}", known.last)
            });
            known.taken.insert(owner.to_owned(), name.clone());
            name
        };
        let path = self.path(&name);
        let made: io::Result<()> = std::fs::create_dir_all(&path);
        made.map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(name)
    }

    /// Gives it back, with whatever is in it. What can't be taken away stays.
    pub fn give_back(&self, owner: &str, before: Option<&str>) {
        let taken = self.known().taken.remove(owner);
        let Some(name) = taken.or_else(|| before.map(str::to_owned)) else { return };
        let again = name.starts_with(PREFIX) && self.as_new(&name);
        let mut known = self.known();
        if again && known.free.len() < FREE {
            known.free.push(name);
        } else {
            drop(known);
            // Nothing of value is in it.
            let _ = std::fs::remove_dir_all(self.path(&name));
        }
    }

    /// Whether a folder is as it was made.
    fn as_new(&self, name: &str) -> bool {
        let path = self.path(name);
        let mode = |path: &Path| {
            let known = std::fs::symlink_metadata(path).ok().filter(std::fs::Metadata::is_dir);
            known.map(|known| known.permissions().mode())
        };
        let empty = std::fs::read_dir(&path).is_ok_and(|mut all| all.next().is_none());
        empty && mode(&path) == mode(&self.root)
    }
}

#[cfg(test)]
mod tests {
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
