//! The state in which an agent leaves its workspace: the changes that it did not commit, and the
//! obstacles that only it can remove. Everything here runs inside the sandbox.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use super::walled_git::WalledGit;
use super::{WorkspaceError, shown};

/// The files of `.git` that exist while an operation is in progress, and the operation.
const OPERATIONS: [(&str, &str); 6] = [
    ("MERGE_HEAD", "a merge"),
    ("CHERRY_PICK_HEAD", "a cherry-pick"),
    ("REVERT_HEAD", "a revert"),
    ("BISECT_START", "a bisection"),
    ("rebase-merge", "a rebase"),
    ("rebase-apply", "a rebase"),
];
/// The most paths that a message names.
const NAMED: usize = 20;

/// Commits the changes that the agent left uncommitted, with the title as the subject.
///
/// # Errors
/// [`WorkspaceError::Unfit`] for a state that can't become a commit, with the paths; an error of
/// git.
pub(crate) async fn commit(git: &WalledGit, title: &str) -> Result<(), WorkspaceError> {
    git.break_locks().await?;
    refuse_operation(git).await?;
    let changed = status(git, &[]).await?;
    if !changed.nested.is_empty() {
        let (are, paths) = (folders(changed.nested.len()), list(&changed.nested));
        return Err(WorkspaceError::Unfit {
            why: format!(
                "{are}, so no commit of yours can contain the files: {paths}. Delete the `.git` \
                 inside to make them files of this repository, or delete them."
            ),
        });
    }
    if !changed.any {
        return Ok(());
    }
    git.call(&["add", "--all"]).await?;
    if git.ask(&["diff-index", "--cached", "--quiet", "HEAD"]).await?.ok {
        return Ok(());
    }
    let subject = if title.trim().is_empty() { "Work on the issue" } else { title };
    git.call(&["commit", "--quiet", "--no-verify", "-m", subject]).await?;
    Ok(())
}

fn folders(count: usize) -> &'static str {
    if count == 1 {
        "A folder is a git repository of its own"
    } else {
        "Folders are git repositories of their own"
    }
}

/// Refuses an index with conflicts, and an operation that the agent has begun and not finished.
async fn refuse_operation(git: &WalledGit) -> Result<(), WorkspaceError> {
    let listed = git.call_bytes(&["ls-files", "--unmerged", "-z"], &[]).await?;
    let path = |entry: &[u8]| entry.split(|byte| *byte == b'\t').nth(1).map(<[u8]>::to_vec);
    let unmerged: BTreeSet<Vec<u8>> = listed.split(|byte| *byte == 0).filter_map(path).collect();
    if !unmerged.is_empty() {
        let paths = list(&unmerged.into_iter().collect::<Vec<_>>());
        let why = format!("Conflicts are not resolved in: {paths}. Resolve them and commit.");
        return Err(WorkspaceError::Unfit { why });
    }
    let line = "for name do if [ -e \".git/$name\" ]; then echo \"$name\"; fi; done";
    let names = OPERATIONS.map(|(name, _)| OsStr::new(name));
    let found = git.shell(line, &names, &[]).await?.text();
    let found = OPERATIONS.iter().find(|(name, _)| found.lines().any(|line| line == *name));
    match found {
        Some((_, operation)) => Err(WorkspaceError::Unfit {
            why: format!("You have begun {operation} and not finished it. Finish or abort it."),
        }),
        None => Ok(()),
    }
}

/// The result of `git status`.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Status {
    /// Whether anything differs from `HEAD`.
    pub any: bool,
    /// The number of changed paths.
    pub count: usize,
    /// Untracked folders that are repositories of their own, without a slash at the end.
    pub nested: Vec<Vec<u8>>,
}

/// Lists the changes of a workspace. Untracked files count one by one, ignored ones don't.
pub(super) async fn status(
    git: &WalledGit,
    env: &[(&str, String)],
) -> Result<Status, WorkspaceError> {
    let args = ["status", "--porcelain=v1", "-z", "--no-renames", "--untracked-files=all"];
    Ok(parse(&git.call_bytes(&args, env).await?))
}

fn parse(listed: &[u8]) -> Status {
    let mut status = Status::default();
    for entry in listed.split(|byte| *byte == 0).filter(|entry| entry.len() > 3) {
        status.any = true;
        status.count += 1;
        // With all untracked files listed one by one, only a repository is listed as a folder.
        if let Some(folder) = entry.strip_prefix(b"?? ").and_then(|path| path.strip_suffix(b"/")) {
            status.nested.push(folder.to_vec());
        }
    }
    status
}

/// Paths for a message.
pub(crate) fn list(paths: &[Vec<u8>]) -> String {
    let mut names: Vec<String> = paths.iter().take(NAMED).map(|path| shown(path)).collect();
    if paths.len() > NAMED {
        names.push(format!("and {} more", paths.len() - NAMED));
    }
    names.join(", ")
}

/// The number of changed files, and of commits that the remote's branch lacks, for the screen.
///
/// # Errors
/// git fails, or the repository lacks the branch.
pub(crate) async fn counts(
    git: &WalledGit,
    upstream: &str,
) -> Result<(usize, usize), WorkspaceError> {
    // A lock of ours would make the agent's own git fail.
    let dirty = status(git, &[("GIT_OPTIONAL_LOCKS", "0".into())]).await?.count;
    let ahead = git.call(&["rev-list", "--count", &format!("{upstream}..HEAD")]).await?;
    Ok((dirty, ahead.parse().unwrap_or(0)))
}

/// A path of a repository as an argument.
pub(super) fn argument(path: &[u8]) -> &OsStr {
    OsStr::from_bytes(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parse_tells_nested_repositories_from_files() {
        let status = parse(b"?? sub/\0?? new\nline\0 M caf\xe9\0A  sub/\0");
        assert_eq!(status.nested, [b"sub".to_vec()]);
        assert_eq!((status.any, status.count), (true, 4));
        assert_eq!(parse(b""), Status::default());
    }

    #[test]
    fn list_escapes_bytes_and_bounds_its_length() {
        assert_eq!(list(&[b"caf\xe9".to_vec(), b"a\nb".to_vec()]), "caf\\xe9, a\\nb");
        assert!(list(&vec![b"x".to_vec(); 30]).ends_with("x, and 10 more"));
    }
}
