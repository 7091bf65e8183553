//! The circuit breaker in a step: `turn` calls it at the end of each turn. When turns of several
//! runs fail for the same cause, pickup pauses and one human is asked; the runs retry until a turn
//! succeeds.

use crate::model::agent_event::TurnEnd;
use crate::model::approval::{EscalationDraft, EscalationKind};
use crate::model::breaker::{Cause, PAUSE};
use crate::model::event::Event;
use crate::model::id::RunId;
use crate::model::plural::plural;
use crate::model::time::MINUTE;
use crate::step::stepper::Stepper;

impl Stepper<'_> {
    /// Whether a turn failed for the cause for which the breaker is open; opens the breaker where
    /// this failure is one too many.
    pub(super) fn trips_breaker(&mut self, id: RunId, end: &TurnEnd) -> bool {
        let Some(cause) = Cause::of(end) else { return false };
        if self.fleet().breaker.trips(&cause) {
            let runs = self.fleet().breaker.runs(&cause);
            let names: Vec<String> = runs.iter().map(ToString::to_string).collect();
            self.emit(Event::Tripped { cause: cause.clone() });
            let count = plural(runs.len(), "run");
            let title = format!("{count} failed for the same cause: {}", cause.0);
            let detail = format!(
                "{title}\n\n{}\n\nPickup is paused. The runs retry every {}, and pickup resumes \
                 by itself as soon as a turn of one of them succeeds.",
                names.join(", "),
                plural(PAUSE / MINUTE, "minute")
            );
            self.escalate(id, EscalationDraft::new(EscalationKind::Breaker, title, detail));
        }
        self.fleet().breaker.open().is_some_and(|(open, _)| *open == cause)
    }

    /// Closes the breaker after a turn that succeeded.
    pub(super) fn close_breaker(&mut self, id: RunId) {
        if self.fleet().breaker.open().is_none() {
            return;
        }
        self.emit(Event::Reset);
        self.withdraw_kind(EscalationKind::Breaker, &format!("a turn of {id} succeeded"));
    }
}
