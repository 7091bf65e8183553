//! The output of breakglass verbs while they run, for every client.
//!
//! A bounded tail in memory; [`super::run_verb`] also stores the whole output as a capture.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};

use crate::breakglass::verb::VerbProgress;
use crate::core::model::breakglass::VerbId;
use crate::core::model::untrusted::Untrusted;

/// The largest number of lines of one verb; older ones are dropped.
const LINES: usize = 400;
/// The longest line in bytes; the rest is dropped.
const LINE: usize = 2_000;
/// The largest number of verbs; the oldest is dropped.
const VERBS: usize = 4;

/// One line that a verb wrote.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerbLine {
    /// Whether the line came from standard error.
    pub err: bool,
    /// The line as the host sent it, without its end.
    pub text: Untrusted,
}

/// The connection and the last output of one verb. The attach protocol carries it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerbOutput {
    /// The state of the connection to the host, then the verb's result.
    pub link: Untrusted,
    /// The number of dropped lines, which is also the number of the first line here.
    pub first: usize,
    /// The last lines, oldest first.
    pub lines: VecDeque<VerbLine>,
}

/// The output of the last verbs.
#[derive(Debug, Default)]
pub(crate) struct LiveVerbs {
    /// The output of each verb, and its unfinished lines on standard output and standard error.
    verbs: BTreeMap<VerbId, (VerbOutput, [Vec<u8>; 2])>,
}

impl LiveVerbs {
    /// Adds a verb without output.
    pub(in crate::runtime) fn begin(&mut self, id: VerbId) {
        self.verbs.insert(id, Default::default());
        while self.verbs.len() > VERBS {
            self.verbs.pop_first();
        }
    }

    /// Adds output, or the state of the connection, to a verb.
    pub(in crate::runtime) fn add(&mut self, id: VerbId, progress: VerbProgress<'_>) {
        let Some((output, rest)) = self.verbs.get_mut(&id) else { return };
        let (err, bytes) = match progress {
            VerbProgress::Link(text) => {
                output.link = text.into();
                return;
            }
            VerbProgress::Stdout(bytes) => (false, bytes),
            VerbProgress::Stderr(bytes) => (true, bytes),
        };
        let rest = &mut rest[usize::from(err)];
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            let room = LINE.saturating_sub(rest.len());
            rest.extend_from_slice(&part[..part.len().min(room)]);
            if part.ends_with(b"\n") {
                let line = std::mem::take(rest);
                let text = String::from_utf8_lossy(&line);
                output.add(err, text.trim_end_matches(['\n', '\r']));
            }
        }
    }

    /// Adds the unfinished lines of a verb, and its result.
    pub(in crate::runtime) fn end(&mut self, id: VerbId, result: &str) {
        let Some((output, rest)) = self.verbs.get_mut(&id) else { return };
        for (err, rest) in
            [(false, std::mem::take(&mut rest[0])), (true, std::mem::take(&mut rest[1]))]
        {
            if !rest.is_empty() {
                output.add(err, &String::from_utf8_lossy(&rest));
            }
        }
        output.link = result.into();
    }

    /// A copy of the output for a snapshot.
    pub(in crate::runtime) fn copy(&self) -> BTreeMap<VerbId, VerbOutput> {
        self.verbs.iter().map(|(id, (output, _))| (*id, output.clone())).collect()
    }
}

impl VerbOutput {
    fn add(&mut self, err: bool, text: &str) {
        self.lines.push_back(VerbLine { err, text: text.into() });
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
        let (mut live, id) = (LiveVerbs::default(), VerbId(1));
        live.begin(id);
        live.add(id, VerbProgress::Stdout(b"one\ntw"));
        live.add(id, VerbProgress::Stderr(b"oops\n"));
        live.add(id, VerbProgress::Stdout(b"o\nthree"));
        live.end(id, "exit code 0");
        let output = &live.copy()[&id];
        let lines: Vec<_> =
            output.lines.iter().map(|line| (line.err, line.text.as_received())).collect();
        assert_eq!(lines, [(false, "one"), (true, "oops"), (false, "two"), (false, "three")]);
        for n in 0..1000 {
            live.add(id, VerbProgress::Stdout(format!("{n}\n").as_bytes()));
        }
        live.add(id, VerbProgress::Stdout(&vec![b'x'; 100_000]));
        live.end(id, "exit code 0");
        let output = &live.copy()[&id];
        assert_eq!((output.lines.len(), output.first), (LINES, 605));
        assert_eq!(output.lines.back().map(|line| line.text.as_received().len()), Some(LINE));
        for n in 2..9 {
            live.begin(VerbId(n));
        }
        assert_eq!(live.copy().len(), VERBS);
    }
}
