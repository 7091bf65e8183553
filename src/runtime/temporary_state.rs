//! A state folder for breakglass where the journal's own can't be used. It lasts as long as the command:
//! no other process finds what is in it.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// The most names that are tried.
const NAMES: u32 = 100;

/// A folder that only its owner can open. Dropping it removes it.
#[derive(Debug)]
pub(super) struct TemporaryState(PathBuf);

impl TemporaryState {
    /// Creates the folder in `parent`, which other users may write to.
    ///
    /// # Errors
    /// The path that can't be created, with the error of the system.
    pub(super) fn create(parent: &Path) -> Result<Self, (PathBuf, io::Error)> {
        let mut number = 0;
        loop {
            let name = format!("afk-breakglass-{}-{number}", std::process::id());
            let path = parent.join(name);
            // Takes no folder and follows no link that somebody else has put there.
            match DirBuilder::new().mode(0o700).create(&path) {
                Ok(()) => return Ok(Self(path)),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists && number < NAMES => {
                    number += 1;
                }
                Err(error) => return Err((path, error)),
            }
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for TemporaryState {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            tracing::warn!(%error, path = %self.0.display(), "a temporary folder was not removed");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn folder_is_its_owners_alone_and_ends_with_its_value() {
        let parent = tempfile::tempdir().unwrap();
        let first = TemporaryState::create(parent.path()).unwrap();
        let mode = std::fs::metadata(first.path()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
        std::fs::create_dir_all(first.path().join("breakglass/captures")).unwrap();
        std::fs::write(first.path().join("breakglass/captures/a"), "a").unwrap();
        let path = first.path().to_owned();
        drop(first);
        assert!(!path.exists());
        assert_eq!(std::fs::read_dir(parent.path()).unwrap().count(), 0);
    }

    #[test]
    fn folder_and_link_of_somebody_else_are_left_alone() {
        let (parent, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let name =
            |number| parent.path().join(format!("afk-breakglass-{}-{number}", std::process::id()));
        std::fs::create_dir(name(0)).unwrap();
        symlink(other.path(), name(1)).unwrap();
        let own = TemporaryState::create(parent.path()).unwrap();
        assert_eq!(own.path(), name(2));
        std::fs::write(own.path().join("a"), "a").unwrap();
        drop(own);
        assert!(name(0).exists() && name(1).exists() && !name(2).exists());
        assert_eq!(std::fs::read_dir(other.path()).unwrap().count(), 0);
        let (path, _) = TemporaryState::create(&parent.path().join("missing")).unwrap_err();
        assert!(path.starts_with(parent.path()));
    }
}
