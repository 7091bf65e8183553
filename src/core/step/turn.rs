//! A turn in progress: what each event of a live agent leads to, and what follows the turn's end.
//! `lifecycle` passes the events in; requests to a human go on to `request`.

use crate::model::activity::{Activity, TurnPrompt};
use crate::model::agent_event::{AgentEvent, TurnEnd};
use crate::model::approval::{EscalationDraft, EscalationKind};
use crate::model::breaker::PAUSE;
use crate::model::budget::Spend;
use crate::model::capability::{Equipment, Steer};
use crate::model::event::Event;
use crate::model::id::RunId;
use crate::model::run::{Retry, Run};
use crate::model::untrusted::Untrusted;
use crate::step::stepper::Stepper;

/// The failures in a row after which a lost conversation goes to a human.
const LOST_SESSIONS: u32 = 3;
/// The conversations in a row that may outgrow the model's context before a human is asked. A new one
/// that is too large as well would be so again.
const OVERFLOWS: u32 = 1;

impl Stepper<'_> {
    /// Takes an event of the run's live agent; one that changes nothing is dropped.
    pub(super) fn agent_event(&mut self, id: RunId, event: AgentEvent) {
        match event {
            AgentEvent::Equipped(equipment)
                if self
                    .run(id)
                    .is_some_and(|run| run.agent.equipment.as_ref() != Some(&equipment)) =>
            {
                self.emit(Event::Equipped { run: id, equipment });
            }
            AgentEvent::SessionStarted { session, model, version } => {
                self.session_started(id, session, model, version);
            }
            AgentEvent::Usage(spend) => self.record_spend(id, spend),
            AgentEvent::Context(context)
                if self.run(id).is_some_and(|run| run.agent.context != Some(context)) =>
            {
                self.emit(Event::ContextUsed { run: id, context });
            }
            AgentEvent::Retry { attempt, delay_ms, status } => {
                let delay = i64::try_from(delay_ms).unwrap_or(i64::MAX);
                let retry = Retry { attempt, at: self.at.plus(delay), status };
                self.emit(Event::Retrying { run: id, retry });
            }
            AgentEvent::Quiet { seconds, .. } => {
                let ms = i64::try_from(seconds.saturating_mul(1000)).unwrap_or(i64::MAX);
                let since = self.at.plus(-ms);
                if self.run(id).is_some_and(|run| run.agent.quiet.is_none()) {
                    self.emit(Event::Quiet { run: id, since });
                }
            }
            AgentEvent::ToolRunning { title, seconds } => {
                let ms = i64::try_from(seconds.saturating_mul(1000)).unwrap_or(i64::MAX);
                let since = self.at.plus(-ms);
                self.emit(Event::ToolRunning { run: id, title, since });
            }
            AgentEvent::Active
                if self.run(id).is_some_and(|run| {
                    let agent = &run.agent;
                    agent.quiet.is_some() || agent.retry.is_some() || agent.tool.is_some()
                }) =>
            {
                self.emit(Event::AgentActive { run: id });
            }
            AgentEvent::PermissionRequest { id: request_id, request } => {
                self.permission_requested(id, request_id, request);
            }
            AgentEvent::RequestWithdrawn { id: request } => self.request_withdrawn(id, &request),
            AgentEvent::Question { id: request, text, options } => {
                self.question_asked(id, request, text, options);
            }
            AgentEvent::TurnEnd(end) => self.turn_ended(id, end),
            _ => {}
        }
    }

    fn session_started(
        &mut self,
        id: RunId,
        session: String,
        model: Option<Untrusted>,
        version: Option<Untrusted>,
    ) {
        let Some(run) = self.run(id) else { return };
        let changed = run.agent.equipment.as_ref().and_then(|known| {
            let next = Equipment {
                model: model.or_else(|| known.model.clone()),
                version: version.or_else(|| known.version.clone()),
                ..known.clone()
            };
            (next != *known).then(|| Box::new(next))
        });
        let new = run.agent.session.as_ref() != Some(&session);
        if let Some(equipment) = changed {
            self.emit(Event::Equipped { run: id, equipment });
        }
        if new {
            self.emit(Event::SessionStarted { run: id, session });
        }
    }

    /// Books what a turn spent. The day's soft limit asks a human once a day and stops nothing; the
    /// run's limit ends the run.
    fn record_spend(&mut self, id: RunId, spend: Spend) {
        if spend == Spend::default() {
            return;
        }
        if !spend.is_plausible() {
            self.note(id, "the agent reported a cost that can't be: afk ignores that report");
            return;
        }
        self.emit(Event::Spent { run: id, spend });
        let (run_limit, soft) = {
            let policy = &self.fleet().policy;
            let of = |run: &Run| run.limit(policy.run_limit);
            (self.run(id).and_then(of), policy.day_soft_limit)
        };
        if self.fleet().books.to_warn(self.at, soft) {
            let (spent, limit) = (self.fleet().books.day(self.at).usd, soft.unwrap_or_default());
            self.emit(Event::SoftLimit);
            let line = format!("today has cost {spent}, over the soft limit of {limit}");
            let detail = match self.fleet().policy.day_limit {
                Some(hard) => format!("{line}\n\nRuns continue; pickup stops at {hard}."),
                None => format!("{line}\n\nRuns continue: no hard limit for a day is set."),
            };
            self.escalate(id, EscalationDraft::new(EscalationKind::OverBudget, line, detail));
        }
        if let Some(run) = self.run(id)
            && let Some(limit) = run_limit
            && run.left(run_limit).is_some_and(|left| left.0 < 0)
        {
            let why = format!("spent {} of the run's limit of {limit}", run.spend.total.usd);
            self.end_for_human(id, EscalationKind::OverBudget, &why, &"".into());
        }
    }

    /// The request of the run's agent that no human has answered.
    fn unanswered_request(&self, id: RunId) -> Option<String> {
        let mut open = self
            .fleet()
            .escalations
            .values()
            .filter(|e| e.open() && e.run == Some(id) && e.request_id.is_some());
        open.next_back().map(|e| e.title.clean_line())
    }

    fn turn_ended(&mut self, id: RunId, end: TurnEnd) {
        let unanswered = self.unanswered_request(id);
        self.withdraw_requests(id, "the turn ended");
        self.emit(Event::TurnEnded { run: id, end: end.clone() });
        if let (TurnEnd::TimedOut | TurnEnd::Silent, Some(asked)) = (&end, unanswered)
            && self.run(id).is_some_and(|run| run.work.job().is_some())
        {
            let why = format!("{}: it waited for an answer to {asked:?}", end.summary());
            self.emit(Event::Failed { run: id, why: why.into() });
        }
        if end == TurnEnd::Done {
            self.close_breaker(id);
        }
        let Some(run) = self.run(id) else { return };
        let Activity::Turn { prompt } = &run.progress.activity else { return };
        let why = end.summary();
        let retry = Activity::Turn { prompt: prompt.clone().again(why.clone().into()) };
        let issue = run.work.issue().is_some();
        let edited = run.issue.edited_for.is_some();
        let is_job = run.work.job().is_some();
        // A question is put again: its conversation may not have it.
        let held = match run.work.job() {
            Some(job) if job.is_question() => Activity::Turn { prompt: prompt.clone() },
            _ => retry.clone(),
        };
        if self.turn_held(id, &end, held) {
            return;
        }
        if is_job {
            return self.job_turn_ended(id, &end);
        }
        if self.trips_breaker(id, &end) {
            // The run is not at fault: it retries after a pause, and its success closes the breaker.
            let until = self.at.plus(PAUSE);
            return self.begin(id, Activity::Backoff { until, then: Box::new(retry) });
        }
        match end {
            // A person who may arm issues edited the issue during the turn.
            TurnEnd::Done if issue && edited => {
                self.begin(id, Activity::Turn { prompt: TurnPrompt::Edited });
            }
            TurnEnd::Done if issue => self.begin(id, Activity::Gate),
            TurnEnd::Done => self.end_done(id),
            TurnEnd::Blocked { why: detail }
            | TurnEnd::NotStarted { why: detail }
            | TurnEnd::Refused { why: detail } => self.end_unfinished(id, &why, &detail),
            TurnEnd::Interrupted | TurnEnd::Silent => {
                self.end_for_human(id, EscalationKind::Stalled, &why, &"".into());
            }
            TurnEnd::Budget => {
                self.end_for_human(id, EscalationKind::OverBudget, &why, &"".into());
            }
            // A retry can't help: the key, the model's name or the request is wrong.
            TurnEnd::ApiError { status: Some(400..=404 | 422), why: detail }
            | TurnEnd::UsageLimit { why: detail, .. } => {
                self.end_unfinished(id, &why, &detail);
            }
            TurnEnd::NoSession { .. }
                if self.run(id).is_none_or(|run| run.progress.failures > LOST_SESSIONS) =>
            {
                self.end_unfinished(id, &why, &why.clone().into());
            }
            TurnEnd::NoSession { .. } => {
                self.emit(Event::SessionLost { run: id });
                self.begin(id, retry);
            }
            TurnEnd::ContextOverflow { why: detail } => {
                self.emit(Event::ContextOverflowed { run: id });
                if self.run(id).is_none_or(|run| run.agent.overflows > OVERFLOWS) {
                    let line = format!("a new conversation did not help: {why}");
                    return self.end_unfinished(id, &line, &detail);
                }
                self.note(id, format!("{why}; afk begins a new one with what was done so far"));
                self.begin(id, retry);
            }
            TurnEnd::ApiError { .. }
            | TurnEnd::Crashed { .. }
            | TurnEnd::OutOfMemory { .. }
            | TurnEnd::Nudged
            | TurnEnd::TurnLimit
            | TurnEnd::TimedOut => self.retry_or_end(id, retry, &why.into()),
        }
    }
}

/// Whether the agent of a run can take messages. True until the agent has reported that it can't.
#[must_use]
pub fn steerable(run: &Run) -> bool {
    let steer = run.agent.equipment.as_ref().map(|equipment| equipment.can.steer);
    steer != Some(Steer::Unsupported)
}
