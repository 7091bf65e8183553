//! What a live agent says in a turn, and what each thing leads to.

use std::sync::Arc;

use crate::model::agent_event::{AgentEvent, TurnEnd};
use crate::model::approval::{
    Answer, DecidedBy, Escalation, EscalationDraft, EscalationKind, EscalationState,
};
use crate::model::breaker::Cause;
use crate::model::budget::Spend;
use crate::model::capability::Equipment;
use crate::model::effect::Effect;
use crate::model::event::Event;
use crate::model::guardrail::Guardrail;
use crate::model::id::{EscalationId, RunId};
use crate::model::job::Job;
use crate::model::permission::PermissionRequest;
use crate::model::run::{Retry, Run};
use crate::model::untrusted::Untrusted;
use crate::step::stepper::Stepper;
use crate::tables::permission::PermissionVerdict;
use crate::tables::permission::judge;

/// What an agent is told when nobody answered in time.
pub(super) fn expired() -> Answer {
    Answer::Deny { reason: "nobody answered in time".into() }
}

impl Stepper<'_> {
    pub(super) fn agent(&mut self, id: RunId, event: AgentEvent) {
        match event {
            AgentEvent::Equipped(equipment)
                if self.run(id).is_some_and(|run| run.equipment.as_ref() != Some(&equipment)) =>
            {
                self.emit(Event::Equipped { run: id, equipment });
            }
            AgentEvent::SessionStarted { session, model, version } => {
                self.session(id, session, model, version);
            }
            AgentEvent::Usage(spend) => self.spent(id, spend),
            AgentEvent::Retry { attempt, delay_ms, status } => {
                let delay = i64::try_from(delay_ms).unwrap_or(i64::MAX);
                let retry = Retry { attempt, at: self.at.plus(delay), status };
                self.emit(Event::Retrying { run: id, retry });
            }
            AgentEvent::Quiet { seconds, .. } => {
                let ms = i64::try_from(seconds.saturating_mul(1000)).unwrap_or(i64::MAX);
                let since = self.at.plus(-ms);
                if self.run(id).is_some_and(|run| run.quiet.is_none()) {
                    self.emit(Event::Quiet { run: id, since });
                }
            }
            AgentEvent::Active
                if self.run(id).is_some_and(|run| run.quiet.is_some() || run.retry.is_some()) =>
            {
                self.emit(Event::AgentActive { run: id });
            }
            AgentEvent::PermissionRequest { id: request_id, request }
                if !self
                    .asked_again(id, &request_id, |e| e.permission.as_ref() == Some(&request)) =>
            {
                self.permission(id, request_id, request);
            }
            AgentEvent::RequestWithdrawn { id: request } => {
                if let Some(escalation) = self.open_request(id, &request) {
                    let why = "the agent waits for it no more".into();
                    self.emit(Event::Withdrawn { escalation, why });
                }
            }
            AgentEvent::Question { id: request, .. }
                if self.run(id).is_some_and(|run| run.work.job().is_some_and(Job::is_question)) =>
            {
                let reason = "nobody can be asked here: answer in words".into();
                let (answer, by) = (Answer::Deny { reason }, DecidedBy::Service);
                self.effect(Effect::Answer { run: id, request, answer, by });
            }
            AgentEvent::Question { id: request, text, options }
                if !self
                    .asked_again(id, &request, |e| e.detail == text && e.options == options) =>
            {
                let title = Untrusted::new(text.clean_line());
                let question = EscalationDraft::new(EscalationKind::Question, title, text);
                self.ask(id, EscalationDraft { options, request_id: Some(request), ..question });
            }
            AgentEvent::TurnEnd(end) => self.turn_ended(id, end),
            _ => {}
        }
    }

    /// The open escalation for a request of an agent.
    fn open_request(&self, id: RunId, request: &str) -> Option<EscalationId> {
        let mut all = self.fleet().escalations.values();
        let same = |e: &&Arc<Escalation>| {
            e.open() && e.run == Some(id) && e.request_id.as_deref() == Some(request)
        };
        all.find(same).map(|escalation| escalation.id)
    }

    /// What a human was last asked by that name, by the same turn, before it was found again after a
    /// restart.
    fn asked_before(&self, id: RunId, request: &str) -> Option<&Escalation> {
        let run = self.run(id)?;
        let followed = run.followed?;
        let same = |e: &&Arc<Escalation>| {
            e.run == Some(id)
                && e.epoch == run.epoch
                && e.raised < followed
                && e.request_id.as_deref() == Some(request)
        };
        self.fleet().escalations.values().rev().find(same).map(AsRef::as_ref)
    }

    /// Whether an agent elsewhere asks again what it asked before a restart: the human is asked
    /// already, and an answer of theirs that may not have arrived is given again. By its name alone
    /// an agent brings no answer back: what it asks must be the same.
    fn asked_again(
        &mut self,
        run: RunId,
        request: &str,
        same: impl Fn(&Escalation) -> bool,
    ) -> bool {
        let Some(before) = self.asked_before(run, request) else { return false };
        let escalation = before.id;
        let (answer, by) = match &before.state {
            EscalationState::Open if !same(before) => {
                let why = "the agent asks something else by that name".into();
                self.emit(Event::Withdrawn { escalation, why });
                return false;
            }
            _ if !same(before) => return false,
            EscalationState::Open => return true,
            EscalationState::Withdrawn { .. } => return false,
            EscalationState::Answered { answer, by, .. } => (answer.clone(), by.clone().into()),
            EscalationState::Expired { .. } => (expired(), DecidedBy::Afk),
        };
        self.effect(Effect::Answer { run, request: request.to_owned(), answer, by });
        true
    }

    fn session(
        &mut self,
        id: RunId,
        session: String,
        model: Option<Untrusted>,
        version: Option<Untrusted>,
    ) {
        let Some(run) = self.run(id) else { return };
        let told = run.equipment.as_ref().and_then(|known| {
            let next = Equipment {
                model: model.or_else(|| known.model.clone()),
                version: version.or_else(|| known.version.clone()),
                ..known.clone()
            };
            (next != *known).then(|| Box::new(next))
        });
        let new = run.session.as_ref() != Some(&session);
        if let Some(equipment) = told {
            self.emit(Event::Equipped { run: id, equipment });
        }
        if new {
            self.emit(Event::SessionStarted { run: id, session });
        }
    }

    fn spent(&mut self, id: RunId, spend: Spend) {
        if spend == Spend::default() {
            return;
        }
        self.emit(Event::Spent { run: id, spend });
        let (run_limit, soft) = {
            let policy = &self.fleet().policy;
            let of = |run: &Run| run.limit(policy.run_limit);
            (self.run(id).and_then(of), policy.day_soft_limit)
        };
        if self.fleet().books.to_warn(self.at, soft) {
            let (spent, limit) = (self.fleet().books.day(self.at).usd, soft.unwrap_or_default());
            self.emit(Event::SoftLimit);
            let line = format!("today has cost {spent}, over the soft limit of {limit}");
            let detail = match self.fleet().policy.day_limit {
                Some(hard) => format!("{line}\n\nNothing is stopped yet; pickup stops at {hard}."),
                None => format!("{line}\n\nNothing is stopped: there is no hard limit for a day."),
            };
            self.ask(id, EscalationDraft::new(EscalationKind::OverBudget, line, detail));
        }
        if let Some(run) = self.run(id)
            && let Some(limit) = run_limit
            && run.left(run_limit).is_some_and(|left| left.0 < 0)
        {
            let why = format!("spent {} of {limit} a run", run.spend.usd);
            self.end_unhappily(id, EscalationKind::OverBudget, &why, &"".into());
        }
    }

    /// An agent asks leave: the policy answers, or a human does.
    fn permission(&mut self, id: RunId, request_id: String, request: Box<PermissionRequest>) {
        let Some(run) = self.run(id) else { return };
        let worktree = run.worktree.clone().unwrap_or_default();
        let judged = judge(&request, &run.permissions, &run.grants, &worktree);
        let question = run.work.job().is_some_and(Job::is_question);
        let (answer, by) = match judged {
            _ if question => {
                let reason = "there are no tools here: answer in words".into();
                (Answer::Deny { reason }, DecidedBy::Service)
            }
            PermissionVerdict::Ask => {
                let (title, detail) = (request.title.clone(), request.detail.clone());
                let question = EscalationDraft::new(EscalationKind::Permission, title, detail);
                let (request_id, permission) = (Some(request_id), Some(request));
                self.ask(id, EscalationDraft { request_id, permission, ..question });
                return;
            }
            PermissionVerdict::Allow { by } => (Answer::Approve, by),
            PermissionVerdict::Deny => {
                let reason = "the policy of this repository refuses it".into();
                (Answer::Deny { reason }, DecidedBy::Policy)
            }
            PermissionVerdict::Guarded(rule) => {
                self.guarded(id, rule, request);
                let reason = rule.summary().into();
                (Answer::Deny { reason }, DecidedBy::Guardrail)
            }
        };
        self.emit(Event::RequestDecided {
            run: id,
            request: request_id.clone(),
            answer: answer.clone(),
            by: by.clone(),
        });
        self.effect(Effect::Answer { run: id, request: request_id, answer, by });
    }

    /// Tells a human once for each guardrail and run, until they have seen it.
    fn guarded(&mut self, id: RunId, rule: Guardrail, request: Box<PermissionRequest>) {
        let known = self
            .fleet()
            .escalations
            .values()
            .any(|e| e.open() && e.run == Some(id) && e.guardrail == Some(rule));
        if known {
            return;
        }
        let title = format!("refused: {}", rule.summary());
        let detail = format!("{title}\n\nThe agent tried:\n\n{}", request.detail.as_received());
        let question = EscalationDraft::new(EscalationKind::Guardrail, title, detail);
        self.ask(
            id,
            EscalationDraft { permission: Some(request), guardrail: Some(rule), ..question },
        );
    }

    /// Whether a turn's end has the cause for which the breaker is open, or opens it now.
    pub(super) fn paused(&mut self, id: RunId, end: &TurnEnd) -> bool {
        let Some(cause) = Cause::of(end) else { return false };
        if self.fleet().breaker.trips(&cause) {
            let runs = self.fleet().breaker.runs(&cause);
            let names: Vec<String> = runs.iter().map(ToString::to_string).collect();
            self.emit(Event::Tripped { cause: cause.clone() });
            let line = format!("{} runs fail alike: {}", runs.len(), cause.0);
            let detail = format!(
                "{line}\n\n{}\n\nNothing new is picked up. The runs try again every {} minutes, \
                 and pickup goes on by itself as soon as a turn of one of them works.",
                names.join(", "),
                crate::model::breaker::PAUSE / crate::model::time::MINUTE
            );
            self.ask(id, EscalationDraft::new(EscalationKind::Breaker, line, detail));
        }
        self.fleet().breaker.open().is_some_and(|(open, _)| *open == cause)
    }

    /// A turn worked: whatever was wrong with the world is over.
    pub(super) fn mended(&mut self, id: RunId) {
        if self.fleet().breaker.open().is_none() {
            return;
        }
        self.emit(Event::Reset);
        let open: Vec<EscalationId> = self
            .fleet()
            .escalations
            .values()
            .filter(|e| e.open() && e.kind == EscalationKind::Breaker)
            .map(|e| e.id)
            .collect();
        for escalation in open {
            let why = format!("a turn of {id} works again");
            self.emit(Event::Withdrawn { escalation, why });
        }
    }
}

/// Whether the agent of a run can take a message; unknown before its turn has begun.
#[must_use]
pub fn steerable(run: &Run) -> bool {
    let steer = run.equipment.as_ref().map(|equipment| equipment.can.steer);
    steer != Some(crate::model::capability::Steer::Unsupported)
}
