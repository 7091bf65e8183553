//! Evidence that stays: a dirty tree as a commit, and the capsule of a freeze.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::path::Path;

use super::WorkspaceError;
use super::git::{Git, OUR_IDENTITY};
use crate::core::model::digest::Digest;
use crate::core::model::id::Sha;

/// Commits everything in a worktree, untracked files too, under `name`, and changes neither the
/// worktree nor its index.
///
/// # Errors
/// [`WorkspaceError`].
pub async fn snapshot(git: &Git, name: &str) -> Result<Sha, WorkspaceError> {
    let index = std::env::temp_dir().join(format!(
        "afk-index-{}-{}",
        std::process::id(),
        Digest::of(&[name.as_bytes(), git.dir().as_os_str().as_encoded_bytes()]).short()
    ));
    let env: [(&str, &OsStr); 1] = [("GIT_INDEX_FILE", index.as_os_str())];
    let kept = async {
        git.call_with(&["read-tree", "HEAD"], &env).await?;
        git.call_with(&["add", "--all"], &env).await?;
        let tree = git.call_with(&["write-tree"], &env).await?;
        let message = "Keep a worktree as it was";
        let sha = git
            .call_with(&["commit-tree", &tree, "-p", "HEAD", "-m", message], &*OUR_IDENTITY)
            .await?;
        git.call(&["update-ref", name, &sha]).await?;
        Ok(Sha(sha))
    };
    let kept = kept.await;
    // It may never have been made.
    let _ = std::fs::remove_file(&index);
    kept
}

/// Commits what is staged in a worktree under `name`; neither the worktree nor its index changes.
///
/// # Errors
/// [`WorkspaceError`]: also where the index holds a conflict, which has no tree.
pub async fn index(git: &Git, name: &str) -> Result<Sha, WorkspaceError> {
    let tree = git.call(&["write-tree"]).await?;
    let message = "Keep an index as it was";
    let sha =
        git.call_with(&["commit-tree", &tree, "-p", "HEAD", "-m", message], &*OUR_IDENTITY).await?;
    git.call(&["update-ref", name, &sha]).await?;
    Ok(Sha(sha))
}

/// Writes a capsule: the files given by name, and a manifest with the digest of each.
///
/// # Errors
/// [`WorkspaceError::Io`].
pub fn write(folder: &Path, files: &[(&str, Vec<u8>)]) -> Result<Digest, WorkspaceError> {
    std::fs::create_dir_all(folder).map_err(WorkspaceError::io(folder))?;
    let mut manifest = String::new();
    for (name, bytes) in files {
        let path = folder.join(name);
        std::fs::write(&path, bytes).map_err(WorkspaceError::io(&path))?;
        // As `sha256sum --check` reads it. Writing to a string can't fail.
        let _ = writeln!(manifest, "{}  {name}", Digest::of_bytes(bytes));
    }
    let path = folder.join("SHA256SUMS");
    std::fs::write(&path, &manifest).map_err(WorkspaceError::io(&path))?;
    Ok(Digest::of_bytes(manifest.as_bytes()))
}
