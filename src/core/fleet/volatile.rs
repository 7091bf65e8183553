//! The state of one life of afk that a restart loses. It can't be folded from the journal, so it
//! lies beside the fleet and not in it. The step writes it; the runtime keeps it between steps.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::id::{IssueKey, OutboxId, Repo};
use crate::model::input::CloneEnd;
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
    /// The repositories without a clone.
    uncloned: BTreeMap<Repo, FirstCloneState>,
}

/// How far the first clone of a repository is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FirstCloneState {
    Missing,
    UnderWay,
    /// It failed, and the next run may meet the error itself.
    Failed,
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

    /// Records that these repositories have no clone; what is known of others stays.
    pub(crate) fn uncloned(&mut self, repos: BTreeSet<Repo>) {
        for repo in repos {
            self.uncloned.entry(repo).or_insert(FirstCloneState::Missing);
        }
    }

    pub(crate) fn clone_ended(&mut self, repo: Repo, end: CloneEnd) {
        match end {
            CloneEnd::Done => drop(self.uncloned.remove(&repo)),
            CloneEnd::Failed => drop(self.uncloned.insert(repo, FirstCloneState::Failed)),
            CloneEnd::Abandoned => drop(self.uncloned.insert(repo, FirstCloneState::Missing)),
        }
    }

    /// Whether the runs of a repository wait for its first clone.
    pub(crate) fn lacks_clone(&self, repo: &Repo) -> bool {
        self.uncloned.get(repo).is_some_and(|state| *state != FirstCloneState::Failed)
    }

    /// Records that the first clone of a repository began; false if it is under way already.
    pub(crate) fn clone_begun(&mut self, repo: &Repo) -> bool {
        let begins = self.uncloned.get(repo) == Some(&FirstCloneState::Missing);
        if begins {
            self.uncloned.insert(repo.clone(), FirstCloneState::UnderWay);
        }
        begins
    }

    /// Records that a run of the repository got its permit. Where a first clone has failed, the next run
    /// waits for another one.
    pub(crate) fn admitted(&mut self, repo: &Repo) {
        if self.uncloned.get(repo) == Some(&FirstCloneState::Failed) {
            self.uncloned.insert(repo.clone(), FirstCloneState::Missing);
        }
    }

    pub(crate) fn restarted(&mut self) {
        self.in_flight.clear();
        self.reading.clear();
        self.trying.clear();
        self.uncloned.values_mut().for_each(|state| *state = FirstCloneState::Missing);
    }
}
