//! Requests of a live agent: permissions and questions. The repository's policy answers, or a
//! guardrail, or an escalation asks a human. `turn` passes the requests in; the operator's answer
//! comes back through `operator`.
//!
//! ```text
//! request ─▶ asked before a restart? ─▶ the answer is sent again
//!         └▶ judge (tables::permission) ─▶ allow, deny ─▶ Effect::Answer
//!                                       └▶ ask ─▶ too many are open? ─▶ deny
//!                                              └▶ escalate
//! ```

use std::sync::Arc;

use crate::model::approval::{
    Answer, DecidedBy, Escalation, EscalationDraft, EscalationKind, EscalationState,
};
use crate::model::effect::Effect;
use crate::model::event::Event;
use crate::model::guardrail::Guardrail;
use crate::model::id::{RunId, Sha};
use crate::model::job::Job;
use crate::model::permission::{MAX_TARGET, MAX_TARGETS, PermissionRequest, Tool};
use crate::model::untrusted::Untrusted;
use crate::step::escalation::expired_answer;
use crate::step::stepper::Stepper;
use crate::tables::permission::{PermissionVerdict, judge};

/// The most requests of a run that wait for a human at the same time. Agents ask for a few at once; a
/// flood of them would bury the inbox, the journal and the notices of every other run.
pub(super) const OPEN_REQUESTS: usize = 64;

impl Stepper<'_> {
    pub(super) fn permission_requested(
        &mut self,
        id: RunId,
        request_id: String,
        request: Box<PermissionRequest>,
    ) {
        if self.repeats_request(id, &request_id, |e| e.permission.as_ref() == Some(&request)) {
            return;
        }
        if request.is_too_large() {
            let reason = format!(
                "the request is too large: ask for at most {MAX_TARGETS} targets of {} KiB each",
                MAX_TARGET / 1024
            );
            return self.refuse_unjudged(id, request_id, reason);
        }
        let Some(run) = self.run(id) else { return };
        let worktree = run.workspace.worktree.clone().unwrap_or_default();
        let judged = judge(&request, &run.agent.permissions, &run.agent.grants, &worktree);
        let (answer, by) = match judged {
            _ if !self.has_tools(id) => {
                let reason = "there are no tools here: answer in words".into();
                (Answer::Deny { reason }, DecidedBy::Service)
            }
            PermissionVerdict::Ask if self.has_too_many_requests(id) => {
                return self.refuse_unjudged(id, request_id, too_many_requests());
            }
            PermissionVerdict::Ask => {
                let (title, detail) = (request.title.clone(), request.detail.clone());
                let draft = EscalationDraft::new(EscalationKind::Permission, title, detail);
                let (request_id, permission) = (Some(request_id), Some(request));
                self.escalate(id, EscalationDraft { request_id, permission, ..draft });
                return;
            }
            PermissionVerdict::Allow { by } => (Answer::Approve, by),
            PermissionVerdict::Deny => {
                let reason = "the policy of this repository refuses it".into();
                (Answer::Deny { reason }, DecidedBy::Policy)
            }
            PermissionVerdict::Guarded(rule) => {
                self.escalate_guardrail(id, rule, request);
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

    pub(super) fn question_asked(
        &mut self,
        id: RunId,
        request: String,
        text: Untrusted,
        options: Vec<Untrusted>,
    ) {
        if self.is_question(id) {
            let reason = "no human can answer here: answer in words".into();
            let (answer, by) = (Answer::Deny { reason }, DecidedBy::Service);
            self.effect(Effect::Answer { run: id, request, answer, by });
            return;
        }
        if self.repeats_request(id, &request, |e| e.detail == text && e.options == options) {
            return;
        }
        if self.has_too_many_requests(id) {
            return self.refuse_unjudged(id, request, too_many_requests());
        }
        let title = Untrusted::new(text.clean_line());
        let draft = EscalationDraft::new(EscalationKind::Question, title, text);
        self.escalate(id, EscalationDraft { options, request_id: Some(request), ..draft });
    }

    pub(super) fn request_withdrawn(&mut self, id: RunId, request: &str) {
        let mut all = self.fleet().escalations.values();
        let same = |e: &&Arc<Escalation>| {
            e.open() && e.run == Some(id) && e.request_id.as_deref() == Some(request)
        };
        if let Some(escalation) = all.find(same).map(|escalation| escalation.id) {
            let why = "the agent withdrew it".into();
            self.emit(Event::Withdrawn { escalation, why });
        }
    }

    fn has_too_many_requests(&self, id: RunId) -> bool {
        let waits = |e: &&Arc<Escalation>| e.open() && e.run == Some(id) && e.kind.agent_waits();
        self.fleet().escalations.values().filter(waits).count() >= OPEN_REQUESTS
    }

    /// Refuses a request that no rule and no person judges. The transcript has the refusal; the journal
    /// does not, so that a flood can't fill it.
    fn refuse_unjudged(&mut self, run: RunId, request: String, reason: String) {
        let (answer, by) = (Answer::Deny { reason: reason.into() }, DecidedBy::Afk);
        self.effect(Effect::Answer { run, request, answer, by });
    }

    /// Whether the run's agent may ask for permissions at all.
    fn has_tools(&self, id: RunId) -> bool {
        self.run(id).is_none_or(|run| run.work.job().is_none_or(Job::has_tools))
    }

    /// Whether the run is a caller's question, which has no human to ask.
    fn is_question(&self, id: RunId) -> bool {
        self.run(id).is_some_and(|run| run.work.job().is_some_and(Job::is_question))
    }

    /// The newest escalation that the same turn raised under this request id before afk was
    /// restarted.
    fn request_before_restart(&self, id: RunId, request: &str) -> Option<&Escalation> {
        let run = self.run(id)?;
        let followed = run.agent.followed?;
        let same = |e: &&Arc<Escalation>| {
            e.run == Some(id)
                && e.epoch == run.progress.epoch
                && e.raised < followed
                && e.request_id.as_deref() == Some(request)
        };
        self.fleet().escalations.values().rev().find(same).map(AsRef::as_ref)
    }

    /// Whether a remote agent repeats a request from before a restart. A human has that question
    /// already; an answer that may not have arrived is sent again. The request id alone proves
    /// nothing: an answer is repeated only if `same` finds that the request has not changed.
    fn repeats_request(
        &mut self,
        run: RunId,
        request: &str,
        same: impl Fn(&Escalation) -> bool,
    ) -> bool {
        let Some(before) = self.request_before_restart(run, request) else { return false };
        let escalation = before.id;
        let (answer, by) = match &before.state {
            EscalationState::Open if !same(before) => {
                let why = "the agent used its id for another request".into();
                self.emit(Event::Withdrawn { escalation, why });
                return false;
            }
            _ if !same(before) => return false,
            EscalationState::Open => return true,
            EscalationState::Withdrawn { .. } => return false,
            EscalationState::Answered { answer, by, .. } => (answer.clone(), by.clone().into()),
            EscalationState::Expired { .. } => (expired_answer(), DecidedBy::Afk),
        };
        self.effect(Effect::Answer { run, request: request.to_owned(), answer, by });
        true
    }

    /// Escalates a push past the gate, unless an escalation about one of the same run is open.
    pub(super) fn gate_bypassed(&mut self, id: RunId, sha: &Sha) {
        let rule = Guardrail::GateBypass;
        if self.guardrail_is_open(id, rule) {
            return;
        }
        let title = format!("the remote has {} of this run, and afk did not push it", sha.short());
        let detail = format!(
            "{title}\n\nThe commit came from this run, and no gate has proved it. Somebody pushed it \
             with a credential that afk did not give: find out who, revoke the credential, and \
             review or revert the commit."
        );
        let draft = EscalationDraft::new(EscalationKind::Guardrail, title, detail);
        self.escalate(id, EscalationDraft { guardrail: Some(rule), ..draft });
    }

    /// Escalates a command that the policy or a guardrail refuses and that ran all the same: the agent's
    /// own settings let it. Does nothing while an escalation about one of the same run is open.
    pub(super) fn command_ran(&mut self, id: RunId, command: &Untrusted) {
        let Some(run) = self.run(id) else { return };
        let worktree = run.workspace.worktree.clone().unwrap_or_default();
        let request = PermissionRequest {
            tool: Tool::Shell,
            title: command.clone(),
            detail: command.clone(),
            targets: vec![command.clone()],
            editable: false,
        };
        let judged = judge(&request, &run.agent.permissions, &run.agent.grants, &worktree);
        let rule = Guardrail::Unasked;
        let refused_by = match judged {
            PermissionVerdict::Deny => "the policy of this repository",
            PermissionVerdict::Guarded(rule) => rule.summary(),
            PermissionVerdict::Allow { .. } | PermissionVerdict::Ask => return,
        };
        self.emit(Event::RanUnasked { run: id, command: command.clone() });
        if self.guardrail_is_open(id, rule) {
            return;
        }
        let title = format!("ran without asking: {}", command.clean_line());
        let detail = format!(
            "{title}\n\nThe agent ran a command that is refused ({refused_by}), and asked for no \
             permission: its own settings, or those of the repository, let it. Behind the wall it reached \
             what the wall lets it reach. Read the transcript, and see docs/agents.md for how to make this \
             agent ask."
        );
        let draft = EscalationDraft::new(EscalationKind::Guardrail, title, detail);
        let (permission, guardrail) = (Some(Box::new(request)), Some(rule));
        self.escalate(id, EscalationDraft { permission, guardrail, ..draft });
    }

    fn guardrail_is_open(&self, id: RunId, rule: Guardrail) -> bool {
        let mut all = self.fleet().escalations.values();
        all.any(|e| e.open() && e.run == Some(id) && e.guardrail == Some(rule))
    }

    /// Escalates a refusal by a guardrail, unless one of the same run and guardrail is open.
    fn escalate_guardrail(&mut self, id: RunId, rule: Guardrail, request: Box<PermissionRequest>) {
        if self.guardrail_is_open(id, rule) {
            return;
        }
        let title = format!("refused: {}", rule.summary());
        let detail = format!("{title}\n\nThe agent tried:\n\n{}", request.detail.as_received());
        let draft = EscalationDraft::new(EscalationKind::Guardrail, title, detail);
        let (permission, guardrail) = (Some(request), Some(rule));
        self.escalate(id, EscalationDraft { permission, guardrail, ..draft });
    }
}

fn too_many_requests() -> String {
    format!(
        "too many questions are open: afk asks its operators at most {OPEN_REQUESTS} of a turn at the \
         same time; wait for their answers, or go on without"
    )
}
