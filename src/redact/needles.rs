//! Finds all forms of all known values in one pass over a text.
//!
//! A form is also found where line breaks, the escaped line breaks of JSON or colours of a terminal
//! stand inside it: `base64` wraps its output, and a secret may continue on the next line. The text
//! is searched without them, and the results are mapped back.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;

use aho_corasick::AhoCorasick;

use super::forms::{forms, units};

/// The shortest part of a form at the edge of a cut text that is redacted, in bytes.
const MIN_EDGE: usize = 8;

/// How certainly a known value is a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Certainty {
    /// Only its name suggests one, and it may be a word.
    Named,
    /// Its name and its characters suggest one.
    Likely,
    /// It was read as one.
    Secret,
}

/// A place in a text that reveals a known value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    pub range: Range<usize>,
    pub certainty: Certainty,
}

/// All forms of a set of values, compiled.
#[derive(Default)]
pub(super) struct Needles {
    /// None without values.
    automaton: Option<AhoCorasick>,
    /// The certainty of the form of the same index.
    certainties: Vec<Certainty>,
    /// The forms in order, and reversed in order.
    forward: Vec<Vec<u8>>,
    backward: Vec<Vec<u8>>,
    /// The first two bytes, and the last two bytes, of the forms.
    beginnings: Pairs,
    endings: Pairs,
    /// The length of the longest form.
    longest: usize,
}

/// A set of pairs of bytes, which rules most places of a text out at once.
struct Pairs(Vec<u64>);

impl Default for Pairs {
    fn default() -> Self {
        Self(vec![0; 1024])
    }
}

impl Pairs {
    fn place(pair: [u8; 2]) -> (usize, u64) {
        let bit = u16::from_be_bytes(pair);
        (usize::from(bit >> 6), 1 << (bit & 63))
    }

    fn insert(&mut self, pair: [u8; 2]) {
        let (word, bit) = Self::place(pair);
        self.0[word] |= bit;
    }

    /// Whether `bytes` has two bytes or more and begins with a pair of the set.
    fn begin(&self, bytes: &[u8]) -> bool {
        bytes.first_chunk().is_some_and(|pair| self.has(*pair))
    }

    /// Whether `bytes` has two bytes or more and ends with a pair of the set.
    fn end(&self, bytes: &[u8]) -> bool {
        bytes.last_chunk().is_some_and(|pair| self.has(*pair))
    }

    fn has(&self, pair: [u8; 2]) -> bool {
        let (word, bit) = Self::place(pair);
        self.0[word] & bit != 0
    }
}

impl std::fmt::Debug for Needles {
    /// Never prints a form.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Needles").field("forms", &self.forward.len()).finish_non_exhaustive()
    }
}

impl Needles {
    /// Compiles all forms of the values, each with the certainty of its value.
    pub fn new<'a>(values: impl Iterator<Item = (&'a str, Certainty)>) -> Self {
        let mut all: BTreeMap<Vec<u8>, Certainty> = BTreeMap::new();
        for (value, certainty) in values {
            for form in units(value).into_iter().flat_map(forms) {
                let known = all.entry(form).or_insert(certainty);
                *known = certainty.max(*known);
            }
        }
        if all.is_empty() {
            return Self::default();
        }
        let (forward, certainties): (Vec<_>, Vec<_>) = all.into_iter().unzip();
        let mut backward: Vec<Vec<u8>> =
            forward.iter().map(|form| form.iter().rev().copied().collect()).collect();
        backward.sort_unstable();
        // Compiling fails only beyond the size of a 32-bit index; then `find` compares one by one.
        let automaton = AhoCorasick::new(&forward).ok();
        let (mut beginnings, mut endings) = (Pairs::default(), Pairs::default());
        forward.iter().filter_map(|form| form.first_chunk()).for_each(|p| beginnings.insert(*p));
        forward.iter().filter_map(|form| form.last_chunk()).for_each(|p| endings.insert(*p));
        let longest = forward.iter().map(Vec::len).max().unwrap_or_default();
        Self { automaton, certainties, forward, backward, beginnings, endings, longest }
    }

    pub fn is_empty(&self) -> bool {
        self.forward.is_empty()
    }

    /// The length of the longest form in bytes.
    #[cfg(test)]
    pub fn longest(&self) -> usize {
        self.longest
    }

    /// The places that reveal a value, in order and without overlaps.
    pub fn find(&self, text: &[u8]) -> Vec<Found> {
        if self.is_empty() {
            return Vec::new();
        }
        let mut found = Vec::new();
        for searched in views(text) {
            self.find_in(&searched, &mut found);
        }
        merged(found)
    }

    fn find_in(&self, searched: &View<'_>, found: &mut Vec<Found>) {
        let mut add = |index: usize, range: Range<usize>| {
            found.push(Found {
                range: searched.original(range),
                certainty: self.certainties[index],
            });
        };
        match &self.automaton {
            Some(automaton) => {
                for hit in automaton.find_overlapping_iter(&*searched.bytes) {
                    add(hit.pattern().as_usize(), hit.range());
                }
            }
            None => {
                for (index, form) in self.forward.iter().enumerate() {
                    for at in memchr::memmem::find_iter(&searched.bytes, form) {
                        add(index, at..at + form.len());
                    }
                }
            }
        }
    }

    /// Where the longest end of a text begins that may be the beginning of a form, if it has at
    /// least `least` bytes.
    pub fn pending(&self, text: &[u8], least: usize) -> Option<usize> {
        views(text).filter_map(|view| self.pending_in(&view, least)).min()
    }

    fn pending_in(&self, view: &View<'_>, least: usize) -> Option<usize> {
        let bytes = &view.bytes;
        let most = self.longest.saturating_sub(1).min(bytes.len());
        let begins = |length: &usize| {
            let end = &bytes[bytes.len() - length..];
            if end.len() > 1 && !self.beginnings.begin(end) {
                return false;
            }
            starting_with(&self.forward, end).any(|form| form.len() > end.len())
        };
        let length = (least.max(1)..=most).rev().find(begins)?;
        Some(view.original(bytes.len() - length..bytes.len()).start)
    }

    /// The ends of a text that was cut, where half of a form or more stands at them.
    pub fn edges(&self, text: &[u8]) -> [Option<Range<usize>>; 2] {
        let mut edges = [None, None];
        for view in views(text) {
            let bytes = &view.bytes;
            let most = self.longest.min(bytes.len());
            let first = (MIN_EDGE..=most).rev().find(|length| {
                if !self.endings.end(&bytes[..*length]) {
                    return false;
                }
                let part: Vec<u8> = bytes[..*length].iter().rev().copied().collect();
                starting_with(&self.backward, &part).any(|form| 2 * length >= form.len())
            });
            let last = (MIN_EDGE..=most).rev().find(|length| {
                let part = &bytes[bytes.len() - length..];
                self.beginnings.begin(part)
                    && starting_with(&self.forward, part).any(|form| 2 * length >= form.len())
            });
            if let Some(length) = first {
                edges[0] = Some(view.original(0..length));
            }
            if let Some(length) = last {
                edges[1] = Some(view.original(bytes.len() - length..bytes.len()));
            }
        }
        edges
    }
}

/// The forms that begin with `part`, in order.
fn starting_with<'a>(sorted: &'a [Vec<u8>], part: &'a [u8]) -> impl Iterator<Item = &'a Vec<u8>> {
    let first = sorted.partition_point(|form| form.as_slice() < part);
    sorted[first..].iter().take_while(move |form| form.starts_with(part))
}

/// Sorts places and joins those that overlap or touch.
fn merged(mut found: Vec<Found>) -> Vec<Found> {
    found.sort_unstable_by_key(|found| (found.range.start, found.range.end));
    let mut all: Vec<Found> = Vec::with_capacity(found.len());
    for next in found {
        match all.last_mut() {
            Some(last) if next.range.start <= last.range.end => {
                last.range.end = last.range.end.max(next.range.end);
                last.certainty = last.certainty.max(next.certainty);
            }
            _ => all.push(next),
        }
    }
    all
}

/// A text as it is searched: without line breaks and colours.
struct View<'a> {
    bytes: Cow<'a, [u8]>,
    /// The place of each byte in the original; none where the text is the original.
    places: Option<Vec<usize>>,
}

impl View<'_> {
    /// The range of the original that a range of the view stands for.
    fn original(&self, range: Range<usize>) -> Range<usize> {
        match &self.places {
            None => range,
            Some(places) if range.is_empty() => {
                let at = places.get(range.start).copied().unwrap_or(places.len());
                at..at
            }
            Some(places) => places[range.start]..places[range.end - 1] + 1,
        }
    }
}

/// The views of a text: without line breaks and colours; where there are colours, also with them, since a
/// secret behind the begin of an unfinished one would lose its first character; and where there are
/// escaped line breaks of JSON, also without these. The last one alone would miss a secret that
/// begins with an `n` after a backslash.
fn views(text: &[u8]) -> impl Iterator<Item = View<'_>> {
    let plain = if memchr::memchr3(b'\n', b'\r', 0x1b, text).is_some() {
        squeezed(text, true, false)
    } else {
        View { bytes: Cow::Borrowed(text), places: None }
    };
    let coloured = memchr::memmem::find(text, b"\x1b[").map(|_| squeezed(text, false, false));
    let escaped = memchr::memchr_iter(b'\\', text)
        .any(|at| matches!(text.get(at + 1), Some(b'n' | b'r')))
        .then(|| squeezed(text, true, true));
    [Some(plain), coloured, escaped].into_iter().flatten()
}

/// The text without line breaks, and if wanted without colours and without escaped line breaks.
fn squeezed(text: &[u8], colours: bool, escapes: bool) -> View<'static> {
    let (mut bytes, mut places) = (Vec::with_capacity(text.len()), Vec::with_capacity(text.len()));
    let mut at = 0;
    while let Some(&byte) = text.get(at) {
        match (byte, text.get(at + 1)) {
            (b'\n' | b'\r', _) => {
                at += 1;
                // The next line may be indented.
                while matches!(text.get(at), Some(b' ' | b'\t')) {
                    at += 1;
                }
            }
            (0x1b, Some(b'[')) if colours => {
                at += 2;
                while text.get(at).is_some_and(|byte| !(0x40..=0x7e).contains(byte)) {
                    at += 1;
                }
                at += 1;
            }
            (b'\\', Some(b'n' | b'r')) if escapes => at += 2,
            _ => {
                bytes.push(byte);
                places.push(at);
                at += 1;
            }
        }
    }
    View { bytes: Cow::Owned(bytes), places: Some(places) }
}
