//! Removes folders that agents and tests have written to. A folder disappears at once by a rename
//! into the trash, which a thread deletes later.
//!
//! Read-only folders (module caches are full of them) become writable first. A folder that can't
//! be deleted even then stays in the trash, where it disturbs nobody; the next start tries again.

use std::fs::{OpenOptions, Permissions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::fs::OFlags;

use super::WorkspaceError;

/// The deepest folder whose permissions are repaired.
const DEPTH_LIMIT: u32 = 256;

/// A folder for folders that nobody needs any more, on the same file system as these.
#[derive(Debug, Clone)]
pub(super) struct Trash {
    dir: PathBuf,
}

impl Trash {
    pub(super) fn new(dir: PathBuf) -> Self {
        Self { dir }
    }

    /// Moves a file or folder into the trash and deletes it later. Does nothing for a missing one.
    ///
    /// # Errors
    /// It can't be moved.
    pub(super) fn discard(&self, path: &Path) -> Result<(), WorkspaceError> {
        if self.take(path)? {
            self.empty();
        }
        Ok(())
    }

    /// Moves a folder out of the way for good, beside the trash, and returns its new path.
    ///
    /// # Errors
    /// It can't be moved.
    pub(super) fn set_aside(path: &Path, into: &Path) -> Result<PathBuf, WorkspaceError> {
        std::fs::create_dir_all(into).map_err(WorkspaceError::io(into))?;
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let target = into.join(format!("{name}-{}", unique()));
        make_movable(path);
        std::fs::rename(path, &target).map_err(WorkspaceError::io(path))?;
        Ok(target)
    }

    fn take(&self, path: &Path) -> Result<bool, WorkspaceError> {
        if std::fs::symlink_metadata(path).is_err() {
            return Ok(false);
        }
        std::fs::create_dir_all(&self.dir).map_err(WorkspaceError::io(&self.dir))?;
        make_movable(path);
        let target = self.dir.join(unique());
        std::fs::rename(path, &target).map_err(WorkspaceError::io(path))?;
        Ok(true)
    }

    /// Deletes the content of the trash on a thread of its own.
    pub(super) fn empty(&self) {
        let dir = self.dir.clone();
        if !dir.is_dir() {
            return;
        }
        let emptied = std::thread::Builder::new().name("trash".into()).spawn(move || {
            // A failure costs only the lower priority.
            let _ = rustix::process::nice(10);
            for entry in std::fs::read_dir(&dir).into_iter().flatten().flatten() {
                if let Err(error) = remove(&entry.path())
                    && error.kind() != io::ErrorKind::NotFound
                {
                    let path = entry.path();
                    tracing::warn!(path = %path.display(), %error, "left in the trash");
                }
            }
        });
        if let Err(error) = emptied {
            tracing::warn!(%error, "the trash can't be emptied now");
        }
    }
}

/// A name that no other entry of the trash has.
fn unique() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    format!("{}-{}", since.as_nanos(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Deletes a folder and its content, or a file, without following links. Repairs permissions that
/// forbid it. A missing one is deleted already.
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    match delete(path) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            make_writable(path, 0);
            delete(path)
        }
        done => done,
    }
}

fn delete(path: &Path) -> io::Result<()> {
    let done = match std::fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => std::fs::remove_dir_all(path),
        Ok(_) => std::fs::remove_file(path),
        Err(error) => Err(error),
    };
    match done {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

/// Makes a folder writable for us, as its move to another folder requires.
fn make_movable(path: &Path) {
    // Without it the move fails, and its error names the path.
    let _ = allow_owner(path);
}

/// Gives us all rights on a folder and the folders in it.
fn make_writable(path: &Path, depth: u32) {
    if depth > DEPTH_LIMIT || allow_owner(path).is_err() {
        return;
    }
    for entry in std::fs::read_dir(path).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            make_writable(&entry.path(), depth + 1);
        }
    }
}

/// Gives the owner all rights on a folder; fails for a link and for a file.
fn allow_owner(path: &Path) -> io::Result<()> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::DIRECTORY;
    let folder =
        OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(path)?;
    // The descriptor allows no change itself; its path in /proc does, and can't be redirected.
    let path = format!("/proc/self/fd/{}", folder.as_raw_fd());
    let mode = folder.metadata()?.permissions().mode();
    if mode & 0o700 == 0o700 {
        return Ok(());
    }
    std::fs::set_permissions(path, Permissions::from_mode((mode & 0o7777) | 0o700))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remove_repairs_permissions_and_follows_no_link() {
        let dir = tempfile::tempdir().unwrap();
        let outside = dir.path().join("outside");
        std::fs::create_dir_all(&outside).unwrap();
        std::fs::write(outside.join("kept"), "x").unwrap();
        let mode = |path: &Path, mode| {
            std::fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
        };
        mode(&outside, 0o500);
        let tree = dir.path().join("tree");
        std::fs::create_dir_all(tree.join("ro/a/b")).unwrap();
        std::fs::write(tree.join("ro/a/file"), "x").unwrap();
        std::os::unix::fs::symlink(&outside, tree.join("ro/link")).unwrap();
        for folder in ["ro/a/b", "ro/a", "ro", ""] {
            mode(&tree.join(folder), if folder == "ro/a/b" { 0 } else { 0o500 });
        }
        let trash = Trash::new(dir.path().join("trash"));
        assert!(trash.take(&tree).unwrap());
        assert!(!tree.exists());
        let taken = std::fs::read_dir(dir.path().join("trash")).unwrap().next().unwrap().unwrap();
        remove(&taken.path()).unwrap();
        assert!(!taken.path().exists());
        assert!(outside.join("kept").exists());
        assert_eq!(outside.metadata().unwrap().permissions().mode() & 0o777, 0o500);
        assert!(!trash.take(&tree).unwrap(), "a missing folder is no error");
        mode(&outside, 0o700);
    }
}
