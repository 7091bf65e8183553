//! The fleet: the durable state of afk, as a fold of the journal. `apply` is the only code that
//! changes it. This file holds its parts and the questions that every step asks about them; the
//! rarer questions are in `query`.
//!
//! ```text
//! journal ─▶ events ─▶ Fleet::apply ─▶ Run::apply, Queue, Jobs, Books, Breaker, Outages,
//!                                             BreakglassState
//! ```

mod apply;
pub mod books;
pub mod breaker;
pub mod breakglass;
pub mod jobs;
pub mod outages;
pub mod queue;
mod run;
mod skipped_time;
pub mod volatile;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use imbl::OrdMap;
use serde::{Deserialize, Serialize};

use crate::fleet::books::Books;
use crate::fleet::breaker::Breaker;
use crate::fleet::breakglass::BreakglassState;
use crate::fleet::jobs::Jobs;
use crate::fleet::outages::{Outage, Outages};
use crate::fleet::queue::Queue;
use crate::fleet::volatile::Volatile;
use crate::model::activity::Activity;
use crate::model::approval::Escalation;
use crate::model::breaker::PAUSE;
use crate::model::budget::MicroUsd;
use crate::model::id::{EscalationId, IssueKey, OutboxId, Repo, RunId, Sha};
use crate::model::issue::{Issue, RepoIdentity};
use crate::model::job::Job;
use crate::model::ledger::LedgerEntry;
use crate::model::outage::{OutageCause, OutageKind, PERMIT_MS};
use crate::model::outbox::{OutboxEntry, OutboxStep};
use crate::model::policy::{Policy, RemoteExecutor};
use crate::model::run::{Run, Work};
use crate::model::time::Timestamp;
use crate::model::verdict::ProbeSample;

/// The whole durable state. A snapshot is a copy of it; the maps that grow with the issues and runs
/// share their structure with their copies, and change only on the way to a changed entry.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fleet {
    /// The time of the latest event.
    #[serde(rename = "now")]
    pub last_event: Timestamp,
    /// The configured rules in force.
    pub policy: Policy,
    /// The operator's kill switch, in addition to the configuration's.
    pub operator_kill: bool,
    /// Whether this life of afk picks up no more work and ends once no run is active.
    #[serde(default)]
    pub draining: bool,
    /// The operator's capacity, where it differs from the configuration's.
    pub operator_capacity: Option<u32>,
    /// Every issue on the trackers' latest lists.
    pub issues: OrdMap<IssueKey, Arc<Issue>>,
    /// Why each issue runs or doesn't run, and since when.
    pub ledger: OrdMap<IssueKey, Arc<LedgerEntry>>,
    /// Every run that is not forgotten, ended ones included.
    pub runs: OrdMap<RunId, Arc<Run>>,
    /// The runs that have not ended.
    pub live: BTreeSet<RunId>,
    /// The runs that hold a permit.
    #[serde(default)]
    pub at_work: BTreeSet<RunId>,
    /// The runs that wait for a permit.
    #[serde(default)]
    pub queue: Queue,
    /// The newest run of each issue.
    pub last_run: OrdMap<IssueKey, RunId>,
    /// The run that holds each locked repository.
    pub locks: BTreeMap<Repo, RunId>,
    /// Every open escalation, and the latest closed ones.
    pub escalations: BTreeMap<EscalationId, Arc<Escalation>>,
    /// The steps on trackers, terminals and sinks that are not delivered yet.
    pub outbox: BTreeMap<OutboxId, OutboxEntry>,
    /// What each day and each repository has cost.
    pub books: Books,
    /// Recent failures by cause, and whether pickup is paused.
    pub breaker: Breaker,
    /// The parts of the environment that are away, and whose runs wait.
    #[serde(default, skip_serializing_if = "Outages::is_empty")]
    pub outages: Outages,
    /// The jobs and conversations of the service's callers.
    #[serde(default)]
    pub jobs: Jobs,
    /// The arming, verbs, shells and drill of breakglass.
    #[serde(default)]
    pub breakglass: BreakglassState,
    /// The latest probe samples of each repository.
    pub probes: BTreeMap<Repo, VecDeque<ProbeSample>>,
    /// The last commit of each repository that was proved healthy, and when.
    pub last_good: BTreeMap<Repo, (Sha, Timestamp)>,
    /// The identities of the repositories of trackers; another repository under a known name is
    /// neither read nor written.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub identities: BTreeMap<Repo, RepoIdentity>,
    /// The questions about other repositories under known names.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub replaced: BTreeMap<EscalationId, (Repo, RepoIdentity)>,
    next_run: u64,
    next_escalation: u64,
    next_outbox: u64,
}

impl Fleet {
    /// Whether all pickup is stopped, by the configuration, by an operator, or by draining.
    #[must_use]
    pub const fn kill_switch(&self) -> bool {
        self.policy.kill_switch || self.operator_kill || self.draining
    }

    /// Whether the breaker pauses pickup. Once its pause has elapsed and no issue is worked on, one
    /// run may probe whether the cause has gone.
    #[must_use]
    pub fn paused(&self, now: Timestamp) -> bool {
        self.breaker
            .open()
            .is_some_and(|(_, since)| now.since(*since) < PAUSE || self.on_issues() > 0)
    }

    /// Whether something keeps every issue from starting: the open breaker, or a limit of the machine.
    #[must_use]
    pub fn pauses_all(&self) -> bool {
        let machine = |outage: &Outage| outage.cause.kind.is_of_machine();
        self.breaker.open().is_some() || self.outages.holding().any(machine)
    }

    /// The outage that keeps the runs of a repository from starting; none if nothing does.
    #[must_use]
    pub fn outage_of(&self, repo: &Repo) -> Option<&OutageCause> {
        let depends = |cause: &OutageCause| match cause.kind {
            OutageKind::Remote | OutageKind::Credential => {
                self.policy.remote_names.get(repo) == Some(&cause.subject)
            }
            OutageKind::Forge => self.policy.remote.contains(repo),
            kind => kind.is_of_machine(),
        };
        let holds = self.outages.holding();
        let mut holds = holds.filter(|o| o.repos.contains(repo) || depends(&o.cause));
        holds.next().map(|outage| &outage.cause)
    }

    /// Which agents work in place of the one that an outage is about, in half a sentence: `codex works in
    /// its place`. None where no run works for it.
    #[must_use]
    pub fn works_in_place(&self, cause: &OutageCause) -> Option<String> {
        if !cause.kind.is_of_agent() {
            return None;
        }
        let works = |run: &&Arc<Run>| !matches!(run.progress.activity, Activity::Held { .. });
        let instead = self.live_runs().filter(works).filter_map(|run| run.agent.in_place());
        let names = instead.filter(|(first, _)| *first == cause.subject).map(|(_, name)| name);
        let names: BTreeSet<&str> = names.collect();
        let verb = if names.len() == 1 { "works" } else { "work" };
        let names: Vec<&str> = names.into_iter().collect();
        (!names.is_empty()).then(|| format!("{} {verb} in its place", names.join(" and ")))
    }

    /// Whether the work goes on although an agent is away: no run and no repository waits for it.
    #[must_use]
    pub fn goes_on_without(&self, outage: &Outage) -> bool {
        let waits = |run: &Arc<Run>| matches!(&run.progress.activity, Activity::Held { cause, .. } if *cause == outage.cause);
        outage.cause.kind.is_of_agent() && outage.repos.is_empty() && !self.live_runs().any(waits)
    }

    /// Whether a step can't be delivered now, because its tracker is away or refuses the login. A try
    /// of the outage goes on with it.
    #[must_use]
    pub(crate) fn waits_for_tracker(&self, step: &OutboxStep) -> bool {
        let on_remote = step.issue().is_some_and(|issue| self.policy.remote.contains(&issue.repo));
        on_remote && self.outages.holding().any(|outage| self.is_of_tracker(&outage.cause))
    }

    /// Whether an outage is about the API of the remote trackers.
    pub(crate) fn is_of_tracker(&self, cause: &OutageCause) -> bool {
        match cause.kind {
            OutageKind::Forge => true,
            // The login at a git remote has the name of that remote.
            OutageKind::Credential => {
                !self.policy.remote_names.values().any(|name| *name == cause.subject)
            }
            _ => false,
        }
    }

    /// Permits in use for issues. The breaker counts these only: jobs don't concern it.
    pub(crate) fn on_issues(&self) -> usize {
        self.working_runs().filter(|run| run.work.job().is_none()).count()
    }

    /// How many permits there are: the operator's number, or the configuration's.
    #[must_use]
    pub fn capacity(&self) -> u32 {
        self.operator_capacity.unwrap_or(self.policy.capacity)
    }

    /// The remote executor that carries out the turns of `work`; none if they run locally.
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

    /// The runs that hold a permit.
    fn working_runs(&self) -> impl Iterator<Item = &Arc<Run>> {
        self.at_work.iter().filter_map(|id| self.runs.get(id))
    }

    /// How many permits are in use.
    #[must_use]
    pub fn permits_used(&self) -> usize {
        self.at_work.len()
    }

    /// The runs that wait for a permit, next one first.
    pub fn waiting(&self, now: Timestamp) -> impl Iterator<Item = &Arc<Run>> {
        let rank = move |id| self.runs.get(&id).map(|run| run.rank(now, self.policy.aging_ms));
        self.queue.in_order(rank).filter_map(|id| self.runs.get(&id))
    }

    /// The path of a run's worktree, unless it went back to the pool or a later run has it by now.
    #[must_use]
    pub fn own_worktree<'r>(&self, run: &'r Run) -> Option<&'r str> {
        let path = run.own_worktree()?;
        let mut later = self.runs.range(RunId(run.id.0.saturating_add(1))..);
        let is_taken = later.any(|(_, later)| later.workspace.worktree.as_deref() == Some(path));
        (!is_taken).then_some(path)
    }

    /// The open escalations: those that keep a permit from other runs first, then the most severe
    /// first, and then the newest first.
    #[must_use]
    pub fn inbox(&self) -> Vec<&Arc<Escalation>> {
        let mut open: Vec<_> = self.escalations.values().filter(|e| e.open()).collect();
        open.sort_by_key(|e| std::cmp::Reverse((self.holds_permit(e), e.kind, e.raised, e.id)));
        open
    }

    /// Whether an agent waits for the answer to an escalation, on a permit that nobody else can use
    /// meanwhile.
    #[must_use]
    pub fn holds_permit(&self, escalation: &Escalation) -> bool {
        let run = escalation.run.and_then(|run| self.runs.get(&run));
        escalation.open()
            && escalation.kind.agent_waits()
            && run.is_some_and(|run| run.has_permit())
    }

    /// The live runs whose agent waits for a human, each with its first open question. They are not at
    /// work: nothing happens until somebody answers.
    #[must_use]
    pub fn waiting_for_human(&self) -> BTreeMap<RunId, &Arc<Escalation>> {
        let mut waiting = BTreeMap::new();
        for escalation in self.escalations.values() {
            if escalation.open()
                && escalation.kind.agent_waits()
                && let Some(run) = escalation.run.and_then(|run| self.runs.get(&run))
                && run.live()
            {
                waiting.entry(run.id).or_insert(escalation);
            }
        }
        waiting
    }

    /// Whether a run's agent waits for a human's answer.
    #[must_use]
    pub fn waits_for_human(&self, run: &Run) -> bool {
        let asks = |e: &Arc<Escalation>| e.run == Some(run.id) && e.open() && e.kind.agent_waits();
        run.live() && self.escalations.values().rev().any(asks)
    }

    /// How many runs are at work: they hold a permit and wait for nobody.
    #[must_use]
    pub fn count_at_work(&self) -> usize {
        let waiting = self.waiting_for_human();
        self.working_runs().filter(|run| !waiting.contains_key(&run.id)).count()
    }

    /// The money set aside for the next turn of each live run.
    #[must_use]
    pub fn reserved(&self) -> MicroUsd {
        let live = i64::try_from(self.live.len()).unwrap_or(i64::MAX);
        MicroUsd(self.policy.turn_reserve.0.saturating_mul(live))
    }

    /// The earliest time at which a [`crate::model::input::Input::Tick`] would change something.
    #[must_use]
    pub fn next_deadline(&self, volatile: &Volatile) -> Option<Timestamp> {
        // A run without a permit has no deadline.
        let runs = self.working_runs().filter_map(|run| match run.progress.activity {
            Activity::Backoff { until, .. } => Some(until),
            _ => None,
        });
        let escalations = self.escalations.values().filter(|e| e.open()).filter_map(|e| e.expires);
        // A step behind another one of its subject is not due, however long that one takes.
        let mut subjects = BTreeSet::new();
        let waiting = self.outbox.values().filter(|e| !e.held && !self.waits_for_tracker(&e.step));
        let firsts = waiting.filter(|e| subjects.insert(e.step.subject()));
        let outbox = firsts.filter(|e| !volatile.in_flight(e.id)).map(|e| e.not_before);
        let notices = &self.policy.notices;
        let reminders = self.escalations.values().filter_map(|e| notices.next_reminder(e));
        let probe = self.breaker.open().map(|(_, since)| since.plus(PAUSE));
        let probe = probe.filter(|at| *at > volatile.now());
        let breakglass = self
            .breakglass
            .next_deadline(self.policy.breakglass.as_ref().filter(|_| !self.draining));
        let job = self.jobs.next_deadline(self.policy.job_ttl_ms);
        let outage = self.next_outage_deadline(volatile);
        let rest = probe.into_iter().chain(breakglass).chain(job).chain(outage);
        runs.chain(escalations).chain(reminders).chain(outbox).chain(rest).min()
    }

    /// When an outage needs the next try, notice or question, or its held runs return their permits.
    fn next_outage_deadline(&self, volatile: &Volatile) -> Option<Timestamp> {
        let rules = &self.policy.outages;
        let of_outage = |outage: &Outage| {
            let holds = outage.holds();
            let next_try = (holds && !volatile.is_trying(&outage.cause)).then_some(outage.next_try);
            let notice = (holds && !outage.noticed).then(|| outage.since.plus(rules.notice_ms()));
            let unasked = holds && outage.question.is_none();
            let ask_ms = rules.ask_ms_of(outage.cause.kind).filter(|_| unasked);
            let question = ask_ms.map(|ms| outage.since.plus(ms));
            let over = outage.relapse_ends(rules);
            [next_try, notice, question, over].into_iter().flatten().min()
        };
        let permits = self.working_runs().filter_map(|run| match run.progress.activity {
            Activity::Held { since, .. } => Some(since.plus(PERMIT_MS)),
            _ => None,
        });
        let held_jobs = self.live_runs().filter_map(|run| match run.progress.activity {
            Activity::Held { .. } if !run.collects_without_agent() => run.progress.due,
            _ => None,
        });
        self.outages.all().filter_map(of_outage).chain(permits).chain(held_jobs).min()
    }

    /// Whether the live runs and jobs reach the policy's queue depth.
    #[must_use]
    pub fn jobs_full(&self) -> bool {
        self.live.len() >= self.policy.max_queue_depth as usize
    }

    /// The id that the next run gets.
    #[must_use]
    pub const fn next_run(&self) -> RunId {
        RunId(self.next_run + 1)
    }

    /// The id that the next escalation gets.
    #[must_use]
    pub const fn next_escalation(&self) -> EscalationId {
        EscalationId(self.next_escalation + 1)
    }

    /// The id that the next outbox entry gets.
    #[must_use]
    pub const fn next_outbox(&self) -> OutboxId {
        OutboxId(self.next_outbox + 1)
    }
}
