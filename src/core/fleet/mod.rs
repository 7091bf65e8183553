//! The fleet: everything that is known, as a fold of the journal. `apply` is the only code that
//! changes it; this file holds its parts and the questions that each step asks of them.

mod apply;
pub mod books;
pub mod breaker;
pub mod breakglass;
pub mod jobs;
pub mod queue;
mod run;
pub mod volatile;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::fleet::books::Books;
use crate::fleet::breaker::Breaker;
use crate::fleet::breakglass::BreakglassState;
use crate::fleet::jobs::Jobs;
use crate::fleet::queue::Queue;
use crate::model::approval::Escalation;
use crate::model::breaker::PAUSE;
use crate::model::budget::MicroUsd;
use crate::model::id::{EscalationId, IssueKey, OutboxId, Repo, RunId, Sha};
use crate::model::issue::Issue;
use crate::model::job::Job;
use crate::model::ledger::LedgerEntry;
use crate::model::outbox::OutboxEntry;
use crate::model::policy::{Policy, RemoteExecutor};
use crate::model::run::{Activity, Run, Work};
use crate::model::time::Timestamp;
use crate::model::verdict::ProbeSample;

/// Probe samples kept a repository, for the sparkline.
pub const PROBES_KEPT: usize = 60;
/// Escalations that are no longer open and still listed.
const ESCALATIONS_KEPT: usize = 200;

/// The whole state. Parts that a screen shows are shared, so a copy for a reader is cheap.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fleet {
    /// The time of the latest event.
    #[serde(rename = "now")]
    pub last_event: Timestamp,
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
    pub breakglass: BreakglassState,
    /// The latest probe samples of each repository.
    pub probes: BTreeMap<Repo, VecDeque<ProbeSample>>,
    /// The last commit of each repository that was proved healthy, and when.
    pub last_good: BTreeMap<Repo, (Sha, Timestamp)>,
    next_run: u64,
    next_escalation: u64,
    next_outbox: u64,
}

use crate::fleet::volatile::Volatile;
impl Fleet {
    /// Stops all pickup: thrown by the configuration or by an operator.
    #[must_use]
    pub const fn kill_switch(&self) -> bool {
        self.policy.kill_switch || self.operator_kill || self.draining
    }

    /// Whether the breaker holds everything up. Once its pause is over and nothing works, one
    /// run may show whether all is well again.
    #[must_use]
    pub fn paused(&self, now: Timestamp) -> bool {
        self.breaker
            .open()
            .is_some_and(|(_, since)| now.since(*since) < PAUSE || self.on_issues() > 0)
    }

    /// Permits in use for issues: jobs of the service are none of the breaker's.
    pub(crate) fn on_issues(&self) -> usize {
        self.working_runs().filter(|run| run.work.job().is_none()).count()
    }

    /// Permits in all.
    #[must_use]
    pub fn capacity(&self) -> u32 {
        self.operator_capacity.unwrap_or(self.policy.capacity)
    }

    /// Where the turns of some work are carried out, if not here.
    #[must_use]
    pub fn remote_executor(&self, work: &Work) -> Option<&RemoteExecutor> {
        let place = self.policy.remote_executors.get(work.repo())?;
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
    pub fn waiting(&self, now: Timestamp) -> impl Iterator<Item = &Arc<Run>> {
        let rank = move |id| self.runs.get(&id).map(|run| run.rank(now, self.policy.aging_ms));
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

    /// The earliest time at which a [`crate::model::input::Input::Tick`] would change something.
    #[must_use]
    pub fn next_deadline(&self, volatile: &Volatile) -> Option<Timestamp> {
        // One that waits for a permit waits for nothing else.
        let runs = self.working_runs().filter_map(|run| match run.activity {
            Activity::Backoff { until, .. } => Some(until),
            _ => None,
        });
        let escalations = self.escalations.values().filter(|e| e.open()).filter_map(|e| e.expires);
        let outbox =
            self.outbox.values().filter(|e| !volatile.in_flight(e.id)).map(|e| e.not_before);
        let notices = &self.policy.notices;
        let reminders = self.escalations.values().filter_map(|e| notices.next_reminder(e));
        let probe = self.breaker.open().map(|(_, since)| since.plus(PAUSE));
        let probe = probe.filter(|at| *at > volatile.now());
        let breakglass = self
            .breakglass
            .next_deadline(self.policy.breakglass.as_ref().filter(|_| !self.draining));
        let job = self.jobs.next_deadline(self.policy.job_ttl_ms);
        let rest = probe.into_iter().chain(breakglass).chain(job);
        runs.chain(escalations).chain(reminders).chain(outbox).chain(rest).min()
    }

    /// Whether as many jobs and runs are under way or waiting as the policy allows.
    #[must_use]
    pub fn jobs_full(&self) -> bool {
        self.live.len() >= self.policy.max_queue_depth as usize
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
}
