//! Counters and histograms for `GET /metrics`: a fold over the durable events of this process's life.
//! Gauges are not here: the HTTP server computes them from the newest snapshot.
//!
//! ```text
//! BatchInFlight ─ written ─▶ Metrics::count ─▶ Registry ─▶ GET /metrics
//! ```
//!
//! Names follow Prometheus: base units, `_total` for counters (added by the encoder), one meaning for
//! each label. Labels come from closed sets and from the configured repositories, so that their number
//! has a bound.

use std::collections::BTreeMap;
use std::sync::Mutex;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use crate::core::fleet::Fleet;
use crate::core::model::activity::Activity;
use crate::core::model::agent_event::TurnEnd;
use crate::core::model::event::Event;
use crate::core::model::id::RunId;
use crate::core::model::stage::{Phase, Stage};
use crate::core::model::time::Timestamp;
use crate::core::model::verdict::Verdict;
use crate::lock::LockExt;

/// The labels of a sample, by name.
type Labels = Vec<(&'static str, String)>;
type Counters = Family<Labels, Counter>;
type Sums = Family<Labels, Counter<f64>>;
type Times = Family<Labels, Histogram, fn() -> Histogram>;

/// The buckets of times, in seconds: from a quick test to a day.
const BUCKETS: [f64; 15] = [
    1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1200.0, 1800.0, 3600.0, 7200.0, 14_400.0,
    86_400.0,
];

fn times() -> Histogram {
    Histogram::new(BUCKETS)
}

/// The counters of a runtime, and what they need to know of the live runs.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    families: Families,
    runs: Mutex<BTreeMap<RunId, RunTimes>>,
}

#[derive(Debug)]
struct Families {
    claimed: Counters,
    ended: Counters,
    phase: Times,
    queue_wait: Histogram,
    run: Times,
    turns: Counters,
    turn: Times,
    gates: Counters,
    gate: Times,
    pushes: Counters,
    push_rejections: Counters,
    verdicts: Counters,
    attempts: Counters,
    failures: Counters,
    spend: Sums,
    tokens: Counters,
    escalations: Counters,
    answer: Histogram,
    decisions: Counters,
    deliveries: Counters,
    outages: Counters,
    commands: Counters,
}

impl Default for Families {
    fn default() -> Self {
        let times = || Times::new_with_constructor(times as fn() -> Histogram);
        let counters = Counters::default;
        Self {
            claimed: counters(),
            ended: counters(),
            phase: times(),
            queue_wait: Histogram::new(BUCKETS),
            run: times(),
            turns: counters(),
            turn: times(),
            gates: counters(),
            gate: times(),
            pushes: counters(),
            push_rejections: counters(),
            verdicts: counters(),
            attempts: counters(),
            failures: counters(),
            spend: Sums::default(),
            tokens: counters(),
            escalations: counters(),
            answer: Histogram::new(BUCKETS),
            decisions: counters(),
            deliveries: counters(),
            outages: counters(),
            commands: counters(),
        }
    }
}

/// The times of a live run that a later event ends.
#[derive(Debug, Clone)]
struct RunTimes {
    repository: String,
    claimed: Timestamp,
    /// Since when it waits for a permit.
    queued: Option<Timestamp>,
    phase: (Phase, Timestamp),
    /// Since when the present activity is under way.
    activity: Timestamp,
}

impl Metrics {
    /// The counters at the start of a runtime, which continues the live runs of the fleet.
    pub(crate) fn new(fleet: &Fleet) -> Self {
        let families = Families::default();
        let mut registry = Registry::with_prefix("afk");
        register(&mut registry, &families);
        touch(&families);
        let runs = fleet.live_runs().map(|run| {
            let progress = &run.progress;
            let phase = progress.reached.last().copied();
            let times = RunTimes {
                repository: run.work.repo().to_string(),
                claimed: progress.claimed,
                queued: progress.admitted.is_none().then_some(progress.claimed),
                phase: phase.unwrap_or((progress.phase, progress.claimed)),
                activity: fleet.last_event,
            };
            (run.id, times)
        });
        Self { registry, families, runs: Mutex::new(runs.collect()) }
    }

    /// The families for the encoder.
    pub(crate) const fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Counts a durable batch.
    pub(super) fn count(&self, events: &[(Timestamp, Event)], fleet: &Fleet) {
        let mut runs = self.runs.locked();
        for (at, event) in events {
            self.families.of_run(&mut runs, *at, event, fleet);
            self.families.of_fleet(*at, event, fleet);
        }
    }
}

fn register(registry: &mut Registry, to: &Families) {
    for (name, help, family) in [
        ("runs_claimed", "Runs that were claimed", &to.claimed),
        ("runs_ended", "Ends of runs by outcome", &to.ended),
        ("turns", "Turns of agents by their end", &to.turns),
        ("gate_runs", "Runs of the gate by result", &to.gates),
        ("pushes", "Pushes that were read back from the remote", &to.pushes),
        ("push_rejections", "Pushes that the remote rejected", &to.push_rejections),
        ("verdicts", "Verdicts of the stages after the push", &to.verdicts),
        ("fix_forward_attempts", "Fix-forward attempts by stage", &to.attempts),
        ("run_failures", "Failed activities of runs", &to.failures),
        ("tokens", "Tokens by direction", &to.tokens),
        ("escalations_raised", "Questions to humans by kind", &to.escalations),
        ("decisions", "Permission requests that a rule answered", &to.decisions),
        ("deliveries", "Completion steps by result", &to.deliveries),
        ("outage_tries", "Failed tries of what is away, by kind", &to.outages),
        ("commands", "Commands of operators and callers by result", &to.commands),
    ] {
        registry.register(name, help, family.clone());
    }
    registry.register("spend_dollars", "US dollars that agents spent", to.spend.clone());
    for (name, help, family) in [
        ("phase_duration", "Time that a run spent in a phase", &to.phase),
        ("run_duration", "Time from the claim of a run to its end", &to.run),
        ("turn_duration", "Time of a turn of an agent", &to.turn),
        ("gate_duration", "Time of a run of the gate", &to.gate),
    ] {
        registry.register_with_unit(name, help, Unit::Seconds, family.clone());
    }
    for (name, help, histogram) in [
        ("queue_wait", "Time from the claim of a run to its permit", &to.queue_wait),
        ("answer_wait", "Time from a question to its answer", &to.answer),
    ] {
        registry.register_with_unit(name, help, Unit::Seconds, histogram.clone());
    }
}

/// Begins the samples of closed sets of labels with 0: the rate of a counter that appears with its first
/// event would lack that event.
fn touch(families: &Families) {
    let each = |family: &Counters, label: &'static str, values: &[&str]| {
        for value in values {
            drop(family.get_or_create(&vec![(label, (*value).to_owned())]));
        }
    };
    each(&families.gates, "result", &["opened", "closed", "approval"]);
    each(&families.deliveries, "result", &["delivered", "failed", "held", "given-up"]);
    each(&families.commands, "result", &["accepted", "refused"]);
    each(&families.tokens, "direction", &["in", "out"]);
    each(&families.decisions, "decision", &["allow", "deny"]);
    for stage in Stage::all() {
        for verdict in [Verdict::Green, Verdict::Red] {
            drop(families.verdicts.get_or_create(&verdict_labels(stage, verdict)));
        }
        drop(families.attempts.get_or_create(&vec![("stage", label(stage.as_str()))]));
    }
    for result in ["opened", "closed", "approval"] {
        drop(families.gate.get_or_create(&vec![("result", result.to_owned())]));
    }
    for phase in Phase::ALL {
        drop(families.phase.get_or_create(&vec![("phase", phase.as_str().to_owned())]));
    }
}

fn count(family: &Counters, labels: &Labels) {
    family.get_or_create(labels).inc();
}

fn verdict_labels(stage: Stage, verdict: Verdict) -> Labels {
    vec![("stage", label(stage.as_str())), ("verdict", label(verdict.as_str()))]
}

/// A word of the screen as the value of a label.
fn label(word: &str) -> String {
    word.to_lowercase().replace(' ', "-")
}

/// The seconds between two times; 0 where the clock was set back.
#[allow(clippy::cast_precision_loss, reason = "milliseconds of centuries are below 2^52")]
fn seconds(from: Timestamp, to: Timestamp) -> f64 {
    to.since(from).max(0) as f64 / 1000.0
}

impl Families {
    /// Counts the events of runs.
    fn of_run(
        &self,
        runs: &mut BTreeMap<RunId, RunTimes>,
        at: Timestamp,
        event: &Event,
        fleet: &Fleet,
    ) {
        if let Event::Claimed { run, work, .. } = event {
            let repository = work.repo().to_string();
            count(&self.claimed, &vec![("repository", repository.clone())]);
            let (phase, queued) = ((Phase::Queued, at), Some(at));
            let times = RunTimes { repository, claimed: at, queued, phase, activity: at };
            runs.insert(*run, times);
            return;
        }
        if let Event::Reopened { run, .. } = event {
            // The end of the run has dropped its times.
            if let Some(known) = fleet.runs.get(run) {
                let (phase, queued) = ((known.progress.phase, at), Some(at));
                let repository = known.work.repo().to_string();
                let times = RunTimes { repository, claimed: at, queued, phase, activity: at };
                runs.insert(*run, times);
            }
            return;
        }
        let Some(run) = subject(event) else { return };
        let Some(times) = runs.get_mut(&run) else { return };
        let repository = || vec![("repository", times.repository.clone())];
        match event {
            Event::Admitted { .. } => {
                if let Some(since) = times.queued.take() {
                    self.queue_wait.observe(seconds(since, at));
                }
            }
            Event::PermitReturned { .. } => times.queued = Some(at),
            Event::Began { activity, .. } if !matches!(activity, Activity::Backoff { .. }) => {
                times.activity = at;
            }
            Event::Reached { phase, .. } => {
                self.leave_phase(times, at);
                times.phase = (*phase, at);
            }
            Event::TurnEnded { end, .. } => {
                let labels = vec![
                    ("repository", times.repository.clone()),
                    ("end", end_word(end).to_owned()),
                ];
                count(&self.turns, &labels);
                self.turn.get_or_create(&repository()).observe(seconds(times.activity, at));
            }
            Event::GateOpened { .. } => self.gate_result(times, at, "opened"),
            Event::GateClosed { .. } => self.gate_result(times, at, "closed"),
            Event::ApprovalNeeded { .. } => self.gate_result(times, at, "approval"),
            Event::Pushed { .. } => count(&self.pushes, &repository()),
            Event::PushRejected { .. } => count(&self.push_rejections, &repository()),
            Event::Judged { stage, link, .. } => {
                let labels = verdict_labels(*stage, link.verdict);
                count(&self.verdicts, &labels);
            }
            Event::Attempt { stage, .. } => {
                count(&self.attempts, &vec![("stage", label(stage.as_str()))]);
            }
            Event::Failed { .. } => count(&self.failures, &repository()),
            Event::Spent { spend, .. } => {
                self.spend.get_or_create(&repository()).inc_by(spend.usd.dollars().max(0.0));
                for (direction, tokens) in [("in", spend.tokens_in), ("out", spend.tokens_out)] {
                    let labels = vec![("direction", direction.to_owned())];
                    self.tokens.get_or_create(&labels).inc_by(tokens);
                }
            }
            Event::Ended { outcome, .. } => {
                let labels = vec![
                    ("repository", times.repository.clone()),
                    ("outcome", outcome.as_str().to_owned()),
                ];
                count(&self.ended, &labels);
                let labels = vec![("outcome", outcome.as_str().to_owned())];
                self.run.get_or_create(&labels).observe(seconds(times.claimed, at));
                self.leave_phase(times, at);
                runs.remove(&run);
            }
            Event::Forgotten { .. } => {
                runs.remove(&run);
            }
            _ => {}
        }
    }

    fn leave_phase(&self, times: &RunTimes, at: Timestamp) {
        let (phase, since) = times.phase;
        let labels = vec![("phase", phase.as_str().to_owned())];
        self.phase.get_or_create(&labels).observe(seconds(since, at));
    }

    fn gate_result(&self, times: &RunTimes, at: Timestamp, result: &str) {
        let labels = vec![("result", result.to_owned())];
        count(&self.gates, &labels);
        self.gate.get_or_create(&labels).observe(seconds(times.activity, at));
    }

    /// Counts the events of the fleet, of questions and of completion steps.
    fn of_fleet(&self, at: Timestamp, event: &Event, fleet: &Fleet) {
        let result = |family: &Counters, result: &str| {
            count(family, &vec![("result", result.to_owned())]);
        };
        match event {
            Event::Escalated { escalation } => {
                let labels = vec![("kind", escalation.kind.as_str().to_owned())];
                count(&self.escalations, &labels);
            }
            Event::Answered { escalation, .. } => {
                if let Some(known) = fleet.escalations.get(escalation) {
                    let waited = seconds(known.raised, at);
                    self.answer.observe(waited);
                }
            }
            Event::RequestDecided { answer, .. } => {
                use crate::core::model::approval::Answer;
                let is_denied = matches!(answer, Answer::Deny { .. });
                let decision = if is_denied { "deny" } else { "allow" };
                count(&self.decisions, &vec![("decision", decision.to_owned())]);
            }
            Event::Delivered { .. } => result(&self.deliveries, "delivered"),
            Event::NotDelivered(_) => result(&self.deliveries, "failed"),
            Event::DeliveryHeld { .. } => result(&self.deliveries, "held"),
            Event::GivenUp { .. } => result(&self.deliveries, "given-up"),
            Event::Unavailable { cause, .. } => {
                let labels = vec![("kind", cause.kind.as_str().to_owned())];
                count(&self.outages, &labels);
            }
            Event::Accepted { .. } => result(&self.commands, "accepted"),
            Event::Refused { .. } => result(&self.commands, "refused"),
            _ => {}
        }
    }
}

/// The run of an event that a metric of runs counts.
const fn subject(event: &Event) -> Option<RunId> {
    match event {
        Event::Admitted { run }
        | Event::PermitReturned { run }
        | Event::Began { run, .. }
        | Event::Reached { run, .. }
        | Event::TurnEnded { run, .. }
        | Event::GateOpened { run, .. }
        | Event::GateClosed { run, .. }
        | Event::ApprovalNeeded { run, .. }
        | Event::Pushed { run, .. }
        | Event::PushRejected { run, .. }
        | Event::Judged { run, .. }
        | Event::Attempt { run, .. }
        | Event::Failed { run, .. }
        | Event::Spent { run, .. }
        | Event::Ended { run, .. }
        | Event::Forgotten { run } => Some(*run),
        _ => None,
    }
}

/// The end of a turn as the value of a label or an attribute.
pub(super) const fn end_word(end: &TurnEnd) -> &'static str {
    match end {
        TurnEnd::Done => "done",
        TurnEnd::Blocked { .. } => "blocked",
        TurnEnd::Interrupted => "interrupted",
        TurnEnd::ApiError { .. } => "api-error",
        TurnEnd::UsageLimit { .. } => "usage-limit",
        TurnEnd::ContextOverflow { .. } => "context-overflow",
        TurnEnd::Budget => "budget",
        TurnEnd::TurnLimit => "turn-limit",
        TurnEnd::Refused { .. } => "refused",
        TurnEnd::OutOfMemory { .. } => "out-of-memory",
        TurnEnd::NoSession { .. } => "no-session",
        TurnEnd::Crashed { .. } => "crashed",
        TurnEnd::Silent => "silent",
        TurnEnd::Nudged => "nudged",
        TurnEnd::TimedOut => "timed-out",
        TurnEnd::NotStarted { .. } => "not-started",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::model::budget::{MicroUsd, Spend};
    use crate::core::model::id::{IssueKey, Repo, Sha};
    use crate::core::model::run::{Outcome, Work};

    fn text(metrics: &Metrics) -> String {
        let mut text = String::new();
        prometheus_client::encoding::text::encode_registry(&mut text, metrics.registry()).unwrap();
        text
    }

    #[test]
    fn events_of_a_run_become_counters_and_times() {
        let (metrics, run) = (Metrics::new(&Fleet::default()), RunId(1));
        let key = IssueKey { repo: Repo::parse("acme/web").unwrap(), number: 7 };
        let work = Work::Issue { key, title: "x".into() };
        let spend = Spend { usd: MicroUsd(1_500_000), tokens_in: 10, ..Spend::default() };
        let events = [
            (0, Event::Claimed { run, work, priority: None, term: 0 }),
            (4_000, Event::Admitted { run }),
            (4_000, Event::Reached { run, phase: Phase::Worktree }),
            (5_000, Event::Began { run, activity: Activity::Gate }),
            (8_000, Event::GateClosed { run, why: "no test".into(), leaks: Vec::new() }),
            (9_000, Event::Spent { run, spend }),
            (9_000, Event::PushRejected { run, why: "behind".into() }),
            (9_500, Event::Pushed { run, head: Sha("a".repeat(40)) }),
            (10_000, Event::Ended { run, outcome: Outcome::Done, why: "".into() }),
        ];
        let events: Vec<_> = events.into_iter().map(|(at, event)| (Timestamp(at), event)).collect();
        metrics.count(&events, &Fleet::default());
        let text = text(&metrics);
        for sample in [
            "afk_runs_claimed_total{repository=\"acme/web\"} 1",
            "afk_runs_ended_total{repository=\"acme/web\",outcome=\"done\"} 1",
            "afk_queue_wait_seconds_sum 4.0",
            "afk_phase_duration_seconds_sum{phase=\"queued\"} 4.0",
            "afk_phase_duration_seconds_sum{phase=\"worktree\"} 6.0",
            "afk_gate_duration_seconds_sum{result=\"closed\"} 3.0",
            "afk_gate_runs_total{result=\"closed\"} 1",
            "afk_gate_runs_total{result=\"opened\"} 0",
            "afk_push_rejections_total{repository=\"acme/web\"} 1",
            "afk_pushes_total{repository=\"acme/web\"} 1",
            "afk_run_duration_seconds_sum{outcome=\"done\"} 10.0",
            "afk_spend_dollars_total{repository=\"acme/web\"} 1.5",
            "afk_tokens_total{direction=\"in\"} 10",
        ] {
            assert!(text.lines().any(|line| line == sample), "{sample} is not in\n{text}");
        }
        assert!(metrics.runs.locked().is_empty(), "an ended run is forgotten");
    }

    #[test]
    fn run_of_an_earlier_life_is_counted_at_its_end() {
        let mut fleet = Fleet::default();
        let key = IssueKey { repo: Repo::parse("acme/web").unwrap(), number: 7 };
        let work = Work::Issue { key, title: "x".into() };
        let run = RunId(1);
        fleet.apply(Timestamp(1_000), &Event::Claimed { run, work, priority: None, term: 0 });
        let metrics = Metrics::new(&fleet);
        let ended = Event::Ended { run, outcome: Outcome::Failed, why: "".into() };
        metrics.count(&[(Timestamp(3_000), ended)], &fleet);
        let sample = "afk_run_duration_seconds_sum{outcome=\"failed\"} 2.0";
        assert!(text(&metrics).contains(sample), "{}", text(&metrics));
    }
}
