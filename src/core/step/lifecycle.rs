//! The order of a run's activities: which activity begins next, and whether the limits allow it.
//! The module `admission` starts a run here, `step::take` passes the runtime's reports in, and the
//! modules `restart` and `operator` begin an activity again. For a run on an issue:
//!
//! ```text
//! activity   report                        next
//! Worktree   the worktree is ready         Turn
//!            the base is red by itself     the end for a human
//!            its setup failed              the end for a human
//! Turn       the agent is done             Gate       (module `turn`)
//! Gate       it opened                     Push       (module `gate`)
//!            it stayed closed              Turn; after too many, the end for a human
//!            a human must approve          the end for a human, then Gate
//! Push       the remote has the head       the first Stage
//!            the remote has moved on       Rebase
//! Rebase     the commits are on the base   Gate
//!            they conflict                 Turn
//! Stage      green                         the next Stage, then the end  (module `verdict`)
//!            red                           Turn: fix forward
//! any        a part of the world is away   Held, then the same again  (module `outage`)
//!            only a human can decide       the end for a human
//!            the task failed               a retry after a pause; after too many, the end for a human
//! ```

use crate::model::activity::{Activity, TurnPrompt};
use crate::model::agent_event::TurnEnd;
use crate::model::approval::EscalationKind;
use crate::model::budget::{MicroUsd, fits};
use crate::model::effect::{Effect, Task};
use crate::model::event::Event;
use crate::model::id::RunId;
use crate::model::input::RunFact;
use crate::model::job::Job;
use crate::model::plural::plural;
use crate::model::run::{Outcome, Run, Work};
use crate::model::stage::Phase;
use crate::model::untrusted::Untrusted;
use crate::model::verdict::Evidence;
use crate::step::stepper::Stepper;

/// The bytes from the end of a log that go into an escalation or a prompt.
pub const LOG_TAIL: usize = 8 * 1024;

impl Stepper<'_> {
    /// Begins an activity: emits [`Event::Began`], reaches the activity's phase if it has one, and
    /// starts its task if it has one. A turn that does not fit in the limits ends the run for a human
    /// instead.
    pub(super) fn begin(&mut self, id: RunId, activity: Activity) {
        if matches!(activity, Activity::Turn { .. })
            && let Some(why) = self.unaffordable(id)
        {
            return self.end_for_human(id, EscalationKind::OverBudget, &why, &"".into());
        }
        let returns = matches!(activity, Activity::Turn { .. } | Activity::Gate | Activity::Rebase);
        if returns
            && self
                .run(id)
                .is_some_and(|run| run.issue.withdrawn.is_some() && run.workspace.pushed.is_none())
        {
            // The push that was under way when the tracker took the issue back did not land.
            return self.take_back(id);
        }
        let phase = match &activity {
            Activity::Worktree => Some(Phase::Worktree),
            Activity::Stage { stage } => Some(stage.phase()),
            _ => None,
        };
        if matches!(activity, Activity::Turn { .. }) {
            self.choose_agent(id);
        }
        self.emit(Event::Began { run: id, activity });
        if let Some(phase) = phase {
            self.reach(id, phase);
        }
        self.begin_task(id);
    }

    /// Asks the runtime to carry out the run's current activity, with the run's current epoch.
    pub(super) fn begin_task(&mut self, id: RunId) {
        if let Some(run) = self.run(id)
            && let Some(task) = task(run, self.turn_budget(run))
        {
            let epoch = run.progress.epoch;
            self.effect(Effect::Begin { run: id, epoch, task });
        }
    }

    /// What a turn may cost at most: what is left of the run's limit or of the day's, whichever is
    /// less; none if neither has a limit.
    fn turn_budget(&self, run: &Run) -> Option<MicroUsd> {
        let policy = &self.fleet().policy;
        let day = policy
            .day_limit
            .map(|limit| MicroUsd(limit.0.saturating_sub(self.fleet().books.day(self.at).usd.0)));
        run.left(policy.run_limit).into_iter().chain(day).min()
    }

    /// The reason why the limits forbid a turn; none if they allow it. A turn starts only if its
    /// worst case, the policy's reserve, still fits.
    fn unaffordable(&self, id: RunId) -> Option<String> {
        let (run, policy) = (self.run(id)?, &self.fleet().policy);
        let reserve = policy.turn_reserve;
        let spent = self.fleet().books.day(self.at).usd;
        // `reserved` counts this run's own reserve as well.
        let others = MicroUsd(self.fleet().reserved().0.saturating_sub(reserve.0));
        if let Some(left) = run.left(policy.run_limit)
            && (left.0 <= 0 || left < reserve)
        {
            let limit = run.limit(policy.run_limit).unwrap_or_default();
            return Some(format!("spent {} of the run's limit of {limit}", run.spend.total.usd));
        }
        if fits(policy.day_limit, spent, others, reserve) {
            return None;
        }
        policy.day_limit.map(|limit| format!("spent {spent} of the day's limit of {limit}"))
    }

    /// Records that a run has reached a phase, unless it is there already.
    pub(super) fn reach(&mut self, run: RunId, phase: Phase) {
        if self.run(run).is_some_and(|r| r.progress.phase != phase) {
            self.emit(Event::Reached { run, phase });
            self.update_progress_of(run);
        }
    }

    /// Starts an admitted run: it gets a worktree, continues in the one that it has, or works without
    /// one.
    pub(super) fn start_work(&mut self, id: RunId) {
        let Some(run) = self.run(id) else { return };
        if let Activity::Held { then, .. } = &run.progress.activity {
            let then = then.as_ref().clone();
            return self.begin(id, then);
        }
        if run.progress.looks_again.is_some() {
            self.reach(id, Phase::Pushed);
            return self.begin_next_stage(id, None);
        }
        // A remote executor that works on prompts alone makes its own clone.
        let own_clone = self.fleet().remote_executor(&run.work).is_some_and(|place| !place.issues);
        let needs = !own_clone && run.work.job().is_none_or(Job::has_clone);
        if run.workspace.worktree.is_none() && needs {
            self.begin(id, Activity::Worktree);
        } else {
            self.reach(id, Phase::Worktree);
            self.first_activity(id);
        }
    }

    /// Goes on with the gate if an operator has just approved the change that it asked about, and
    /// with a turn otherwise.
    fn first_activity(&mut self, id: RunId) {
        let approved = self.run(id).is_some_and(|run| {
            run.progress.to_approve.is_some() && run.progress.to_approve == run.progress.approved
        });
        if approved {
            self.begin(id, Activity::Gate);
        } else {
            self.first_turn(id);
        }
    }

    /// Begins the first turn after an admission, with the operator's guidance if there is any.
    fn first_turn(&mut self, id: RunId) {
        let Some(run) = self.run(id) else { return };
        let prompt = match (&run.progress.guidance, &run.work) {
            (Some(text), _) => TurnPrompt::Guidance { text: text.clone() },
            (None, Work::Issue { .. }) => TurnPrompt::Implement,
            (None, Work::Prompt { .. }) => TurnPrompt::Adhoc,
        };
        self.begin(id, Activity::Turn { prompt });
    }

    /// Handles a fact about a live run; `step::take` has checked its epoch.
    pub(super) fn run_fact(&mut self, id: RunId, fact: RunFact) {
        self.confirm_recoveries(id, &fact);
        match fact {
            RunFact::WorktreeReady(worktree) => {
                self.emit(Event::WorktreeReady { run: id, worktree });
                self.first_turn(id);
            }
            RunFact::BaseStale { why } => self.emit(Event::BaseStale { run: id, why }),
            RunFact::Collected { commits } => self.job_collected(id, commits),
            RunFact::BaseUnfit { why } => self.end_without_tests(id, &why),
            // Neither an agent nor a retry mends it.
            RunFact::SetupFailed { why, log } => {
                self.end_unfinished(id, &why.clean_line(), &log.tail(LOG_TAIL));
            }
            RunFact::Agent(event) => self.agent_event(id, event),
            RunFact::RedSeen { .. } => self.reach(id, Phase::TestsRed),
            RunFact::Gated(report) => self.gate_reported(id, &report),
            RunFact::Pushed { head } => {
                self.emit(Event::Pushed { run: id, head });
                self.reach(id, Phase::Pushed);
                self.begin_next_stage(id, None);
            }
            RunFact::GateBypassed { sha } => self.gate_bypassed(id, &sha),
            RunFact::CommandRan { command } => self.command_ran(id, &command),
            RunFact::PushRejected { why } => self.push_rejected(id, &why),
            RunFact::Rebased { base } => {
                self.emit(Event::Rebased { run: id, base });
                self.begin(id, Activity::Gate);
            }
            RunFact::Conflict { why } => {
                self.begin(id, Activity::Turn { prompt: TurnPrompt::Conflict { why } });
            }
            // A rebase helps after a rejection, but not here: the branch is protected, or the login
            // failed.
            RunFact::PushRefused { why } => {
                self.end_unfinished(id, "the remote refused the push", &why);
            }
            RunFact::NeedsHuman { line, detail } => self.end_unfinished(id, &line, &detail),
            RunFact::Judged { sha, verdict, detail, log, facts } => {
                let link = Evidence { verdict, sha, at: self.at, detail, facts };
                self.verdict(id, link, &log);
            }
            RunFact::Unavailable { cause, failure } => self.run_unavailable(id, cause, failure),
            RunFact::Failed { why } => self.task_failed(id, &why),
        }
    }

    /// Rebases onto the new head of the remote, or ends the run for a human after too many
    /// rejections.
    fn push_rejected(&mut self, id: RunId, why: &Untrusted) {
        self.emit(Event::PushRejected { run: id, why: why.clone() });
        let limit = self.fleet().policy.push_rejections;
        if self.run(id).is_some_and(|r| r.progress.push_rejections > limit) {
            let line = format!("the remote rejected {}", plural(limit + 1, "push attempt"));
            self.end_unfinished(id, &line, &why.tail(LOG_TAIL));
        } else {
            self.begin(id, Activity::Rebase);
        }
    }

    fn task_failed(&mut self, id: RunId, why: &Untrusted) {
        self.emit(Event::Failed { run: id, why: why.clone() });
        if self.run(id).is_some_and(|run| run.work.job().is_some()) {
            return self.end_job(id, Outcome::Failed, &why.clean_line());
        }
        if let Some(activity) = self.run(id).map(|r| r.progress.activity.clone()) {
            self.retry_or_end(id, activity, why);
        }
    }
}

/// The runtime's task for a run's activity; none while the run waits or has ended.
fn task(run: &Run, budget: Option<MicroUsd>) -> Option<Task> {
    Some(match &run.progress.activity {
        Activity::Worktree => Task::Worktree,
        Activity::Turn { prompt } => {
            let (turn, resume) = (run.agent.turns, run.agent.session.clone());
            Task::Turn { prompt: prompt.clone(), turn, resume, budget }
        }
        Activity::Gate => Task::Gate,
        Activity::Rebase => Task::Rebase,
        Activity::Push => Task::Push { head: run.workspace.gated.clone()? },
        Activity::Collect => Task::Collect { done: run.agent.turn_end == Some(TurnEnd::Done) },
        Activity::Stage { stage } => {
            Task::Stage { stage: *stage, sha: run.workspace.pushed.clone()? }
        }
        Activity::Waiting | Activity::Backoff { .. } | Activity::Held { .. } | Activity::Ended => {
            return None;
        }
    })
}
