//! Landmarks of the journal: the events that a reader of the past jumps to.

use crate::fleet::Fleet;
use crate::model::event::Event;
use crate::model::id::RunId;
use crate::model::run::Outcome;

/// Why an event is a landmark.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LandmarkKind {
    /// afk asked a human.
    Question,
    /// The remote has a run's commit.
    Push,
    /// A run froze its repository.
    Freeze,
    /// A run was done.
    Landed,
    /// An operator turned the kill switch on or off.
    KillSwitch,
}

/// The landmark that an event is, in one clean line; none for most events. `fleet` is the fleet after
/// the event.
#[must_use]
pub fn of(fleet: &Fleet, event: &Event) -> Option<(LandmarkKind, String)> {
    let name = |run: &RunId| {
        let known = fleet.runs.get(run).and_then(|run| run.work.issue());
        known.map_or_else(|| run.to_string(), |key| format!("{key} ({run})"))
    };
    Some(match event {
        Event::Escalated { escalation } => {
            let subject = escalation.run.as_ref().map_or_else(|| escalation.subject(), name);
            let (id, kind) = (escalation.id, escalation.kind.as_str());
            let title = escalation.title.clean_line();
            (LandmarkKind::Question, format!("{id} {kind} about {subject}: {title}"))
        }
        Event::Pushed { run, head } => {
            (LandmarkKind::Push, format!("{} pushed {}", name(run), head.short()))
        }
        Event::Ended { run, outcome: Outcome::Frozen, why } => {
            (LandmarkKind::Freeze, format!("{} froze: {}", name(run), why.clean_line()))
        }
        Event::Ended { run, outcome: Outcome::Done, .. } => {
            (LandmarkKind::Landed, format!("{} is done", name(run)))
        }
        Event::KillSwitch { on, by } => {
            let state = if *on { "on" } else { "off" };
            let by = crate::model::untrusted::clean_line(&by.0);
            (LandmarkKind::KillSwitch, format!("{by} turned the kill switch {state}"))
        }
        _ => return None,
    })
}
