//! The agent of the next turn: the first one that no outage holds, of those that can take the run's
//! turns. `lifecycle` asks before each turn, so that a fallback takes turns only as long as the first
//! agent is away; `outage` asks when a turn ended at a limit or at a login.
//!
//! ```text
//! claude, then codex       claude is away     codex takes the next turn     Event::FellBack
//!                          both are away      the run is held, and goes on with the one that is back
//!                          claude is back     claude takes the next turn    Event::AgentRestored
//! ```
//!
//! A conversation belongs to its agent: another one begins its own with what was done so far.

use crate::fleet::Fleet;
use crate::model::activity::Activity;
use crate::model::event::Event;
use crate::model::id::RunId;
use crate::model::outage::{OutageCause, OutageKind};
use crate::model::run::Run;
use crate::step::stepper::Stepper;

impl Stepper<'_> {
    /// The first agent of those that can take the run's turns and that no outage holds.
    pub(super) fn available_agent(&self, id: RunId) -> Option<String> {
        let run = self.run(id)?;
        available(self.fleet(), run).map(str::to_owned)
    }

    /// Whether a run waits for the end of an outage. One that waits for its agent goes on with any that
    /// is back.
    pub(super) fn is_held_back(&self, run: &Run) -> bool {
        let Activity::Held { cause, .. } = &run.progress.activity else { return false };
        if run.collects_without_agent() {
            return false;
        }
        let holds = self.fleet().outages.holds(cause);
        if cause.kind.is_of_agent() && run.agent.candidates().len() > 1 {
            return available(self.fleet(), run).is_none();
        }
        holds
    }

    /// The usage limit of the run's agents that ends first.
    pub(super) fn earliest_limit(&self, id: RunId) -> Option<OutageCause> {
        let candidates = self.run(id)?.agent.candidates();
        let limits = self.fleet().outages.holding().filter(|outage| {
            outage.cause.kind == OutageKind::UsageLimit
                && candidates.contains(&outage.cause.subject.as_str())
        });
        limits.min_by_key(|outage| outage.next_try).map(|outage| outage.cause.clone())
    }

    /// Lets a run whose outage is over wait for another one, which holds the same agents.
    pub(super) fn wait_for_another(&mut self, id: RunId, then: Activity) {
        let Some(run) = self.run(id) else { return };
        let Activity::Held { cause, .. } = &run.progress.activity else { return };
        let candidates = run.agent.candidates();
        let other = candidates.iter().find_map(|agent| outage_of(self.fleet(), agent));
        if !self.fleet().outages.holds(cause)
            && let Some(cause) = other.cloned()
        {
            self.emit(Event::Held { run: id, cause, then: Some(Box::new(then)) });
        }
    }

    /// Chooses the agent of a turn that begins.
    pub(super) fn choose_agent(&mut self, id: RunId) {
        let Some(run) = self.run(id) else { return };
        let (Some(present), Some(next)) = (run.agent.present(), available(self.fleet(), run))
        else {
            return;
        };
        if present == next {
            return;
        }
        let first = run.agent.preferred.as_ref().map(|first| first.agent.as_str());
        let (present, next) = (present.to_owned(), next.to_owned());
        if first == Some(next.as_str()) {
            self.note(id, format!("{next} is back and goes on with what was done so far"));
            return self.emit(Event::AgentRestored { run: id });
        }
        let cause = outage_of(self.fleet(), &present).cloned();
        let why = cause.as_ref().map(|cause| format!("{}; ", cause.summary()));
        let why = why.unwrap_or_default();
        self.note(id, format!("{why}{next} goes on with what was done so far"));
        self.emit(Event::FellBack { run: id, agent: next, cause });
    }
}

/// The outage that keeps an agent from taking turns.
fn outage_of<'a>(fleet: &'a Fleet, agent: &str) -> Option<&'a OutageCause> {
    let mut holding = fleet.outages.holding().map(|outage| &outage.cause);
    holding.find(|cause| cause.kind.is_of_agent() && cause.subject == agent)
}

fn available<'a>(fleet: &Fleet, run: &'a Run) -> Option<&'a str> {
    run.agent.candidates().into_iter().find(|agent| outage_of(fleet, agent).is_none())
}
