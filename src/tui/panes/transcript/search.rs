//! A search in a transcript: every place where a reader would see the text, also in folded output.
//!
//! The text of a record is the text that its lines show when nothing is folded or cut, without marks,
//! so that a hit is found where wrapping broke it and where a program coloured it. Case is ignored.

use std::io;

use super::cells::{CellLine, Cells};
use crate::journal::transcript::Reader;
use crate::tui::widgets::span::plain;

/// Records that are read at once.
const CHUNK: usize = 64;

/// A place that the text was found at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Hit {
    pub(super) record: usize,
    /// The how-manieth occurrence in the record.
    pub(super) nth: usize,
}

/// The result of a step to another hit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SearchStep {
    Nothing,
    /// The hit's number among all, from 1 on; `wrapped` where the step went over an end.
    At {
        number: usize,
        all: usize,
        wrapped: bool,
    },
}

/// A text and its hits so far.
#[derive(Debug, Default)]
pub(super) struct TextSearch {
    /// In lower case.
    needle: String,
    hits: Vec<Hit>,
    /// The records that were searched. The newest is searched again, since it can still change.
    searched: usize,
    /// The hit that is shown.
    at: Option<usize>,
}

impl TextSearch {
    pub(super) fn new(text: &str) -> Self {
        Self { needle: text.to_lowercase(), ..Self::default() }
    }

    pub(super) fn is_for(&self, text: &str) -> bool {
        self.needle == text.to_lowercase()
    }

    pub(super) fn needle(&self) -> &str {
        &self.needle
    }

    /// The hit that is shown.
    pub(super) fn hit(&self) -> Option<Hit> {
        self.at.and_then(|at| self.hits.get(at)).copied()
    }

    /// The number of the shown hit, and of all.
    pub(super) fn number(&self) -> Option<(usize, usize)> {
        self.at.map(|at| (at + 1, self.hits.len()))
    }

    /// Searches the records that came since the last time.
    pub(super) fn update(&mut self, reader: &Reader, cells: Cells<'_>) -> io::Result<()> {
        let cells = Cells { whole: true, ..cells };
        let mut record = self.searched.min(reader.len());
        self.hits.retain(|hit| hit.record < record);
        while record < reader.len() {
            let entries = reader.read(record, CHUNK)?;
            if entries.is_empty() {
                break;
            }
            for entry in entries {
                let newest = record + 1 == reader.len();
                let count = places(&cells.lines(record, &entry, newest), &self.needle).len();
                self.hits.extend((0..count).map(|nth| Hit { record, nth }));
                record += 1;
            }
        }
        self.searched = reader.len().saturating_sub(1);
        self.at = self.at.filter(|at| *at < self.hits.len());
        Ok(())
    }

    /// Steps to the next hit, over the end to the other one. Without a shown hit it starts at `from`.
    pub(super) fn step(&mut self, backwards: bool, from: usize) -> SearchStep {
        let all = self.hits.len();
        if all == 0 {
            self.at = None;
            return SearchStep::Nothing;
        }
        let (at, wrapped) = match (self.at, backwards) {
            (Some(at), false) => ((at + 1) % all, at + 1 == all),
            (Some(0), true) => (all - 1, true),
            (Some(at), true) => (at - 1, false),
            (None, false) => match self.hits.iter().position(|hit| hit.record >= from) {
                Some(at) => (at, false),
                None => (0, true),
            },
            (None, true) => match self.hits.iter().rposition(|hit| hit.record <= from) {
                Some(at) => (at, false),
                None => (all - 1, true),
            },
        };
        self.at = Some(at);
        SearchStep::At { number: at + 1, all, wrapped }
    }
}

/// The lines that the occurrences of a text begin in, in order.
pub(super) fn places(cells: &[CellLine], needle: &str) -> Vec<usize> {
    let mut places = Vec::new();
    if needle.is_empty() {
        return places;
    }
    let mut first = 0;
    while first < cells.len() {
        let rest = cells[first + 1..].iter().take_while(|cell| cell.continues).count();
        let group = &cells[first..=first + rest];
        let (mut text, mut starts) = (String::new(), Vec::new());
        for cell in group {
            starts.push(text.len());
            let shown = plain(&cell.line);
            text.extend(shown.chars().skip(cell.lead).flat_map(char::to_lowercase));
        }
        places.extend(
            text.match_indices(needle).map(|(at, _)| {
                first + starts.partition_point(|start| *start <= at).saturating_sub(1)
            }),
        );
        first += rest + 1;
    }
    places
}
