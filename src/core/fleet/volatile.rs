//! The state of one life of afk that a restart loses. It can't be folded from the journal, so it
//! lies beside the fleet and not in it. The step writes it; the runtime keeps it between steps.

use std::collections::BTreeSet;

use crate::model::id::{IssueKey, OutboxId};
use crate::model::outage::OutageCause;
use crate::model::time::Timestamp;

/// The volatile state of one life of the runtime.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Volatile {
    now: Timestamp,
    in_flight: BTreeSet<OutboxId>,
    /// Issues that are being read again before their claim.
    reading: BTreeSet<IssueKey>,
    trying: BTreeSet<OutageCause>,
}

impl Volatile {
    /// The latest time of any input. It never runs backwards, even if the clock does.
    #[must_use]
    pub const fn now(&self) -> Timestamp {
        self.now
    }

    /// Records the time of an input and returns the time of its step.
    pub(crate) fn advance(&mut self, at: Timestamp) -> Timestamp {
        self.now = self.now.max(at);
        self.now
    }

    /// Records that the clock was set back by `ms`, the one case in which time runs backwards.
    pub(crate) fn set_back(&mut self, ms: i64) {
        self.now = self.now.plus(-ms);
    }

    /// Whether the runtime tries right now whether an outage is over.
    #[must_use]
    pub fn is_trying(&self, cause: &OutageCause) -> bool {
        self.trying.contains(cause)
    }

    pub(crate) fn trying(&mut self, cause: OutageCause) {
        self.trying.insert(cause);
    }

    pub(crate) fn tried(&mut self, cause: &OutageCause) {
        self.trying.remove(cause);
    }

    /// Whether an adapter is delivering an outbox entry and has not answered yet.
    #[must_use]
    pub fn in_flight(&self, entry: OutboxId) -> bool {
        self.in_flight.contains(&entry)
    }

    pub(crate) fn handed_over(&mut self, entry: OutboxId) {
        self.in_flight.insert(entry);
    }

    pub(crate) fn answered(&mut self, entry: OutboxId) {
        self.in_flight.remove(&entry);
    }

    /// Records that an issue is being read; false if one of its repository is already.
    pub(crate) fn reading_begun(&mut self, key: &IssueKey) -> bool {
        !self.reading.iter().any(|known| known.repo == key.repo) && self.reading.insert(key.clone())
    }

    pub(crate) fn reading_ended(&mut self, key: &IssueKey) {
        self.reading.remove(key);
    }

    pub(crate) fn restarted(&mut self) {
        self.in_flight.clear();
        self.reading.clear();
        self.trying.clear();
    }
}
