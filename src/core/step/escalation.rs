//! Questions to a human: every escalation is raised, expired and withdrawn here. The other modules
//! of the step call it with a draft; the operator's answer comes back as a command.

use crate::model::approval::{Answer, DecidedBy, Escalation, EscalationDraft, EscalationKind};
use crate::model::effect::Effect;
use crate::model::event::Event;
use crate::model::id::{EscalationId, RunId};
use crate::model::notice::Notice;
use crate::step::notice::notice_title;
use crate::step::stepper::Stepper;

/// The open requests of a run from which on further ones send no notices of their own.
const NOTICES_OPEN: usize = 5;
/// The same for requests within [`RECENT_MS`], which an agent may ask and withdraw in turns.
const NOTICES_RECENT: usize = 30;
const RECENT_MS: i64 = 10 * 60_000;

/// The answer that an agent receives once its request has expired.
pub(super) fn expired_answer() -> Answer {
    Answer::Deny { reason: "nobody answered in time".into() }
}

impl Stepper<'_> {
    /// Raises an escalation about a run, bound by its digest to what the human is shown. Returns
    /// none if the run is unknown.
    pub(super) fn escalate(&mut self, run: RunId, draft: EscalationDraft) -> Option<EscalationId> {
        let about = self.run(run)?;
        let kind = draft.kind;
        let mut escalation = Escalation {
            run: Some(run),
            issue: about.work.issue().cloned(),
            epoch: about.progress.epoch,
            expires: kind.agent_waits().then(|| self.at.plus(self.fleet().policy.answer_ms)),
            ..Escalation::raise(self.fleet().next_escalation(), draft, self.at)
        };
        // The end of a run sends a notice of its own.
        let live = about.live();
        escalation.digest = escalation.digest_of();
        let text = format!("{}: {}", kind.as_str(), notice_title(&escalation.title));
        let id = escalation.id;
        self.emit(Event::Escalated { escalation: Box::new(escalation) });
        if live && let Some(text) = self.notice_text(run, kind, text) {
            self.notify(Some(run), &Notice::Asked { escalation: id, text, kind });
        }
        Some(id)
    }

    /// The text of the notice of an escalation that was just raised; none where the operators have been
    /// notified of enough requests of this run. The inbox has all of them.
    fn notice_text(&self, run: RunId, kind: EscalationKind, text: String) -> Option<String> {
        if !kind.agent_waits() {
            return Some(text);
        }
        let before = self.at.plus(-RECENT_MS);
        let (mut open, mut recent) = (0, 0);
        for e in self.fleet().escalations.values() {
            if e.run == Some(run) && e.kind.agent_waits() {
                open += usize::from(e.open());
                recent += usize::from(e.raised >= before);
            }
        }
        if open < NOTICES_OPEN && recent < NOTICES_RECENT {
            Some(text)
        } else if open == NOTICES_OPEN || recent == NOTICES_RECENT {
            Some(format!("{text} ({run} asks more: open the inbox)"))
        } else {
            None
        }
    }

    /// Raises an escalation about breakglass or an outage, which belongs to no run and never expires.
    pub(super) fn escalate_without_run(&mut self, draft: EscalationDraft) -> EscalationId {
        let id = self.fleet().next_escalation();
        let kind = draft.kind;
        let escalation = Escalation::raise(id, draft, self.at);
        let text = format!("{}: {}", kind.as_str(), notice_title(&escalation.title));
        self.emit(Event::Escalated { escalation: Box::new(escalation) });
        self.notify(None, &Notice::Asked { escalation: id, text, kind });
        id
    }

    /// Denies the requests whose time to answer has elapsed.
    pub(super) fn expire_requests(&mut self) {
        let expired: Vec<_> = self
            .fleet()
            .escalations
            .values()
            .filter(|e| e.open() && e.expires.is_some_and(|t| t <= self.at))
            .map(|e| (e.id, e.run, e.request_id.clone()))
            .collect();
        for (escalation, run, request) in expired {
            self.emit(Event::Expired { escalation });
            if let (Some(run), Some(request)) = (run, request) {
                let answer = expired_answer();
                self.effect(Effect::Answer { run, request, answer, by: DecidedBy::Afk });
            }
        }
    }

    /// Withdraws the requests of a run's agent, because the agent no longer waits for an answer.
    pub(super) fn withdraw_requests(&mut self, run: RunId, why: &str) {
        self.withdraw(|e| e.kind.agent_waits() && e.run == Some(run), why);
    }

    /// Withdraws every open escalation of one kind.
    pub(super) fn withdraw_kind(&mut self, kind: EscalationKind, why: &str) {
        self.withdraw(|e| e.kind == kind, why);
    }

    /// Withdraws the open escalations that `applies` selects.
    pub(super) fn withdraw(&mut self, applies: impl Fn(&Escalation) -> bool, why: &str) {
        let open: Vec<EscalationId> = self
            .fleet()
            .escalations
            .values()
            .filter(|e| e.open() && applies(e))
            .map(|e| e.id)
            .collect();
        for escalation in open {
            self.emit(Event::Withdrawn { escalation, why: why.into() });
        }
    }
}
