//! The state of one life of afk that a restart loses. It can't be folded from the journal, so it
//! lies beside the fleet and not in it. The step writes it; the runtime keeps it between steps.

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

    pub(crate) fn restarted(&mut self) {
        self.in_flight.clear();
    }
}
