//! The runs that wait for a permit, kept in an index so that admission sorts nothing when a permit
//! becomes free. `Fleet::apply` inserts and removes; `Fleet::waiting` reads in order of rank.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::model::id::RunId;
use crate::model::run::{Run, urgency};
use crate::model::time::Timestamp;

/// Waiting runs by priority, and in each priority by the time of their claim. Waiting improves all
/// runs of one priority alike, so the order within a priority never changes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Queue(BTreeMap<i64, BTreeSet<(Timestamp, RunId)>>);

impl Queue {
    fn place(run: &Run) -> (i64, (Timestamp, RunId)) {
        (urgency(run.priority), (run.progress.claimed, run.id))
    }

    pub(super) fn insert(&mut self, run: &Run) {
        let (priority, place) = Self::place(run);
        self.0.entry(priority).or_default().insert(place);
    }

    pub(super) fn remove(&mut self, run: &Run) {
        let (priority, place) = Self::place(run);
        if let Some(class) = self.0.get_mut(&priority) {
            class.remove(&place);
            if class.is_empty() {
                self.0.remove(&priority);
            }
        }
    }

    /// Whether `run` waits for a permit.
    #[must_use]
    pub fn has(&self, run: &Run) -> bool {
        let (priority, place) = Self::place(run);
        self.0.get(&priority).is_some_and(|class| class.contains(&place))
    }

    /// How many runs wait for a permit.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.values().map(BTreeSet::len).sum()
    }

    /// Whether no run waits for a permit.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The waiting runs, next one first; `rank` gives a run's present rank ([`Run::rank`]).
    pub fn in_order<R: Ord>(&self, rank: impl Fn(RunId) -> R) -> impl Iterator<Item = RunId> {
        let mut classes: Vec<_> =
            self.0.values().map(|class| class.iter().map(|(_, run)| *run).peekable()).collect();
        std::iter::from_fn(move || {
            let firsts = classes.iter_mut().filter_map(|class| Some((*class.peek()?, class)));
            let (_, class) = firsts.min_by_key(|(run, _)| rank(*run))?;
            class.next()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::id::{Actor, Repo};
    use crate::model::issue::Priority;
    use crate::model::run::Work;

    #[test]
    fn queue_order_follows_the_ranks_at_any_time() {
        const AGING: i64 = 10;
        let mut queue = Queue::default();
        let mut runs = BTreeMap::new();
        for n in 0..60_u64 {
            let repo = Repo::parse("acme/widget").unwrap();
            let work =
                Work::Prompt { repo, prompt: "x".into(), by: Actor("ana".into()), job: None };
            // Claim times differ from the order of the ids, and some are equal.
            let at = Timestamp((n * 37 % 50).cast_signed());
            let priority = (n % 4 > 0).then(|| Priority(u8::try_from(n % 4).unwrap()));
            let run = Run::claimed(RunId(n), work, priority, at);
            queue.insert(&run);
            runs.insert(run.id, run);
        }
        for gone in [7, 20, 59] {
            queue.remove(&runs.remove(&RunId(gone)).unwrap());
        }
        for now in [50, 75, 1000] {
            let rank = |id: RunId| runs[&id].rank(Timestamp(now), AGING);
            let mut sorted: Vec<RunId> = runs.keys().copied().collect();
            sorted.sort_by_key(|id| rank(*id));
            assert_eq!(queue.in_order(rank).collect::<Vec<_>>(), sorted, "at {now}");
        }
        assert_eq!(queue.len(), 57);
        for run in runs.values() {
            queue.remove(run);
        }
        assert!(queue.is_empty());
    }
}
