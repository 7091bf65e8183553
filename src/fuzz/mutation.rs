//! Mutations of a corpus file: pieces that are cut, repeated, taken from another file or put in, and
//! bytes and numbers that are replaced.

use proptest::prelude::*;
use proptest::sample::Index;

/// One change of an input.
#[derive(Debug, Clone)]
pub(super) enum Mutation {
    /// Removes the bytes between two places.
    Cut(Index, Index),
    /// Changes one bit of a byte.
    Flip(Index, u8),
    /// Repeats the bytes between two places at a third one.
    Repeat(Index, Index, Index),
    /// Puts the bytes between two places of the other file in.
    Splice(Index, Index, Index),
    /// Puts a text in that some parser obeys.
    Insert(Index, &'static str),
    /// Replaces a number by one at the end of a range.
    Number(Index, &'static str),
}

/// Texts that begin, end or escape something for one of the parsers.
const TEXTS: &[&str] = &[
    "\n",
    "\r",
    "\0",
    "\u{1b}[",
    "\u{1b}]2;",
    "\u{1b}P",
    "\u{9b}",
    "\u{300}\u{300}",
    "\u{200b}",
    "\u{feff}",
    "\"",
    "\\",
    "\\ud83d",
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "+++\n",
    "'''",
    "=",
    "*",
    "<",
    ">",
    "&",
    "&#27;",
    "&#x202e;",
    "&#769;&#769;",
    "#",
    "$(",
    "`",
    "<<EOF\n",
    ";",
    "|",
    "\u{fffd}",
    "ß",
];

/// Numbers at which a sum, a product or a cast overflows.
const NUMBERS: &[&str] = &[
    "0",
    "-1",
    "255",
    "65536",
    "2147483648",
    "4294967296",
    "9223372036854775807",
    "-9223372036854775808",
    "18446744073709551615",
    "1e308",
    "-1e308",
    "0.1",
];

/// Any one mutation.
pub(super) fn mutations() -> impl Strategy<Value = Mutation> {
    let at = any::<Index>;
    prop_oneof![
        (at(), at()).prop_map(|(from, to)| Mutation::Cut(from, to)),
        (at(), 0..8_u8).prop_map(|(at, bit)| Mutation::Flip(at, bit)),
        (at(), at(), at()).prop_map(|(from, to, at)| Mutation::Repeat(from, to, at)),
        (at(), at(), at()).prop_map(|(from, to, at)| Mutation::Splice(from, to, at)),
        (at(), prop::sample::select(TEXTS)).prop_map(|(at, text)| Mutation::Insert(at, text)),
        (at(), prop::sample::select(NUMBERS)).prop_map(|(at, number)| Mutation::Number(at, number)),
    ]
}

impl Mutation {
    /// Changes an input; `other` is another file of the corpus.
    pub(super) fn apply(&self, input: &mut Vec<u8>, other: &[u8]) {
        let between = |from: &Index, to: &Index, length: usize| {
            let (from, to) = (from.index(length + 1), to.index(length + 1));
            from.min(to)..from.max(to)
        };
        let length = input.len();
        match self {
            Self::Cut(from, to) => drop(input.drain(between(from, to, length))),
            Self::Flip(at, bit) => {
                if length > 0 {
                    input[at.index(length)] ^= 1 << bit;
                }
            }
            Self::Repeat(from, to, at) => {
                let piece = input[between(from, to, length)].to_vec();
                put(input, *at, &piece);
            }
            Self::Splice(from, to, at) => put(input, *at, &other[between(from, to, other.len())]),
            Self::Insert(at, text) => put(input, *at, text.as_bytes()),
            Self::Number(at, number) => {
                let numbers = numbers(input);
                if !numbers.is_empty() {
                    let range = numbers[at.index(numbers.len())].clone();
                    input.splice(range, number.bytes());
                }
            }
        }
    }
}

fn put(input: &mut Vec<u8>, at: Index, piece: &[u8]) {
    let at = at.index(input.len() + 1);
    input.splice(at..at, piece.iter().copied());
}

/// The places of the decimal numbers in an input.
fn numbers(input: &[u8]) -> Vec<std::ops::Range<usize>> {
    let mut found: Vec<std::ops::Range<usize>> = Vec::new();
    for (at, byte) in input.iter().enumerate() {
        match found.last_mut() {
            _ if !byte.is_ascii_digit() => {}
            Some(last) if last.end == at => last.end = at + 1,
            _ => found.push(at..at + 1),
        }
    }
    found
}
