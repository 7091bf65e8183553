//! Finds in the commits of a run what no change should contain and no secret is: conflict markers,
//! crash dumps, and files that programs left behind.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use git2::{Delta, DiffOptions, FileMode, ObjectType, Oid, Repository, Tree};
use globset::GlobSet;

use super::change::globs;
use super::droppings::{dropping, is_core};
use super::{WorkspaceError, shown};
use crate::config::repository::GateConfig;
use crate::core::model::id::Sha;

/// The largest file that is searched for conflict markers.
const SEARCH_LIMIT: usize = 8 * 1024 * 1024;
/// The most places that are named.
const NAMED: usize = 20;

/// The lines that a conflict begins with, is divided by and ends with.
const MARKERS: [&[u8]; 3] = [b"<<<<<<< ", b"=======", b">>>>>>> "];

/// A paragraph for the agent for each kind of finding in the commits of a run, given parents first,
/// that begin at `fork` and end at `head`.
///
/// # Errors
/// libgit2 can't read the base.
pub(super) fn find(
    base: &Path,
    fork: &Sha,
    own: &[Sha],
    head: &Sha,
    gate: &GateConfig,
) -> Result<Vec<String>, WorkspaceError> {
    let repo = Repository::open_bare(base)?;
    let id = |sha: &Sha| Oid::from_str(&sha.0);
    let tree = repo.find_commit(id(fork)?)?.tree()?;
    let search = Search { repo: &repo, fork: tree, exempt: globs(&gate.scan_exempt) };
    let mut lines = Vec::new();
    let conflicts = search.conflicts(&repo.find_commit(id(head)?)?.tree()?)?;
    if !conflicts.is_empty() {
        lines.push(format!(
            "Conflict markers are left in: {}. Resolve the conflicts and commit.",
            named(&conflicts)
        ));
    }
    let left = search.left(own, id(head)?)?;
    if !left.is_empty() {
        let start = fork.short();
        lines.push(format!(
            "Your commits hold files that are no part of a change: {}. Every commit is pushed, so \
             take them out of all of your commits (for example with `git reset --soft {start}`), \
             and delete or ignore them.",
            named(&left)
        ));
    }
    Ok(lines)
}

/// Places for a message, bounded.
fn named(places: &BTreeSet<String>) -> String {
    let mut text: Vec<String> = places.iter().take(NAMED).cloned().collect();
    if places.len() > NAMED {
        text.push(format!("and {} more", places.len() - NAMED));
    }
    text.join(", ")
}

struct Search<'a> {
    repo: &'a Repository,
    /// The files that the run began from.
    fork: Tree<'a>,
    exempt: GlobSet,
}

impl Search<'_> {
    /// The places of conflicts that the head has and the fork has not.
    fn conflicts(&self, head: &Tree<'_>) -> Result<BTreeSet<String>, WorkspaceError> {
        let mut places = BTreeSet::new();
        for (path, old, new) in self.changes(&self.fork, head)? {
            let Some(line) = self.conflict(new)? else { continue };
            // A text about conflicts had one before.
            if (!old.is_zero() && self.conflict(old)?.is_some()) || self.exempts(&path) {
                continue;
            }
            places.insert(format!("{} line {line}", shown(&path)));
        }
        Ok(places)
    }

    /// The line at which a file's first conflict begins.
    fn conflict(&self, id: Oid) -> Result<Option<usize>, WorkspaceError> {
        let (size, kind) = self.repo.odb()?.read_header(id)?;
        if kind != ObjectType::Blob || size > SEARCH_LIMIT {
            return Ok(None);
        }
        Ok(conflict(self.repo.find_blob(id)?.content()))
    }

    /// The files in the commits that programs left behind, each with what it is.
    fn left(&self, own: &[Sha], head: Oid) -> Result<BTreeSet<String>, WorkspaceError> {
        let mut found = BTreeSet::new();
        // A merge takes its files from its parents; the whole change shows what it adds itself.
        self.new_droppings(&self.fork, &self.repo.find_commit(head)?.tree()?, &mut found)?;
        for sha in own {
            let commit = self.repo.find_commit(Oid::from_str(&sha.0)?)?;
            if commit.parent_count() == 1 {
                self.new_droppings(&commit.parent(0)?.tree()?, &commit.tree()?, &mut found)?;
            }
        }
        Ok(found)
    }

    fn new_droppings(
        &self,
        from: &Tree<'_>,
        to: &Tree<'_>,
        found: &mut BTreeSet<String>,
    ) -> Result<(), WorkspaceError> {
        for (path, old, new) in self.changes(from, to)? {
            if old.is_zero()
                && let Some(what) = self.what(&path, new)?
            {
                found.insert(what);
            }
        }
        Ok(())
    }

    /// What a new file is, with its path, if a program left it behind.
    fn what(&self, path: &[u8], id: Oid) -> Result<Option<String>, WorkspaceError> {
        if self.exempts(path) {
            return Ok(None);
        }
        if let Some((part, what)) = dropping(path) {
            // Some projects keep their packages in the repository.
            let known = self.fork.get_path(Path::new(OsStr::from_bytes(part))).is_ok();
            return Ok((!known).then(|| format!("{} ({what})", shown(part))));
        }
        let (size, kind) = self.repo.odb()?.read_header(id)?;
        if kind == ObjectType::Blob && size > 64 && size <= SEARCH_LIMIT {
            let is_core = is_core(self.repo.find_blob(id)?.content());
            return Ok(is_core.then(|| format!("{} (a crash dump)", shown(path))));
        }
        Ok(None)
    }

    fn exempts(&self, path: &[u8]) -> bool {
        self.exempt.is_match(OsStr::from_bytes(path))
    }

    /// The added and changed files between two trees: path, old and new content.
    fn changes(
        &self,
        from: &Tree<'_>,
        to: &Tree<'_>,
    ) -> Result<Vec<(Vec<u8>, Oid, Oid)>, WorkspaceError> {
        let mut options = DiffOptions::new();
        options.include_typechange(true).skip_binary_check(true).ignore_submodules(true);
        let diff = self.repo.diff_tree_to_tree(Some(from), Some(to), Some(&mut options))?;
        let change = |delta: git2::DiffDelta<'_>| {
            let (old, new) = (delta.old_file(), delta.new_file());
            let is_file = delta.status() != Delta::Deleted && new.mode() != FileMode::Commit;
            let old_id = if old.mode() == FileMode::Commit { Oid::ZERO_SHA1 } else { old.id() };
            Some((new.path_bytes()?.to_vec(), old_id, new.id())).filter(|_| is_file)
        };
        Ok(diff.deltas().filter_map(change).collect())
    }
}

/// The line at which the first conflict of a text begins, from 1: all three markers in their order.
fn conflict(text: &[u8]) -> Option<usize> {
    let mut begun = None;
    let mut divided = false;
    for (number, line) in text.split(|byte| *byte == b'\n').enumerate() {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.starts_with(MARKERS[0]) {
            (begun, divided) = (Some(number + 1), false);
        } else if line == MARKERS[1] {
            divided = begun.is_some();
        } else if line.starts_with(MARKERS[2]) && divided {
            return begun;
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conflict_needs_all_markers_in_order() {
        let conflicted = b"a\n<<<<<<< HEAD\nx\n||||||| 1\n=======\r\ny\n>>>>>>> other\n";
        assert_eq!(conflict(conflicted), Some(2));
        for text in [
            &b"Title\n=======\ntext\n"[..],
            b"<<<<<<< HEAD\n=======\n",
            b">>>>>>> other\n=======\n<<<<<<< HEAD\n",
            b"  <<<<<<< HEAD\n=======\n>>>>>>> other\n",
            b"",
        ] {
            assert_eq!(conflict(text), None);
        }
    }
}
