//! The gate's view of a run: the files that differ between base and head, by their meaning, and the
//! trees that the test command runs on. A tree is made from the two commits, never from a
//! workspace.

use std::collections::BTreeSet;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use git2::build::TreeUpdateBuilder;
use git2::{Delta, DiffOptions, FileMode, Oid, Repository, Tree};
use globset::{Glob, GlobSet, GlobSetBuilder};

use super::hunks::SplitFile;
use super::protected::Protection;
use super::{WorkspaceError, repository, shown};
use crate::config::repository::{GateConfig, RepositoryRules};
use crate::core::model::gate_report::{ChangeClass, ProposedChange};
use crate::core::model::id::Sha;
use crate::core::model::untrusted::Untrusted;
use crate::core::tables::gate::HUNK_GROUPS;
use crate::core::tables::inline_tests;

/// The largest difference that a human is shown here, in bytes. A larger one is named by its trees.
const DIFF_LIMIT: usize = 256 * 1024;

/// A change with the trees that the gate tests.
#[derive(Debug)]
pub(crate) struct TestableChange {
    /// The change as the gate's table reads it.
    pub change: ProposedChange,
    /// Whether the two commits have the same files.
    pub is_empty: bool,
    /// The base with the new and changed tests of the run.
    pub red: Oid,
    /// The head with the tests and protected files of the base.
    pub old_tests: Oid,
    /// The head less each group of source hunks.
    pub without: Vec<Oid>,
    /// The paths of the new and changed test files, for a command that takes them.
    pub test_files: Vec<Vec<u8>>,
}

/// One file that differs. A path has any bytes.
#[derive(Debug)]
struct ChangedFile {
    path: Vec<u8>,
    status: Delta,
    old: Version,
    new: Version,
    kind: Kind,
}

/// A file on one side.
#[derive(Debug, Clone, Copy)]
struct Version {
    id: Oid,
    mode: FileMode,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Test,
    Protected,
    Exempt,
    Source,
}

impl ChangedFile {
    const fn is_new(&self) -> bool {
        matches!(self.status, Delta::Added)
    }

    const fn is_gone(&self) -> bool {
        matches!(self.status, Delta::Deleted)
    }

    /// The file with another content, in the mode that it has at last.
    fn with(&self, repo: &Repository, text: &[u8]) -> Result<Version, WorkspaceError> {
        let mode = if self.is_gone() { self.old.mode } else { self.new.mode };
        Ok(Version { id: repo.blob(text)?, mode })
    }
}

/// Reads the change between two commits in the bare repository `base_dir`. Writes the trees to its
/// objects.
pub(crate) fn read(
    base_dir: &Path,
    base: &Sha,
    head: &Sha,
    rules: &RepositoryRules,
    class: ChangeClass,
) -> Result<TestableChange, WorkspaceError> {
    let repo = repository::open_for_writing(base_dir)?;
    let tree = |sha: &Sha| repo.find_commit(Oid::from_str(&sha.0)?)?.tree();
    let (base, head) = (tree(base)?, tree(head)?);
    let files = files(&repo, &base, &head, rules)?;
    let of = |kind| files.iter().filter(move |file| file.kind == kind);
    let names = |files: &mut dyn Iterator<Item = &ChangedFile>| -> Vec<Untrusted> {
        files.map(|file| shown(&file.path).into()).collect()
    };
    let judged = || files.iter().filter(|f| matches!(f.kind, Kind::Test | Kind::Protected));
    let new_tests: Vec<&ChangedFile> = of(Kind::Test).filter(|file| !file.is_gone()).collect();
    let split = split(&repo, &head, of(Kind::Source), rules)?;
    let mut red = Update::new(&base);
    for file in judged() {
        // A test that goes with the change would only make the red side fail for another reason.
        if !file.is_gone() {
            red.set(&file.path, file.new);
        } else if file.kind == Kind::Test {
            red.remove(&file.path);
        }
    }
    for (file, version) in &split.inline {
        red.set(&file.path, *version);
    }
    let mut old_tests = Update::new(&head);
    for file in judged() {
        if file.is_new() {
            old_tests.remove(&file.path);
        } else {
            old_tests.set(&file.path, file.old);
        }
    }
    for (file, version) in &split.old_inline {
        old_tests.set(&file.path, *version);
    }
    let kept: Vec<Oid> = new_tests.iter().map(|file| file.new.id).collect();
    let deleted = || of(Kind::Test).filter(|file| file.is_gone() && !kept.contains(&file.old.id));
    let whole = matches!(class, ChangeClass::NoTest | ChangeClass::Removal) || split.has_tests;
    let shown_paths = (!whole).then(|| judged().map(|file| file.path.as_slice()).collect());
    let change = ProposedChange {
        tests: names(&mut new_tests.iter().copied()),
        old_tests: names(
            &mut of(Kind::Test)
                .filter(|file| !file.is_new())
                .chain(split.old_inline.iter().map(|(file, _)| *file)),
        ),
        deleted_tests: names(&mut deleted()),
        protected: names(&mut of(Kind::Protected)),
        sources: names(&mut of(Kind::Source)),
        hunks: split.places,
        inline_tests: split.has_tests,
        inline_alone: !split.inline.is_empty(),
        diff: difference(&repo, &base, &head, shown_paths)?,
    };
    Ok(TestableChange {
        change,
        is_empty: files.is_empty(),
        red: red.write(&repo)?,
        old_tests: old_tests.write(&repo)?,
        without: split.without,
        test_files: new_tests.iter().map(|file| file.path.clone()).collect(),
    })
}

/// Lists the files that differ. Renames count as a deletion and an addition, since a test must not
/// vanish under another name.
fn files(
    repo: &Repository,
    base: &Tree<'_>,
    head: &Tree<'_>,
    rules: &RepositoryRules,
) -> Result<Vec<ChangedFile>, WorkspaceError> {
    let gate = &rules.gate;
    let (tests, exempt) = (globs(&test_globs(gate, base)), globs(&gate.exempt));
    let mut options = DiffOptions::new();
    options.include_typechange(true);
    let diff = repo.diff_tree_to_tree(Some(base), Some(head), Some(&mut options))?;
    let deciding = Protection::new(rules, |path| {
        let entry = base.get_path(Path::new(path)).ok()?;
        let blob = repo.find_blob(entry.id()).ok()?;
        Some(String::from_utf8_lossy(blob.content()).into_owned())
    });
    let mut found = Vec::new();
    for delta in diff.deltas() {
        let file =
            if delta.status() == Delta::Deleted { delta.old_file() } else { delta.new_file() };
        let path = file.path_bytes().unwrap_or_default().to_owned();
        let version = |file: &git2::DiffFile<'_>| Version { id: file.id(), mode: file.mode() };
        let (old, new) = (version(&delta.old_file()), version(&delta.new_file()));
        let bytes = |version: Version| content(repo, version).unwrap_or_default();
        let both = || (bytes(old), bytes(new));
        let text = String::from_utf8_lossy(&path);
        let name = Path::new(text.as_ref());
        let is_new = delta.status() == Delta::Added;
        let kind = if deciding.covers(&text, is_new, both) {
            Kind::Protected
        } else if tests.is_match(name) {
            Kind::Test
        } else if exempt.is_match(name) {
            Kind::Exempt
        } else {
            Kind::Source
        };
        found.push(ChangedFile { path, status: delta.status(), old, new, kind });
    }
    Ok(found)
}

/// The globs of test files. Where tests have a folder on the base, a source file such as
/// `src/test_client.py` is none.
fn test_globs(gate: &GateConfig, base: &Tree<'_>) -> Vec<String> {
    let mut globs = gate.tests.clone();
    let has_folder = ["test", "tests"].iter().any(|name| base.get_name(name).is_some());
    if has_folder && globs == GateConfig::default().tests {
        globs.retain(|glob| glob != "**/test_*");
    }
    globs
}

/// The content of a regular file; none for a link, a submodule or a side without the file.
fn content(repo: &Repository, version: Version) -> Option<Vec<u8>> {
    let regular = matches!(
        version.mode,
        FileMode::Blob | FileMode::BlobExecutable | FileMode::BlobGroupWritable
    );
    let blob = regular.then(|| repo.find_blob(version.id).ok()).flatten()?;
    Some(blob.content().to_owned())
}

/// The source hunks of a change, and the tests that stand beside them.
#[derive(Default)]
struct SplitChange<'a> {
    places: Vec<Untrusted>,
    without: Vec<Oid>,
    has_tests: bool,
    /// Source files of the base with nothing but the new tests in them, and the declarations of new
    /// modules.
    inline: Vec<(&'a ChangedFile, Version)>,
    /// Source files whose old tests the change edits or deletes, with these under the new code.
    old_inline: Vec<(&'a ChangedFile, Version)>,
}

fn split<'a>(
    repo: &Repository,
    head: &Tree<'_>,
    files: impl Iterator<Item = &'a ChangedFile>,
    rules: &RepositoryRules,
) -> Result<SplitChange<'a>, WorkspaceError> {
    let contents: Vec<(&'a ChangedFile, Vec<u8>, Vec<u8>)> = files
        .filter_map(|file| {
            let (old, new) = (content(repo, file.old), content(repo, file.new));
            (old.is_some() || new.is_some())
                .then(|| (file, old.unwrap_or_default(), new.unwrap_or_default()))
        })
        .collect();
    let mut split = SplitChange::default();
    let paths = contents.iter().map(|(file, ..)| (file, String::from_utf8_lossy(&file.path)));
    let modules: BTreeSet<String> = paths
        .filter(|(file, _)| file.is_new())
        .filter_map(|(_, path)| inline_tests::module_of(&path).map(str::to_owned))
        .collect();
    let mut parts = Vec::new();
    let mut pieces = Vec::new();
    for (number, (file, old, new)) in contents.iter().enumerate() {
        let name = String::from_utf8_lossy(&file.path);
        let part = SplitFile::new(&name, number, old, new, &rules.gate.inline_tests)?;
        split.has_tests |= part.has_tests();
        if !file.is_gone() {
            let tests = part.with_tests_only(&modules);
            // A declared module needs its file, be it empty.
            let is_module = file.is_new() && inline_tests::module_of(&name).is_some();
            if tests != *old || is_module {
                split.inline.push((*file, file.with(repo, &tests)?));
            }
        }
        if let Some(text) = part.with_old_tests() {
            split.old_inline.push((*file, file.with(repo, &text)?));
        }
        pieces.extend(part.sources().map(|(piece, line)| (number, piece, line)));
        parts.push(part);
    }
    if !split.has_tests {
        split.inline.clear();
    }
    // As many groups as the gate takes back, of neighbours.
    let size = pieces.len().div_ceil(HUNK_GROUPS).max(1);
    for group in pieces.chunks(size) {
        let mut update = Update::new(head);
        let mut numbers: Vec<usize> = group.iter().map(|(number, ..)| *number).collect();
        numbers.dedup();
        for number in numbers {
            let of_file = group.iter().filter(|(of, ..)| *of == number);
            let taken: Vec<usize> = of_file.map(|(_, piece, _)| *piece).collect();
            let (file, ..) = &contents[number];
            let text = parts[number].without(&taken);
            if file.is_new() && text.is_empty() {
                update.remove(&file.path);
            } else {
                update.set(&file.path, file.with(repo, &text)?);
            }
        }
        split.without.push(update.write(repo)?);
        split.places.push(place(&contents, group));
    }
    Ok(split)
}

/// Where a group of hunks lies: `src/lib.rs:12 and 2 more`.
fn place(
    contents: &[(&ChangedFile, Vec<u8>, Vec<u8>)],
    group: &[(usize, usize, usize)],
) -> Untrusted {
    let Some((number, _, line)) = group.first() else { return Untrusted::default() };
    let name = shown(&contents[*number].0.path);
    let more = match group.len() - 1 {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!("{name}:{line}{more}").into()
}

/// A tree with some files replaced.
struct Update<'a> {
    tree: &'a Tree<'a>,
    changes: Vec<(Vec<u8>, Option<Version>)>,
}

impl<'a> Update<'a> {
    const fn new(tree: &'a Tree<'a>) -> Self {
        Self { tree, changes: Vec::new() }
    }

    fn set(&mut self, path: &[u8], version: Version) {
        self.changes.push((path.to_owned(), Some(version)));
    }

    fn remove(&mut self, path: &[u8]) {
        self.changes.push((path.to_owned(), None));
    }

    fn write(&self, repo: &Repository) -> Result<Oid, WorkspaceError> {
        if self.changes.is_empty() {
            return Ok(self.tree.id());
        }
        // Two trees, since a file may take the place of a folder and the other way round.
        let mut removals = TreeUpdateBuilder::new();
        let mut additions = TreeUpdateBuilder::new();
        for (path, version) in &self.changes {
            let there = || {
                let path = Path::new(std::ffi::OsStr::from_bytes(path));
                self.tree.get_path(path).is_ok()
            };
            match version {
                Some(version) => {
                    additions.upsert(path.as_slice(), version.id, version.mode);
                }
                None if there() => {
                    removals.remove(path.as_slice());
                }
                None => {}
            }
        }
        let unfit = |error: git2::Error| WorkspaceError::Unfit {
            why: format!(
                "A file takes the place of a folder or of a link, or the other way round, so that \
                 the tests can't be laid over it ({}). Use another name.",
                error.message()
            ),
        };
        let without = removals.create_updated(repo, self.tree).map_err(unfit)?;
        let tree = repo.find_tree(without)?;
        additions.create_updated(repo, &tree).map_err(unfit)
    }
}

/// The difference as a patch, of some paths or of all.
fn difference(
    repo: &Repository,
    base: &Tree<'_>,
    head: &Tree<'_>,
    paths: Option<Vec<&[u8]>>,
) -> Result<Untrusted, WorkspaceError> {
    let mut options = DiffOptions::new();
    if let Some(paths) = paths {
        if paths.is_empty() {
            return Ok(Untrusted::default());
        }
        options.disable_pathspec_match(true);
        for path in paths {
            options.pathspec(path);
        }
    }
    let diff = repo.diff_tree_to_tree(Some(base), Some(head), Some(&mut options))?;
    let mut text = Vec::new();
    let mut whole = true;
    diff.print(git2::DiffFormat::Patch, |_, _, line| {
        if matches!(line.origin(), '+' | '-' | ' ') {
            text.push(line.origin() as u8);
        }
        text.extend_from_slice(line.content());
        whole = text.len() <= DIFF_LIMIT;
        whole
    })
    .or_else(|error| if whole { Err(error) } else { Ok(()) })?;
    if !whole {
        let (base, head) = (base.id(), head.id());
        return Ok(format!(
            "The difference is larger than {} KiB. Read it with `git diff {base} {head}` in the \
             repository's base clone before you approve.",
            DIFF_LIMIT / 1024
        )
        .into());
    }
    Ok(String::from_utf8_lossy(&text).into_owned().into())
}

/// Compiles globs. The configuration has validated them; an invalid one would match nothing.
pub(super) fn globs(patterns: &[String]) -> GlobSet {
    let mut set = GlobSetBuilder::new();
    for glob in patterns.iter().filter_map(|pattern| Glob::new(pattern).ok()) {
        set.add(glob);
    }
    set.build().unwrap_or_else(|_| GlobSet::empty())
}
