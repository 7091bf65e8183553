//! Steps on trackers, terminals and sinks, which the runtime delivers and retries. Any module of
//! the step posts them; `settle` hands the due ones over, and the adapters' answers come back as
//! inputs.
//!
//! ```text
//! post ─▶ Fleet::outbox ─▶ deliver ─▶ Effect::Deliver ─▶ adapter ─▶ Input::Delivered,
//!              ▲                                                    NotDelivered, GivenUp
//!              └──────────── outbox_answered ◀────────────────────────────┘
//! ```

use std::collections::BTreeSet;

use crate::model::effect::Effect;
use crate::model::event::Event;
use crate::model::id::OutboxId;
use crate::model::outbox::OutboxStep;
use crate::step::stepper::Stepper;

impl Stepper<'_> {
    pub(super) fn post(&mut self, step: OutboxStep) {
        let entry = self.fleet().next_outbox();
        self.emit(Event::Posted { entry, step, after: None });
    }

    /// Hands the first entry of each subject to its adapter; the next one waits for its answer.
    pub(super) fn deliver(&mut self) {
        let mut subjects = BTreeSet::new();
        let mut due: Vec<(OutboxId, OutboxStep)> = Vec::new();
        for entry in self.fleet().outbox.values() {
            let first = subjects.insert(entry.step.subject());
            if first && !self.in_flight(entry.id) && entry.not_before <= self.at {
                due.push((entry.id, entry.step.clone()));
            }
        }
        for (entry, step) in due {
            self.volatile().handed_over(entry);
            if step.once() {
                self.emit(Event::Attempted { entry });
            }
            self.effect(Effect::Deliver { entry, step });
        }
    }

    /// Records an adapter's answer; a second answer about the same entry changes nothing.
    pub(super) fn outbox_answered(&mut self, entry: OutboxId, answer: Event) {
        self.volatile().answered(entry);
        if self.fleet().outbox.contains_key(&entry) {
            self.emit(answer);
        }
    }

    /// Drops the notices that were being sent when the last life ended: they may have arrived, and
    /// a sink gets each at most once. A reminder follows if the escalation stays unanswered.
    pub(super) fn abandon_attempted_deliveries(&mut self) {
        let attempted: Vec<OutboxId> =
            self.fleet().outbox.values().filter(|e| e.attempted).map(|e| e.id).collect();
        for entry in attempted {
            let why = "afk ended while sending it; it may have arrived".into();
            self.emit(Event::GivenUp { entry, why });
        }
    }
}
