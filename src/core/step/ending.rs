//! How a run with an issue or a prompt ends: done, handed to a human, or frozen once something was
//! pushed. `lifecycle`, `turn`, `gate` and `verdict` call it; a job of the service ends in `job`.
//!
//! ```text
//! retry_or_end ─▶ Backoff, or ─▶ end_unfinished ─▶ end_for_human ─▶ escalation, capsule, label,
//!                                                       ▲           comment, notice
//!                          over budget, stalled ────────┘
//! ```

use crate::model::activity::Activity;
use crate::model::approval::{EscalationDraft, EscalationKind};
use crate::model::effect::Effect;
use crate::model::event::Event;
use crate::model::id::{IssueKey, RunId};
use crate::model::notice::Notice;
use crate::model::outbox::{OutboxStep, StandingLabel, backoff_ms};
use crate::model::plural::plural;
use crate::model::run::Outcome;
use crate::model::stage::{Phase, Stage};
use crate::model::untrusted::Untrusted;
use crate::query::progress::quoted;
use crate::step::stepper::Stepper;

impl Stepper<'_> {
    /// Retries an activity after a backoff, or ends the run after too many failures in a row.
    pub(super) fn retry_or_end(&mut self, id: RunId, activity: Activity, why: &Untrusted) {
        let limit = self.fleet().policy.crash_retries;
        let Some(run) = self.run(id) else { return };
        if run.progress.failures > limit {
            let times = plural(run.progress.failures, "time");
            let line = format!("failed {times} in a row: {}", why.clean_line());
            self.end_unfinished(id, &line, why);
        } else {
            let until = self.at.plus(backoff_ms(run.progress.failures));
            self.note(id, format!("{}; afk tries again", why.clean_line()));
            self.begin(id, Activity::Backoff { until, then: Box::new(activity) });
        }
    }

    /// Ends a run that can't continue alone: frozen if it has pushed, else in need of a human.
    pub(super) fn end_unfinished(&mut self, id: RunId, line: &str, detail: &Untrusted) {
        let pushed = self.run(id).is_some_and(|run| run.workspace.pushed.is_some());
        let kind = if pushed { EscalationKind::Frozen } else { EscalationKind::NeedsHuman };
        self.end_for_human(id, kind, line, detail);
    }

    /// Ends a run with an escalation of `kind`. The run keeps its worktree, and its lock if it has
    /// pushed. A job has no human to ask: it ends as failed.
    pub(super) fn end_for_human(
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
        let outcome =
            if run.workspace.pushed.is_some() { Outcome::Frozen } else { Outcome::NeedsHuman };
        let issue = run.work.issue().cloned();
        let title = run.work.title().clean_line();
        self.withdraw_requests(id, "the run ended");
        self.effect(Effect::Stop { run: id });
        self.emit(Event::Ended { run: id, outcome, why: line.into() });
        // The escalation comes before any effect that may fail.
        let shown = Untrusted::new(format!("{title}\n\n{line}\n\n{}", detail.as_received()));
        let escalation = self.escalate(id, EscalationDraft::new(kind, line, shown));
        self.effect(Effect::Capsule { run: id });
        self.note(id, format!("{}: {line}", outcome.as_str()));
        if let Some(issue) = issue {
            self.post_human_needed(id, &issue, outcome, line);
        }
        let text = format!("{title}: {line}");
        let asked = escalation.map(|id| (id, kind));
        self.notify(Some(id), &Notice::Ended { outcome, text, asked });
    }

    fn post_human_needed(&mut self, id: RunId, issue: &IssueKey, outcome: Outcome, line: &str) {
        let label = Some(StandingLabel::ReadyForHuman);
        self.post(OutboxStep::Label { issue: issue.clone(), label });
        let text = if self.fleet().policy.remote.contains(&issue.repo) {
            // A new comment, because trackers notify nobody of an edited one.
            format!("A human is needed: {}. To answer: `afk attach --run {id}`", quoted(line))
        } else {
            format!("{id} ended as **{}**: {line}", outcome.as_str())
        };
        self.post(OutboxStep::Comment { issue: issue.clone(), run: id, text });
        self.update_progress(issue);
    }

    /// Ends a run that reached its goal: every stage is healthy, or a prompt was answered.
    pub(super) fn end_done(&mut self, id: RunId) {
        let Some(run) = self.run(id) else { return };
        let issue = run.work.issue().cloned();
        let title = run.work.title().clean_line();
        let text = match &run.workspace.pushed {
            None => "answered".to_owned(),
            Some(sha) if run.workspace.stages.has(Stage::Probe) => {
                format!("{} is healthy", sha.short())
            }
            Some(sha) => format!("landed {} · no probe configured", sha.short()),
        };
        if issue.is_some() {
            self.reach(id, Phase::Healthy);
        }
        let outcome = Outcome::Done;
        self.emit(Event::Ended { run: id, outcome, why: text.clone().into() });
        self.note(id, format!("done: {text}"));
        if let Some(issue) = issue {
            if self.fleet().policy.remote.contains(&issue.repo) {
                self.update_progress(&issue);
            } else {
                let text = format!("{id} is **done**: {text}.");
                self.post(OutboxStep::Comment { issue: issue.clone(), run: id, text });
            }
            self.post(OutboxStep::Label { issue: issue.clone(), label: None });
            self.post(OutboxStep::Close { issue });
        }
        let text = format!("{title}: {text}");
        self.notify(Some(id), &Notice::Ended { outcome, text, asked: None });
        self.effect(Effect::Stop { run: id });
        self.effect(Effect::GiveBack { run: id });
    }
}
