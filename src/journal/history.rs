//! The past of a fleet, read from its journal: the fleet as it was at a record or a moment, the landmarks
//! on the way, the brief, and the timeline. The cockpit's time travel, `afk replay` and `afk brief` read
//! it, also while another process writes the journal.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};

use super::{Journal, JournalError};
use crate::core::fleet::Fleet;
use crate::core::model::event::Event;
use crate::core::model::time::Timestamp;
use crate::core::query::brief::{BriefFold, FleetBrief};
use crate::core::query::landmark::{self, LandmarkKind};
use crate::core::query::span::{SpanFold, Timeline};

/// Folded fleets that a history keeps, so that a step back folds a sixteenth of the journal.
const CHECKPOINTS: i64 = 16;
/// The fewest records between two of them.
const SHORTEST_STRIDE: i64 = 256;
/// The landmarks that a history keeps; the oldest go first.
const MOST_LANDMARKS: usize = 10_000;

/// A place in a journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Moment {
    /// The record with this number.
    Record(i64),
    /// The last record at or before this time.
    Time(Timestamp),
}

/// A landmark with its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Landmark {
    pub(crate) seq: i64,
    pub(crate) at: Timestamp,
    pub(crate) kind: LandmarkKind,
    /// The landmark in one clean line.
    pub(crate) text: String,
}

/// A fleet as it was.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct PastFleet {
    /// The fleet after record `seq`.
    pub(crate) fleet: Fleet,
    /// The number of the last record in it; 0 before the first one.
    pub(crate) seq: i64,
    /// The time of that record.
    pub(crate) at: Timestamp,
}

impl PastFleet {
    fn take(&mut self, seq: i64, at: Timestamp, event: &Event) {
        self.fleet.apply(at, event);
        (self.seq, self.at) = (seq, at);
    }

    /// Folds further records up to a moment.
    fn advance(&mut self, journal: &Journal, to: Moment) -> Result<(), JournalError> {
        journal.read(self.seq + 1, |record| {
            let is_beyond = match to {
                Moment::Record(seq) => record.seq > seq,
                Moment::Time(at) => record.at > at,
            };
            if is_beyond {
                return Ok(false);
            }
            self.take(record.seq, record.at, &record.event()?);
            Ok(true)
        })
    }
}

/// A journal as it was read once: its length, its landmarks, and fleets on the way.
#[derive(Debug)]
pub(crate) struct History {
    state: PathBuf,
    /// The first and the last record with their times.
    pub(crate) first: (i64, Timestamp),
    pub(crate) last: (i64, Timestamp),
    /// The landmarks, oldest first.
    pub(crate) landmarks: VecDeque<Landmark>,
    checkpoints: Vec<PastFleet>,
}

impl History {
    /// Reads the whole journal of a state folder.
    ///
    /// # Errors
    /// The journal can't be read.
    pub(crate) fn read(state: &Path) -> Result<Self, JournalError> {
        let journal = Journal::open_read_only(state)?;
        let stride = (journal.last() / CHECKPOINTS).max(SHORTEST_STRIDE);
        let mut past = PastFleet::default();
        let mut history = Self {
            state: state.to_owned(),
            first: (0, Timestamp::default()),
            last: (0, Timestamp::default()),
            landmarks: VecDeque::new(),
            checkpoints: Vec::new(),
        };
        journal.read(1, |record| {
            let event = record.event()?;
            past.take(record.seq, record.at, &event);
            if history.first.0 == 0 {
                history.first = (record.seq, record.at);
            }
            if record.seq % stride == 0 {
                history.checkpoints.push(past.clone());
            }
            if let Some((kind, text)) = landmark::of(&past.fleet, &event) {
                let (seq, at) = (record.seq, record.at);
                history.landmarks.push_back(Landmark { seq, at, kind, text });
                if history.landmarks.len() > MOST_LANDMARKS {
                    history.landmarks.pop_front();
                }
            }
            Ok(true)
        })?;
        history.last = (past.seq, past.at);
        Ok(history)
    }

    /// The fleet at a moment of this journal.
    ///
    /// # Errors
    /// The journal can't be read any more.
    pub(crate) fn at(&self, moment: Moment) -> Result<PastFleet, JournalError> {
        let is_before = |known: &&PastFleet| match moment {
            Moment::Record(seq) => known.seq <= seq,
            Moment::Time(at) => known.at <= at,
        };
        // The checkpoints are in order, unless somebody set the clock back; folding from an earlier one
        // is right in any case.
        let nearest = self.checkpoints.iter().take_while(is_before).last();
        let mut past = nearest.cloned().unwrap_or_default();
        past.advance(&Journal::open_read_only(&self.state)?, moment)?;
        Ok(past)
    }
}

impl Journal {
    /// The fleet at a moment; an empty one before the first record.
    ///
    /// # Errors
    /// The journal can't be read.
    pub(crate) fn fold_until(&self, moment: Moment) -> Result<PastFleet, JournalError> {
        let mut past = PastFleet::default();
        past.advance(self, moment)?;
        Ok(past)
    }

    fn each_event(&self, mut take: impl FnMut(Timestamp, &Event)) -> Result<(), JournalError> {
        self.read(1, |record| {
            take(record.at, &record.event()?);
            Ok(true)
        })
    }

    /// What happened since a moment, as of `until`.
    ///
    /// # Errors
    /// The journal can't be read.
    pub(crate) fn brief(
        &self,
        since: Timestamp,
        until: Timestamp,
    ) -> Result<FleetBrief, JournalError> {
        let mut fold = BriefFold::new(since);
        self.each_event(|at, event| fold.take(at, event))?;
        Ok(fold.finish(until))
    }

    /// What each run did since a moment, as of `until`.
    ///
    /// # Errors
    /// The journal can't be read.
    pub(crate) fn timeline(
        &self,
        since: Timestamp,
        until: Timestamp,
    ) -> Result<Timeline, JournalError> {
        let mut fold = SpanFold::new(since);
        self.each_event(|at, event| fold.take(at, event))?;
        Ok(fold.finish(until))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::model::id::Actor;

    /// A journal of `count` records, a second apart, each of which sets the number of permits to its own.
    fn journal(count: u32) -> tempfile::TempDir {
        let state = tempfile::tempdir().unwrap();
        let mut journal = Journal::open(state.path()).unwrap();
        let event = |n: u32| match n % 100 {
            0 => Event::KillSwitch { on: n.is_multiple_of(200), by: Actor("ana".into()) },
            _ => Event::Capacity { permits: n, by: Actor("ana".into()) },
        };
        let batch: Vec<_> =
            (1..=count).map(|n| (Timestamp(i64::from(n) * 1000), event(n))).collect();
        journal.append(&batch).unwrap();
        state
    }

    #[test]
    fn any_moment_folds_to_the_fleet_of_its_prefix() {
        let state = journal(2000);
        let history = History::read(state.path()).unwrap();
        assert_eq!((history.first.0, history.last.0, history.landmarks.len()), (1, 2000, 20));
        assert!(history.checkpoints.len() > 3);
        let journal = Journal::open_read_only(state.path()).unwrap();
        for seq in [1, 99, 255, 256, 257, 1024, 1999, 2000] {
            let past = history.at(Moment::Record(seq)).unwrap();
            assert_eq!(past, journal.fold_until(Moment::Record(seq)).unwrap(), "{seq}");
            assert_eq!(past.seq, seq);
            let between = Moment::Time(Timestamp(seq * 1000 + 999));
            assert_eq!(history.at(between).unwrap(), past, "{seq}");
        }
        assert_eq!(history.at(Moment::Record(501)).unwrap().fleet.capacity(), 501);
        assert_eq!(history.at(Moment::Time(Timestamp(5))).unwrap(), PastFleet::default());
        assert_eq!(history.at(Moment::Record(9999)).unwrap().fleet, journal.fold().unwrap());
        let first = history.landmarks.front().unwrap();
        assert_eq!((first.seq, &*first.text), (100, "ana turned the kill switch off"));
    }
}
