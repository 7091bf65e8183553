//! Time that passed without afk, and a clock that was set back. Deadlines of humans and of the world
//! count only time in which they could be met, and a stamp from a clock that was ahead must not hold
//! anything up. `Fleet::apply` calls it.

use std::sync::Arc;

use imbl::OrdMap;

use crate::fleet::Fleet;
use crate::fleet::queue::Queue;
use crate::model::activity::Activity;
use crate::model::run::Run;
use crate::model::time::Timestamp;

impl Fleet {
    /// Gives back `ms` in which nobody could answer, and nobody could look: the machine slept, or afk
    /// did not run.
    pub(super) fn give_back_time(&mut self, ms: i64) {
        for escalation in self.escalations.values_mut().filter(|e| e.open()) {
            let known = Arc::make_mut(escalation);
            known.expires = known.expires.map(|at| at.plus(ms));
        }
        for id in &self.live {
            if let Some(run) = self.runs.get_mut(id).map(Arc::make_mut) {
                run.give_back_time(ms);
                run.progress.due = run.progress.due.map(|at| at.plus(ms));
            }
        }
        self.outages.times(&|at| *at = at.plus(ms));
    }

    /// Moves every stamp that lies after `now` back by `ms`: the clock that set it was ahead.
    pub(super) fn set_back(&mut self, now: Timestamp, ms: i64) {
        let back = |at: &mut Timestamp| {
            if *at > now {
                *at = at.plus(-ms);
            }
        };
        self.last_event = now;
        for escalation in self.escalations.values_mut() {
            let known = Arc::make_mut(escalation);
            back(&mut known.raised);
            back(&mut known.notified);
            known.expires.iter_mut().for_each(&back);
        }
        for entry in self.outbox.values_mut() {
            back(&mut entry.not_before);
        }
        self.ledger = changed(&self.ledger, |entry| back(&mut entry.since));
        self.runs = changed(&self.runs, |run| run.set_back(&back));
        for (_, at) in self.last_good.values_mut() {
            back(at);
        }
        self.queue = Queue::default();
        for run in self.runs.values().filter(|run| run.live() && !run.has_permit()) {
            self.queue.insert(run);
        }
        self.outages.times(&back);
        self.breaker.set_back(&back);
        self.jobs.set_back(&back);
        self.breakglass.set_back(&back);
    }
}

/// The map with every value changed.
fn changed<K: Ord + Clone, V: Clone>(
    map: &OrdMap<K, Arc<V>>,
    change: impl Fn(&mut V),
) -> OrdMap<K, Arc<V>> {
    let entries = map.iter().map(|(key, value)| {
        let mut value = V::clone(value);
        change(&mut value);
        (key.clone(), Arc::new(value))
    });
    entries.collect()
}

impl Run {
    /// Lengthens the limits that count from a time of the world.
    pub(super) fn give_back_time(&mut self, ms: i64) {
        if let Activity::Held { since, .. } = &mut self.progress.activity {
            // The end of the outage gives its time back, and must not count this time again.
            *since = since.plus(ms);
        }
        self.progress.first_red = self.progress.first_red.map(|at| at.plus(ms));
        if self.workspace.pushed.is_some() {
            self.progress.unseen_ms = self.progress.unseen_ms.saturating_add(ms);
        }
    }

    fn set_back(&mut self, back: &dyn Fn(&mut Timestamp)) {
        let progress = &mut self.progress;
        back(&mut progress.claimed);
        let times = [
            &mut progress.admitted,
            &mut progress.ended,
            &mut progress.first_red,
            &mut progress.due,
        ];
        times.into_iter().flatten().for_each(back);
        progress.reached.iter_mut().for_each(|(_, at)| back(at));
        match &mut progress.activity {
            Activity::Backoff { until, .. } => back(until),
            Activity::Held { since, .. } => back(since),
            _ => {}
        }
        let times = [&mut self.agent.followed, &mut self.agent.quiet];
        times.into_iter().flatten().for_each(back);
        self.agent.tool.iter_mut().for_each(|(_, since)| back(since));
        self.agent.retry.iter_mut().for_each(|retry| back(&mut retry.at));
        self.issue.unjudged.iter_mut().for_each(|edit| back(&mut edit.since));
        self.proof.set_back(back);
    }
}
