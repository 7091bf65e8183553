//! A job of the service: what a caller asked for, the limits that they gave, and how it stands.
//!
//! A job is a run without an issue: it waits for the same permits and stands in the same journal.
//! Nobody is asked where it fails; its caller is told.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;

use serde::{Deserialize, Serialize};

use super::agent_event::TurnEnd;
use super::budget::MicroUsd;
use super::effect::Effect;
use super::event::Event;
use super::id::{RunId, Timestamp};
use super::run::{Activity, Outcome, Run, TurnPrompt};
use super::state::Fleet;
use super::step::Stepper;
use super::untrusted::Untrusted;

/// Conversations that are remembered; the one that rested longest goes first.
pub const CONVERSATIONS: usize = 1000;

/// What a job is called: 12 hex digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct JobId(u64);

/// Not 12 lower-case hex digits.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("is no job's id: 12 hex digits")]
pub struct NoJobId;

impl JobId {
    /// From six random bytes.
    #[must_use]
    pub fn new(bytes: [u8; 6]) -> Self {
        Self(bytes.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte)))
    }

    /// Parses one.
    ///
    /// # Errors
    /// [`NoJobId`].
    pub fn parse(text: &str) -> Result<Self, NoJobId> {
        let hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        if text.len() != 12 || !text.bytes().all(hex) {
            return Err(NoJobId);
        }
        u64::from_str_radix(text, 16).map(Self).map_err(|_| NoJobId)
    }
}

impl TryFrom<String> for JobId {
    type Error = NoJobId;
    fn try_from(text: String) -> Result<Self, NoJobId> {
        Self::parse(&text)
    }
}

impl From<JobId> for String {
    fn from(id: JobId) -> Self {
        id.to_string()
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:012x}", self.0)
    }
}

/// What kind of work a job is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum JobKind {
    /// Works with tools.
    Execute {
        /// In a throwaway clone; in an empty folder otherwise.
        clone: bool,
    },
    /// Is answered in words: no clone, no tools.
    Chat,
    /// The same, going on from the last answer in a caller's session.
    Converse {
        /// The caller's name for it.
        session: String,
    },
}

/// What a caller asked for beside the prompt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// Its name.
    pub id: JobId,
    /// What it is.
    #[serde(flatten)]
    pub kind: JobKind,
    /// The agent, as the caller named it.
    pub agent: Option<String>,
    /// The model, where it isn't the agent's own choice.
    pub model: Option<String>,
    /// What it may cost.
    pub budget: Option<MicroUsd>,
    /// How long it may work, in milliseconds; waiting for a permit is no work.
    pub limit_ms: i64,
    /// The caller's own, as JSON.
    pub metadata: Option<Untrusted>,
}

impl Job {
    /// Is answered in words alone.
    #[must_use]
    pub const fn is_question(&self) -> bool {
        !matches!(self.kind, JobKind::Execute { .. })
    }

    /// Works in a clone.
    #[must_use]
    pub const fn has_clone(&self) -> bool {
        matches!(self.kind, JobKind::Execute { clone: true })
    }
}

/// How a job stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum JobStatus {
    /// Waits for a permit.
    Queued,
    /// Is worked on.
    Running,
    /// The agent says that it is done.
    Completed,
    /// The agent failed.
    Failed,
    /// Its time was over.
    Timeout,
    /// It could not be worked on, or was stopped.
    Error,
}

impl JobStatus {
    /// As it is written everywhere.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Timeout => "timeout",
            Self::Error => "error",
        }
    }

    /// Of a run.
    #[must_use]
    pub const fn of(run: &Run) -> Self {
        match (run.outcome, &run.turn_end) {
            (None, _) if run.admitted.is_none() => Self::Queued,
            (None, _) => Self::Running,
            (Some(Outcome::Done), _) => Self::Completed,
            (Some(Outcome::Cancelled), _) => Self::Error,
            (Some(_), Some(TurnEnd::TimedOut)) => Self::Timeout,
            (Some(_), None) if run.turns == 0 => Self::Error,
            (Some(_), Some(TurnEnd::NotStarted { .. })) => Self::Error,
            (Some(_), _) => Self::Failed,
        }
    }
}

/// A conversation as it was left.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Conversation {
    /// What resumes it.
    pub session: String,
    /// What it has cost, as its agent tells it.
    pub cost: MicroUsd,
    /// When it was left.
    pub at: Timestamp,
}

/// The jobs that are known.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Jobs {
    by_id: BTreeMap<JobId, RunId>,
    /// Those that ended, in order: they are forgotten in order.
    ended: VecDeque<(Timestamp, RunId)>,
    conversations: BTreeMap<String, Conversation>,
}

impl Jobs {
    /// The run of a job.
    #[must_use]
    pub fn run(&self, id: JobId) -> Option<RunId> {
        self.by_id.get(&id).copied()
    }

    /// The conversation in a caller's session.
    #[must_use]
    pub fn conversation(&self, session: &str) -> Option<&Conversation> {
        self.conversations.get(session)
    }

    /// When the first of those that ended is to be forgotten.
    #[must_use]
    pub fn next_deadline(&self, ttl_ms: i64) -> Option<Timestamp> {
        self.ended.front().map(|(ended, _)| ended.plus(ttl_ms))
    }

    pub(super) fn claimed(&mut self, job: &Job, run: RunId) {
        self.by_id.insert(job.id, run);
    }

    pub(super) fn ended(&mut self, at: Timestamp, run: &Run, job: &Job) {
        self.ended.push_back((at, run.id));
        let (JobKind::Converse { session: name }, Some(session)) = (&job.kind, &run.session) else {
            return;
        };
        let (session, cost) = (session.clone(), run.session_cost);
        self.conversations.insert(name.clone(), Conversation { session, cost, at });
        while self.conversations.len() > CONVERSATIONS {
            let oldest = self.conversations.iter().min_by_key(|(_, known)| known.at);
            let Some(oldest) = oldest.map(|(name, _)| name.clone()) else { break };
            self.conversations.remove(&oldest);
        }
    }

    pub(super) fn reopened(&mut self, run: RunId) {
        self.ended.retain(|(_, ended)| *ended != run);
    }

    pub(super) fn forgotten(&mut self, run: RunId, job: Option<&Job>) {
        self.reopened(run);
        if let Some(job) = job {
            self.by_id.remove(&job.id);
        }
    }
}

impl Fleet {
    /// As many jobs and runs are known to be under way or waiting as may be.
    #[must_use]
    pub fn jobs_full(&self) -> bool {
        self.live.len() >= self.policy.max_queue_depth as usize
    }
}

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
                    other => other.again(end.line().into()),
                };
                self.begin(id, Activity::Turn { prompt });
            }
            end => self.end_job(id, Outcome::Failed, &end.line()),
        }
    }

    /// A job ends; nobody is asked.
    pub(super) fn end_job(&mut self, id: RunId, outcome: Outcome, why: &str) {
        self.withdraw_requests(id, "the job ended");
        self.emit(Event::Ended { run: id, outcome, why: why.into() });
        self.note(id, format!("{}: {why}", outcome.word()));
        self.effect(Effect::Stop { run: id });
        self.effect(Effect::GiveBack { run: id });
    }

    /// Forgets the jobs that ended long enough ago.
    pub(super) fn forget_jobs(&mut self) {
        let ttl = self.fleet.policy.job_ttl_ms;
        while let Some((ended, run)) = self.fleet.jobs.ended.front().copied() {
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
    use super::super::agent_event::AgentEvent;
    use super::super::approval::Answer;
    use super::super::budget::Spend;
    use super::super::command::{Accepted, Action, Refusal};
    use super::super::effect::Task;
    use super::super::id::Repo;
    use super::super::input::{Input, RunFact};
    use super::super::permission::Tool;
    use super::super::policy::Policy;
    use super::super::tests::{Play, RUN};
    use super::*;

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
        let submit = Action::Submit { repo, prompt: "do".into(), priority: None, job };
        match play.operate(submit)? {
            Accepted::Queued { run, .. } => Ok(run),
            other => panic!("{other:?}"),
        }
    }

    fn status(play: &Play, n: u8) -> JobStatus {
        let run = play.fleet.jobs.run(JobId::new([n; 6])).unwrap();
        JobStatus::of(&play.fleet.runs[&run])
    }

    fn ready(play: &mut Play, run: RunId) {
        play.about(
            run,
            RunFact::WorktreeReady {
                path: "/j".into(),
                branch: "HEAD".into(),
                base: super::super::id::Sha("b".into()),
                stages: super::super::run::Stages::default(),
                permissions: Box::default(),
            },
        );
    }

    fn ends(play: &mut Play, run: RunId, end: TurnEnd) {
        play.about(run, RunFact::Agent(AgentEvent::TurnEnd(end)));
    }

    #[test]
    fn ids_are_twelve_hex_digits() {
        assert_eq!(JobId::new([0, 1, 0xab, 0xff, 0x10, 9]).to_string(), "0001abff1009");
        for bad in ["", "0001abff100", "0001abff1009a", "0001ABFF1009", "0001abff100g"] {
            assert!(JobId::parse(bad).is_err(), "{bad}");
        }
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
        assert_eq!(play.fleet.next_deadline(), Some(ended.plus(1000)));
        play.now = ended.plus(999);
        play.tell(Input::Tick);
        assert!(play.fleet.runs.contains_key(&run));
        play.now = ended.plus(1000);
        play.tell(Input::Tick);
        assert!(!play.fleet.runs.contains_key(&run) && play.fleet.jobs == Jobs::default());
        assert!(play.effects.contains(&Effect::Forget { run }));
        assert_eq!(play.fleet.next_deadline(), None);
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
            matches!(effect, Effect::Answer { answer: Answer::Deny { .. }, by, .. } if by == "service")
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
        assert!(!play.fleet.paused() && play.fleet.breaker.open().is_none());
    }
}
