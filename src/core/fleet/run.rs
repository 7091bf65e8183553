//! How an event changes one run; `Fleet::apply` passes on the events that concern a single run.

use crate::model::agent_event::TurnEnd;
use crate::model::budget::{MicroUsd, Spend};
use crate::model::event::Event;
use crate::model::run::{Activity, Outcome, Run};
use crate::model::stage::{Phase, ProofLink, Stage};
use crate::model::time::Timestamp;
use crate::model::untrusted::Untrusted;
use crate::model::verdict::{Evidence, Verdict};

impl Run {
    /// Resets the caps of an ended run and queues it again with an operator's guidance.
    pub(super) fn reopen(&mut self, at: Timestamp, guidance: Untrusted) {
        // Runs with these outcomes gave their worktree back; the others continue in theirs.
        if matches!(self.outcome, Some(Outcome::Done | Outcome::Cancelled | Outcome::Failed)) {
            self.home = self.worktree.take();
        }
        self.spent_before = self.spend.usd;
        self.outcome = None;
        self.ended = None;
        self.claimed = at;
        self.admitted = None;
        self.activity = Activity::Waiting;
        self.phase = Phase::Queued;
        self.attempts = 0;
        self.first_red = None;
        self.failures = 0;
        self.gate_closed = 0;
        self.push_rejections = 0;
        self.guidance = Some(guidance);
    }

    pub(super) fn apply(&mut self, at: Timestamp, event: &Event) {
        match event {
            Event::Admitted { .. } => self.admitted = Some(at),
            Event::Began { activity, .. } => {
                self.activity = activity.clone();
                self.epoch += 1;
                (self.quiet, self.retry, self.followed) = (None, None, None);
                if let Activity::Turn { .. } = activity {
                    self.turns += 1;
                    self.turn_spend = Spend::default();
                    self.turn_end = None;
                    self.guidance = None;
                }
            }
            // The epoch stays, so the turn's open requests stay valid.
            Event::Followed { .. } => {
                self.followed = Some(at);
                (self.quiet, self.retry) = (None, None);
            }
            Event::Reached { phase, .. } => {
                self.phase = *phase;
                if !self.reached.iter().any(|(known, _)| known == phase) {
                    self.reached.push((*phase, at));
                }
            }
            Event::WorktreeReady { path, branch, base, stages, permissions, .. } => {
                self.permissions = permissions.as_ref().clone();
                self.worktree = Some(path.clone());
                self.branch = Some(branch.clone());
                self.base = Some(base.clone());
                self.stages = *stages;
                self.failures = 0;
            }
            Event::SessionStarted { session, .. } => {
                self.session = Some(session.clone());
                self.session_cost = MicroUsd(0);
            }
            Event::SessionLost { .. } => self.session = None,
            Event::Equipped { equipment, .. } => {
                self.equipment = Some(equipment.as_ref().clone());
            }
            Event::Quiet { since, .. } => self.quiet = Some(*since),
            Event::Retrying { retry, .. } => self.retry = Some(*retry),
            Event::AgentActive { .. } => (self.quiet, self.retry) = (None, None),
            Event::Granted { grant, .. } => self.grants.push(grant.clone()),
            Event::TurnEnded { end, .. } => {
                (self.quiet, self.retry) = (None, None);
                self.turn_end = Some(end.clone());
                if *end == TurnEnd::Done {
                    self.failures = 0;
                } else {
                    self.failures += 1;
                }
            }
            Event::GateOpened { head, red, green, .. } => {
                self.gated = Some(head.clone());
                self.proof.set(ProofLink::TestsRed, Some(red.clone()));
                self.proof.set(ProofLink::TestsGreen, Some(green.clone()));
                self.failures = 0;
                self.gate_closed = 0;
            }
            Event::GateClosed { .. } => self.gate_closed += 1,
            Event::Pushed { head, .. } => {
                self.pushed = Some(head.clone());
                let evidence = Evidence {
                    verdict: Verdict::Green,
                    sha: head.clone(),
                    at,
                    detail: "read back from the remote".into(),
                    facts: Vec::new(),
                };
                self.proof.set(ProofLink::Commit, Some(evidence));
                self.proof.forget_after(ProofLink::Commit);
                self.failures = 0;
                self.push_rejections = 0;
            }
            Event::PushRejected { .. } => self.push_rejections += 1,
            Event::Rebased { base, .. } => {
                self.base = Some(base.clone());
                self.failures = 0;
            }
            Event::Judged { stage, link, .. } => {
                match link.verdict {
                    Verdict::Green => self.failures = 0,
                    Verdict::Red => {
                        self.failures = 0;
                        self.first_red.get_or_insert(at);
                    }
                    Verdict::Unknown | Verdict::Pending => self.failures += 1,
                    // A human decides on these, so they count as no failure.
                    Verdict::NoCi | Verdict::Stuck | Verdict::Lost | Verdict::NotApplied => {}
                }
                if *stage == Stage::Deploy {
                    self.proof.set(ProofLink::Image, link.image());
                }
                self.proof.set(stage.proof_link(), Some(link.clone()));
            }
            Event::Attempt { number, .. } => self.attempts = *number,
            Event::Failed { why, .. } => {
                self.failures += 1;
                self.why = why.clone();
            }
            Event::CapsuleKept { path, .. } => self.capsule = Some(path.clone()),
            _ => {}
        }
    }
}
