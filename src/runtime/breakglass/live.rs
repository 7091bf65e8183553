//! What verbs write while they run, for everybody who looks.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};

use crate::breakglass::verb::Told;
use crate::core::model::breakglass::VerbId;
use crate::core::model::untrusted::Untrusted;

/// Lines that are kept of each.
const LINES: usize = 400;
/// Bytes of a line.
const LINE: usize = 2_000;
/// Verbs that are kept.
const VERBS: usize = 4;

/// One line that a verb wrote.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Said {
    /// On its standard error.
    pub err: bool,
    /// As it came.
    pub text: Untrusted,
}

/// A verb as it is seen from outside.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// Where it stands.
    pub link: Untrusted,
    /// The number of the first line that is here, from 0.
    pub first: usize,
    /// The last lines.
    pub lines: VecDeque<Said>,
}

/// The last verbs.
#[derive(Debug, Default)]
pub struct Live {
    verbs: BTreeMap<VerbId, (Seen, [Vec<u8>; 2])>,
}

impl Live {
    /// A verb begins.
    pub fn begin(&mut self, id: VerbId) {
        self.verbs.insert(id, Default::default());
        while self.verbs.len() > VERBS {
            self.verbs.pop_first();
        }
    }

    /// It said something.
    pub fn hear(&mut self, id: VerbId, told: Told<'_>) {
        let Some((seen, rest)) = self.verbs.get_mut(&id) else { return };
        let (err, bytes) = match told {
            Told::Link(text) => {
                seen.link = text.into();
                return;
            }
            Told::Out(bytes) => (false, bytes),
            Told::Err(bytes) => (true, bytes),
        };
        let rest = &mut rest[usize::from(err)];
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            let room = LINE.saturating_sub(rest.len());
            rest.extend_from_slice(&part[..part.len().min(room)]);
            if part.ends_with(b"\n") {
                let line = std::mem::take(rest);
                let text = String::from_utf8_lossy(&line);
                seen.add(err, text.trim_end_matches(['\n', '\r']));
            }
        }
    }

    /// It ended.
    pub fn end(&mut self, id: VerbId, how: &str) {
        let Some((seen, rest)) = self.verbs.get_mut(&id) else { return };
        for (err, rest) in
            [(false, std::mem::take(&mut rest[0])), (true, std::mem::take(&mut rest[1]))]
        {
            if !rest.is_empty() {
                seen.add(err, &String::from_utf8_lossy(&rest));
            }
        }
        seen.link = how.into();
    }

    /// A copy for a snapshot.
    #[must_use]
    pub fn copy(&self) -> BTreeMap<VerbId, Seen> {
        self.verbs.iter().map(|(id, (seen, _))| (*id, seen.clone())).collect()
    }
}

impl Seen {
    fn add(&mut self, err: bool, text: &str) {
        self.lines.push_back(Said { err, text: text.into() });
        if self.lines.len() > LINES {
            self.lines.pop_front();
            self.first += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_bounded_and_both_ways_are_kept_apart() {
        let (mut live, id) = (Live::default(), VerbId(1));
        live.begin(id);
        live.hear(id, Told::Out(b"one\ntw"));
        live.hear(id, Told::Err(b"oops\n"));
        live.hear(id, Told::Out(b"o\nthree"));
        live.end(id, "exit 0");
        let seen = &live.copy()[&id];
        let lines: Vec<_> =
            seen.lines.iter().map(|said| (said.err, said.text.as_received())).collect();
        assert_eq!(lines, [(false, "one"), (true, "oops"), (false, "two"), (false, "three")]);
        for n in 0..1000 {
            live.hear(id, Told::Out(format!("{n}\n").as_bytes()));
        }
        live.hear(id, Told::Out(&vec![b'x'; 100_000]));
        live.end(id, "exit 0");
        let seen = &live.copy()[&id];
        assert_eq!((seen.lines.len(), seen.first), (LINES, 605));
        assert_eq!(seen.lines.back().map(|said| said.text.as_received().len()), Some(LINE));
        for n in 2..9 {
            live.begin(VerbId(n));
        }
        assert_eq!(live.copy().len(), VERBS);
    }
}
