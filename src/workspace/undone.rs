//! Finds changes of others that a run would undo: by a merge that keeps only its own side
//! (`-s ours`), or by a commit on top of them with older files (`git reset --soft`).

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use git2::{Commit, DiffOptions, Oid, Repository, Tree};

use super::WorkspaceError;
use crate::core::model::id::Sha;

/// The most merges of a run that are replayed.
const MERGES_LIMIT: usize = 200;

/// A file as a tree names it.
type TreeFile = Option<(Oid, i32)>;

/// The paths in which the commits of a run, the last of which is `head`, undo what the upstream
/// changed between `start` and `fork`, or what one of their merges brought.
///
/// # Errors
/// libgit2 can't read the base, or the run has too many merges.
pub(super) fn find(
    base: &Path,
    start: &Sha,
    fork: &Sha,
    upstream: &Sha,
    own: &[Sha],
    head: &Sha,
) -> Result<Vec<Vec<u8>>, WorkspaceError> {
    let repo = Repository::open_bare(base)?;
    let id = |sha: &Sha| Oid::from_str(&sha.0);
    let [start, fork] = [repo.find_commit(id(start)?)?, repo.find_commit(id(fork)?)?];
    let (upstream, head) = (repo.find_commit(id(upstream)?)?, repo.find_commit(id(head)?)?);
    let mut found = BTreeSet::new();
    reverted(&repo, &start, &fork, &head, &mut found)?;
    let mut merges = 0;
    for sha in own {
        let commit = repo.find_commit(id(sha)?)?;
        if commit.parent_count() < 2 {
            continue;
        }
        merges += 1;
        if merges > MERGES_LIMIT {
            let why = format!("the run has more than {MERGES_LIMIT} merges");
            return Err(WorkspaceError::Refused { why });
        }
        merged(&repo, &upstream, &commit, &mut found)?;
    }
    Ok(found.into_iter().collect())
}

/// Adds the paths that others changed from `start` to `fork` and that `head` has as in `start`.
fn reverted(
    repo: &Repository,
    start: &Commit<'_>,
    fork: &Commit<'_>,
    head: &Commit<'_>,
    found: &mut BTreeSet<Vec<u8>>,
) -> Result<(), WorkspaceError> {
    if start.id() == fork.id() {
        return Ok(());
    }
    let [before, theirs, ours] = [start.tree()?, fork.tree()?, head.tree()?];
    let moved = contents(repo, &theirs, &ours)?;
    for path in changed(repo, &before, &theirs)? {
        let pushed = entry(&theirs, &path);
        let now = entry(&ours, &path);
        // The file of others may have moved.
        let has_moved = pushed.is_some_and(|(content, _)| moved.contains(&content));
        if now == entry(&before, &path) && now != pushed && !has_moved {
            found.insert(path);
        }
    }
    Ok(())
}

/// Adds the paths in which a merge keeps one parent's file, although another parent brings a change
/// of the upstream to it that a plain merge would take over.
fn merged(
    repo: &Repository,
    upstream: &Commit<'_>,
    merge: &Commit<'_>,
    found: &mut BTreeSet<Vec<u8>>,
) -> Result<(), WorkspaceError> {
    let result = merge.tree()?;
    for ours in merge.parents() {
        for brings in merge.parents().filter(|other| other.id() != ours.id()) {
            // The newest commit of others that the parent brings.
            let Ok(theirs) = repo.merge_base(brings.id(), upstream.id()) else { continue };
            let Ok(before) = repo.merge_base(ours.id(), theirs) else { continue };
            if before == theirs {
                continue;
            }
            let theirs = repo.find_commit(theirs)?;
            let [kept_from, brought] = [ours.tree()?, theirs.tree()?];
            let plain = repo.merge_commits(&ours, &theirs, None)?;
            for path in changed(repo, &repo.find_commit(before)?.tree()?, &brought)? {
                let kept = entry(&kept_from, &path);
                if entry(&result, &path) != kept || kept == entry(&brought, &path) {
                    continue;
                }
                let name = Path::new(OsStr::from_bytes(&path));
                let conflicts = (1..=3).any(|stage| plain.get_path(name, stage).is_some());
                let merged = plain.get_path(name, 0).map(|entry| entry.id);
                if conflicts || merged != kept.map(|(content, _)| content) {
                    found.insert(path);
                }
            }
        }
    }
    Ok(())
}

/// The paths of files that differ between two trees.
fn changed(
    repo: &Repository,
    from: &Tree<'_>,
    to: &Tree<'_>,
) -> Result<Vec<Vec<u8>>, WorkspaceError> {
    let mut options = DiffOptions::new();
    options.include_typechange(true).skip_binary_check(true).ignore_submodules(false);
    let diff = repo.diff_tree_to_tree(Some(from), Some(to), Some(&mut options))?;
    let path = |delta: git2::DiffDelta<'_>| {
        let file =
            if delta.new_file().id().is_zero() { delta.old_file() } else { delta.new_file() };
        file.path_bytes().map(<[u8]>::to_vec)
    };
    Ok(diff.deltas().filter_map(path).collect())
}

/// The contents of the files that `to` has and `from` lacks at their paths.
fn contents(
    repo: &Repository,
    from: &Tree<'_>,
    to: &Tree<'_>,
) -> Result<BTreeSet<Oid>, WorkspaceError> {
    let mut options = DiffOptions::new();
    options.include_typechange(true).skip_binary_check(true);
    let diff = repo.diff_tree_to_tree(Some(from), Some(to), Some(&mut options))?;
    Ok(diff.deltas().map(|delta| delta.new_file().id()).filter(|id| !id.is_zero()).collect())
}

fn entry(tree: &Tree<'_>, path: &[u8]) -> TreeFile {
    let found = tree.get_path(Path::new(OsStr::from_bytes(path))).ok()?;
    Some((found.id(), found.filemode()))
}
