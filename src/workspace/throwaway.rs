//! Throwaway clones for ad-hoc jobs: local, with hard-linked objects, gone afterwards.

use std::path::{Path, PathBuf};

use super::WorkspaceError;
use super::base::{Base, NO_PUSH, refuse_link};
use crate::core::id::Sha;

/// Makes a clone of the base's upstream in `dir`, with `origin` pointing at `remote`.
///
/// # Errors
/// [`WorkspaceError`].
pub async fn make(base: &Base, dir: &Path, remote: &str) -> Result<Sha, WorkspaceError> {
    refuse_link(dir)?;
    remove(dir)?;
    let parent = dir.parent().unwrap_or(dir);
    std::fs::create_dir_all(parent).map_err(WorkspaceError::io(parent))?;
    let sha = base.fetch().await?;
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
    Ok(sha)
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
