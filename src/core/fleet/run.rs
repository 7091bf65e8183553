//! How an event changes one run; `Fleet::apply` passes on the events that concern a single run.

use crate::model::agent_event::TurnEnd;
use crate::model::budget::{MicroUsd, Spend};
use crate::model::event::Event;
use crate::model::outage::OutageCause;
use crate::model::run::{Activity, Outcome, Run};
use crate::model::stage::{Phase, ProofLink, Stage};
use crate::model::time::Timestamp;
use crate::model::untrusted::Untrusted;
use crate::model::verdict::{Evidence, Verdict};

impl Run {
    /// Resets the caps of an ended run and queues it again with an operator's guidance.
    pub(super) fn reopen(&mut self, at: Timestamp, guidance: Untrusted) {
        // Runs with these outcomes gave their worktree back; the others continue in theirs.
        if matches!(
            self.progress.outcome,
            Some(Outcome::Done | Outcome::Cancelled | Outcome::Failed)
        ) {
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
        self.progress.activity = Activity::Waiting;
        self.progress.phase = Phase::Queued;
    }

    /// Waits in the current activity, or before the next one, until an outage is over. A turn that could
    /// not begin does not count.
    fn hold(&mut self, at: Timestamp, cause: &OutageCause, then: Option<&Activity>) {
        let current = std::mem::replace(&mut self.progress.activity, Activity::Ended);
        if then.is_some() {
            // The end of its turn counted as a failure of the run.
            self.progress.failures = self.progress.failures.saturating_sub(1);
        } else if let Activity::Turn { .. } = current {
            self.agent.turns = self.agent.turns.saturating_sub(1);
        }
        let (cause, then) = (cause.clone(), Box::new(then.cloned().unwrap_or(current)));
        self.progress.activity = Activity::Held { cause, since: at, then };
        self.progress.epoch += 1;
        (self.agent.quiet, self.agent.retry) = (None, None);
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
                self.progress.activity = activity.clone();
                self.progress.epoch += 1;
                (self.agent.quiet, self.agent.retry, self.agent.followed) = (None, None, None);
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
                (self.agent.quiet, self.agent.retry) = (None, None);
            }
            Event::Reached { phase, .. } => {
                self.progress.phase = *phase;
                if !self.progress.reached.iter().any(|(known, _)| known == phase) {
                    self.progress.reached.push((*phase, at));
                }
            }
            Event::WorktreeReady { path, branch, base, stages, permissions, .. } => {
                self.agent.permissions = permissions.as_ref().clone();
                self.workspace.worktree = Some(path.clone());
                self.workspace.branch = Some(branch.clone());
                self.workspace.base = Some(base.clone());
                self.workspace.stages = *stages;
                self.progress.failures = 0;
            }
            Event::SessionStarted { session, .. } => {
                self.agent.session = Some(session.clone());
                self.spend.session = MicroUsd(0);
            }
            Event::SessionLost { .. } => self.agent.session = None,
            Event::Equipped { equipment, .. } => {
                self.agent.equipment = Some(equipment.as_ref().clone());
            }
            Event::Quiet { since, .. } => self.agent.quiet = Some(*since),
            Event::Retrying { retry, .. } => self.agent.retry = Some(*retry),
            Event::AgentActive { .. } => (self.agent.quiet, self.agent.retry) = (None, None),
            Event::Granted { grant, .. } => self.agent.grants.push(grant.clone()),
            Event::TurnEnded { end, .. } => {
                (self.agent.quiet, self.agent.retry) = (None, None);
                self.agent.turn_end = Some(end.clone());
                if *end == TurnEnd::Done {
                    self.progress.failures = 0;
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
