//! Empty folders for what works without a clone. One that is still empty afterwards is used again:
//! file systems are slow to make what was just taken away.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// Kept for later at most.
const FREE: usize = 64;
/// What the name of a free one begins with.
const PREFIX: &str = "free-";

/// See the module.
#[derive(Debug)]
pub(crate) struct Folders {
    root: PathBuf,
    free: Mutex<Free>,
}

#[derive(Debug, Default)]
struct Free {
    folders: Vec<PathBuf>,
    /// The largest number that one had.
    last: u64,
}

impl Folders {
    /// Those below a folder.
    pub fn new(root: PathBuf) -> Self {
        let mut free = Free::default();
        for entry in std::fs::read_dir(&root).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let number = name.to_str().and_then(|name| name.strip_prefix(PREFIX));
            if let Some(number) = number.and_then(|number| number.parse::<u64>().ok()) {
                free.last = free.last.max(number);
                if free.folders.len() < FREE {
                    free.folders.push(entry.path());
                }
            }
        }
        Self { root, free: Mutex::new(free) }
    }

    /// Where the folder of this name is.
    pub fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// The folder of this name, made where it isn't there.
    ///
    /// # Errors
    /// Where it can't be made.
    pub fn take(&self, name: &str) -> io::Result<PathBuf> {
        let path = self.path(name);
        if path.is_dir() {
            return Ok(path);
        }
        let free = self.free.lock().unwrap_or_else(PoisonError::into_inner).folders.pop();
        match free.map(|free| std::fs::rename(free, &path)) {
            Some(Ok(())) => {}
            _ => std::fs::create_dir_all(&path)?,
        }
        Ok(path)
    }

    /// Gives it back, with whatever is in it. What can't be taken away stays.
    pub fn give_back(&self, name: &str) {
        let path = self.path(name);
        let free = || self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let later = {
            let mut free = free();
            free.last = free.last.saturating_add(1);
            (free.folders.len() < FREE).then(|| self.path(&format!("{PREFIX}{}", free.last)))
        };
        match later.filter(|_| self.as_new(&path)) {
            Some(later) if std::fs::rename(&path, &later).is_ok() => free().folders.push(later),
            // Nothing of value is in it.
            _ => drop(std::fs::remove_dir_all(&path)),
        }
    }

    /// Whether a folder is as it was made.
    fn as_new(&self, path: &Path) -> bool {
        let mode = |path: &Path| {
            let known = std::fs::symlink_metadata(path).ok().filter(std::fs::Metadata::is_dir);
            known.map(|known| known.permissions().mode())
        };
        let empty = std::fs::read_dir(path).is_ok_and(|mut all| all.next().is_none());
        empty && mode(path) == mode(&self.root)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_folder_is_used_again_and_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("questions");
        let folders = Folders::new(root.clone());
        let names = || {
            let all = std::fs::read_dir(&root).unwrap().flatten();
            let mut all: Vec<String> =
                all.map(|entry| entry.file_name().into_string().unwrap()).collect();
            all.sort();
            all
        };
        let one = folders.take("r1").unwrap();
        assert_eq!(folders.take("r1").unwrap(), one);
        folders.give_back("r1");
        assert_eq!(names(), ["free-1"]);
        let two = folders.take("r2").unwrap();
        assert_eq!(names(), ["r2"]);
        // What somebody left in it, or did to it, is seen by nobody else.
        std::fs::write(two.join("left"), "x").unwrap();
        folders.give_back("r2");
        assert!(names().is_empty());
        let three = folders.take("r3").unwrap();
        std::fs::set_permissions(&three, std::fs::Permissions::from_mode(0o500)).unwrap();
        folders.give_back("r3");
        assert!(names().is_empty());
        // Those of an earlier life are known.
        folders.take("r4").unwrap();
        folders.give_back("r4");
        Folders::new(root.clone()).take("r5").unwrap();
        assert_eq!(names(), ["r5"]);
    }
}
