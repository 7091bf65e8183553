//! Jobs of the service: what follows a job's turn, how a job ends, and when it is forgotten. `turn`
//! and `ending` call it for runs that are jobs, and the tick forgets.
//!
//! ```text
//! turn ─▶ Collect, if it had a clone ─▶ end_job
//! ```
//!
//! A job is a run without an issue: it waits for the same permits and stands in the same journal.
//! A failed job escalates nothing; its caller receives the failure and decides.

use crate::model::activity::{Activity, TurnPrompt};
use crate::model::agent_event::TurnEnd;
use crate::model::effect::Effect;
use crate::model::event::Event;
use crate::model::id::RunId;
use crate::model::job::{Job, JobCommits};
use crate::model::outage::{OutageCause, OutageKind};
use crate::model::run::Outcome;
use crate::step::stepper::Stepper;

impl Stepper<'_> {
    /// Ends the job with its turn. Only a lost conversation is retried, and only once.
    pub(super) fn job_turn_ended(&mut self, id: RunId, end: &TurnEnd) {
        let Some(run) = self.run(id) else { return };
        match end {
            // The agent has lost the conversation, or it is full: begin a new one.
            TurnEnd::NoSession { .. } | TurnEnd::ContextOverflow { .. }
                if run.agent.session.is_some() && run.progress.failures <= 1 =>
            {
                let Activity::Turn { prompt } = run.progress.activity.clone() else { return };
                self.emit(Event::SessionLost { run: id });
                let prompt = match prompt {
                    TurnPrompt::Adhoc => prompt,
                    other => other.again(end.summary().into()),
                };
                self.begin(id, Activity::Turn { prompt });
            }
            // Its commits must not go away with the clone.
            _ if run.workspace.worktree.is_some() && run.work.job().is_some_and(Job::has_clone) => {
                self.begin(id, Activity::Collect);
            }
            end => self.end_job_as(id, end, None),
        }
    }

    /// Whether the outage of an agent lasts longer than the time that the caller gives the job.
    pub(super) fn exceeds_job_time(&self, id: RunId, cause: &OutageCause) -> bool {
        let due = self.run(id).and_then(|run| {
            let (job, progress) = (run.work.job()?, &run.progress);
            progress.due.or_else(|| Some(progress.admitted?.plus(job.limit_ms)))
        });
        let next = self.fleet().outages.of(cause).map(|outage| outage.next_try);
        cause.kind == OutageKind::UsageLimit && due.zip(next).is_some_and(|(due, next)| due < next)
    }

    /// Ends a job that an outage holds for longer than its caller waits.
    pub(super) fn job_waited_in_vain(&mut self, id: RunId, cause: &OutageCause) {
        let why = self.fleet().outages.of(cause).map(|outage| outage.why.clean_line());
        let why = why.unwrap_or_default();
        let Some(run) = self.run(id) else { return };
        let at = format!("{}, and the job's time is over before that ends", cause.summary());
        let has_worked = cause.kind.is_of_agent() && run.agent.turn_end.is_some();
        let has_clone = run.work.job().is_some_and(Job::has_clone);
        let has_permit = run.has_permit();
        if has_worked && has_clone && run.workspace.worktree.is_some() {
            let end = run.agent.turn_end.as_ref().map(TurnEnd::summary).unwrap_or_default();
            // Its commits must not go away with the clone. The reason begins with the end of its turn.
            self.emit(Event::Failed { run: id, why: format!("{end}; {at}").into() });
            if has_permit {
                return self.begin(id, Activity::Collect);
            }
            let then = Some(Box::new(Activity::Collect));
            return self.emit(Event::Held { run: id, cause: cause.clone(), then });
        }
        self.end_job(id, Outcome::Failed, &format!("{at}: {why}"));
    }

    /// Ends the job whose commits have been taken in.
    pub(super) fn job_collected(&mut self, id: RunId, commits: Option<Box<JobCommits>>) {
        let Some(run) = self.run(id) else { return };
        // Without an end, the turn was cut off.
        let end = run.agent.turn_end.clone().unwrap_or(TurnEnd::Interrupted);
        let problem = commits.as_ref().and_then(|commits| commits.problem.clone());
        if let Some(commits) = commits {
            self.emit(Event::Collected { run: id, commits });
        }
        self.end_job_as(id, &end, problem.map(|problem| problem.clean_line()).as_deref());
    }

    /// Ends a job as its turn ended. A job whose commits should have been pushed and were not has
    /// failed.
    fn end_job_as(&mut self, id: RunId, end: &TurnEnd, problem: Option<&str>) {
        match (end, problem) {
            (TurnEnd::Done, None) => self.end_job(id, Outcome::Done, "answered"),
            (TurnEnd::Done, Some(problem)) => self.end_job(id, Outcome::Failed, problem),
            (end, _) => {
                // A job that waited for a human has its reason already.
                let summary = end.summary();
                let known = self.run(id).map(|run| run.progress.why.clean_line());
                let why = known.filter(|why| why.starts_with(&summary)).unwrap_or(summary);
                self.end_job(id, Outcome::Failed, &why);
            }
        }
    }

    /// Ends a job, however it went, and frees what it holds.
    pub(super) fn end_job(&mut self, id: RunId, outcome: Outcome, why: &str) {
        self.withdraw_requests(id, "the job ended");
        self.emit(Event::Ended { run: id, outcome, why: why.into() });
        self.note(id, format!("{}: {why}", outcome.as_str()));
        self.effect(Effect::Stop { run: id });
        self.effect(Effect::GiveBack { run: id });
    }

    /// Forgets the jobs whose retention, the policy's `job_ttl_ms`, has elapsed.
    pub(super) fn forget_jobs(&mut self) {
        let ttl = self.fleet().policy.job_ttl_ms;
        while let Some((ended, run)) = self.fleet().jobs.oldest_ended() {
            if self.at < ended.plus(ttl) {
                break;
            }
            self.emit(Event::Forgotten { run });
            self.effect(Effect::Forget { run });
        }
    }
}
