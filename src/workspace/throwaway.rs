//! Throwaway clones for ad-hoc jobs: local, with hard-linked objects, gone afterwards.

use std::path::{Path, PathBuf};

use super::WorkspaceError;
use super::base::{Base, NO_PUSH, refuse_link};
use crate::core::id::Sha;

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
    let git = base.git().at(dir);
    git.call(&["remote", "set-url", "origin", remote]).await?;
    git.call(&["remote", "set-url", "--push", "origin", NO_PUSH]).await?;
    // The base has the upstream's branches as remote ones, which a clone does not take along.
    let objects: PathBuf = base.dir().to_owned();
    let fetch: [&std::ffi::OsStr; 4] =
        ["fetch".as_ref(), "--quiet".as_ref(), objects.as_os_str(), sha.0.as_ref()];
    git.call(&fetch).await?;
    git.call(&["checkout", "--quiet", "--detach", &sha.0]).await?;
    Ok(())
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
