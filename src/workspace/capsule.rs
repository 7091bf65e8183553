//! Preserves evidence: the files or the index of a workspace as a commit, and the capsule of a
//! frozen run as a folder of files with their digests.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::path::Path;

use super::WorkspaceError;
use super::git::OUR_IDENTITY;
use super::leftovers::{argument, status};
use super::walled_git::WalledGit;
use crate::core::model::digest::Digest;
use crate::core::model::id::Sha;

/// Adds the files of a nested repository to the index: as files, without its `.git`.
const ADD_NESTED: &str = "find \"./$1\" -name .git -prune -o \\( -type f -o -type l \\) -print0 | \
    git update-index --add --replace -z --stdin";

/// The commit of a workspace as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct WorkspaceSnapshot {
    pub commit: Sha,
    /// The commit that the workspace has checked out; none on a branch without commits.
    pub head: Option<Sha>,
    /// Whether the files differ from that commit.
    pub dirty: bool,
}

/// Commits everything in a workspace, including untracked files and the files of nested
/// repositories, in the workspace's own repository. Changes neither the files nor the index.
pub(crate) async fn snapshot(git: &WalledGit) -> Result<WorkspaceSnapshot, WorkspaceError> {
    git.break_locks().await?;
    let index = git.dir().join(".git/afk-index");
    let env = [("GIT_INDEX_FILE", index.display().to_string())];
    let head = git.commit("HEAD").await?;
    let from = if head.is_some() { "HEAD" } else { "--empty" };
    git.call_bytes(&["read-tree", from], &env).await?;
    let mut nested = status(git, &env).await?.nested;
    let links = git.call_bytes(&["ls-files", "--stage", "-z"], &env).await?;
    nested.extend(links.split(|byte| *byte == 0).filter_map(|entry| {
        let path = entry.splitn(2, |byte| *byte == b'\t').nth(1)?;
        entry.starts_with(b"160000 ").then(|| path.to_vec())
    }));
    let mut add: Vec<Vec<u8>> = ["add", "--all", "--ignore-errors", "--", "."]
        .iter()
        .map(|word| word.as_bytes().to_vec())
        .collect();
    add.extend(nested.iter().map(|path| [b":(exclude,literal)", path.as_slice()].concat()));
    let add: Vec<&OsStr> = add.iter().map(|word| argument(word)).collect();
    // It fails for a file that can't be read, and adds the others.
    git.ask_with(&add, &env).await?;
    for path in &nested {
        // A link to a repository that is not here has no files, and stays a link.
        git.shell(ADD_NESTED, &[argument(path)], &env).await?;
    }
    let tree = super::without_line_break(&git.call_bytes(&["write-tree"], &env).await?);
    let commit = commit_tree(git, &tree, head.as_ref(), "Keep a worktree as it was").await?;
    let dirty = match &head {
        Some(_) => !git.ask(&["diff-tree", "--quiet", "HEAD", &commit.0]).await?.ok,
        None => true,
    };
    Ok(WorkspaceSnapshot { commit, head, dirty })
}

/// Commits the index of a workspace in the workspace's own repository, which changes neither the
/// files nor the index.
///
/// # Errors
/// git fails, also for an index with a conflict, which has no tree.
pub(crate) async fn index(git: &WalledGit) -> Result<Sha, WorkspaceError> {
    let tree = git.call(&["write-tree"]).await?;
    let head = git.commit("HEAD").await?;
    commit_tree(git, &tree, head.as_ref(), "Keep an index as it was").await
}

async fn commit_tree(
    git: &WalledGit,
    tree: &str,
    parent: Option<&Sha>,
    message: &str,
) -> Result<Sha, WorkspaceError> {
    let mut args = vec!["commit-tree", tree, "-m", message];
    args.extend(parent.iter().flat_map(|parent| ["-p", &parent.0]));
    let us: Vec<(&str, String)> = OUR_IDENTITY
        .iter()
        .map(|(name, value)| (*name, value.to_string_lossy().into_owned()))
        .collect();
    let commit = super::without_line_break(&git.call_bytes(&args, &us).await?);
    let none = || WorkspaceError::Git {
        subcommand: "commit-tree".into(),
        message: "it made no commit".into(),
    };
    git.commit(&commit).await?.ok_or_else(none)
}

/// Writes a capsule: the named files, and `SHA256SUMS` with the digest of each. Returns the digest
/// of this manifest.
pub(crate) fn write(folder: &Path, files: &[(&str, Vec<u8>)]) -> Result<Digest, WorkspaceError> {
    std::fs::create_dir_all(folder).map_err(WorkspaceError::io(folder))?;
    let mut manifest = String::new();
    for (name, bytes) in files {
        let path = folder.join(name);
        std::fs::write(&path, bytes).map_err(WorkspaceError::io(&path))?;
        // The format of `sha256sum --check`. Writing to a string can't fail.
        let _ = writeln!(manifest, "{}  {name}", Digest::of_bytes(bytes));
    }
    let path = folder.join("SHA256SUMS");
    std::fs::write(&path, &manifest).map_err(WorkspaceError::io(&path))?;
    Ok(Digest::of_bytes(manifest.as_bytes()))
}
