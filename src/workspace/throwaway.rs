//! Throwaway clones for ad-hoc jobs: local clones of the base with hard-linked objects, which the
//! runtime removes after the job.

use std::path::Path;

use super::WorkspaceError;
use super::base::{Base, configuration, refuse_link};
use crate::core::model::id::Sha;

/// Clones the base into `dir`, checks `sha` out, and points `origin` at `remote`.
pub(crate) async fn make(
    base: &Base,
    dir: &Path,
    remote: &str,
    sha: &Sha,
) -> Result<(), WorkspaceError> {
    refuse_link(dir)?;
    remove(dir)?;
    let parent = dir.parent().unwrap_or(dir);
    std::fs::create_dir_all(parent).map_err(WorkspaceError::io(parent))?;
    let git = base.git().at(parent);
    let args: [&std::ffi::OsStr; 6] = [
        "clone".as_ref(),
        "--quiet".as_ref(),
        "--local".as_ref(),
        "--no-checkout".as_ref(),
        base.dir().as_os_str(),
        dir.as_os_str(),
    ];
    git.call(&args).await?;
    // One write replaces a call of git for each line of the configuration.
    let path = dir.join(".git/config");
    std::fs::write(&path, configuration(remote, false)).map_err(WorkspaceError::io(&path))?;
    // A local clone has all objects of the base, including those that no branch names.
    base.git().at(dir).call(&["checkout", "--quiet", "--detach", &sha.0]).await.map(|_| ())
}

/// Decrypts the files of a clone that git-crypt has encrypted.
///
/// # Errors
/// git-crypt is missing, or the key does not fit the repository.
pub(crate) async fn unlock(base: &Base, dir: &Path, key: &Path) -> Result<(), WorkspaceError> {
    let args: [&std::ffi::OsStr; 3] = ["crypt".as_ref(), "unlock".as_ref(), key.as_os_str()];
    base.git().at(dir).call(&args).await.map(|_| ())
}

/// Removes a clone; does nothing for a missing one.
pub(crate) fn remove(dir: &Path) -> Result<(), WorkspaceError> {
    refuse_link(dir)?;
    match std::fs::remove_dir_all(dir) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(WorkspaceError::io(dir)(e)),
        _ => Ok(()),
    }
}
