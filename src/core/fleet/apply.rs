//! The only place that changes a fleet: [`Fleet::apply`] takes one event. A step calls it for each
//! event that it emits; the runtime and the clients call it to fold a journal, which gives the fleet
//! that wrote it.

use std::sync::Arc;

use crate::fleet::Fleet;
use crate::fleet::outages::Recovery;
use crate::model::activity::Activity;
use crate::model::approval::EscalationState;
use crate::model::brief::{Brief, UnjudgedEdit};
use crate::model::digest::Digest;
use crate::model::event::Event;
use crate::model::id::{EscalationId, RunId};
use crate::model::issue::{Arming, Issue};
use crate::model::job::JobKind;
use crate::model::ledger::LedgerEntry;
use crate::model::outbox::{OutboxEntry, OutboxStep, backoff_ms};
use crate::model::run::{Outcome, Run, Work};
use crate::model::time::Timestamp;
use crate::model::untrusted::Untrusted;

/// How many probe samples stay for each repository: the width of the sparkline.
const PROBES_KEPT: usize = 60;
/// How many closed escalations stay listed.
const ESCALATIONS_KEPT: usize = 200;

impl Fleet {
    fn run_mut(&mut self, id: RunId) -> Option<&mut Run> {
        self.runs.get_mut(&id).map(Arc::make_mut)
    }

    /// When the issue of `work` was armed, by its tracker's clock.
    fn armed_at(&self, work: &Work) -> Option<Timestamp> {
        match self.issues.get(work.issue()?)?.arming {
            Arming::Trusted { at, .. } => Some(at),
            _ => None,
        }
    }

    /// A live run covers every arming of its issue until its end. A detached run is attached again
    /// once its issue is armed anew and no step of afk's own takes that back.
    fn apply_arming(&mut self, issue: &Issue) {
        let Arming::Trusted { at, .. } = &issue.arming else { return };
        let pending = self.outbox.values().any(|entry| entry.step.disarms(&issue.key));
        let Some(id) = self.last_run.get(&issue.key).copied() else { return };
        let Some(run) = self.runs.get(&id).filter(|run| run.live()) else { return };
        if run.progress.armed.is_none_or(|used| used >= *at) {
            return;
        }
        let attach = run.issue.detached && issue.open && !pending;
        if let Some(run) = self.run_mut(id) {
            run.progress.armed = run.progress.armed.map(|used| used.max(*at));
            run.issue.detached &= !attach;
        }
    }

    /// Gives the run the version of its issue that the fleet knows, if it is the one of the digest.
    fn apply_brief(&mut self, id: RunId, digest: Digest) {
        let key = self.runs.get(&id).and_then(|run| run.work.issue());
        let brief = key.and_then(|key| self.issues.get(key)).map(|issue| Brief::of(issue));
        if let Some(brief) = brief.filter(|brief| brief.digest() == digest)
            && let Some(run) = self.run_mut(id)
        {
            let turns = run.agent.turns;
            run.issue.take(brief, turns);
        }
    }

    fn close_escalation(&mut self, id: EscalationId, state: EscalationState) {
        if let Some(escalation) = self.escalations.get_mut(&id) {
            Arc::make_mut(escalation).state = state;
        }
        let closed = self.escalations.values().filter(|e| !e.open()).count();
        if closed > ESCALATIONS_KEPT
            && let Some(oldest) = self.escalations.values().find(|e| !e.open()).map(|e| e.id)
        {
            self.escalations.remove(&oldest);
        }
    }

    /// Changes the state by one event. Total: an event about an unknown run, issue, escalation or
    /// entry changes nothing.
    pub fn apply(&mut self, at: Timestamp, event: &Event) {
        self.last_event = self.last_event.max(at);
        match event {
            Event::Started => {
                self.draining = false;
            }
            Event::PolicySet { policy } => {
                self.policy = policy.as_ref().clone();
                if self.policy.breakglass.is_some() {
                    self.breakglass.configured(self.last_event);
                }
            }
            Event::Breakglass { what } => self.breakglass.apply(at, what),
            Event::KillSwitch { on, .. } => self.operator_kill = *on,
            Event::Capacity { permits, .. } => self.operator_capacity = Some(*permits),
            Event::IssueSeen { issue } => {
                self.apply_arming(issue);
                self.issues.insert(issue.key.clone(), Arc::new(issue.as_ref().clone()));
            }
            Event::IssueGone { key } => {
                self.issues.remove(key);
                self.ledger.remove(key);
            }
            Event::Considered { key, reason } => {
                let entry = LedgerEntry { reason: reason.clone(), since: at };
                self.ledger.insert(key.clone(), Arc::new(entry));
            }
            Event::Claimed { run, work, priority, .. } => {
                self.next_run = self.next_run.max(run.0);
                self.live.insert(*run);
                if let Some(key) = work.issue() {
                    self.locks.insert(key.repo.clone(), *run);
                    self.last_run.insert(key.clone(), *run);
                }
                let mut claimed = Run::claimed(*run, work.clone(), *priority, at);
                claimed.progress.armed = self.armed_at(work);
                if let Some(job) = work.job() {
                    self.jobs.claimed(job, *run);
                    if let JobKind::Converse { session } = &job.kind
                        && let Some(known) = self.jobs.conversation(session)
                    {
                        claimed.resume_session(job, known);
                    }
                }
                self.queue.insert(&claimed);
                self.runs.insert(*run, Arc::new(claimed));
            }
            Event::Briefed { run, digest } => self.apply_brief(*run, *digest),
            Event::EditDeclined { run, digest } => {
                if let Some(run) = self.run_mut(*run) {
                    run.issue.declined = Some(*digest);
                }
            }
            Event::EditUnjudged { run, digest } => {
                if let Some(run) = self.run_mut(*run) {
                    run.issue.unjudged = Some(UnjudgedEdit { digest: *digest, since: at });
                }
            }
            Event::IssueWithdrawn { run, why } => {
                if let Some(run) = self.run_mut(*run) {
                    run.issue.withdrawn = Some(why.clone());
                }
            }
            Event::Detached { run } => {
                if let Some(run) = self.run_mut(*run) {
                    run.issue.detached = true;
                }
            }
            Event::RepositoryIdentified { repo, identity } => {
                self.replaced.retain(|_, (known, _)| known != repo);
                self.identities.insert(repo.clone(), identity.clone());
            }
            Event::RepositoryReplaced { escalation, repo, identity } => {
                self.replaced.retain(|_, (known, _)| known != repo);
                self.replaced.insert(*escalation, (repo.clone(), identity.clone()));
            }
            Event::Escalated { escalation } => {
                self.next_escalation = self.next_escalation.max(escalation.id.0);
                self.escalations.insert(escalation.id, Arc::new(escalation.as_ref().clone()));
            }
            Event::Answered { escalation, answer, by } => self.close_escalation(
                *escalation,
                EscalationState::Answered { answer: answer.clone(), by: by.clone(), at },
            ),
            Event::Expired { escalation } => {
                self.close_escalation(*escalation, EscalationState::Expired { at });
            }
            Event::Withdrawn { escalation, why } => {
                self.close_escalation(
                    *escalation,
                    EscalationState::Withdrawn { at, why: why.clone() },
                );
            }
            Event::Posted { entry, step, after } => {
                self.next_outbox = self.next_outbox.max(entry.0);
                self.outbox.insert(
                    *entry,
                    OutboxEntry {
                        id: *entry,
                        step: step.clone(),
                        failures: 0,
                        not_before: after.map_or(at, |after| after.max(at)),
                        error: None,
                        attempted: false,
                        held: false,
                        doubtful: false,
                    },
                );
            }
            Event::Attempted { entry } => {
                if let Some(entry) = self.outbox.get_mut(entry) {
                    entry.attempted = true;
                }
            }
            Event::Reminded { escalation } => {
                if let Some(known) = self.escalations.get_mut(escalation).map(Arc::make_mut) {
                    (known.reminded, known.notified) = (known.reminded + 1, at);
                }
            }
            Event::Acknowledged { escalation, by } => {
                if let Some(known) = self.escalations.get_mut(escalation).map(Arc::make_mut) {
                    known.acknowledged = Some((by.clone(), at));
                }
            }
            Event::Delivered { entry } | Event::GivenUp { entry, .. } => {
                self.outbox.remove(entry);
            }
            Event::DeliveryHeld { entry, why } => {
                if let Some(entry) = self.outbox.get_mut(entry) {
                    entry.failures += 1;
                    entry.error = Some(why.clone());
                    entry.held = true;
                }
            }
            Event::DeliveryRetried { entry, .. } => {
                if let Some(entry) = self.outbox.get_mut(entry) {
                    (entry.held, entry.not_before) = (false, at);
                }
            }
            Event::DeliveryEdited { entry, text, .. } => {
                if let Some(entry) = self.outbox.get_mut(entry)
                    && let OutboxStep::Comment { text: known, .. } = &mut entry.step
                {
                    known.clone_from(text);
                    (entry.held, entry.not_before) = (false, at);
                }
            }
            Event::NotDelivered(failure) => {
                if let Some(entry) = self.outbox.get_mut(&failure.entry) {
                    entry.failures += 1;
                    entry.not_before = at.plus(backoff_ms(entry.failures).max(failure.wait));
                    entry.error = Some(failure.error.clone());
                    entry.attempted = false;
                    entry.doubtful |= failure.doubtful;
                }
            }
            Event::Probed { repo, sample } => {
                let samples = self.probes.entry(repo.clone()).or_default();
                samples.push_back(*sample);
                if samples.len() > PROBES_KEPT {
                    samples.pop_front();
                }
            }
            Event::Draining { .. } => self.draining = true,
            Event::Tripped { cause } => self.breaker.trip(at, cause.clone()),
            Event::Reset => self.breaker.reset(),
            Event::Unavailable { cause, why, repo, next } => {
                self.outages.failed(at, cause, why, repo.as_ref(), *next);
            }
            Event::Resumed { cause, runs } => {
                if self.is_of_tracker(cause) {
                    // Their pauses are the outage's, which is over.
                    for entry in self.outbox.values_mut().filter(|e| e.step.issue().is_some()) {
                        entry.not_before = entry.not_before.min(at);
                    }
                }
                if let Some(outage) = self.outages.of_mut(cause) {
                    outage.recovery = Some(Recovery { at, runs: runs.clone() });
                }
            }
            Event::OutageEnded { cause } => self.outages.ended(cause),
            Event::OutageReported(report) => self.outages.reported(report),
            Event::Held { run, cause, .. } => {
                if let Some(run) = self.run_mut(*run) {
                    run.apply(at, event);
                    let repo = run.work.repo().clone();
                    // The others of the repository's agents go on.
                    let has_others = run.agent.candidates().len() > 1;
                    if let Some(outage) = self.outages.of_mut(cause)
                        && !(cause.kind.is_of_agent() && has_others)
                    {
                        outage.repos.insert(repo);
                    }
                }
            }
            Event::PermitReturned { run } => self.return_permit(*run),
            Event::TimeSkipped { ms } if *ms < 0 => self.set_back(at, -*ms),
            Event::TimeSkipped { ms } => self.give_back_time(*ms),
            Event::SoftLimit => self.books.warned(at),
            Event::Steered { .. }
            | Event::RequestDecided { .. }
            | Event::Accepted { .. }
            | Event::Refused { .. } => {}
            Event::TurnEnded { run, end } => {
                // A job's failure concerns its caller alone, so the breaker doesn't count it.
                if self.runs.get(run).is_some_and(|run| run.work.job().is_none()) {
                    self.breaker.note(at, *run, end);
                }
                if let Some(run) = self.run_mut(*run) {
                    run.apply(at, event);
                }
            }
            Event::Spent { run, spend } => {
                let repo = self.runs.get(run).map(|run| run.work.repo().clone());
                self.books.book(at, repo.as_ref(), *spend);
                if let Some(run) = self.run_mut(*run) {
                    run.spend.total.add(*spend);
                    run.spend.turn.add(*spend);
                    run.spend.session = run.spend.session.plus(spend.usd);
                }
            }
            Event::Ended { run, outcome, why } => self.apply_end(at, *run, *outcome, why),
            Event::Forgotten { run } => {
                let known = self.runs.remove(run);
                let job = known.as_ref().and_then(|run| run.work.job());
                self.jobs.forgotten(*run, job);
            }
            Event::Reopened { run, guidance, .. } => {
                self.jobs.reopened(*run);
                self.live.insert(*run);
                let armed = self.runs.get(run).and_then(|run| self.armed_at(&run.work));
                if let Some(r) = self.run_mut(*run) {
                    r.reopen(at, guidance.clone());
                    r.progress.armed = armed.max(r.progress.armed);
                    if let Some(key) = r.work.issue().cloned() {
                        self.locks.insert(key.repo, *run);
                    }
                }
                if let Some(run) = self.runs.get(run) {
                    self.queue.insert(run);
                }
            }
            Event::LookedAgain { run, .. } => {
                self.live.insert(*run);
                let armed = self.runs.get(run).and_then(|run| self.armed_at(&run.work));
                if let Some(r) = self.run_mut(*run) {
                    r.look_again(at);
                    r.progress.armed = armed.max(r.progress.armed);
                    if let Some(key) = r.work.issue().cloned() {
                        self.locks.insert(key.repo, *run);
                    }
                }
                if let Some(run) = self.runs.get(run) {
                    self.queue.insert(run);
                }
            }
            Event::LockReleased { run, .. } => self.locks.retain(|_, holder| holder != run),
            Event::Admitted { run, .. }
            | Event::Began { run, .. }
            | Event::Followed { run }
            | Event::Reached { run, .. }
            | Event::WorktreeReady { run, .. }
            | Event::SessionStarted { run, .. }
            | Event::SessionLost { run, .. }
            | Event::ContextOverflowed { run, .. }
            | Event::ContextUsed { run, .. }
            | Event::FellBack { run, .. }
            | Event::AgentRestored { run }
            | Event::RanUnasked { run, .. }
            | Event::Equipped { run, .. }
            | Event::Quiet { run, .. }
            | Event::Retrying { run, .. }
            | Event::ToolRunning { run, .. }
            | Event::AgentActive { run, .. }
            | Event::Granted { run, .. }
            | Event::GateOpened { run, .. }
            | Event::GateClosed { run, .. }
            | Event::ApprovalNeeded { run, .. }
            | Event::ChangeApproved { run, .. }
            | Event::Pushed { run, .. }
            | Event::PushRejected { run, .. }
            | Event::Rebased { run, .. }
            | Event::BaseStale { run, .. }
            | Event::Collected { run, .. }
            | Event::Judged { run, .. }
            | Event::Attempt { run, .. }
            | Event::Failed { run, .. }
            | Event::CapsuleKept { run, .. } => {
                if matches!(event, Event::Admitted { .. })
                    && let Some(run) = self.runs.get(run)
                {
                    self.at_work.insert(run.id);
                    self.queue.remove(run);
                }
                if let Some(run) = self.run_mut(*run) {
                    run.apply(at, event);
                }
            }
        }
    }

    fn return_permit(&mut self, id: RunId) {
        if !self.at_work.remove(&id) {
            return;
        }
        if let Some(run) = self.run_mut(id) {
            run.progress.admitted = None;
        }
        if let Some(run) = self.runs.get(&id) {
            self.queue.insert(run);
        }
    }

    fn apply_end(&mut self, at: Timestamp, id: RunId, outcome: Outcome, why: &Untrusted) {
        self.live.remove(&id);
        self.at_work.remove(&id);
        if let Some(run) = self.runs.get(&id) {
            self.queue.remove(run);
        }
        if outcome != Outcome::Frozen {
            self.locks.retain(|_, holder| *holder != id);
        }
        let Some(run) = self.run_mut(id) else { return };
        run.progress.outcome = Some(outcome);
        run.progress.why = why.clone();
        run.progress.ended = Some(at);
        run.progress.admitted = None;
        run.progress.activity = Activity::Ended;
        run.progress.epoch += 1;
        run.progress.looks_again = None;
        let run = self.runs.get(&id).cloned();
        if let Some((run, job)) = run.as_ref().and_then(|run| Some((run, run.work.job()?))) {
            self.jobs.ended(at, run, job);
        }
        let Some(run) = self.run_mut(id) else { return };
        if outcome == Outcome::Done
            && let Some(sha) = run.workspace.pushed.clone()
        {
            let repo = run.work.repo().clone();
            self.last_good.insert(repo, (sha, at));
        }
    }
}
