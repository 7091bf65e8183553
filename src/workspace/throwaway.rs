//! Throwaway clones for ad-hoc jobs: trees of their own with borrowed objects, which the runtime
//! removes after the job. Once the job has begun, afk's git never works there.

use std::path::Path;

use super::WorkspaceError;
use super::base::{Base, refuse_link};
use super::pool::{FreshTree, REFERENCES_LIMIT};
use super::repository::{self, NewRepository};
use super::trash;
use super::walled_git::WalledGit;
use crate::core::model::id::Sha;

/// The repository that takes the pushes of a job, below the `.git` of its clone. To the job it looks
/// like the remote, with the remote's branches.
const PUSHES: &str = "afk-pushes.git";
/// The references in a clone for the branches and tags of [`PUSHES`].
pub(crate) const PUSHED: &str = "refs/afk-pushes";

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
        // A destination without `refs/heads/`, and a deletion, mean a branch that the remote has.
        let mut lines = String::from("# pack-refs with: sorted \n");
        for (branch, newest) in branches(base).await? {
            // Where others have pushed since, afk rebases.
            let at = if branch == base.branch() { &sha.0 } else { &newest };
            lines.push_str(&format!("{at} refs/heads/{branch}\n"));
        }
        repository::write(&pushes.join("packed-refs"), &lines)?;
        let head = format!("ref: refs/heads/{}\n", base.branch());
        repository::write(&pushes.join("HEAD"), &head)?;
        tree.push_to(&pushes)?;
    }
    Ok(())
}

/// The branches of the remote as of the last fetch, each with its commit, in order of their names.
async fn branches(base: &Base) -> Result<Vec<(String, String)>, WorkspaceError> {
    let format = "--format=%(objectname) %(refname:lstrip=3)";
    let count = format!("--count={REFERENCES_LIMIT}");
    let list = ["for-each-ref", format, "--sort=refname", &count, "refs/remotes/origin"];
    let listed = base.git().call(&list).await?;
    let pairs = listed.lines().filter_map(|line| line.split_once(' '));
    let branches = pairs.filter(|(_, name)| *name != "HEAD");
    Ok(branches.map(|(sha, name)| (name.to_owned(), sha.to_owned())).collect())
}

/// Brings the commits that a job pushed into its clone, under [`PUSHED`]: they may come from another
/// clone.
///
/// # Errors
/// git can't read the repository that took the pushes.
pub(crate) async fn fetch_pushes(git: &WalledGit) -> Result<(), WorkspaceError> {
    let pushes = git.dir().join(".git").join(PUSHES);
    if std::fs::symlink_metadata(&pushes).is_err() {
        return Ok(());
    }
    let from = pushes.display().to_string();
    let (heads, tags) =
        (format!("+refs/heads/*:{PUSHED}/heads/*"), format!("+refs/tags/*:{PUSHED}/tags/*"));
    let fetch = ["fetch", "--quiet", "--no-tags", "--no-write-fetch-head"];
    let fetch: Vec<&str> = fetch.into_iter().chain([from.as_str(), &heads, &tags]).collect();
    git.call(&fetch).await.map(|_| ())
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
