//! Jobs of the service in a step: how a job's turn ends, and when a job is forgotten.
//!
//! A job is a run without an issue: it waits for the same permits and stands in the same journal.
//! Nobody is asked where a job fails; its caller gets the failure and decides.

use crate::model::agent_event::TurnEnd;
use crate::model::effect::Effect;
use crate::model::event::Event;
use crate::model::id::RunId;
use crate::model::run::{Activity, Outcome, TurnPrompt};
use crate::step::stepper::Stepper;

impl Stepper<'_> {
    /// The end of a job's turn. It is not tried again: its caller decides that.
    pub(super) fn job_turn_ended(&mut self, id: RunId, end: &TurnEnd) {
        let Some(run) = self.run(id) else { return };
        match end {
            TurnEnd::Done => self.end_job(id, Outcome::Done, "answered"),
            // Once: a conversation that its agent has forgotten begins anew.
            TurnEnd::NoSession { .. } if run.session.is_some() && run.failures <= 1 => {
                let Activity::Turn { prompt } = run.activity.clone() else { return };
                self.emit(Event::SessionLost { run: id });
                let prompt = match prompt {
                    TurnPrompt::Adhoc => prompt,
                    other => other.again(end.summary().into()),
                };
                self.begin(id, Activity::Turn { prompt });
            }
            end => self.end_job(id, Outcome::Failed, &end.summary()),
        }
    }

    /// A job ends; nobody is asked.
    pub(super) fn end_job(&mut self, id: RunId, outcome: Outcome, why: &str) {
        self.withdraw_requests(id, "the job ended");
        self.emit(Event::Ended { run: id, outcome, why: why.into() });
        self.note(id, format!("{}: {why}", outcome.as_str()));
        self.effect(Effect::Stop { run: id });
        self.effect(Effect::GiveBack { run: id });
    }

    /// Forgets the jobs that ended long enough ago.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::jobs::Jobs;
    use crate::model::agent_event::AgentEvent;
    use crate::model::approval::Answer;
    use crate::model::approval::DecidedBy;
    use crate::model::budget::MicroUsd;
    use crate::model::budget::Spend;
    use crate::model::command::{Accepted, Command, Refusal};
    use crate::model::effect::Task;
    use crate::model::id::Repo;
    use crate::model::input::{Input, RunFact};
    use crate::model::job::Job;
    use crate::model::job::JobId;
    use crate::model::job::JobKind;
    use crate::model::job::JobStatus;
    use crate::model::permission::Tool;
    use crate::model::policy::Policy;
    use crate::step::tests::{Play, RUN};

    fn asked(n: u8, kind: JobKind) -> Job {
        Job {
            id: JobId::new([n; 6]),
            kind,
            agent: None,
            model: None,
            budget: Some(MicroUsd(500)),
            limit_ms: 1000,
            metadata: None,
        }
    }

    fn submit(play: &mut Play, n: u8, kind: JobKind) -> Result<RunId, Refusal> {
        let (repo, job) = (Repo::parse("acme/r1").unwrap(), Some(Box::new(asked(n, kind))));
        let submit = Command::Submit { repo, prompt: "do".into(), priority: None, job };
        match play.operate(submit)? {
            Accepted::Queued { run, .. } => Ok(run),
            other => panic!("{other:?}"),
        }
    }

    fn status(play: &Play, n: u8) -> JobStatus {
        let run = play.fleet.jobs.run(JobId::new([n; 6])).unwrap();
        (&play.fleet.runs[&run]).job_status()
    }

    fn ready(play: &mut Play, run: RunId) {
        play.about(
            run,
            RunFact::WorktreeReady {
                path: "/j".into(),
                branch: "HEAD".into(),
                base: crate::model::id::Sha("b".into()),
                stages: crate::model::stage::Stages::default(),
                permissions: Box::default(),
            },
        );
    }

    fn ends(play: &mut Play, run: RunId, end: TurnEnd) {
        play.about(run, RunFact::Agent(AgentEvent::TurnEnd(end)));
    }

    #[test]
    fn how_each_end_is_told_and_nobody_is_asked() {
        let why = || "w".into();
        for (end, told) in [
            (TurnEnd::Done, JobStatus::Completed),
            (TurnEnd::Crashed { why: why() }, JobStatus::Failed),
            (TurnEnd::ApiError { status: Some(529), why: why() }, JobStatus::Failed),
            (TurnEnd::Blocked { why: why() }, JobStatus::Failed),
            (TurnEnd::Budget, JobStatus::Failed),
            (TurnEnd::Silent, JobStatus::Failed),
            (TurnEnd::TimedOut, JobStatus::Timeout),
            (TurnEnd::NotStarted { why: why() }, JobStatus::Error),
        ] {
            let mut play = Play::with(Policy::default());
            let run = submit(&mut play, 1, JobKind::Execute { clone: true }).unwrap();
            assert_eq!(status(&play, 1), JobStatus::Running);
            ready(&mut play, run);
            ends(&mut play, run, end.clone());
            assert_eq!(status(&play, 1), told, "{end:?}");
            assert!(play.fleet.inbox().is_empty() && play.fleet.outbox.is_empty(), "{end:?}");
            assert!(play.effects.contains(&Effect::GiveBack { run }));
        }
    }

    #[test]
    fn a_clone_that_can_not_be_made_is_an_error_at_once() {
        let mut play = Play::with(Policy::default());
        let run = submit(&mut play, 1, JobKind::Execute { clone: true }).unwrap();
        play.about(run, RunFact::Failed { why: "no space".into() });
        assert_eq!(status(&play, 1), JobStatus::Error);
        assert_eq!(play.fleet.runs[&run].why.as_received(), "no space");
    }

    #[test]
    fn as_many_as_may_be_under_way_or_wait_and_each_once() {
        let policy = Policy { capacity: 1, max_queue_depth: 2, ..Policy::default() };
        let mut play = Play::with(policy);
        assert!(submit(&mut play, 1, JobKind::Execute { clone: true }).is_ok());
        let again = submit(&mut play, 1, JobKind::Execute { clone: true });
        assert_eq!(again, Err(Refusal::JobKnown { job: JobId::new([1; 6]) }));
        assert!(submit(&mut play, 2, JobKind::Chat).is_ok());
        assert_eq!((status(&play, 1), status(&play, 2)), (JobStatus::Running, JobStatus::Queued));
        assert_eq!(submit(&mut play, 3, JobKind::Execute { clone: true }), Err(Refusal::QueueFull));
    }

    #[test]
    fn a_job_is_known_for_its_time_and_then_forgotten() {
        let mut play = Play::with(Policy { job_ttl_ms: 1000, ..Policy::default() });
        let run = submit(&mut play, 1, JobKind::Chat).unwrap();
        ends(&mut play, run, TurnEnd::Done);
        let ended = play.now;
        assert_eq!(play.fleet.next_deadline(&play.volatile), Some(ended.plus(1000)));
        play.now = ended.plus(999);
        play.tell(Input::Tick);
        assert!(play.fleet.runs.contains_key(&run));
        play.now = ended.plus(1000);
        play.tell(Input::Tick);
        assert!(!play.fleet.runs.contains_key(&run) && play.fleet.jobs == Jobs::default());
        assert!(play.effects.contains(&Effect::Forget { run }));
        assert_eq!(play.fleet.next_deadline(&play.volatile), None);
    }

    #[test]
    fn a_question_has_no_clone_and_no_tools() {
        let mut play = Play::with(Policy::default());
        submit(&mut play, 1, JobKind::Chat).unwrap();
        assert!(
            play.effects.iter().any(|e| matches!(e, Effect::Begin { task: Task::Turn { .. }, .. })),
            "{:?}",
            play.effects
        );
        play.asks(Tool::Shell, "ls");
        let denied = play.effects.iter().any(|effect| {
            matches!(effect, Effect::Answer { answer: Answer::Deny { .. }, by, .. } if *by == DecidedBy::Service)
        });
        assert!(denied && play.fleet.inbox().is_empty());
    }

    #[test]
    fn a_conversation_goes_on_where_it_was_left_and_begins_anew_where_it_is_lost() {
        let converse = || JobKind::Converse { session: "s".into() };
        let mut play = Play::with(Policy::default());
        let first = submit(&mut play, 1, converse()).unwrap();
        let usage = Spend { usd: MicroUsd(70), ..Spend::default() };
        let session =
            AgentEvent::SessionStarted { session: "abc".into(), model: None, version: None };
        play.about(first, RunFact::Agent(session));
        play.about(first, RunFact::Agent(AgentEvent::Usage(usage)));
        ends(&mut play, first, TurnEnd::Done);
        let second = submit(&mut play, 2, converse()).unwrap();
        let run = &play.fleet.runs[&second];
        assert_eq!((run.session.as_deref(), run.session_cost), (Some("abc"), MicroUsd(70)));
        assert_eq!(run.spend, Spend::default());
        ends(&mut play, second, TurnEnd::NoSession { why: "gone".into() });
        assert_eq!(status(&play, 2), JobStatus::Running);
        assert_eq!(play.fleet.runs[&second].session, None);
        ends(&mut play, second, TurnEnd::NoSession { why: "gone".into() });
        assert_eq!(status(&play, 2), JobStatus::Failed);
    }

    #[test]
    fn what_a_caller_allows_is_a_limit_of_its_own() {
        let mut play = Play::with(Policy::default());
        let run = submit(&mut play, 1, JobKind::Execute { clone: true }).unwrap();
        assert_eq!(run, RUN);
        ready(&mut play, run);
        let over = Spend { usd: MicroUsd(501), ..Spend::default() };
        play.agent(AgentEvent::Usage(over));
        assert_eq!(status(&play, 1), JobStatus::Failed);
        assert!(play.fleet.runs[&run].why.clean_line().contains("spent"));
    }

    #[test]
    fn what_a_job_fails_of_holds_nobody_up() {
        let mut play = Play::with(Policy::default());
        for n in 1..=5 {
            let run = submit(&mut play, n, JobKind::Chat).unwrap();
            ends(&mut play, run, TurnEnd::Crashed { why: "exit 1".into() });
        }
        assert!(!play.fleet.paused(play.now) && play.fleet.breaker.open().is_none());
    }
}
