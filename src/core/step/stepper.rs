//! One step in progress: the fleet that it reads, and the events and effects that it leads to.
//! [`Stepper::emit`] is the only way for a step to change the fleet.

use crate::fleet::Fleet;
use crate::fleet::volatile::Volatile;
use crate::model::command::Reply;
use crate::model::effect::Effect;
use crate::model::event::Event;
use crate::model::id::RunId;
use crate::model::outbox::OutboxStep;
use crate::model::run::Run;
use crate::model::time::Timestamp;
use crate::model::untrusted::Untrusted;

/// What a step led to. Events are journalled before any effect begins and before the reply is sent.
#[derive(Debug, Default)]
pub struct Step {
    /// The time of the events; it never runs backwards.
    pub at: Timestamp,
    /// The events in order; the fleet has them already.
    pub events: Vec<Event>,
    /// The effects in order.
    pub effects: Vec<Effect>,
    /// The reply to a command, with the command's id.
    pub reply: Option<(u64, Reply)>,
}

/// The fleet with what the step has led to so far.
pub(super) struct Stepper<'a> {
    fleet: &'a mut Fleet,
    volatile: &'a mut Volatile,
    pub(super) at: Timestamp,
    out: Step,
}

impl<'a> Stepper<'a> {
    pub(super) fn new(fleet: &'a mut Fleet, volatile: &'a mut Volatile, at: Timestamp) -> Self {
        let at = volatile.advance(at);
        Self { fleet, volatile, at, out: Step { at, ..Step::default() } }
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

    /// Whether an adapter has an outbox entry and has not answered yet.
    pub(super) fn in_flight(&self, entry: crate::model::id::OutboxId) -> bool {
        self.volatile.in_flight(entry)
    }

    pub(super) fn events(&self) -> &[Event] {
        &self.out.events
    }

    /// Records an event and applies it to the fleet.
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

    pub(super) fn post(&mut self, step: OutboxStep) {
        let entry = self.fleet.next_outbox();
        self.emit(Event::Posted { entry, step, after: None });
    }

    pub(super) fn note(&mut self, run: RunId, text: impl Into<Untrusted>) {
        self.effect(Effect::Note { run, text: text.into() });
    }
}
