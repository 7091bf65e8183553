//! The events of the journal as lines, from one record to the next: `afk watch` and `afk log` print them.

use std::path::Path;

use super::timeline;
use crate::core::fleet::Fleet;
use crate::core::model::event::Event;
use crate::core::model::time::Timestamp;
use crate::core::model::untrusted::clean_line;
use crate::error::Failure;
use crate::journal::Journal;

/// An event that says something to a reader.
#[derive(Debug)]
pub(super) struct JournalLine {
    /// The number of the event's record.
    pub(super) seq: i64,
    pub(super) at: Timestamp,
    pub(super) event: Event,
    /// The event in one clean line.
    pub(super) text: String,
}

impl JournalLine {
    /// The line with its time, in the machine's time zone.
    pub(super) fn stamped(&self) -> String {
        let at = jiff::Timestamp::from_millisecond(self.at.0).unwrap_or_default();
        let at = at.to_zoned(jiff::tz::TimeZone::system()).strftime("%F %T");
        format!("{at}  {}", self.text)
    }
}

/// The journal as far as it was read.
pub(super) struct JournalLines {
    journal: Journal,
    /// The fleet after the last record that was read.
    pub(super) fleet: Fleet,
    /// The number of the next record.
    next: i64,
}

impl JournalLines {
    pub(super) fn open(state: &Path) -> Result<Self, Failure> {
        let journal = Journal::open_read_only(state)?;
        Ok(Self { journal, fleet: Fleet::default(), next: 1 })
    }

    /// Hands out a line for each new event that says something, with the fleet after it.
    pub(super) fn read(
        &mut self,
        mut each: impl FnMut(&Fleet, JournalLine),
    ) -> Result<(), Failure> {
        let Self { journal, fleet, next } = self;
        journal.read(*next, |record| {
            let event = record.event()?;
            fleet.apply(record.at, &event);
            *next = record.seq + 1;
            if let Some(text) = timeline::describe(fleet, &event) {
                let text = clean_line(&text);
                each(fleet, JournalLine { seq: record.seq, at: record.at, event, text });
            }
            Ok(true)
        })?;
        Ok(())
    }
}
