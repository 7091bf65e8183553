//! How an event changes one run; `Fleet::apply` passes on the events that concern a single run.

use crate::model::activity::Activity;
use crate::model::agent_event::TurnEnd;
use crate::model::budget::{MicroUsd, Spend};
use crate::model::event::Event;
use crate::model::fallback::{PreferredAgent, UnaskedCommands};
use crate::model::outage::OutageCause;
use crate::model::run::{Outcome, Run};
use crate::model::stage::{Phase, ProofLink, Stage};
use crate::model::time::Timestamp;
use crate::model::untrusted::Untrusted;
use crate::model::verdict::{Evidence, Verdict};

impl Run {
    /// Resets the caps of an ended run and queues it again with an operator's guidance.
    pub(super) fn reopen(&mut self, at: Timestamp, guidance: Untrusted) {
        if self.progress.outcome.is_some_and(Outcome::returns_worktree) {
            self.workspace.home = self.workspace.worktree.take();
        }
        self.spend.before = self.spend.total.usd;
        self.requeue(at);
        self.progress.attempts = 0;
        self.progress.first_red = None;
        self.progress.failures = 0;
        self.progress.gate_closed = 0;
        self.progress.push_rejections = 0;
        self.progress.guidance = Some(guidance);
        self.issue.withdrawn = None;
    }

    /// Lets an ended run wait for a permit as one that was claimed now.
    fn requeue(&mut self, at: Timestamp) {
        self.progress.outcome = None;
        self.progress.ended = None;
        self.progress.claimed = at;
        self.progress.admitted = None;
        self.progress.due = None;
        self.progress.activity = Activity::Waiting;
        self.progress.phase = Phase::Queued;
    }

    /// Waits in the current activity, or before the next one, until an outage is over. A turn that could
    /// not begin does not count.
    fn hold(&mut self, at: Timestamp, cause: &OutageCause, then: Option<&Activity>) {
        let current = std::mem::replace(&mut self.progress.activity, Activity::Ended);
        // A run that waited already waits for something else from now.
        let waited = matches!(current, Activity::Held { .. });
        if then.is_some() && !waited {
            // The end of its turn counted as a failure of the run.
            self.progress.failures = self.progress.failures.saturating_sub(1);
        } else if let Activity::Turn { .. } = current {
            self.agent.turns = self.agent.turns.saturating_sub(1);
        }
        if let Some(job) = self.work.job() {
            let due = self.progress.admitted.unwrap_or(at).plus(job.limit_ms);
            self.progress.due.get_or_insert(due);
        }
        let (cause, then) = (cause.clone(), Box::new(then.cloned().unwrap_or(current)));
        self.progress.activity = Activity::Held { cause, since: at, then };
        self.progress.epoch += 1;
        self.agent_active();
    }

    /// Lets another agent take the turns, in a conversation of its own.
    fn fall_back(&mut self, agent: &str, cause: Option<&OutageCause>) {
        (self.agent.session, self.agent.context) = (None, None);
        if self.agent.preferred.is_none() {
            let known = self.agent.equipment.as_ref();
            self.agent.preferred = known.map(|known| PreferredAgent {
                agent: known.agent.clone(),
                fallback: known.fallback.clone(),
                cause: cause.cloned(),
            });
        }
        self.agent.instead = Some(agent.to_owned());
        let is_turn = matches!(self.progress.activity, Activity::Turn { .. });
        if is_turn && self.agent.turn_end.as_ref().is_some_and(TurnEnd::is_agent_outage) {
            // The end of its turn was no failure of the run.
            self.progress.failures = self.progress.failures.saturating_sub(1);
        }
    }

    /// Forgets the silence, the retry and the running tool of its agent.
    fn agent_active(&mut self) {
        (self.agent.quiet, self.agent.retry, self.agent.tool) = (None, None, None);
    }

    /// Queues a frozen run again for a look at its verdicts; its caps and its conversation stay.
    pub(super) fn look_again(&mut self, at: Timestamp) {
        self.requeue(at);
        self.progress.failures = 0;
        self.progress.looks_again = Some(at);
        self.proof.forget_after(ProofLink::Commit);
    }

    pub(super) fn apply(&mut self, at: Timestamp, event: &Event) {
        match event {
            Event::Admitted { .. } => self.progress.admitted = Some(at),
            Event::Held { cause, then, .. } => self.hold(at, cause, then.as_deref()),
            Event::Began { activity, .. } => {
                if let Activity::Held { since, .. } = self.progress.activity {
                    self.give_back_time(at.since(since));
                }
                if !matches!(activity, Activity::Backoff { .. }) {
                    self.issue.unjudged = None;
                }
                self.progress.activity = activity.clone();
                self.progress.epoch += 1;
                self.agent_active();
                self.agent.followed = None;
                if *activity == Activity::Gate {
                    self.progress.to_approve = None;
                }
                if let Activity::Turn { .. } = activity {
                    // The agent may change what was approved.
                    self.progress.approved = None;
                    self.agent.turns += 1;
                    self.spend.turn = Spend::default();
                    self.agent.turn_end = None;
                    self.progress.guidance = None;
                }
            }
            // The epoch stays, so the turn's open requests stay valid.
            Event::Followed { .. } => {
                self.agent.followed = Some(at);
                self.agent_active();
            }
            Event::Reached { phase, .. } => {
                self.progress.phase = *phase;
                if !self.progress.reached.iter().any(|(known, _)| known == phase) {
                    self.progress.reached.push((*phase, at));
                }
            }
            Event::WorktreeReady { worktree, .. } => {
                self.agent.permissions = worktree.permissions.as_ref().clone();
                self.workspace.worktree = Some(worktree.path.clone());
                self.workspace.branch = Some(worktree.branch.clone());
                self.workspace.base = Some(worktree.base.clone());
                self.workspace.stages = worktree.stages;
                self.progress.failures = 0;
            }
            Event::SessionStarted { session, .. } => {
                self.agent.session = Some(session.clone());
                self.agent.context = None;
                self.spend.session = MicroUsd(0);
            }
            Event::SessionLost { .. } => (self.agent.session, self.agent.context) = (None, None),
            Event::ContextOverflowed { .. } => {
                (self.agent.session, self.agent.context) = (None, None);
                self.agent.overflows += 1;
                // The end of its turn was no failure of the run.
                self.progress.failures = self.progress.failures.saturating_sub(1);
            }
            Event::FellBack { agent, cause, .. } => self.fall_back(agent, cause.as_ref()),
            Event::AgentRestored { .. } => {
                (self.agent.session, self.agent.context) = (None, None);
                self.agent.instead = None;
                if let (Some(first), Some(known)) =
                    (self.agent.preferred.take(), &mut self.agent.equipment)
                {
                    (known.agent, known.fallback) = (first.agent, first.fallback);
                    (known.model, known.version) = (None, None);
                }
            }
            Event::RanUnasked { command, .. } => {
                let count = self.agent.unasked.as_ref().map_or(0, |known| known.count);
                let (count, latest) = (count.saturating_add(1), command.clone());
                self.agent.unasked = Some(UnaskedCommands { count, latest });
            }
            Event::ContextUsed { context, .. } => self.agent.context = Some(*context),
            Event::Equipped { equipment, .. } => {
                self.agent.equipment = Some(equipment.as_ref().clone());
            }
            Event::Quiet { since, .. } => self.agent.quiet = Some(*since),
            Event::Retrying { retry, .. } => self.agent.retry = Some(*retry),
            Event::AgentActive { .. } => self.agent_active(),
            Event::ToolRunning { title, since, .. } => {
                self.agent.tool = Some((title.clone(), *since));
            }
            Event::Granted { grant, .. } => self.agent.grants.push(grant.clone()),
            Event::TurnEnded { end, .. } => {
                self.agent_active();
                self.agent.turn_end = Some(end.clone());
                if *end == TurnEnd::Done {
                    self.progress.failures = 0;
                    self.agent.overflows = 0;
                    if self.issue.shows_edit(self.agent.turns) {
                        self.issue.edited_for = None;
                    }
                } else {
                    self.progress.failures += 1;
                }
            }
            Event::GateOpened { head, red, green, .. } => {
                self.workspace.gated = Some(head.clone());
                self.proof.set(ProofLink::TestsRed, Some(red.clone()));
                self.proof.set(ProofLink::TestsGreen, Some(green.clone()));
                self.progress.failures = 0;
                self.progress.gate_closed = 0;
                self.progress.leaks.clear();
            }
            Event::GateClosed { leaks, .. } => {
                self.progress.gate_closed += 1;
                self.progress.leaks.clone_from(leaks);
            }
            Event::ApprovalNeeded { digest, .. } => self.progress.to_approve = Some(*digest),
            Event::ChangeApproved { digest, .. } => self.progress.approved = Some(*digest),
            Event::Pushed { head, .. } => {
                self.progress.approved = None;
                self.workspace.pushed = Some(head.clone());
                self.progress.unseen_ms = 0;
                let evidence = Evidence {
                    verdict: Verdict::Green,
                    sha: head.clone(),
                    at,
                    detail: "read back from the remote".into(),
                    facts: Vec::new(),
                };
                self.proof.set(ProofLink::Commit, Some(evidence));
                self.proof.forget_after(ProofLink::Commit);
                self.progress.failures = 0;
                self.progress.push_rejections = 0;
            }
            Event::PushRejected { .. } => self.progress.push_rejections += 1,
            Event::Rebased { base, .. } => {
                self.workspace.base = Some(base.clone());
                self.progress.failures = 0;
            }
            Event::BaseStale { why, .. } => self.workspace.stale_base = Some(why.clone()),
            Event::Collected { commits, .. } => self.workspace.collected = Some(commits.clone()),
            Event::Judged { stage, link, .. } => {
                match link.verdict {
                    Verdict::Green => self.progress.failures = 0,
                    Verdict::Red => {
                        self.progress.failures = 0;
                        self.progress.first_red.get_or_insert(at);
                    }
                    Verdict::Unknown | Verdict::Pending => self.progress.failures += 1,
                    // A human decides on these, so they count as no failure.
                    Verdict::NoCi | Verdict::Stuck | Verdict::Lost | Verdict::NotApplied => {}
                }
                if *stage == Stage::Deploy {
                    self.proof.set(ProofLink::Image, link.image());
                }
                self.proof.set(stage.proof_link(), Some(link.clone()));
            }
            Event::Attempt { number, .. } => self.progress.attempts = *number,
            Event::Failed { why, .. } => {
                self.progress.failures += 1;
                self.progress.why = why.clone();
            }
            Event::CapsuleKept { path, .. } => self.progress.capsule = Some(path.clone()),
            _ => {}
        }
    }
}
