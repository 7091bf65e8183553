//! Searches the commits of a run for what must not be pushed: secrets, huge files, and links out of
//! the repository. The gate calls it before any test runs.
//!
//! ```text
//!   base..head ─▶ every commit ─┬▶ its message, its new names and its new contents
//!                               │      known values, in any form    never allowed
//!                               │      shapes of keys, `.env` files  unless `scan_exempt`
//!                               ├▶ sizes of new files                unless `scan_exempt`
//!                               └▶ targets of new links              unless `scan_exempt`
//! ```
//!
//! Every commit counts, because each of them is pushed: a secret that a later commit deletes leaks
//! all the same. The objects are read with git2, so that no attribute, filter or replacement of the
//! repository changes what is seen. A range that is too large to be searched is an error, and the
//! gate stays closed.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path};
use std::time::{Duration, Instant};

use git2::{Commit, Delta, Diff, DiffOptions, FileMode, ObjectType, Odb, Oid, Repository};
use globset::GlobSet;

use super::WorkspaceError;
use super::change::globs;
use super::droppings::is_environment_file;
use super::git::Git;
use crate::config::repository::GateConfig;
use crate::core::model::id::Sha;
use crate::core::model::untrusted::clean_line;
use crate::redact::{Redactor, RevealedKind, assignments};

/// The most commits of a range.
const MOST_COMMITS: usize = 10_000;
/// The most bytes of all files that are read.
const MOST_BYTES: u64 = 2 * 1024 * MIB;
/// The most bytes of one file that are read.
const MOST_OF_FILE: u64 = 128 * MIB;
/// The most places that are reported; the first ones are enough to repair.
const MOST_LEAKS: usize = 100;
const MIB: u64 = 1024 * 1024;

/// A place in a commit that must not be pushed. It never holds the value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Leak {
    pub commit: Sha,
    pub place: LeakPlace,
    pub kind: LeakKind,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum LeakPlace {
    /// The message, the author or another header of the commit.
    Message,
    /// The name of a file.
    Name(String),
    /// A file as a whole.
    File(String),
    /// A line of a file, from 1.
    Line(String, usize),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum LeakKind {
    /// A secret that afk knows, as it is or encoded.
    Known,
    /// A value of afk's environment whose name suggests a secret.
    Likely,
    /// The shape of a key, with an article.
    Shape(&'static str),
    /// A value of this name in an environment file.
    Assignment(String),
    /// The size in MiB, which is more than the limit.
    TooLarge { mib: u64, limit: u64 },
    /// The file is too large to be searched.
    Unsearchable,
    /// A symbolic link to a place outside of the repository.
    LinkOutside,
}

impl Leak {
    /// One line for the agent and for people: the commit, the place and the kind.
    #[must_use]
    pub(crate) fn summary(&self) -> String {
        let place = match &self.place {
            LeakPlace::Message => "its message".to_owned(),
            LeakPlace::Name(path) => format!("the name of {path}"),
            LeakPlace::File(path) => path.clone(),
            LeakPlace::Line(path, line) => format!("{path} line {line}"),
        };
        let kind = match &self.kind {
            LeakKind::Known => "a secret that afk knows".to_owned(),
            LeakKind::Likely => "a secret of afk's environment".to_owned(),
            LeakKind::Shape(name) => (*name).to_owned(),
            LeakKind::Assignment(name) => format!("the value of {name}"),
            LeakKind::TooLarge { mib, limit } => {
                format!("a file of {mib} MiB, and the limit is {limit} MiB")
            }
            LeakKind::Unsearchable => "a file that is too large to be searched".to_owned(),
            LeakKind::LinkOutside => "a link to a place outside of the repository".to_owned(),
        };
        format!("{} {}: {kind}", self.commit.short(), clean_line(&place))
    }
}

/// Searches the commits that `head` has and `base` lacks, within a time limit.
///
/// # Errors
/// An object can't be read, or the range is too large. Then nothing may be pushed.
pub(crate) async fn scan(
    git: &Git,
    base: &Sha,
    head: &Sha,
    gate: &GateConfig,
    redactor: &Redactor,
    limit: Duration,
) -> Result<Vec<Leak>, WorkspaceError> {
    let dir = git.dir().to_owned();
    let commits = git.added(base, head).await?;
    let head = head.clone();
    let (exempt, max_file) = (globs(&gate.scan_exempt), gate.max_file_mib);
    let redactor = redactor.clone();
    let search = tokio::task::spawn_blocking(move || {
        let repo = Repository::open(&dir)?;
        let odb = repo.odb()?;
        let scan = Scan { repo: &repo, odb: &odb, exempt, max_file, redactor };
        scan.range(&commits, &head, Instant::now() + limit)
    });
    search.await.map_err(|error| too_large(&error.to_string()))?
}

fn too_large(why: &str) -> WorkspaceError {
    WorkspaceError::Scan { why: why.to_owned() }
}

struct Scan<'a> {
    repo: &'a Repository,
    odb: &'a Odb<'a>,
    exempt: GlobSet,
    /// In MiB.
    max_file: u64,
    redactor: Redactor,
}

/// The progress of a scan.
struct Progress {
    deadline: Instant,
    /// Bytes that may still be read.
    left: u64,
    /// The contents that were searched, each with its name, since a rule may depend on it.
    seen: BTreeSet<(Vec<u8>, Oid)>,
    leaks: Vec<Leak>,
}

/// A file that a commit adds or changes.
struct Change<'a> {
    commit: &'a Sha,
    name: &'a [u8],
    /// The content before; zero for a new file.
    old: Oid,
    new: Oid,
    /// The contents that the commit changes or deletes anywhere.
    replaced: &'a [Oid],
}

impl Scan<'_> {
    fn range(
        &self,
        commits: &[Sha],
        head: &Sha,
        deadline: Instant,
    ) -> Result<Vec<Leak>, WorkspaceError> {
        let head_tree = self.repo.find_commit(Oid::from_str(&head.0)?)?.tree()?;
        let mut progress =
            Progress { deadline, left: MOST_BYTES, seen: BTreeSet::new(), leaks: Vec::new() };
        if commits.len() > MOST_COMMITS {
            return Err(too_large(&format!("there are more than {MOST_COMMITS} commits")));
        }
        for sha in commits {
            self.commit(Oid::from_str(&sha.0)?, &head_tree, &mut progress)?;
            if progress.leaks.len() >= MOST_LEAKS {
                progress.leaks.truncate(MOST_LEAKS);
                break;
            }
        }
        Ok(progress.leaks)
    }

    fn commit(
        &self,
        id: Oid,
        head: &git2::Tree<'_>,
        progress: &mut Progress,
    ) -> Result<(), WorkspaceError> {
        let sha = Sha(id.to_string());
        let raw = self.odb.read(id)?;
        let commit = self.repo.find_commit(id)?;
        refuse_grafts(raw.data(), &commit)?;
        for revealed in self.redactor.revealed(raw.data()) {
            let kind = revealed_kind(&revealed.kind);
            progress.leaks.push(Leak { commit: sha.clone(), place: LeakPlace::Message, kind });
        }
        let tree = commit.tree()?;
        let parents =
            commit.parents().map(|parent| parent.tree()).collect::<Result<Vec<_>, _>>()?;
        let mut options = DiffOptions::new();
        options.include_typechange(true).skip_binary_check(true).ignore_submodules(true);
        let diff = self.repo.diff_tree_to_tree(parents.first(), Some(&tree), Some(&mut options))?;
        let replaced = replaced(&diff);
        for delta in diff.deltas() {
            let new = delta.new_file();
            let Some(name) = new.path_bytes() else { continue };
            let is_blob = matches!(
                new.mode(),
                FileMode::Blob
                    | FileMode::BlobExecutable
                    | FileMode::BlobGroupWritable
                    | FileMode::Link
            );
            if delta.status() == Delta::Deleted || !is_blob {
                continue;
            }
            let path = Path::new(OsStr::from_bytes(name));
            // What a merge takes over from a parent is searched in that parent's commits.
            let of_parent = |parent: &git2::Tree<'_>| {
                parent.get_path(path).is_ok_and(|entry| entry.id() == new.id())
            };
            if parents.iter().skip(1).any(of_parent) {
                continue;
            }
            let change = Change {
                commit: &sha,
                name,
                old: delta.old_file().id(),
                new: new.id(),
                replaced: &replaced,
            };
            if change.old.is_zero() {
                self.name(&change, progress);
            }
            if new.mode() == FileMode::Link && of_parent(head) {
                self.link(&change, progress)?;
            }
            self.content(&change, progress)?;
        }
        Ok(())
    }

    fn name(&self, change: &Change<'_>, progress: &mut Progress) {
        for revealed in self.redactor.revealed(change.name) {
            let kind = revealed_kind(&revealed.kind);
            if self.counts(change, &kind) {
                let place = LeakPlace::Name(self.shown(change.name));
                progress.leaks.push(Leak { commit: change.commit.clone(), place, kind });
            }
        }
    }

    fn link(&self, change: &Change<'_>, progress: &mut Progress) -> Result<(), WorkspaceError> {
        let (size, _) = self.odb.read_header(change.new)?;
        // Linux has no longer targets.
        let leaves = size > 4096 || {
            let blob = self.repo.find_blob(change.new)?;
            leaves(Path::new(OsStr::from_bytes(change.name)), blob.content())
        };
        if leaves && self.counts(change, &LeakKind::LinkOutside) {
            self.file(change, LeakKind::LinkOutside, progress);
        }
        Ok(())
    }

    fn content(&self, change: &Change<'_>, progress: &mut Progress) -> Result<(), WorkspaceError> {
        if !progress.seen.insert((change.name.to_vec(), change.new)) {
            return Ok(());
        }
        if Instant::now() > progress.deadline {
            return Err(too_large("the search took too long"));
        }
        let size = self.size(change.new)?;
        let limit = self.max_file.saturating_mul(MIB);
        let kind = LeakKind::TooLarge { mib: size.div_ceil(MIB), limit: self.max_file };
        if size > limit && self.size(change.old)? <= limit && self.counts(change, &kind) {
            self.file(change, kind, progress);
            return Ok(());
        }
        if size > MOST_OF_FILE {
            self.file(change, LeakKind::Unsearchable, progress);
            return Ok(());
        }
        Self::spend(size, progress)?;
        let blob = self.repo.find_blob(change.new)?;
        let text = blob.content();
        let mut found: Vec<(Range<usize>, LeakKind)> = self
            .redactor
            .revealed(text)
            .into_iter()
            .map(|revealed| (revealed.range, revealed_kind(&revealed.kind)))
            .collect();
        if is_environment_file(change.name) {
            for (name, range) in assignments(text) {
                if !found
                    .iter()
                    .any(|(other, _)| other.start < range.end && range.start < other.end)
                {
                    found.push((range, LeakKind::Assignment(name)));
                }
            }
        }
        found.retain(|(_, kind)| self.counts(change, kind));
        if found.is_empty() {
            return Ok(());
        }
        self.forget_moved(change, text, &mut found, progress)?;
        for (range, kind) in found {
            let line = 1 + memchr::memchr_iter(b'\n', &text[..range.start]).count();
            let place = LeakPlace::Line(self.shown(change.name), line);
            progress.leaks.push(Leak { commit: change.commit.clone(), place, kind });
        }
        Ok(())
    }

    /// Drops what the commit only moves: it is in the base, or was found in an earlier commit.
    fn forget_moved(
        &self,
        change: &Change<'_>,
        text: &[u8],
        found: &mut Vec<(Range<usize>, LeakKind)>,
        progress: &mut Progress,
    ) -> Result<(), WorkspaceError> {
        for old in change.replaced {
            let size = self.size(*old)?;
            if found.is_empty() || size > MOST_OF_FILE {
                continue;
            }
            Self::spend(size, progress)?;
            let before = self.repo.find_blob(*old)?;
            found.retain(|(range, _)| {
                memchr::memmem::find(before.content(), &text[range.clone()]).is_none()
            });
        }
        Ok(())
    }

    /// Whether a place counts; known secrets always do.
    fn counts(&self, change: &Change<'_>, kind: &LeakKind) -> bool {
        *kind == LeakKind::Known || !self.exempt.is_match(OsStr::from_bytes(change.name))
    }

    fn file(&self, change: &Change<'_>, kind: LeakKind, progress: &mut Progress) {
        let place = LeakPlace::File(self.shown(change.name));
        progress.leaks.push(Leak { commit: change.commit.clone(), place, kind });
    }

    /// A name as people may see it: it can hold a secret itself.
    fn shown(&self, name: &[u8]) -> String {
        String::from_utf8_lossy(&self.redactor.clean_bytes(name)).into_owned()
    }

    /// The size of a blob; 0 for none.
    fn size(&self, id: Oid) -> Result<u64, WorkspaceError> {
        if id.is_zero() {
            return Ok(0);
        }
        let (size, kind) = self.odb.read_header(id)?;
        Ok(if kind == ObjectType::Blob { size as u64 } else { 0 })
    }

    fn spend(size: u64, progress: &mut Progress) -> Result<(), WorkspaceError> {
        let left = progress.left.checked_sub(size);
        progress.left = left.ok_or_else(|| {
            too_large(&format!("the changed files have more than {} MiB", MOST_BYTES / MIB))
        })?;
        Ok(())
    }
}

fn revealed_kind(kind: &RevealedKind) -> LeakKind {
    match kind {
        RevealedKind::Known => LeakKind::Known,
        RevealedKind::Likely => LeakKind::Likely,
        RevealedKind::Shape(name) => LeakKind::Shape(name),
    }
}

/// The contents that a commit changes or deletes.
fn replaced(diff: &Diff<'_>) -> Vec<Oid> {
    let old = diff.deltas().filter(|delta| delta.old_file().mode() != FileMode::Commit);
    old.map(|delta| delta.old_file().id()).filter(|id| !id.is_zero()).collect()
}

/// Refuses a commit whose parents differ from those that its object names. A graft in the
/// repository would hide commits from the search and not from the push.
fn refuse_grafts(raw: &[u8], commit: &Commit<'_>) -> Result<(), WorkspaceError> {
    let header = raw.split(|byte| *byte == b'\n').take_while(|line| !line.is_empty());
    let parents = header.filter_map(|line| line.strip_prefix(b"parent "));
    let ids = commit.parent_ids().map(|id| id.to_string());
    if parents.map(String::from_utf8_lossy).eq(ids) {
        return Ok(());
    }
    Err(too_large(&format!("the repository hides the parents of {}", commit.id())))
}

/// Whether the target of a link at `path` is outside of the repository or in its `.git`.
pub(super) fn leaves(path: &Path, target: &[u8]) -> bool {
    let mut depth = path.components().count().saturating_sub(1);
    for part in Path::new(OsStr::from_bytes(target)).components() {
        match part {
            Component::RootDir | Component::Prefix(_) => return true,
            Component::ParentDir if depth == 0 => return true,
            Component::ParentDir => depth -= 1,
            Component::Normal(name) if name == ".git" => return true,
            Component::Normal(_) => depth += 1,
            Component::CurDir => {}
        }
    }
    false
}

#[cfg(test)]
mod tests;
