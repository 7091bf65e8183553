//! Throwaway clones for ad-hoc jobs: trees of their own with borrowed objects, which the runtime
//! removes after the job. Once the job has begun, afk's git never works there.

use std::path::Path;

use super::WorkspaceError;
use super::base::{Base, refuse_link};
use super::pool::FreshTree;
use super::repository::NewRepository;
use super::trash;
use crate::core::model::id::Sha;

/// The repository that takes the pushes of a job, below the `.git` of its clone.
const PUSHES: &str = "afk-pushes.git";

/// Clones the base into `dir` with `sha` on the branch checked out, and points `origin` at the remote.
/// With `takes_pushes`, the job's own `git push` succeeds and reaches only the clone itself: afk
/// pushes the commits once the job is done.
pub(crate) async fn make(
    base: &Base,
    dir: &Path,
    sha: &Sha,
    takes_pushes: bool,
) -> Result<(), WorkspaceError> {
    refuse_link(dir)?;
    remove(dir)?;
    let tree = FreshTree::on_branch(base, dir, sha).await?;
    if takes_pushes {
        let pushes = tree.git().git_dir().join(PUSHES);
        NewRepository { bare: true, remote: None, borrows: Some(base.dir()) }.write(&pushes)?;
        tree.push_to(&pushes)?;
    }
    Ok(())
}

/// Decrypts the files of a clone that git-crypt has encrypted. Call it before the job begins.
///
/// # Errors
/// git-crypt is missing, or the key does not fit the repository.
pub(crate) async fn unlock(base: &Base, dir: &Path, key: &Path) -> Result<(), WorkspaceError> {
    let args: [&std::ffi::OsStr; 3] = ["crypt".as_ref(), "unlock".as_ref(), key.as_os_str()];
    base.git().in_tree(dir).call(&args).await.map(|_| ())
}

/// Removes a clone, whatever permissions the job left; does nothing for a missing one.
pub(crate) fn remove(dir: &Path) -> Result<(), WorkspaceError> {
    refuse_link(dir)?;
    trash::remove(dir).map_err(WorkspaceError::io(dir))
}
