//! The life of a run: what each fact leads to.

use crate::model::agent_event::TurnEnd;
use crate::model::approval::{Escalation, EscalationDraft, EscalationKind};
use crate::model::breaker;
use crate::model::budget::{MicroUsd, fits};
use crate::model::effect::{Effect, Task};
use crate::model::event::Event;
use crate::model::id::{EscalationId, RunId};
use crate::model::input::RunFact;
use crate::model::job::Job;
use crate::model::notice::Notice;
use crate::model::outbox::{OutboxStep, StandingLabel, backoff_ms};
use crate::model::run::{Activity, Outcome, Run, TurnPrompt, Work};
use crate::model::stage::{Phase, Stage};
use crate::model::untrusted::Untrusted;
use crate::model::verdict::{Evidence, GateReport, GateSide, GateVerdict, Verdict};
use crate::step::stepper::Stepper;

/// How much of a log goes into an escalation or a prompt, in bytes.
pub const LOG_TAIL: usize = 8 * 1024;

impl Stepper<'_> {
    /// Begins an activity: its event, its phase, and its effect if it has one.
    pub(super) fn begin(&mut self, id: RunId, activity: Activity) {
        if matches!(activity, Activity::Turn { .. })
            && let Some(why) = self.unaffordable(id)
        {
            return self.end_unhappily(id, EscalationKind::OverBudget, &why, &"".into());
        }
        let phase = match &activity {
            Activity::Worktree => Some(Phase::Worktree),
            Activity::Stage { stage } => Some(stage.phase()),
            _ => None,
        };
        self.emit(Event::Began { run: id, activity });
        if let Some(phase) = phase {
            self.reach(id, phase);
        }
        if let Some(run) = self.run(id)
            && let Some(task) = task(run, self.budget(run))
        {
            let epoch = run.epoch;
            self.effect(Effect::Begin { run: id, epoch, task });
        }
    }

    /// Goes on with a turn elsewhere, which a restart here did not end.
    pub(super) fn follow(&mut self, id: RunId) {
        self.note(id, "afk was restarted; the turn went on elsewhere");
        self.emit(Event::Followed { run: id });
        if let Some(run) = self.run(id)
            && let Some(task) = task(run, self.budget(run))
        {
            let epoch = run.epoch;
            self.effect(Effect::Begin { run: id, epoch, task });
        }
    }

    /// What a turn of a run may cost at most: the rest of the run's or of the day's limit.
    fn budget(&self, run: &Run) -> Option<MicroUsd> {
        let policy = &self.fleet().policy;
        let day = policy
            .day_limit
            .map(|limit| MicroUsd(limit.0.saturating_sub(self.fleet().books.day(self.at).usd.0)));
        run.left(policy.run_limit).into_iter().chain(day).min()
    }

    /// Why a turn can't be paid for: its worst case is set aside before it starts.
    fn unaffordable(&self, id: RunId) -> Option<String> {
        let (run, policy) = (self.run(id)?, &self.fleet().policy);
        let reserve = policy.turn_reserve;
        let spent = self.fleet().books.day(self.at).usd;
        // Its own is among those that are set aside.
        let others = MicroUsd(self.fleet().reserved().0.saturating_sub(reserve.0));
        if let Some(left) = run.left(policy.run_limit)
            && (left.0 <= 0 || left < reserve)
        {
            let limit = run.limit(policy.run_limit).unwrap_or_default();
            return Some(format!("spent {} of {limit} a run", run.spend.usd));
        }
        if fits(policy.day_limit, spent, others, reserve) {
            return None;
        }
        policy.day_limit.map(|limit| format!("the day has cost {spent} of {limit}"))
    }

    fn reach(&mut self, run: RunId, phase: Phase) {
        if self.run(run).is_some_and(|r| r.phase != phase) {
            self.emit(Event::Reached { run, phase });
            self.progress_of(run);
        }
    }

    /// What an admitted run does: gets a worktree, or goes on in the one that it has.
    pub(super) fn go_on(&mut self, id: RunId) {
        let Some(run) = self.run(id) else { return };
        // Elsewhere may have a clone of its own.
        let far = self.fleet().remote_executor(&run.work).is_some_and(|place| !place.issues);
        let needs = !far && run.work.job().is_none_or(Job::has_clone);
        if run.worktree.is_none() && needs {
            self.begin(id, Activity::Worktree);
        } else {
            self.reach(id, Phase::Worktree);
            self.first_turn(id);
        }
    }

    fn first_turn(&mut self, id: RunId) {
        let Some(run) = self.run(id) else { return };
        let prompt = match (&run.guidance, &run.work) {
            (Some(text), _) => TurnPrompt::Guidance { text: text.clone() },
            (None, Work::Issue { .. }) => TurnPrompt::Implement,
            (None, Work::Prompt { .. }) => TurnPrompt::Adhoc,
        };
        self.begin(id, Activity::Turn { prompt });
    }

    /// A report about a live run whose epoch fits.
    pub(super) fn fact(&mut self, id: RunId, fact: RunFact) {
        match fact {
            RunFact::WorktreeReady { path, branch, base, stages, permissions } => {
                self.emit(Event::WorktreeReady {
                    run: id,
                    path,
                    branch,
                    base,
                    stages,
                    permissions,
                });
                self.first_turn(id);
            }
            RunFact::Agent(event) => self.agent(id, event),
            RunFact::RedSeen { .. } => self.reach(id, Phase::TestsRed),
            RunFact::Gated(report) => self.gated(id, &report),
            RunFact::Pushed { head } => {
                self.emit(Event::Pushed { run: id, head });
                self.reach(id, Phase::Pushed);
                self.after(id, None);
            }
            RunFact::PushRejected { why } => {
                self.emit(Event::PushRejected { run: id, why: why.clone() });
                let limit = self.fleet().policy.push_rejections;
                if self.run(id).is_some_and(|r| r.push_rejections > limit) {
                    let line = format!("the remote refused {} pushes", limit + 1);
                    self.give_up(id, &line, &why.tail(LOG_TAIL));
                } else {
                    self.begin(id, Activity::Rebase);
                }
            }
            RunFact::Rebased { base } => {
                self.emit(Event::Rebased { run: id, base });
                self.begin(id, Activity::Gate);
            }
            RunFact::Conflict { why } => {
                self.begin(id, Activity::Turn { prompt: TurnPrompt::Conflict { why } });
            }
            RunFact::PushRefused { why } => {
                self.give_up(id, "the remote refused the push", &why);
            }
            RunFact::Judged { sha, verdict, detail, log, facts } => {
                let link = Evidence { verdict, sha, at: self.at, detail, facts };
                self.judged(id, link, &log);
            }
            RunFact::Failed { why } => self.failed(id, &why),
        }
    }

    pub(super) fn turn_ended(&mut self, id: RunId, end: TurnEnd) {
        self.withdraw_requests(id, "the turn ended");
        self.emit(Event::TurnEnded { run: id, end: end.clone() });
        if end == TurnEnd::Done {
            self.mended(id);
        }
        let Some(run) = self.run(id) else { return };
        let Activity::Turn { prompt } = &run.activity else { return };
        let why = end.summary();
        let again = Activity::Turn { prompt: prompt.clone().again(why.clone().into()) };
        let issue = run.work.issue().is_some();
        if run.work.job().is_some() {
            return self.job_turn_ended(id, &end);
        }
        if self.paused(id, &end) {
            // The cause is not the run's: it waits, and shows by itself when all is well again.
            let until = self.at.plus(breaker::PAUSE);
            return self.begin(id, Activity::Backoff { until, then: Box::new(again) });
        }
        match end {
            TurnEnd::Done if issue => self.begin(id, Activity::Gate),
            TurnEnd::Done => self.finish(id),
            TurnEnd::Blocked { why: said }
            | TurnEnd::NotStarted { why: said }
            | TurnEnd::Refused { why: said } => self.give_up(id, &why, &said),
            TurnEnd::Interrupted | TurnEnd::Silent => {
                self.end_unhappily(id, EscalationKind::Stalled, &why, &"".into());
            }
            TurnEnd::Budget => {
                self.end_unhappily(id, EscalationKind::OverBudget, &why, &"".into());
            }
            // Asking again can't help: the key, the model's name or the request is wrong.
            TurnEnd::ApiError { status: Some(400..=404 | 422), why: said } => {
                self.give_up(id, &why, &said);
            }
            TurnEnd::NoSession { .. } if run_failed_often(self.run(id)) => {
                self.give_up(id, &why, &why.clone().into());
            }
            TurnEnd::NoSession { .. } => {
                self.emit(Event::SessionLost { run: id });
                self.begin(id, again);
            }
            TurnEnd::ApiError { .. }
            | TurnEnd::Crashed { .. }
            | TurnEnd::OutOfMemory { .. }
            | TurnEnd::Nudged
            | TurnEnd::TurnLimit
            | TurnEnd::TimedOut => self.again_or_give_up(id, again, &why.into()),
        }
    }

    fn gated(&mut self, id: RunId, report: &GateReport) {
        match report.verdict() {
            GateVerdict::Open => {
                let link = |verdict, sha: &crate::model::id::Sha, detail: String| Evidence {
                    verdict,
                    sha: sha.clone(),
                    at: self.at,
                    detail: detail.into(),
                    facts: Vec::new(),
                };
                let red = match &report.on_base {
                    GateSide::Exempt => link(
                        Verdict::Green,
                        &report.base,
                        "exempt: only exempt files changed".into(),
                    ),
                    GateSide::Failed { code, .. } => link(
                        Verdict::Green,
                        &report.base,
                        format!("{} test files fail there with {code}", report.tests.len()),
                    ),
                    _ => link(Verdict::Unknown, &report.base, String::new()),
                };
                let green =
                    link(Verdict::Green, &report.head, "the test command ends with 0".into());
                let head = report.head.clone();
                self.emit(Event::GateOpened { run: id, head, red, green });
                self.reach(id, Phase::TestsRed);
                self.reach(id, Phase::TestsGreen);
                self.begin(id, Activity::Push);
            }
            GateVerdict::Closed(why) => {
                let why = why.tail(LOG_TAIL);
                self.emit(Event::GateClosed { run: id, why: why.clone() });
                let limit = self.fleet().policy.gate_retries;
                if self.run(id).is_some_and(|r| r.gate_closed > limit) {
                    let line = format!("the gate stayed closed {} times", limit + 1);
                    self.give_up(id, &line, &why);
                } else {
                    self.begin(id, Activity::Turn { prompt: TurnPrompt::GateClosed { why } });
                }
            }
            GateVerdict::Broken(why) => {
                self.give_up(id, "the gate can't run the tests", &why);
            }
        }
    }

    /// Begins the first stage after `stage` that the repository has, or ends the run.
    fn after(&mut self, id: RunId, stage: Option<Stage>) {
        let Some(run) = self.run(id) else { return };
        match run.stages.after(stage) {
            Some(stage) => self.begin(id, Activity::Stage { stage }),
            None => self.finish(id),
        }
    }

    fn judged(&mut self, id: RunId, link: Evidence, log: &Untrusted) {
        let Some(run) = self.run(id) else { return };
        if run.pushed.as_ref() != Some(&link.sha) {
            return;
        }
        let Activity::Stage { stage } = run.activity else { return };
        let same = run.activity.clone();
        let (verdict, detail) = (link.verdict, link.detail.clone());
        self.emit(Event::Judged { run: id, stage, link });
        match verdict {
            Verdict::Green => self.after(id, Some(stage)),
            Verdict::Red => self.fix_forward(id, stage, &detail, log),
            Verdict::Unknown => {
                let why = format!("{}: nobody can tell: {}", stage.as_str(), detail.clean_line());
                self.again_or_give_up(id, same, &why.into());
            }
            Verdict::NoCi | Verdict::Stuck | Verdict::Lost | Verdict::NotApplied => {
                let detail = detail.clean_line();
                let why = format!("{}: {}: {detail}", stage.as_str(), verdict.as_str());
                self.give_up(id, &why, log);
            }
            Verdict::Pending => {}
        }
    }

    /// Grants an attempt if both caps allow one; otherwise the run is frozen.
    fn fix_forward(&mut self, id: RunId, stage: Stage, detail: &Untrusted, log: &Untrusted) {
        let Some(run) = self.run(id) else { return };
        let policy = &self.fleet().policy;
        let since = run.first_red.unwrap_or(self.at);
        let line =
            |cap: String| format!("{} is red ({}) and {cap}", stage.as_str(), detail.clean_line());
        let log = log.tail(LOG_TAIL);
        if run.attempts >= policy.fix_forward_attempts {
            let why = line(format!("all {} attempts are spent", policy.fix_forward_attempts));
            self.give_up(id, &why, &log);
        } else if self.at.since(since) >= policy.fix_forward_ms {
            let minutes = policy.fix_forward_ms / crate::model::time::MINUTE;
            let why = line(format!("the {minutes} minutes for mending it are over"));
            self.give_up(id, &why, &log);
        } else {
            let number = run.attempts + 1;
            self.emit(Event::Attempt { run: id, number, stage });
            self.progress_of(id);
            let prompt = TurnPrompt::FixForward { stage, log };
            self.begin(id, Activity::Turn { prompt });
        }
    }

    fn failed(&mut self, id: RunId, why: &Untrusted) {
        self.emit(Event::Failed { run: id, why: why.clone() });
        if self.run(id).is_some_and(|run| run.work.job().is_some()) {
            return self.end_job(id, Outcome::Failed, &why.clean_line());
        }
        if let Some(activity) = self.run(id).map(|r| r.activity.clone()) {
            self.again_or_give_up(id, activity, why);
        }
    }

    fn again_or_give_up(&mut self, id: RunId, activity: Activity, why: &Untrusted) {
        let limit = self.fleet().policy.crash_retries;
        let Some(run) = self.run(id) else { return };
        if run.failures > limit {
            let line = format!("failed {} times in a row: {}", run.failures, why.clean_line());
            self.give_up(id, &line, why);
        } else {
            let until = self.at.plus(backoff_ms(run.failures));
            self.note(id, format!("{}; tries again", why.clean_line()));
            self.begin(id, Activity::Backoff { until, then: Box::new(activity) });
        }
    }

    /// Can't go on: frozen if something was pushed, else it needs a human.
    pub(super) fn give_up(&mut self, id: RunId, line: &str, detail: &Untrusted) {
        let pushed = self.run(id).is_some_and(|run| run.pushed.is_some());
        let kind = if pushed { EscalationKind::Frozen } else { EscalationKind::NeedsHuman };
        self.end_unhappily(id, kind, line, detail);
    }

    pub(super) fn end_unhappily(
        &mut self,
        id: RunId,
        kind: EscalationKind,
        line: &str,
        detail: &Untrusted,
    ) {
        let Some(run) = self.run(id) else { return };
        if run.work.job().is_some() {
            return self.end_job(id, Outcome::Failed, line);
        }
        let outcome = if run.pushed.is_some() { Outcome::Frozen } else { Outcome::NeedsHuman };
        let issue = run.work.issue().cloned();
        let title = run.work.title().clean_line();
        self.withdraw_requests(id, "the run ended");
        self.effect(Effect::Stop { run: id });
        self.emit(Event::Ended { run: id, outcome, why: line.into() });
        // The escalation comes before anything that may fail.
        let said = Untrusted::new(format!("{title}\n\n{line}\n\n{}", detail.as_received()));
        let escalation = self.ask(id, EscalationDraft::new(kind, line, said));
        self.effect(Effect::Capsule { run: id });
        self.note(id, format!("{}: {line}", outcome.as_str()));
        if let Some(issue) = issue {
            let label = Some(StandingLabel::ReadyForHuman);
            self.post(OutboxStep::Label { issue: issue.clone(), label });
            let remote = self.fleet().policy.remote.contains(&issue.repo);
            let text = if remote {
                // A comment of its own, since an edit tells nobody.
                let why = crate::query::progress::quoted(line);
                format!("A human is needed: {why}. To answer: `afk attach --run {id}`")
            } else {
                format!("{id} ended as **{}**: {line}", outcome.as_str())
            };
            self.post(OutboxStep::Comment { issue: issue.clone(), run: id, text });
            self.progress(&issue);
        }
        let text = format!("{title}: {line}");
        let asked = escalation.map(|id| (id, kind));
        self.tell(Some(id), &Notice::Ended { outcome, text, asked });
    }

    fn finish(&mut self, id: RunId) {
        let Some(run) = self.run(id) else { return };
        let issue = run.work.issue().cloned();
        let title = run.work.title().clean_line();
        let text = run
            .pushed
            .as_ref()
            .map_or_else(|| "answered".to_owned(), |sha| format!("{} is healthy", sha.short()));
        if issue.is_some() {
            self.reach(id, Phase::Healthy);
        }
        let outcome = Outcome::Done;
        self.emit(Event::Ended { run: id, outcome, why: text.clone().into() });
        self.note(id, format!("done: {text}"));
        if let Some(issue) = issue {
            if self.fleet().policy.remote.contains(&issue.repo) {
                self.progress(&issue);
            } else {
                let text = format!("{id} is **done**: {text}.");
                self.post(OutboxStep::Comment { issue: issue.clone(), run: id, text });
            }
            self.post(OutboxStep::Label { issue: issue.clone(), label: None });
            self.post(OutboxStep::Close { issue });
        }
        let text = format!("{title}: {text}");
        self.tell(Some(id), &Notice::Ended { outcome, text, asked: None });
        self.effect(Effect::Stop { run: id });
        self.effect(Effect::GiveBack { run: id });
    }

    /// Raises an escalation, bound to what is shown.
    pub(super) fn ask(&mut self, run: RunId, question: EscalationDraft) -> Option<EscalationId> {
        let of = self.run(run)?;
        let kind = question.kind;
        let waits = kind.agent_waits();
        let mut escalation = Escalation {
            run: Some(run),
            issue: of.work.issue().cloned(),
            epoch: of.epoch,
            expires: waits.then(|| self.at.plus(self.fleet().policy.answer_ms)),
            ..Escalation::raise(self.fleet().next_escalation(), question, self.at)
        };
        // The end of a run tells itself.
        let tell = of.live();
        escalation.digest = escalation.digest_of();
        let text = format!("{}: {}", kind.as_str(), escalation.title.clean_line());
        let id = escalation.id;
        self.emit(Event::Escalated { escalation: Box::new(escalation) });
        if tell {
            self.tell(Some(run), &Notice::Asked { escalation: id, text, kind });
        }
        Some(id)
    }

    /// Withdraws what the agent of a run asked: nobody waits for an answer any more.
    pub(super) fn withdraw_requests(&mut self, run: RunId, why: &str) {
        let open: Vec<_> = self
            .fleet()
            .escalations
            .values()
            .filter(|e| e.open() && e.kind.agent_waits() && e.run == Some(run))
            .map(|e| e.id)
            .collect();
        for escalation in open {
            self.emit(Event::Withdrawn { escalation, why: why.into() });
        }
    }
}

fn run_failed_often(run: Option<&Run>) -> bool {
    run.is_none_or(|run| run.failures > 3)
}

/// The task of what a run is doing now.
fn task(run: &Run, budget: Option<MicroUsd>) -> Option<Task> {
    Some(match &run.activity {
        Activity::Worktree => Task::Worktree,
        Activity::Turn { prompt } => {
            let (turn, resume) = (run.turns, run.session.clone());
            Task::Turn { prompt: prompt.clone(), turn, resume, budget }
        }
        Activity::Gate => Task::Gate,
        Activity::Rebase => Task::Rebase,
        Activity::Push => Task::Push { head: run.gated.clone()? },
        Activity::Stage { stage } => Task::Stage { stage: *stage, sha: run.pushed.clone()? },
        Activity::Waiting | Activity::Backoff { .. } | Activity::Ended => return None,
    })
}
