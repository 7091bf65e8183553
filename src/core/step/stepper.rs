//! One step in progress: the fleet that it reads, and the events and effects that it has produced
//! so far. Every module of the step adds its own methods to [`Stepper`]. [`Stepper::emit`] is their
//! only way to change the fleet, so nothing changes without an event in the journal.

use crate::fleet::Fleet;
use crate::fleet::volatile::Volatile;
use crate::model::command::Reply;
use crate::model::effect::Effect;
use crate::model::event::Event;
use crate::model::id::RunId;
use crate::model::run::Run;
use crate::model::time::Timestamp;
use crate::model::untrusted::Untrusted;

/// The result of a step. The runtime journals the events before it begins any effect and before it
/// sends the reply.
#[derive(Debug, Default)]
pub struct Step {
    /// The time of the events, which never runs backwards.
    pub at: Timestamp,
    /// The events in order, already applied to the fleet.
    pub events: Vec<Event>,
    /// The effects, in the order in which they must begin.
    pub effects: Vec<Effect>,
    /// The command's id and its reply, where the input was a command.
    pub reply: Option<(u64, Reply)>,
}

/// The fleet, the volatile state, and the result so far.
pub(super) struct Stepper<'a> {
    fleet: &'a mut Fleet,
    volatile: &'a mut Volatile,
    pub(super) at: Timestamp,
    /// Whether every issue is considered again, although no event asks for it.
    pub(super) reconsider: bool,
    out: Step,
}

impl<'a> Stepper<'a> {
    pub(super) fn new(fleet: &'a mut Fleet, volatile: &'a mut Volatile, at: Timestamp) -> Self {
        let at = volatile.advance(at);
        Self { fleet, volatile, at, reconsider: false, out: Step { at, ..Step::default() } }
    }

    pub(super) fn into_step(self) -> Step {
        self.out
    }

    pub(super) const fn fleet(&self) -> &Fleet {
        self.fleet
    }

    pub(super) const fn volatile(&mut self) -> &mut Volatile {
        self.volatile
    }

    /// Whether an adapter is delivering the outbox entry.
    pub(super) fn in_flight(&self, entry: crate::model::id::OutboxId) -> bool {
        self.volatile.in_flight(entry)
    }

    /// Whether a repository has no clone.
    pub(super) fn lacks_clone(&self, repo: &crate::model::id::Repo) -> bool {
        self.volatile.lacks_clone(repo)
    }

    /// Whether the runtime tries right now whether an outage is over.
    pub(super) fn is_trying(&self, cause: &crate::model::outage::OutageCause) -> bool {
        self.volatile.is_trying(cause)
    }

    pub(super) fn events(&self) -> &[Event] {
        &self.out.events
    }

    /// Applies an event to the fleet and adds it to the result.
    pub(super) fn emit(&mut self, event: Event) {
        self.fleet.apply(self.at, &event);
        self.out.events.push(event);
    }

    pub(super) fn effect(&mut self, effect: Effect) {
        self.out.effects.push(effect);
    }

    pub(super) fn reply(&mut self, command: u64, reply: Reply) {
        self.out.reply = Some((command, reply));
    }

    pub(super) fn run(&self, id: RunId) -> Option<&Run> {
        self.fleet.runs.get(&id).map(AsRef::as_ref)
    }

    /// Adds a remark to the run's transcript.
    pub(super) fn note(&mut self, run: RunId, text: impl Into<Untrusted>) {
        self.effect(Effect::Note { run, text: text.into() });
    }
}
