//! What a running afk knows beside the fleet and a restart forgets. It is no fold of the journal,
//! so it lies beside the fleet and not in it.

use std::collections::BTreeSet;

use crate::model::id::OutboxId;
use crate::model::time::Timestamp;

/// The volatile state of one life of the runtime.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Volatile {
    now: Timestamp,
    in_flight: BTreeSet<OutboxId>,
}

impl Volatile {
    /// The latest time that an input carried; it never runs backwards, whatever the clock does.
    #[must_use]
    pub const fn now(&self) -> Timestamp {
        self.now
    }

    /// Takes the time of an input and returns the time at which it is stepped.
    pub(crate) fn advance(&mut self, at: Timestamp) -> Timestamp {
        self.now = self.now.max(at);
        self.now
    }

    /// Whether an adapter has an outbox entry and has not answered yet.
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

    pub(crate) fn restarted(&mut self) {
        self.in_flight.clear();
    }
}
