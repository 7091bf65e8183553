//! Outages in a step. A run that meets one waits in its activity and loses nothing by it; one try at
//! a time, with growing pauses, finds out when it is over; then every run goes on by itself.
//!
//! ```text
//! a task's report, a service's error ─▶ outage_seen ─▶ Event::Unavailable ─▶ the runs are Held
//!                                                            │ tick: the next try is due
//!                           ┌── failed: a longer pause ── Effect::ProbeOutage
//!                           ▼                                │ succeeded
//!                    Event::Unavailable               Event::Resumed: the held runs go on
//!                                                            │ a report of one of them
//!                                                     Event::OutageEnded: its question is withdrawn
//! ```
//!
//! A try that succeeds proves less than a run that gets past the place where it was held. Until then
//! a further failure continues the same outage, with its pauses and its one question.

use crate::fleet::outages::Outage;
use crate::model::activity::Activity;
use crate::model::agent_event::{AgentEvent, TurnEnd};
use crate::model::approval::{EscalationDraft, EscalationKind};
use crate::model::effect::Effect;
use crate::model::event::Event;
use crate::model::id::{EscalationId, Repo, RunId};
use crate::model::input::{RunFact, TryFailure};
use crate::model::notice::Notice;
use crate::model::outage::{OutageCause, OutageKind, OutageReport, PERMIT_MS};
use crate::model::plural::plural;
use crate::model::run::Run;
use crate::model::time::{MINUTE, Timestamp};
use crate::step::stepper::Stepper;

/// Whether a report shows that the model of an agent answers.
fn is_of_model(fact: &RunFact) -> bool {
    let RunFact::Agent(event) = fact else { return false };
    matches!(
        event,
        AgentEvent::Text { .. }
            | AgentEvent::Thought { .. }
            | AgentEvent::ToolStart { .. }
            | AgentEvent::PermissionRequest { .. }
            | AgentEvent::TurnEnd(TurnEnd::Done)
    )
}

/// The longest wait for the reset of a usage limit before another try, in milliseconds.
const LONGEST_LIMIT: i64 = 24 * 60 * MINUTE;
/// The wait beyond the reset of a usage limit, since clocks differ, in milliseconds.
const LIMIT_MARGIN: i64 = 5_000;
/// The largest part of that wait by which several afks differ, in milliseconds.
const LIMIT_JITTER: i64 = 10_000;

impl Stepper<'_> {
    /// Holds a run in its activity because a part of the environment is away. Neither an attempt nor
    /// a turn is spent. A job waits no longer than its own time limit.
    pub(super) fn run_unavailable(&mut self, id: RunId, cause: OutageCause, failure: TryFailure) {
        let Some(run) = self.run(id) else { return };
        let repo = run.work.repo().clone();
        let why = failure.why.clean_line();
        self.outage_seen(&cause, failure, Some(&repo));
        self.withdraw_requests(id, "the turn could not begin");
        self.note(id, format!("{}: {why}; afk waits and tries again", cause.summary()));
        self.emit(Event::Held { run: id, cause, then: None });
        self.expire_held_jobs();
    }

    /// Ends the jobs that an outage holds and whose time is over.
    fn expire_held_jobs(&mut self) {
        let due = self
            .fleet()
            .live_runs()
            .filter(|run| is_held(run) && !run.collects_without_agent())
            .filter(|run| run.progress.due.is_some_and(|due| due <= self.at));
        let due: Vec<(RunId, OutageCause)> = due
            .filter_map(|run| match &run.progress.activity {
                Activity::Held { cause, .. } => Some((run.id, cause.clone())),
                _ => None,
            })
            .collect();
        for (run, cause) in due {
            self.job_waited_in_vain(run, &cause);
        }
    }

    /// Holds a run whose turn ended at a limit or at the login of its agent, or lets another agent go
    /// on. Nothing is spent, and a held conversation goes on afterwards. Returns whether the end was one
    /// of these.
    pub(super) fn turn_held(&mut self, id: RunId, end: &TurnEnd, then: Activity) -> bool {
        let Some(run) = self.run(id) else { return false };
        let agent = run.agent.present().unwrap_or("the agent").to_owned();
        let (kind, why, wait_ms) = match end {
            TurnEnd::UsageLimit { until, why } => {
                let wait = until.since(self.at).clamp(0, LONGEST_LIMIT);
                // Several afks may share the limit. Odd, so that the times of a minute's grid differ.
                let part = self.at.0.wrapping_mul(7919).rem_euclid(LIMIT_JITTER);
                (OutageKind::UsageLimit, why, wait + LIMIT_MARGIN + part)
            }
            TurnEnd::ApiError { status: Some(401), why } => (OutageKind::AgentLogin, why, 0),
            _ => return false,
        };
        // The repository goes on with the other agents, if there are any.
        let repo = (run.agent.candidates().len() < 2).then(|| run.work.repo().clone());
        let cause = OutageCause::new(kind, agent);
        self.outage_seen(&cause, TryFailure { why: why.clone(), wait_ms }, repo.as_ref());
        if self.available_agent(id).is_some() {
            self.begin(id, then);
            return true;
        }
        let cause = self.earliest_limit(id).unwrap_or(cause);
        if self.exceeds_job_time(id, &cause) {
            self.job_waited_in_vain(id, &cause);
            return true;
        }
        self.note(id, format!("{}; afk waits and goes on by itself", cause.summary()));
        self.emit(Event::Held { run: id, cause, then: Some(Box::new(then)) });
        true
    }

    /// Begins an outage, or continues one that had seemed to be over. While it holds, only its own
    /// tries count.
    pub(super) fn outage_seen(
        &mut self,
        cause: &OutageCause,
        failure: TryFailure,
        repo: Option<&Repo>,
    ) {
        if !self.fleet().outages.holds(cause) {
            self.outage_continues(cause.clone(), failure, repo.cloned());
        }
    }

    fn outage_continues(&mut self, cause: OutageCause, failure: TryFailure, repo: Option<Repo>) {
        let failures = self.fleet().outages.of(&cause).map_or(0, |outage| outage.failures) + 1;
        let pause = self.fleet().policy.outages.pause_ms(failures, self.at);
        let next = self.at.plus(pause.max(failure.wait_ms));
        self.emit(Event::Unavailable { cause, why: failure.why, repo, next });
    }

    /// Takes the result of a try.
    pub(super) fn outage_tried(&mut self, cause: OutageCause, failure: Option<TryFailure>) {
        self.volatile().tried(&cause);
        if !self.fleet().outages.holds(&cause) {
            return;
        }
        match failure {
            Some(failure) => self.outage_continues(cause, failure, None),
            None => self.resume(&cause),
        }
    }

    /// Lets every run that the outage holds go on; those without a permit wait for one.
    fn resume(&mut self, cause: &OutageCause) {
        let held: Vec<(RunId, Activity, bool)> = self
            .fleet()
            .live_runs()
            .filter_map(|run| match &run.progress.activity {
                Activity::Held { cause: of, then, .. }
                    if of == cause || goes_on_with(run, cause) =>
                {
                    Some((run.id, then.as_ref().clone(), run.has_permit()))
                }
                _ => None,
            })
            .collect();
        let runs = held.iter().map(|(run, ..)| *run).collect();
        self.emit(Event::Resumed { cause: cause.clone(), runs });
        if held.is_empty() {
            return self.end_outage(cause);
        }
        for (run, then, has_permit) in held {
            if self.run(run).is_some_and(|run| self.is_held_back(run)) {
                self.wait_for_another(run, then);
            } else if has_permit {
                self.begin(run, then);
            }
        }
    }

    fn end_outage(&mut self, cause: &OutageCause) {
        let question = self.fleet().outages.of(cause).and_then(|outage| outage.question);
        self.emit(Event::OutageEnded { cause: cause.clone() });
        // Several outages of a kind may share the question.
        let Some(question) = question else { return };
        if self.fleet().outages.all().all(|outage| outage.question != Some(question)) {
            self.withdraw(|e| e.id == question, "the outage is over");
        }
    }

    /// Ends the outages whose recovery this report confirms.
    pub(super) fn confirm_recoveries(&mut self, run: RunId, fact: &RunFact) {
        if matches!(fact, RunFact::Unavailable { .. } | RunFact::Failed { .. }) {
            return;
        }
        let model_works = is_of_model(fact);
        let of_run = |outage: &&Outage| {
            let shows = model_works || !outage.cause.kind.is_of_agent();
            shows && outage.recovery.as_ref().is_some_and(|known| known.runs.contains(&run))
        };
        let confirmed: Vec<OutageCause> =
            self.fleet().outages.all().filter(of_run).map(|outage| outage.cause.clone()).collect();
        for cause in confirmed {
            self.end_outage(&cause);
        }
    }

    /// Acts on every deadline of an outage that has passed.
    pub(super) fn tick_outages(&mut self) {
        let rules = self.fleet().policy.outages;
        let over: Vec<OutageCause> = self
            .fleet()
            .outages
            .all()
            .filter(|outage| outage.relapse_ends(&rules).is_some_and(|end| end <= self.at))
            .map(|outage| outage.cause.clone())
            .collect();
        for cause in over {
            self.end_outage(&cause);
        }
        self.notice_outages(rules.notice_ms());
        self.ask_about_outages();
        self.expire_held_jobs();
        self.return_permits(PERMIT_MS);
        self.try_outages();
    }

    fn try_outages(&mut self) {
        let due: Vec<(OutageCause, Option<Repo>)> = self
            .fleet()
            .outages
            .holding()
            .filter(|outage| outage.next_try <= self.at && !self.is_trying(&outage.cause))
            .map(|outage| (outage.cause.clone(), outage.repos.first().cloned()))
            .collect();
        for (cause, repo) in due {
            self.volatile().trying(cause.clone());
            self.effect(Effect::ProbeOutage { cause, repo });
        }
    }

    /// The outages that hold for at least the time of their kind and that `is_new`, by kind.
    fn lasting(
        &self,
        after: impl Fn(OutageKind) -> Option<i64>,
        is_new: fn(&Outage) -> bool,
    ) -> Vec<Vec<Outage>> {
        let lasts = |o: &&Outage| {
            is_new(o) && after(o.cause.kind).is_some_and(|ms| self.at.since(o.since) >= ms)
        };
        let mut kinds: Vec<Vec<Outage>> = Vec::new();
        for outage in self.fleet().outages.holding().filter(lasts) {
            let same = |of: &&mut Vec<Outage>| of[0].cause.shares_question(&outage.cause);
            match kinds.iter_mut().find(same) {
                Some(of) => of.push(outage.clone()),
                None => kinds.push(vec![outage.clone()]),
            }
        }
        kinds
    }

    /// Sends one notice about the outages of a kind that last, once for each.
    fn notice_outages(&mut self, ms: i64) {
        for outages in self.lasting(|_| Some(ms), |outage| !outage.noticed) {
            let text = format!("{}; afk goes on by itself once it is over", title(&outages));
            let causes = outages.into_iter().map(|outage| outage.cause).collect();
            self.emit(Event::OutageReported(OutageReport { causes, question: None }));
            self.notify(None, &Notice::Outage { text });
        }
    }

    /// Asks a human once about the outages of a kind that last for long.
    fn ask_about_outages(&mut self) {
        let rules = self.fleet().policy.outages;
        let after = |kind| rules.ask_ms_of(kind);
        for outages in self.lasting(after, |outage| outage.question.is_none()) {
            let causes = outages.iter().map(|outage| outage.cause.clone()).collect();
            let question = self.open_question(&outages[0].cause).unwrap_or_else(|| {
                let detail = self.outage_detail(&outages);
                let draft = EscalationDraft::new(EscalationKind::Outage, title(&outages), detail);
                self.escalate_without_run(draft)
            });
            self.emit(Event::OutageReported(OutageReport { causes, question: Some(question) }));
        }
    }

    /// The question about a cause, or one like it, that a human has not answered yet.
    fn open_question(&self, cause: &OutageCause) -> Option<EscalationId> {
        let alike = self.fleet().outages.all().filter(|o| o.cause.shares_question(cause));
        let mut questions = alike.filter_map(|outage| outage.question);
        questions.find(|id| self.fleet().escalations.get(id).is_some_and(|e| e.open()))
    }

    fn outage_detail(&self, outages: &[Outage]) -> String {
        let mut lines = Vec::new();
        for outage in outages {
            let minutes = plural(self.at.since(outage.since) / MINUTE, "minute");
            let (summary, why) = (outage.cause.summary(), outage.why.clean_line());
            lines.push(format!("{summary} ({minutes} so far): {why}"));
        }
        let held = |run: &&std::sync::Arc<Run>| {
            matches!(&run.progress.activity, Activity::Held { cause, .. }
                if outages.iter().any(|outage| outage.cause == *cause))
        };
        let runs: Vec<String> =
            self.fleet().live_runs().filter(held).map(|run| run.id.to_string()).collect();
        if !runs.is_empty() {
            lines.push(format!("\nThese runs wait: {}.", runs.join(", ")));
        }
        let instead: Vec<String> = outages
            .iter()
            .filter_map(|outage| self.fleet().works_in_place(&outage.cause))
            .collect();
        for line in &instead {
            lines.push(format!("\nMeanwhile {line}."));
        }
        let waits = match instead.as_slice() {
            [] => "the runs keep their attempts, and nothing that depends on it is started",
            _ => "the work goes on",
        };
        lines.push(format!(
            "\nNothing is lost: {waits}. afk tries again by itself and withdraws this question once \
             it is over."
        ));
        lines.join("\n")
    }

    /// Returns the permits of runs that are held for long, so that others can work.
    fn return_permits(&mut self, ms: i64) {
        let held: Vec<RunId> = self
            .fleet()
            .live_runs()
            .filter(|run| {
                run.has_permit() && held_since(run).is_some_and(|t| t.plus(ms) <= self.at)
            })
            .map(|run| run.id)
            .collect();
        for run in held {
            self.emit(Event::PermitReturned { run });
        }
    }

    /// Makes the next try of every outage due now, because an operator asks for it.
    pub(super) fn try_outages_now(&mut self) {
        let causes: Vec<OutageCause> =
            self.fleet().outages.holding().map(|outage| outage.cause.clone()).collect();
        for cause in causes {
            if !self.is_trying(&cause) {
                let repo = self.fleet().outages.of(&cause).and_then(|o| o.repos.first().cloned());
                self.volatile().trying(cause.clone());
                self.effect(Effect::ProbeOutage { cause, repo });
            }
        }
    }
}

/// Whether a held run waits for any of its agents, and the cause was about one of them.
fn goes_on_with(run: &Run, cause: &OutageCause) -> bool {
    let Activity::Held { cause: of, .. } = &run.progress.activity else { return false };
    let of_agents = of.kind.is_of_agent() && cause.kind.is_of_agent();
    of_agents && run.agent.candidates().contains(&cause.subject.as_str())
}

fn is_held(run: &Run) -> bool {
    held_since(run).is_some()
}

/// Since when an outage holds the run.
fn held_since(run: &Run) -> Option<Timestamp> {
    match run.progress.activity {
        Activity::Held { since, .. } => Some(since),
        _ => None,
    }
}

/// The outages of one kind in a line.
fn title(outages: &[Outage]) -> String {
    let first = outages.first().map(|outage| outage.cause.summary()).unwrap_or_default();
    match outages.len() - 1 {
        0 => first,
        more => format!("{first} (and {more} more)"),
    }
}
