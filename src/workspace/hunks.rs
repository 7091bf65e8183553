//! The hunks of changed text files: which lines of a change are code and which are tests, and the
//! files that result where only some of them are applied.

use std::collections::BTreeSet;
use std::ops::Range;

use git2::{DiffOptions, Patch};

use super::WorkspaceError;
use crate::core::tables::inline_tests::{self, LineRange};

/// The largest file that is split into hunks, in bytes. A larger one, or one that isn't text, is
/// one hunk.
const TEXT_LIMIT: usize = 1024 * 1024;
/// The most changed text files that are split into hunks; of more, each is one hunk.
const FILES_LIMIT: usize = 200;

/// A part of a change: these lines of the old file are replaced by those of the new one.
#[derive(Debug, Clone, PartialEq, Eq)]
struct HunkPiece {
    old: Range<usize>,
    new: Range<usize>,
    is_test: bool,
}

/// A changed file with its pieces. A file that doesn't exist on one side is empty there.
#[derive(Debug)]
pub(super) struct SplitFile<'a> {
    old: Vec<&'a [u8]>,
    new: Vec<&'a [u8]>,
    pieces: Vec<HunkPiece>,
}

/// The lines of a text, each with its line break.
fn lines(text: &[u8]) -> Vec<&[u8]> {
    text.split_inclusive(|byte| *byte == b'\n').collect()
}

fn is_text(text: &[u8]) -> bool {
    text.len() <= TEXT_LIMIT && !text.contains(&0)
}

impl<'a> SplitFile<'a> {
    /// Splits the change of the `number`th file. `marks` open tests in languages that afk doesn't
    /// know.
    pub(super) fn new(
        path: &str,
        number: usize,
        old: &'a [u8],
        new: &'a [u8],
        marks: &[String],
    ) -> Result<Self, WorkspaceError> {
        if number >= FILES_LIMIT || !is_text(old) || !is_text(new) {
            let one = HunkPiece { old: 0..1, new: 0..1, is_test: false };
            return Ok(Self { old: vec![old], new: vec![new], pieces: vec![one] });
        }
        let (old_lines, new_lines) = (lines(old), lines(new));
        let old_tests = tests_of(path, &old_lines, marks);
        let new_tests = tests_of(path, &new_lines, marks);
        let mut options = DiffOptions::new();
        options.context_lines(0).interhunk_lines(0).force_text(true);
        let patch = Patch::from_buffers(old, None, new, None, Some(&mut options))?;
        let mut pieces = Vec::new();
        for index in 0..patch.num_hunks() {
            let (hunk, _) = patch.hunk(index)?;
            let old = range(hunk.old_start(), hunk.old_lines());
            let new = range(hunk.new_start(), hunk.new_lines());
            split(old, new, &old_tests, &new_tests, &mut pieces);
        }
        Ok(Self { old: old_lines, new: new_lines, pieces })
    }

    /// The pieces that are code, by their index, with the line in the new file.
    pub(super) fn sources(&self) -> impl Iterator<Item = (usize, usize)> {
        let pieces = self.pieces.iter().enumerate().filter(|(_, piece)| !piece.is_test);
        pieces.map(|(index, piece)| (index, piece.new.start + 1))
    }

    pub(super) fn has_tests(&self) -> bool {
        self.pieces.iter().any(|piece| piece.is_test)
    }

    /// The new file without some of its pieces.
    pub(super) fn without(&self, pieces: &[usize]) -> Vec<u8> {
        self.apply(|index, _| !pieces.contains(&index))
    }

    /// The old file with the pieces that are tests, and with the lines of the others that declare
    /// one of these modules: without them nobody would run the tests of a new file.
    pub(super) fn with_tests_only(&self, modules: &BTreeSet<String>) -> Vec<u8> {
        self.compose(|_, piece| {
            let new = &self.new[piece.new.clone()];
            if piece.is_test {
                return new.to_vec();
            }
            let declares = |line: &&[u8]| {
                let line = String::from_utf8_lossy(line);
                inline_tests::declared_module(&line).is_some_and(|name| modules.contains(name))
            };
            let old = self.old[piece.old.clone()].iter().copied();
            old.chain(new.iter().copied().filter(declares)).collect()
        })
    }

    /// The new file with the tests of the old one; none if the change removes no line of a test.
    pub(super) fn with_old_tests(&self) -> Option<Vec<u8>> {
        let edits = self.pieces.iter().any(|piece| piece.is_test && !piece.old.is_empty());
        edits.then(|| self.apply(|_, piece| !piece.is_test))
    }

    /// The old file with the pieces that `applies` selects.
    fn apply(&self, applies: impl Fn(usize, &HunkPiece) -> bool) -> Vec<u8> {
        self.compose(|index, piece| {
            let lines = if applies(index, piece) {
                &self.new[piece.new.clone()]
            } else {
                &self.old[piece.old.clone()]
            };
            lines.to_vec()
        })
    }

    /// The old file with the lines that `lines` returns in the place of each piece.
    fn compose(&self, lines: impl Fn(usize, &HunkPiece) -> Vec<&'a [u8]>) -> Vec<u8> {
        let mut text = Vec::new();
        let mut at = 0;
        for (index, piece) in self.pieces.iter().enumerate() {
            text.extend(self.old[at..piece.old.start].iter().copied());
            text.extend(lines(index, piece));
            at = piece.old.end;
        }
        text.extend(self.old[at..].iter().copied());
        text.concat()
    }
}

/// Lines from git's numbers: an empty range is named by the line before it.
fn range(start: u32, count: u32) -> Range<usize> {
    let (start, count) = (start as usize, count as usize);
    let from = if count == 0 { start } else { start.saturating_sub(1) };
    from..from + count
}

fn tests_of(path: &str, lines: &[&[u8]], marks: &[String]) -> Vec<LineRange> {
    let text: Vec<_> = lines.iter().map(|line| String::from_utf8_lossy(line)).collect();
    let text: Vec<&str> = text.iter().map(AsRef::as_ref).collect();
    inline_tests::ranges(path, &text, marks)
}

/// Splits a hunk where its new lines change between code and test. Lines that the hunk deletes go
/// with the first piece of their kind.
fn split(
    old: Range<usize>,
    new: Range<usize>,
    old_tests: &[LineRange],
    new_tests: &[LineRange],
    pieces: &mut Vec<HunkPiece>,
) {
    let within = |ranges: &[LineRange], line| ranges.iter().any(|range| range.contains(line));
    let deletes_tests = !old.is_empty() && old.clone().all(|line| within(old_tests, line));
    let first = pieces.len();
    for line in new.clone() {
        let is_test = within(new_tests, line);
        match pieces.get_mut(first..).and_then(<[HunkPiece]>::last_mut) {
            Some(last) if last.is_test == is_test => last.new.end = line + 1,
            _ => pieces.push(HunkPiece { old: old.start..old.start, new: line..line + 1, is_test }),
        }
    }
    if pieces.len() == first {
        pieces.push(HunkPiece { old, new, is_test: deletes_tests });
        return;
    }
    let own = pieces[first..].iter().position(|piece| piece.is_test == deletes_tests);
    let own = first + own.unwrap_or(0);
    pieces[own].old = old.clone();
    for piece in &mut pieces[own + 1..] {
        piece.old = old.end..old.end;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: &str =
        "fn a() {\n    1\n}\n\n#[cfg(test)]\nmod tests {\n    #[test]\n    fn t() {}\n}\n";
    const NEW: &str = "use b;\nfn a() {\n    2\n}\n\n#[cfg(test)]\nmod tests {\n    #[test]\n    fn t() {}\n    #[test]\n    fn u() { assert_eq!(a(), 2) }\n}\n";

    fn split_file<'a>(old: &'a str, new: &'a str) -> SplitFile<'a> {
        SplitFile::new("src/lib.rs", 0, old.as_bytes(), new.as_bytes(), &[]).unwrap()
    }

    fn text(bytes: Vec<u8>) -> String {
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn hunks_apart_are_taken_back_one_at_a_time() {
        let file = split_file(OLD, NEW);
        let sources: Vec<_> = file.sources().collect();
        assert_eq!(sources, [(0, 1), (1, 3)]);
        assert_eq!(text(file.without(&[])), NEW);
        assert_eq!(text(file.without(&[0])), NEW.replace("use b;\n", ""));
        assert_eq!(text(file.without(&[1])), NEW.replace("    2\n", "    1\n"));
        let tests = text(file.with_tests_only(&BTreeSet::new()));
        assert_eq!(tests, NEW.replace("use b;\n", "").replace("    2\n", "    1\n"));
    }

    #[test]
    fn new_file_is_split_into_code_and_tests() {
        let new = "pub fn a() {}\n#[cfg(test)]\nmod tests {\n}\n";
        let file = split_file("", new);
        assert!(file.has_tests());
        let tests = "#[cfg(test)]\nmod tests {\n}\n";
        assert_eq!(text(file.with_tests_only(&BTreeSet::new())), tests);
        assert_eq!(text(file.without(&[0])), "#[cfg(test)]\nmod tests {\n}\n");
    }

    #[test]
    fn declaration_of_a_new_module_goes_with_its_tests() {
        let file = split_file("mod a;\n", "mod a;\npub(crate) mod b;\nmod c;\nfn x() {}\n");
        let modules = BTreeSet::from(["b".to_owned()]);
        assert_eq!(text(file.with_tests_only(&modules)), "mod a;\npub(crate) mod b;\n");
    }

    #[test]
    fn old_tests_come_back_under_new_code() {
        let old = "fn a() {\n    1\n}\n#[test]\nfn t() {\n    assert!(a() == 1);\n}\n";
        let new = old.replace("    1\n", "    2\n").replace("== 1", "== 2");
        let file = split_file(old, &new);
        assert_eq!(text(file.with_old_tests().unwrap()), old.replace("    1\n", "    2\n"));
        assert_eq!(split_file(OLD, NEW).with_old_tests(), None, "a new test removes nothing");
    }

    #[test]
    fn deleted_and_binary_files_are_one_hunk() {
        let file = split_file("a\nb\n", "");
        assert_eq!(file.sources().count(), 1);
        assert_eq!(text(file.without(&[0])), "a\nb\n");
        let file = SplitFile::new("a.png", 0, b"\0a", b"\0b\n\n", &[]).unwrap();
        assert_eq!((file.without(&[0]), file.without(&[])), (b"\0a".to_vec(), b"\0b\n\n".to_vec()));
    }

    proptest::proptest! {
        #[test]
        fn all_pieces_give_the_new_file_and_none_the_old(
            old in "([ab#}{]|\\[test\\]|\n){0,40}", new in "([ab#}{]|\\[test\\]|\n){0,40}",
        ) {
            let file = split_file(&old, &new);
            proptest::prop_assert_eq!(text(file.apply(|_, _| true)), new.as_str());
            proptest::prop_assert_eq!(text(file.apply(|_, _| false)), old.as_str());
        }
    }
}
