//! Throwaway clones for ad-hoc jobs: local, with hard-linked objects, gone afterwards.

use std::path::Path;

use super::WorkspaceError;
use super::base::{Base, configuration, refuse_link};
use crate::core::model::id::Sha;

/// Makes a clone of a commit of the base's in `dir`, with `origin` pointing at `remote`.
///
/// # Errors
/// [`WorkspaceError`].
pub async fn make(base: &Base, dir: &Path, remote: &str, sha: &Sha) -> Result<(), WorkspaceError> {
    refuse_link(dir)?;
    remove(dir)?;
    let parent = dir.parent().unwrap_or(dir);
    std::fs::create_dir_all(parent).map_err(WorkspaceError::io(parent))?;
    let up = base.git().at(parent);
    let args: [&std::ffi::OsStr; 6] = [
        "clone".as_ref(),
        "--quiet".as_ref(),
        "--local".as_ref(),
        "--no-checkout".as_ref(),
        base.dir().as_os_str(),
        dir.as_os_str(),
    ];
    up.call(&args).await?;
    // All of its configuration at once, instead of a call of git for each line.
    let path = dir.join(".git/config");
    std::fs::write(&path, configuration(remote, false)).map_err(WorkspaceError::io(&path))?;
    // A local clone takes all objects along, those that no branch of the base names among them.
    base.git().at(dir).call(&["checkout", "--quiet", "--detach", &sha.0]).await.map(|_| ())
}

/// Unlocks what a clone has under git-crypt.
///
/// # Errors
/// [`WorkspaceError`]: the program is missing, or the key is not the clone's.
pub async fn unlock(base: &Base, dir: &Path, key: &Path) -> Result<(), WorkspaceError> {
    let args: [&std::ffi::OsStr; 3] = ["crypt".as_ref(), "unlock".as_ref(), key.as_os_str()];
    base.git().at(dir).call(&args).await.map(|_| ())
}

/// Removes a clone; one that is gone is as good.
///
/// # Errors
/// [`WorkspaceError`].
pub fn remove(dir: &Path) -> Result<(), WorkspaceError> {
    refuse_link(dir)?;
    match std::fs::remove_dir_all(dir) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(WorkspaceError::io(dir)(e)),
        _ => Ok(()),
    }
}
