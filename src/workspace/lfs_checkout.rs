//! The files of a fresh tree that Git LFS keeps elsewhere.
//!
//! afk's git-lfs downloads them into a folder of afk's own, and git's checkout replaces the pointers.
//! `.lfsconfig` decides where they come from, so it must be that of the run's base.

use std::path::Path;
use std::time::Duration;

use super::base::Base;
use super::pool::FreshTree;
use super::{WorkspaceError, lfs};
use crate::core::model::id::Sha;

/// The filter as `git lfs install` sets it.
const FILTER: &str = "[filter \"lfs\"]\n\tclean = git-lfs clean -- %f\n\tsmudge = git-lfs smudge -- %f\n\
                      \tprocess = git-lfs filter-process\n\trequired = true\n";

/// Replaces the pointers of a fresh tree, which is at `commit`, by the files. `trusted` is the commit
/// whose `.lfsconfig` counts. The download takes at most `limit`.
///
/// # Errors
/// [`WorkspaceError::Unfit`] if git-lfs is missing, or `.lfsconfig` differs; an error of git.
pub(crate) async fn check_out(
    base: &Base,
    tree: &FreshTree,
    commit: &Sha,
    trusted: &Sha,
    limit: Duration,
) -> Result<(), WorkspaceError> {
    let git = tree.git();
    if !lfs::in_use(base.git(), commit).await? {
        return Ok(());
    }
    // A program of that name that doesn't run is as good as none.
    if !git.ask(&["lfs", "version"]).await?.ok {
        return Err(WorkspaceError::MissingLfs);
    }
    let differs = ["diff-tree", "--quiet", &trusted.0, &commit.0, "--", ".lfsconfig"];
    if !base.git().ask(&differs).await?.ok {
        let why = "`.lfsconfig` decides where afk fetches files from; a run can't change it.";
        return Err(WorkspaceError::Unfit { why: why.into() });
    }
    // What afk has taken from a workspace lies there as well.
    let storage = base.dir().join("lfs");
    tree.configure(&format!("[lfs]\n\tstorage = \"{}\"\n", quoted(&storage)))?;
    let download = git.by_folder().interruptible(limit);
    let fetched = download.reach(&["lfs", "fetch", "origin", &commit.0]).await?;
    fetched.success("lfs fetch")?;
    tree.configure(FILTER)?;
    // Without an index, git writes every file again, this time through the filter.
    let index = git.git_dir().join("index");
    std::fs::remove_file(&index).map_err(WorkspaceError::io(&index))?;
    git.interruptible(limit).call(&["reset", "--quiet", "--hard"]).await?;
    // What an agent adds stays in its workspace.
    tree.configure("[lfs]\n\tstorage = lfs\n")
}

fn quoted(path: &Path) -> String {
    path.display().to_string().replace('\\', "\\\\").replace('"', "\\\"")
}
