//! Operators' commands: each is authorised, checked against the present state, recorded, and then
//! carried out. `take` passes them in from the cockpit, the command line and the HTTP API.
//!
//! ```text
//! command ─▶ check ─▶ Event::Refused ─▶ reply
//!                 └─▶ Event::Accepted ─▶ carry_out ─▶ reply
//! ```

use crate::model::activity::Activity;
use crate::model::approval::{Answer, EscalationKind};
use crate::model::command::{Accepted, Command, CommandEnvelope, Refusal, Role};
use crate::model::digest::Digest;
use crate::model::effect::Effect;
use crate::model::event::Event;
use crate::model::id::{Actor, EscalationId, RunId};
use crate::model::outbox::{OutboxStep, StandingLabel};
use crate::model::permission::PermissionRequest;
use crate::model::run::{Outcome, Run, Work};
use crate::model::untrusted::Untrusted;
use crate::query::dispatch::queue_full;
use crate::step::breakglass_agent::is_of_agent;
use crate::step::stepper::Stepper;
use crate::step::turn::steerable;
use crate::tables::guardrail;

impl Stepper<'_> {
    /// Accepts or refuses a command. The journal has either, with actor and origin, before the reply
    /// is sent.
    pub(super) fn command(&mut self, command: CommandEnvelope) {
        let CommandEnvelope { id, actor, origin, command: accepted, .. } = command.clone();
        let reply = if let Err(refusal) = self.check(&command) {
            let command = Box::new(command);
            self.emit(Event::Refused { command, refusal: refusal.clone() });
            Err(refusal)
        } else {
            self.emit(Event::Accepted { command: Box::new(command) });
            Ok(self.carry_out(actor, origin, accepted))
        };
        self.reply(id, reply);
    }

    fn check(&self, command: &CommandEnvelope) -> Result<(), Refusal> {
        if command.role == Role::Viewer {
            return Err(Refusal::Viewer);
        }
        match &command.command {
            Command::SetKillSwitch { on: false } if self.fleet().policy.kill_switch => {
                Err(Refusal::SetInConfiguration)
            }
            Command::SetKillSwitch { .. } | Command::SetCapacity { .. } | Command::Drain => Ok(()),
            Command::Answer { escalation, digest, answer } => {
                self.check_answer(*escalation, *digest, answer)?;
                match self.fleet().escalations.get(escalation).filter(|e| is_of_agent(e)) {
                    Some(_) => self.check_agent_answer(&command.actor, *escalation),
                    None => Ok(()),
                }
            }
            Command::Acknowledge { escalation } => match self.fleet().escalations.get(escalation) {
                None => Err(Refusal::NoEscalation { escalation: *escalation }),
                Some(known) if !known.open() => {
                    let (escalation, state) = (*escalation, known.state.clone());
                    Err(Refusal::NotOpen { escalation, state })
                }
                Some(_) => Ok(()),
            },
            Command::Steer { run, text } => {
                let run = self.live_run(*run)?;
                if text.as_received().trim().is_empty() {
                    return Err(Refusal::Empty);
                }
                match run.progress.activity {
                    Activity::Turn { .. } if steerable(run) => Ok(()),
                    Activity::Turn { .. } => {
                        Err(Refusal::Unsupported { run: run.id, what: "take messages".into() })
                    }
                    _ => Err(Refusal::NoTurn { run: run.id }),
                }
            }
            Command::Interrupt { run } => {
                let run = self.live_run(*run)?;
                let known = run.agent.equipment.as_ref();
                match run.progress.activity {
                    Activity::Turn { .. } if known.is_some_and(|e| !e.can.interrupt) => {
                        let what =
                            "be interrupted without ending the run; cancel the run instead".into();
                        Err(Refusal::Unsupported { run: run.id, what })
                    }
                    Activity::Turn { .. } => Ok(()),
                    _ => Err(Refusal::NoTurn { run: run.id }),
                }
            }
            Command::Breakglass { request } => self.check_breakglass(&command.actor, request),
            Command::Cancel { run } => self.live_run(*run).map(|_| ()),
            Command::Retry { run, guidance } => self.check_reopen(*run, guidance),
            step @ (Command::RetryStep { .. }
            | Command::SkipStep { .. }
            | Command::EditStep { .. }) => self.check_step(step),
            Command::LookAgain { run } => {
                let known = self.known_run(*run)?;
                match known.progress.outcome {
                    None => return Err(Refusal::NotEnded { run: *run }),
                    Some(Outcome::Frozen) if known.workspace.pushed.is_some() => {}
                    Some(_) => return Err(Refusal::NotFrozen { run: *run }),
                }
                self.check_reopen(*run, &Untrusted::default())
            }
            Command::Release { run } => {
                let run = self.known_run(*run)?;
                if run.live() {
                    return Err(Refusal::NotEnded { run: run.id });
                }
                if self.fleet().locks.values().any(|holder| *holder == run.id) {
                    Ok(())
                } else {
                    Err(Refusal::NoLock { run: run.id })
                }
            }
            Command::Submit { repo, prompt, job, .. } => {
                if prompt.as_received().trim().is_empty() {
                    Err(Refusal::Empty)
                } else if !self.fleet().policy.allowlist.contains(repo) {
                    Err(Refusal::NotAllowed { repo: repo.clone() })
                } else if self.fleet().kill_switch() {
                    Err(Refusal::KillSwitch)
                } else if let Some(job) = job {
                    match self.fleet().jobs.run(job.id) {
                        Some(_) => Err(Refusal::JobKnown { job: job.id }),
                        None if self.fleet().jobs_full() => Err(Refusal::QueueFull),
                        None => Ok(()),
                    }
                } else if queue_full(self.fleet()) {
                    Err(Refusal::QueueFull)
                } else {
                    Ok(())
                }
            }
        }
    }

    fn known_run(&self, run: RunId) -> Result<&Run, Refusal> {
        self.run(run).ok_or(Refusal::NoRun { run })
    }

    fn live_run(&self, run: RunId) -> Result<&Run, Refusal> {
        self.known_run(run).and_then(|r| if r.live() { Ok(r) } else { Err(Refusal::Ended { run }) })
    }

    fn check_reopen(&self, run: RunId, guidance: &Untrusted) -> Result<(), Refusal> {
        let run = self.known_run(run)?;
        match run.progress.outcome {
            None => return Err(Refusal::NotEnded { run: run.id }),
            Some(Outcome::Done) if guidance.as_received().trim().is_empty() => {
                return Err(Refusal::Done { run: run.id });
            }
            Some(_) => {}
        }
        let repo = run.work.repo();
        if !self.fleet().policy.allowlist.contains(repo) {
            return Err(Refusal::NotAllowed { repo: repo.clone() });
        }
        match (run.work.issue(), self.fleet().locks.get(repo)) {
            (Some(_), Some(holder)) if *holder != run.id => {
                Err(Refusal::Locked { holder: *holder })
            }
            _ => Ok(()),
        }
    }

    fn check_answer(
        &self,
        id: EscalationId,
        digest: Digest,
        answer: &Answer,
    ) -> Result<(), Refusal> {
        let Some(escalation) = self.fleet().escalations.get(&id) else {
            return Err(Refusal::NoEscalation { escalation: id });
        };
        if !escalation.open() {
            let state = escalation.state.clone();
            return Err(Refusal::NotOpen { escalation: id, state });
        }
        if escalation.digest != digest {
            return Err(Refusal::Stale { escalation: id });
        }
        if escalation.expires.is_some_and(|t| t <= self.at) {
            // The next tick expires it, and the answer is too late already.
            return Err(Refusal::Stale { escalation: id });
        }
        if escalation.kind.agent_waits()
            && !is_of_agent(escalation)
            && escalation
                .run
                .and_then(|run| self.run(run))
                .is_none_or(|run| run.progress.epoch != escalation.epoch)
        {
            return Err(Refusal::Stale { escalation: id });
        }
        if !answer.fits(escalation.kind) {
            return Err(Refusal::WrongAnswer { kind: escalation.kind.as_str().into() });
        }
        match answer {
            Answer::Approve | Answer::ApproveRun
                if escalation.kind == EscalationKind::Permission
                    && escalation.permission.as_ref().is_some_and(|asked| !asked.is_whole()) =>
            {
                Err(Refusal::Cut { escalation: id })
            }
            Answer::Approve
                if matches!(escalation.kind, EscalationKind::Approval | EscalationKind::Edited) =>
            {
                let run = escalation.run.ok_or(Refusal::Stale { escalation: id })?;
                self.check_reopen(run, &Untrusted::default())
            }
            Answer::Text { text } if text.as_received().trim().is_empty() => Err(Refusal::Empty),
            Answer::Text { text } if !escalation.kind.agent_waits() => match escalation.run {
                Some(run) => self.check_reopen(run, text),
                None => Err(Refusal::WrongAnswer { kind: escalation.kind.as_str().into() }),
            },
            Answer::Edit { command } => {
                let Some(request) =
                    escalation.permission.as_ref().filter(|_| escalation.editable().is_some())
                else {
                    return Err(Refusal::WrongAnswer { kind: escalation.kind.as_str().into() });
                };
                if command.as_received().trim().is_empty() {
                    return Err(Refusal::Empty);
                }
                let edited = PermissionRequest {
                    targets: vec![command.clone()],
                    ..request.as_ref().clone()
                };
                let run = escalation.run.and_then(|run| self.run(run));
                let worktree =
                    run.and_then(|run| run.workspace.worktree.clone()).unwrap_or_default();
                match guardrail::violated(&edited, &worktree) {
                    Some(rule) => Err(Refusal::Guarded { rule }),
                    None => Ok(()),
                }
            }
            _ => Ok(()),
        }
    }

    fn carry_out(&mut self, by: Actor, origin: String, command: Command) -> Accepted {
        match command {
            Command::SetKillSwitch { on } => self.emit(Event::KillSwitch { on, by }),
            Command::SetCapacity { permits } => self.emit(Event::Capacity { permits, by }),
            Command::Answer { escalation, answer, .. } => {
                self.answer_escalation(escalation, answer, by);
            }
            Command::Steer { run, text } => {
                self.emit(Event::Steered { run, text: text.clone(), by: by.clone() });
                self.effect(Effect::Steer { run, text, by: by.0 });
            }
            Command::Acknowledge { escalation } => {
                self.emit(Event::Acknowledged { escalation, by });
            }
            Command::Drain => self.emit(Event::Draining { by }),
            Command::Breakglass { request } => {
                return self.carry_out_breakglass(by, origin, request);
            }
            Command::Interrupt { run } => self.effect(Effect::Interrupt { run }),
            Command::Cancel { run } => self.cancel_run(run, &by),
            Command::Retry { run, guidance } => {
                self.withdraw_escalations_of(run, &by);
                self.reopen_run(run, by, guidance);
            }
            Command::LookAgain { run } => {
                self.withdraw_escalations_of(run, &by);
                self.look_again(run, by);
            }
            Command::RetryStep { entry } => self.emit(Event::DeliveryRetried { entry, by }),
            Command::SkipStep { entry } => self.skip_step(entry, &by),
            Command::EditStep { entry, text } => {
                let text = text.clean();
                self.emit(Event::DeliveryEdited { entry, text, by });
            }
            Command::Release { run } => {
                self.withdraw_escalations_of(run, &by);
                self.release_lock(run, by);
            }
            Command::Submit { repo, prompt, priority, job } => {
                let run = self.fleet().next_run();
                let work = Work::Prompt { repo, prompt, by, job };
                let term = self.fleet().policy.term;
                self.emit(Event::Claimed { run, work, priority, term });
                return Accepted::Queued { run, issue: None };
            }
        }
        Accepted::Ok
    }

    fn answer_escalation(&mut self, id: EscalationId, answer: Answer, by: Actor) {
        let Some(escalation) = self.fleet().escalations.get(&id).cloned() else { return };
        self.emit(Event::Answered { escalation: id, answer: answer.clone(), by: by.clone() });
        if let (EscalationKind::Undelivered, Some(issue)) = (escalation.kind, &escalation.issue) {
            return self.decide_on_held_steps(issue, &answer, &by);
        }
        let Some(run) = escalation.run else {
            match escalation.kind {
                EscalationKind::DrillDue => self.begin_drill(),
                EscalationKind::Replaced => self.accept_replacement(id),
                EscalationKind::Outage => self.try_outages_now(),
                EscalationKind::Permission => self.answer_agent(id, &answer, by),
                _ => {}
            }
            return;
        };
        match (&escalation.request_id, answer) {
            (Some(request), answer) => {
                let request = request.clone();
                if let (Answer::ApproveRun, Some(grant)) = (&answer, escalation.grant()) {
                    self.emit(Event::Granted { run, grant, by: by.clone() });
                }
                self.effect(Effect::Answer { run, request, answer, by: by.into() });
            }
            (None, Answer::Text { text }) => self.reopen_run(run, by, text),
            (None, Answer::Approve) if escalation.kind == EscalationKind::Guardrail => {}
            (None, Answer::Approve) if escalation.kind == EscalationKind::Approval => {
                if let Some(digest) = self.run(run).and_then(|run| run.progress.to_approve) {
                    self.emit(Event::ChangeApproved { run, digest, by: by.clone() });
                    self.reopen_run(run, by, Untrusted::default());
                }
            }
            (None, Answer::Approve) if escalation.kind == EscalationKind::Edited => {
                self.reopen_run(run, by, Untrusted::default());
            }
            (None, Answer::Approve) if escalation.kind == EscalationKind::Breaker => {
                self.emit(Event::Reset);
            }
            (None, Answer::Approve) if self.run(run).is_some_and(Run::live) => {}
            (None, Answer::Approve) if escalation.kind == EscalationKind::Frozen => {
                self.release_lock(run, by);
            }
            (None, Answer::Approve) => {
                // A run that ended over budget or stalled after a push also keeps its lock.
                if self.fleet().locks.values().any(|holder| *holder == run) {
                    self.release_lock(run, by);
                }
            }
            (None, Answer::Deny { .. } | Answer::ApproveRun | Answer::Edit { .. }) => {}
        }
    }

    fn cancel_run(&mut self, id: RunId, by: &Actor) {
        let Some(run) = self.run(id) else { return };
        let issue = run.work.issue().cloned();
        self.withdraw_requests(id, "the run was cancelled");
        self.effect(Effect::Stop { run: id });
        let why: Untrusted = format!("cancelled by {by}").into();
        self.emit(Event::Ended { run: id, outcome: Outcome::Cancelled, why });
        self.note(id, format!("cancelled by {by}"));
        if let Some(issue) = issue {
            self.post(OutboxStep::Label { issue: issue.clone(), label: None });
            if self.fleet().policy.remote.contains(&issue.repo) {
                self.update_progress(&issue);
            } else {
                let text = format!("{id} was **cancelled** by {by}.");
                self.post(OutboxStep::Comment { issue, run: id, text });
            }
        }
        self.effect(Effect::GiveBack { run: id });
    }

    fn reopen_run(&mut self, id: RunId, by: Actor, guidance: Untrusted) {
        let disarmed = self.was_disarmed_by_its_end(id);
        self.note(id, format!("{by} reopened the run"));
        self.emit(Event::Reopened { run: id, by, guidance });
        self.brief_again(id);
        self.detach_if_withdrawn(id, disarmed);
        if let Some(issue) = self.run(id).and_then(|run| run.work.issue().cloned()) {
            let label = Some(StandingLabel::InProgress);
            self.post(OutboxStep::Label { issue: issue.clone(), label });
            self.update_progress(&issue);
        }
    }

    fn look_again(&mut self, id: RunId, by: Actor) {
        self.note(
            id,
            format!("{by} has afk look again: it reads CI and deploy, and changes nothing"),
        );
        self.emit(Event::LookedAgain { run: id, by });
        if let Some(issue) = self.run(id).and_then(|run| run.work.issue().cloned()) {
            let label = Some(StandingLabel::InProgress);
            self.post(OutboxStep::Label { issue: issue.clone(), label });
            self.update_progress(&issue);
        }
    }

    fn release_lock(&mut self, id: RunId, by: Actor) {
        self.note(id, format!("{by} released the lock of the repository"));
        self.emit(Event::LockReleased { run: id, by });
    }

    /// Withdraws what the inbox still asks about a run that an operator has retried or released. The
    /// questions of the breaker and of the outbox are about more than the run, so they stay.
    fn withdraw_escalations_of(&mut self, run: RunId, by: &Actor) {
        let why = format!("{by} decided about the run itself");
        let others = [EscalationKind::Breaker, EscalationKind::Undelivered];
        self.withdraw(|e| e.run == Some(run) && !others.contains(&e.kind), &why);
    }
}
