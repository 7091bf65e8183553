//! The fleet: everything that is known, and how each event changes it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::approval::{Escalation, EscalationState};
use super::breaker::{self, Breaker};
use super::breakglass::Breakglass;
use super::budget::{Books, MicroUsd, Spend};
use super::event::{Event, Stage};
use super::id::{EscalationId, IssueKey, OutboxId, Repo, RunId, Sha, Timestamp};
use super::issue::{Arming, Issue};
use super::job::{Job, JobKind, Jobs};
use super::ledger::LedgerEntry;
use super::outbox::{OutboxEntry, backoff_ms};
use super::policy::{Place, Policy};
use super::queue::Queue;
use super::run::{Activity, Outcome, Phase, Run, Work};
use super::verdict::{Link, ProbeSample, Verdict};

/// Probe samples kept a repository, for the sparkline.
pub const PROBES_KEPT: usize = 60;
/// Escalations that are no longer open and still listed.
const ESCALATIONS_KEPT: usize = 200;

/// The whole state. Parts that a screen shows are shared, so a copy for a reader is cheap.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fleet {
    /// The latest time told; never runs backwards, whatever the clock does.
    pub now: Timestamp,
    /// The rules in force.
    pub policy: Policy,
    /// The operator's kill switch, beside the configuration's.
    pub operator_kill: bool,
    /// This life picks nothing up any more: it is to end once nothing is at work.
    #[serde(default)]
    pub draining: bool,
    /// The operator's capacity, where it differs from the configuration's.
    pub operator_capacity: Option<u32>,
    /// Every issue that a tracker told.
    pub issues: BTreeMap<IssueKey, Arc<Issue>>,
    /// Why each stands where it stands.
    pub ledger: BTreeMap<IssueKey, Arc<LedgerEntry>>,
    /// Every run.
    pub runs: BTreeMap<RunId, Arc<Run>>,
    /// Those of them that have not ended.
    pub live: BTreeSet<RunId>,
    /// Those of them that hold a permit.
    #[serde(default)]
    pub at_work: BTreeSet<RunId>,
    /// Those of them that wait for one.
    #[serde(default)]
    pub queue: Queue,
    /// The newest run of each issue.
    pub last_run: BTreeMap<IssueKey, RunId>,
    /// Which run has which repository.
    pub locks: BTreeMap<Repo, RunId>,
    /// Every open escalation and the latest others.
    pub escalations: BTreeMap<EscalationId, Arc<Escalation>>,
    /// Completion steps that are not known to be done.
    pub outbox: BTreeMap<OutboxId, OutboxEntry>,
    /// Spend by day and repository.
    pub books: Books,
    /// Failures with a common cause.
    pub breaker: Breaker,
    /// What callers of the service asked for.
    #[serde(default)]
    pub jobs: Jobs,
    /// Who may use breakglass, and what came of it.
    #[serde(default)]
    pub breakglass: Breakglass,
    /// The latest probe samples of each repository.
    pub probes: BTreeMap<Repo, VecDeque<ProbeSample>>,
    /// The last commit of each repository that was proved healthy, and when.
    pub last_good: BTreeMap<Repo, (Sha, Timestamp)>,
    next_run: u64,
    next_escalation: u64,
    next_outbox: u64,
}

impl Fleet {
    /// Stops all pickup: thrown by the configuration or by an operator.
    #[must_use]
    pub const fn kill_switch(&self) -> bool {
        self.policy.kill_switch || self.operator_kill || self.draining
    }

    /// Whether the breaker holds everything up. Once its pause is over and nothing works, one
    /// run may show whether all is well again.
    #[must_use]
    pub fn paused(&self) -> bool {
        self.breaker.open().is_some_and(|(_, since)| {
            self.now.since(*since) < breaker::PAUSE || self.on_issues() > 0
        })
    }

    /// Permits in use for issues: jobs of the service are none of the breaker's.
    pub(super) fn on_issues(&self) -> usize {
        self.working_runs().filter(|run| run.work.job().is_none()).count()
    }

    /// Permits in all.
    #[must_use]
    pub fn capacity(&self) -> u32 {
        self.operator_capacity.unwrap_or(self.policy.capacity)
    }

    /// Where the turns of some work are carried out, if not here.
    #[must_use]
    pub fn elsewhere(&self, work: &Work) -> Option<&Place> {
        let place = self.policy.elsewhere.get(work.repo())?;
        let question = work.job().is_some_and(Job::is_question);
        let fits = place.issues || work.issue().is_none();
        (fits && !question).then_some(place)
    }

    /// The runs that have not ended, oldest first.
    pub fn live_runs(&self) -> impl Iterator<Item = &Arc<Run>> {
        self.live.iter().filter_map(|id| self.runs.get(id))
    }

    /// Runs that hold a permit.
    fn working_runs(&self) -> impl Iterator<Item = &Arc<Run>> {
        self.at_work.iter().filter_map(|id| self.runs.get(id))
    }

    /// Permits in use.
    #[must_use]
    pub fn permits_used(&self) -> usize {
        self.at_work.len()
    }

    /// Runs that wait for a permit, the next one first.
    pub fn waiting(&self) -> impl Iterator<Item = &Arc<Run>> {
        let rank = |id| self.runs.get(&id).map(|run| run.rank(self.now, self.policy.aging_ms));
        self.queue.in_order(rank).filter_map(|id| self.runs.get(&id))
    }

    /// Escalations that wait for a human, most severe and newest first.
    #[must_use]
    pub fn inbox(&self) -> Vec<&Arc<Escalation>> {
        let mut open: Vec<_> = self.escalations.values().filter(|e| e.open()).collect();
        open.sort_by_key(|e| std::cmp::Reverse((e.kind, e.raised, e.id)));
        open
    }

    /// Set aside for the turns of the runs that live.
    #[must_use]
    pub fn reserved(&self) -> MicroUsd {
        let live = i64::try_from(self.live.len()).unwrap_or(i64::MAX);
        MicroUsd(self.policy.turn_reserve.0.saturating_mul(live))
    }

    /// The earliest time at which a [`super::input::Input::Tick`] would change something.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Timestamp> {
        // One that waits for a permit waits for nothing else.
        let runs = self.working_runs().filter_map(|run| match run.activity {
            Activity::Backoff { until, .. } => Some(until),
            _ => None,
        });
        let escalations = self.escalations.values().filter(|e| e.open()).filter_map(|e| e.expires);
        let outbox = self.outbox.values().filter(|e| !e.under_way).map(|e| e.not_before);
        let notices = &self.policy.notices;
        let reminders = self.escalations.values().filter_map(|e| e.next_reminder(notices));
        let probe = self.breaker.open().map(|(_, since)| since.plus(breaker::PAUSE));
        let probe = probe.filter(|at| *at > self.now);
        let breakglass = self
            .breakglass
            .next_deadline(self.policy.breakglass.as_ref().filter(|_| !self.draining));
        let job = self.jobs.next_deadline(self.policy.job_ttl_ms);
        let rest = probe.into_iter().chain(breakglass).chain(job);
        runs.chain(escalations).chain(reminders).chain(outbox).chain(rest).min()
    }

    /// The number that the next run gets.
    #[must_use]
    pub const fn next_run(&self) -> RunId {
        RunId(self.next_run + 1)
    }

    /// The number that the next escalation gets.
    #[must_use]
    pub const fn next_escalation(&self) -> EscalationId {
        EscalationId(self.next_escalation + 1)
    }

    /// The number that the next outbox entry gets.
    #[must_use]
    pub const fn next_outbox(&self) -> OutboxId {
        OutboxId(self.next_outbox + 1)
    }

    fn run_mut(&mut self, id: RunId) -> Option<&mut Run> {
        self.runs.get_mut(&id).map(Arc::make_mut)
    }

    /// When the issue of some work was armed, by its tracker's clock.
    fn armed(&self, work: &Work) -> Option<Timestamp> {
        match self.issues.get(work.issue()?)?.arming {
            Arming::Trusted { at, .. } => Some(at),
            _ => None,
        }
    }

    fn settle(&mut self, id: EscalationId, state: EscalationState) {
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

    /// Changes the state by one event. Total: an event that names nothing known changes nothing.
    pub fn apply(&mut self, at: Timestamp, event: &Event) {
        self.now = self.now.max(at);
        match event {
            Event::Started => {
                self.draining = false;
                for entry in self.outbox.values_mut() {
                    entry.under_way = false;
                }
            }
            Event::PolicySet { policy } => {
                self.policy = policy.as_ref().clone();
                if self.policy.breakglass.is_some() {
                    self.breakglass.configured(self.now);
                }
            }
            Event::Breakglass { what } => self.breakglass.apply(at, what),
            Event::KillSwitch { on, .. } => self.operator_kill = *on,
            Event::Capacity { permits, .. } => self.operator_capacity = Some(*permits),
            Event::IssueSeen { issue } => {
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
                claimed.armed = self.armed(work);
                if let Some(job) = work.job() {
                    self.jobs.claimed(job, *run);
                    if let JobKind::Converse { session } = &job.kind
                        && let Some(known) = self.jobs.conversation(session)
                    {
                        claimed.session = Some(known.session.clone());
                        claimed.session_cost = known.cost;
                    }
                }
                self.queue.insert(&claimed);
                self.runs.insert(*run, Arc::new(claimed));
            }
            Event::Escalated { escalation } => {
                self.next_escalation = self.next_escalation.max(escalation.id.0);
                self.escalations.insert(escalation.id, Arc::new(escalation.as_ref().clone()));
            }
            Event::Answered { escalation, answer, by } => self.settle(
                *escalation,
                EscalationState::Answered { answer: answer.clone(), by: by.clone(), at },
            ),
            Event::Expired { escalation } => {
                self.settle(*escalation, EscalationState::Expired { at });
            }
            Event::Withdrawn { escalation, why } => {
                self.settle(*escalation, EscalationState::Withdrawn { at, why: why.clone() });
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
                        under_way: false,
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
                    (known.reminded, known.told) = (known.reminded + 1, at);
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
            Event::NotDelivered { entry, error, wait } => {
                if let Some(entry) = self.outbox.get_mut(entry) {
                    entry.failures += 1;
                    entry.not_before = at.plus(backoff_ms(entry.failures).max(*wait));
                    entry.error = Some(error.clone());
                    (entry.under_way, entry.attempted) = (false, false);
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
            Event::SoftLimit => self.books.warned(at),
            Event::Steered { .. }
            | Event::Settled { .. }
            | Event::Accepted { .. }
            | Event::Refused { .. } => {}
            Event::TurnEnded { run, end } => {
                // What one caller's job fails of says nothing about the others' work.
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
                    run.spend.add(*spend);
                    run.turn_spend.add(*spend);
                    run.session_cost = run.session_cost.plus(spend.usd);
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
                let armed = self.runs.get(run).and_then(|run| self.armed(&run.work));
                if let Some(r) = self.run_mut(*run) {
                    r.reopen(at, guidance.clone());
                    r.armed = armed.max(r.armed);
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
            | Event::Equipped { run, .. }
            | Event::Quiet { run, .. }
            | Event::Retrying { run, .. }
            | Event::Heard { run, .. }
            | Event::Granted { run, .. }
            | Event::GateOpened { run, .. }
            | Event::GateClosed { run, .. }
            | Event::Pushed { run, .. }
            | Event::PushRejected { run, .. }
            | Event::Rebased { run, .. }
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

    fn apply_end(
        &mut self,
        at: Timestamp,
        id: RunId,
        outcome: Outcome,
        why: &super::untrusted::Untrusted,
    ) {
        self.live.remove(&id);
        self.at_work.remove(&id);
        if let Some(run) = self.runs.get(&id) {
            self.queue.remove(run);
        }
        if outcome != Outcome::Frozen {
            self.locks.retain(|_, holder| *holder != id);
        }
        let Some(run) = self.run_mut(id) else { return };
        run.outcome = Some(outcome);
        run.why = why.clone();
        run.ended = Some(at);
        run.admitted = None;
        run.activity = Activity::Ended;
        run.epoch += 1;
        let run = self.runs.get(&id).cloned();
        if let Some((run, job)) = run.as_ref().and_then(|run| Some((run, run.work.job()?))) {
            self.jobs.ended(at, run, job);
        }
        let Some(run) = self.run_mut(id) else { return };
        if outcome == Outcome::Done
            && let Some(sha) = run.pushed.clone()
        {
            let repo = run.work.repo().clone();
            self.last_good.insert(repo, (sha, at));
        }
    }
}

impl Run {
    fn reopen(&mut self, at: Timestamp, guidance: super::untrusted::Untrusted) {
        // These gave their worktree back; the others go on in theirs.
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

    fn apply(&mut self, at: Timestamp, event: &Event) {
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
            // What it asked is still bound to its epoch.
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
            Event::Heard { .. } => (self.quiet, self.retry) = (None, None),
            Event::Granted { grant, .. } => self.grants.push(grant.clone()),
            Event::TurnEnded { end, .. } => {
                (self.quiet, self.retry) = (None, None);
                self.turn_end = Some(end.clone());
                if *end == super::agent_event::TurnEnd::Done {
                    self.failures = 0;
                } else {
                    self.failures += 1;
                }
            }
            Event::GateOpened { head, red, green, .. } => {
                self.gated = Some(head.clone());
                self.proof.tests_red = Some(red.clone());
                self.proof.tests_green = Some(green.clone());
                self.failures = 0;
                self.gate_closed = 0;
            }
            Event::GateClosed { .. } => self.gate_closed += 1,
            Event::Pushed { head, .. } => {
                self.pushed = Some(head.clone());
                self.proof.pushed = Some(Link {
                    verdict: Verdict::Green,
                    sha: head.clone(),
                    at,
                    detail: "read back from the remote".into(),
                    facts: Vec::new(),
                });
                (self.proof.ci, self.proof.image) = (None, None);
                (self.proof.deploy, self.proof.probes) = (None, None);
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
                    // A human decides.
                    Verdict::NoCi | Verdict::Stuck | Verdict::Lost | Verdict::NotApplied => {}
                }
                if *stage == Stage::Deploy {
                    self.proof.image = link.image();
                }
                *match stage {
                    Stage::Ci => &mut self.proof.ci,
                    Stage::Deploy => &mut self.proof.deploy,
                    Stage::Probe => &mut self.proof.probes,
                } = Some(link.clone());
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
