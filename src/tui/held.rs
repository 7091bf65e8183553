//! Answers that an operator has given and can still take back.
//!
//! An answer to an escalation stays with the cockpit for a few seconds before it is sent. `app`
//! holds it on its way out, whichever key, dialog or palette it came from; the footer offers to undo
//! it, and the session sends it once it is due, or at once when the operator leaves.

use std::time::{Duration, Instant};

use super::request::Request;
use crate::core::model::approval::Answer;
use crate::core::model::command::Command;
use crate::core::model::id::EscalationId;

/// How long an answer can be taken back.
pub(crate) const HOLD: Duration = Duration::from_secs(5);

#[derive(Debug)]
struct HeldAnswer {
    escalation: EscalationId,
    /// "approved", "denied: no".
    summary: String,
    command: Command,
    due: Instant,
}

/// The answers that were not sent yet, oldest first. At most one for each escalation.
#[derive(Debug, Default)]
pub(crate) struct HeldAnswers(Vec<HeldAnswer>);

impl HeldAnswers {
    /// The escalation that a request answers; none for every other request.
    pub(crate) const fn answered_by(request: &Request) -> Option<EscalationId> {
        match request {
            Request::Command(Command::Answer { escalation, .. }) => Some(*escalation),
            _ => None,
        }
    }

    /// Holds an answer; the escalation must have no held one yet.
    pub(crate) fn hold(&mut self, request: Request, now: Instant) {
        let Request::Command(command) = request else { return };
        let Command::Answer { escalation, answer, .. } = &command else { return };
        let (escalation, summary) = (*escalation, summary(answer));
        self.0.push(HeldAnswer { escalation, summary, command, due: now + HOLD });
    }

    /// The held answer to an escalation, in words.
    pub(crate) fn answer_to(&self, escalation: EscalationId) -> Option<&str> {
        let held = self.0.iter().find(|held| held.escalation == escalation);
        held.map(|held| held.summary.as_str())
    }

    /// The answer that an undo takes back: that to the question whose card is `shown`, or the newest.
    pub(crate) fn undoable(&self, shown: Option<EscalationId>) -> Option<(EscalationId, &str)> {
        let of_card = self.0.iter().find(|held| Some(held.escalation) == shown);
        of_card.or(self.0.last()).map(|held| (held.escalation, held.summary.as_str()))
    }

    /// Takes the answer back that [`HeldAnswers::undoable`] names.
    pub(crate) fn undo(&mut self, shown: Option<EscalationId>) -> Option<(EscalationId, Command)> {
        let (escalation, _) = self.undoable(shown)?;
        let at = self.0.iter().position(|held| held.escalation == escalation)?;
        Some((escalation, self.0.remove(at).command))
    }

    /// When the next answer is sent.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.0.first().map(|held| held.due)
    }

    /// Takes out the answers to send now.
    pub(crate) fn take_due(&mut self, now: Instant) -> Vec<Request> {
        let count = self.0.iter().take_while(|held| held.due <= now).count();
        self.0.drain(..count).map(|held| Request::Command(held.command)).collect()
    }

    /// Takes out all answers: the operator leaves.
    pub(crate) fn take_all(&mut self) -> Vec<Command> {
        self.0.drain(..).map(|held| held.command).collect()
    }
}

/// The answer in a few words; its text stays short, since the footer shows it.
fn summary(answer: &Answer) -> String {
    answer.summary().chars().take(40).collect()
}
