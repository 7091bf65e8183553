//! Jobs of the service: how each ends for its caller, and what bounds them.

use crate::fleet::jobs::Jobs;
use crate::model::agent_event::{AgentEvent, TurnEnd};
use crate::model::approval::{Answer, DecidedBy};
use crate::model::budget::{MicroUsd, Spend};
use crate::model::command::{Accepted, Command, Refusal};
use crate::model::effect::{Effect, Task};
use crate::model::id::{Repo, RunId, Sha};
use crate::model::input::{Input, RunFact};
use crate::model::job::{Job, JobCommits, JobId, JobKind, JobStatus, QuestionEquipment};
use crate::model::permission::Tool;
use crate::model::policy::Policy;
use crate::model::stage::Stages;
use crate::model::worktree::PreparedWorktree;
use crate::step::tests::scenario::{self, FleetScenario, RUN};

fn job(n: u8, kind: JobKind) -> Job {
    Job { budget: Some(MicroUsd(500)), limit_ms: 1000, ..scenario::job(n, kind) }
}

fn submit(scenario: &mut FleetScenario, n: u8, kind: JobKind) -> Result<RunId, Refusal> {
    let (repo, job) = (Repo::parse("acme/r1").unwrap(), Some(Box::new(job(n, kind))));
    let submit = Command::Submit { repo, prompt: "do".into(), priority: None, job };
    match scenario.operate(submit)? {
        Accepted::Queued { run, .. } => Ok(run),
        other => panic!("{other:?}"),
    }
}

fn status(scenario: &FleetScenario, n: u8) -> JobStatus {
    let run = scenario.fleet.jobs.run(JobId::new([n; 6])).unwrap();
    scenario.fleet.runs[&run].job_status()
}

fn worktree_ready(scenario: &mut FleetScenario, run: RunId) {
    scenario.report_about(
        run,
        RunFact::WorktreeReady(PreparedWorktree {
            path: "/j".into(),
            branch: "HEAD".into(),
            base: Sha("b".into()),
            stages: Stages::default(),
            permissions: Box::default(),
        }),
    );
}

fn end_turn(scenario: &mut FleetScenario, run: RunId, end: TurnEnd) {
    scenario.report_about(run, RunFact::Agent(AgentEvent::TurnEnd(end)));
}

#[test]
fn job_status_follows_the_turn_end_and_escalates_nothing() {
    let why = || "w".into();
    for (end, expected) in [
        (TurnEnd::Done, JobStatus::Completed),
        (TurnEnd::Crashed { why: why() }, JobStatus::Failed),
        (TurnEnd::ApiError { status: Some(529), why: why() }, JobStatus::Failed),
        (TurnEnd::Blocked { why: why() }, JobStatus::Failed),
        (TurnEnd::Budget, JobStatus::Failed),
        (TurnEnd::Silent, JobStatus::Failed),
        (TurnEnd::TimedOut, JobStatus::Timeout),
        (TurnEnd::NotStarted { why: why() }, JobStatus::Error),
    ] {
        let mut scenario = FleetScenario::with_policy(Policy::default());
        let run = submit(&mut scenario, 1, JobKind::Execute { clone: true }).unwrap();
        assert_eq!(status(&scenario, 1), JobStatus::Running);
        worktree_ready(&mut scenario, run);
        end_turn(&mut scenario, run, end.clone());
        // The clone stays until its commits are taken in.
        assert_eq!(status(&scenario, 1), JobStatus::Running, "{end:?}");
        let done = end == TurnEnd::Done;
        let collects = |effect: &Effect| matches!(effect, Effect::Begin { task: Task::Collect { done: pushes }, .. } if *pushes == done);
        assert!(scenario.effects.iter().any(collects), "{end:?}: {:?}", scenario.effects);
        assert!(!scenario.effects.contains(&Effect::GiveBack { run }), "{end:?}");
        scenario.report_about(run, RunFact::Collected { commits: None });
        assert_eq!(status(&scenario, 1), expected, "{end:?}");
        assert!(scenario.fleet.inbox().is_empty() && scenario.fleet.outbox.is_empty(), "{end:?}");
        assert!(scenario.effects.contains(&Effect::GiveBack { run }));
    }
}

#[test]
fn job_whose_commits_could_not_be_pushed_has_failed() {
    for problem in [None, Some("the remote refused them")] {
        let mut scenario = FleetScenario::with_policy(Policy::default());
        let run = submit(&mut scenario, 1, JobKind::Execute { clone: true }).unwrap();
        worktree_ready(&mut scenario, run);
        end_turn(&mut scenario, run, TurnEnd::Done);
        let commits = JobCommits {
            head: Sha("c".into()),
            count: 2,
            pushed: false,
            kept: vec!["refs/afk/kept/r1".into()],
            problem: problem.map(Into::into),
        };
        let collected = RunFact::Collected { commits: Some(Box::new(commits.clone())) };
        scenario.report_about(run, collected);
        let ended = &scenario.fleet.runs[&run];
        assert_eq!(ended.workspace.collected.as_deref(), Some(&commits));
        match problem {
            None => assert_eq!(ended.job_status(), JobStatus::Completed),
            Some(problem) => {
                assert_eq!(ended.job_status(), JobStatus::Failed);
                assert_eq!(ended.progress.why.as_received(), problem);
            }
        }
    }
}

#[test]
fn question_with_tools_and_a_clone_is_judged_like_any_run() {
    let mut scenario = FleetScenario::with_policy(Policy::default());
    let equipment = QuestionEquipment { role: None, tools: true, clone: true };
    let job = Job { equipment, ..job(1, JobKind::Chat) };
    let repo = Repo::parse("acme/r1").unwrap();
    let job = Some(Box::new(job));
    let submit = Command::Submit { repo, prompt: "do".into(), priority: None, job };
    let Ok(Accepted::Queued { run, .. }) = scenario.operate(submit) else { panic!("refused") };
    worktree_ready(&mut scenario, run);
    scenario.request_permission(Tool::Shell, "ls");
    let allowed =
        |effect: &Effect| matches!(effect, Effect::Answer { answer: Answer::Approve, .. });
    assert!(scenario.effects.iter().any(allowed), "{:?}", scenario.effects);
}

#[test]
fn failed_clone_ends_the_job_as_an_error() {
    let mut scenario = FleetScenario::with_policy(Policy::default());
    let run = submit(&mut scenario, 1, JobKind::Execute { clone: true }).unwrap();
    scenario.report_about(run, RunFact::Failed { why: "no space".into() });
    assert_eq!(status(&scenario, 1), JobStatus::Error);
    assert_eq!(scenario.fleet.runs[&run].progress.why.as_received(), "no space");
}

#[test]
fn queue_depth_bounds_jobs_and_refuses_duplicates() {
    let policy = Policy { capacity: 1, max_queue_depth: 2, ..Policy::default() };
    let mut scenario = FleetScenario::with_policy(policy);
    assert!(submit(&mut scenario, 1, JobKind::Execute { clone: true }).is_ok());
    let again = submit(&mut scenario, 1, JobKind::Execute { clone: true });
    assert_eq!(again, Err(Refusal::JobKnown { job: JobId::new([1; 6]) }));
    assert!(submit(&mut scenario, 2, JobKind::Chat).is_ok());
    assert_eq!(
        (status(&scenario, 1), status(&scenario, 2)),
        (JobStatus::Running, JobStatus::Queued)
    );
    assert_eq!(submit(&mut scenario, 3, JobKind::Execute { clone: true }), Err(Refusal::QueueFull));
}

#[test]
fn ended_job_is_forgotten_after_its_retention() {
    let mut scenario = FleetScenario::with_policy(Policy { job_ttl_ms: 1000, ..Policy::default() });
    let run = submit(&mut scenario, 1, JobKind::Chat).unwrap();
    end_turn(&mut scenario, run, TurnEnd::Done);
    let ended = scenario.now;
    assert_eq!(scenario.fleet.next_deadline(&scenario.volatile), Some(ended.plus(1000)));
    scenario.now = ended.plus(999);
    scenario.input(Input::Tick);
    assert!(scenario.fleet.runs.contains_key(&run));
    scenario.now = ended.plus(1000);
    scenario.input(Input::Tick);
    assert!(!scenario.fleet.runs.contains_key(&run) && scenario.fleet.jobs == Jobs::default());
    assert!(scenario.effects.contains(&Effect::Forget { run }));
    assert_eq!(scenario.fleet.next_deadline(&scenario.volatile), None);
}

#[test]
fn question_gets_no_clone_and_no_tools() {
    let mut scenario = FleetScenario::with_policy(Policy::default());
    submit(&mut scenario, 1, JobKind::Chat).unwrap();
    assert!(
        scenario.effects.iter().any(|e| matches!(e, Effect::Begin { task: Task::Turn { .. }, .. })),
        "{:?}",
        scenario.effects
    );
    scenario.request_permission(Tool::Shell, "ls");
    let denied = scenario.effects.iter().any(|effect| {
        matches!(effect, Effect::Answer { answer: Answer::Deny { .. }, by, .. } if *by == DecidedBy::Service)
    });
    assert!(denied && scenario.fleet.inbox().is_empty());
}

#[test]
fn job_that_waited_for_an_answer_until_its_time_was_over_names_the_question() {
    let mut scenario = FleetScenario::with_policy(Policy::default());
    let run = submit(&mut scenario, 1, JobKind::Execute { clone: true }).unwrap();
    worktree_ready(&mut scenario, run);
    let (id, text, options) = ("q".into(), "Which branch?".into(), vec![]);
    scenario.report_about(run, RunFact::Agent(AgentEvent::Question { id, text, options }));
    assert_eq!(scenario.fleet.inbox().len(), 1);
    end_turn(&mut scenario, run, TurnEnd::TimedOut);
    scenario.report_about(run, RunFact::Collected { commits: None });
    assert_eq!(status(&scenario, 1), JobStatus::Timeout);
    let why = scenario.fleet.runs[&run].progress.why.clean_line();
    assert!(why.contains("waited for an answer") && why.contains("Which branch?"), "{why}");
    assert!(scenario.fleet.inbox().is_empty());
}

#[test]
fn conversation_resumes_and_restarts_once_when_lost() {
    let converse = || JobKind::Converse { session: "s".into() };
    let mut scenario = FleetScenario::with_policy(Policy::default());
    let first = submit(&mut scenario, 1, converse()).unwrap();
    let usage = Spend { usd: MicroUsd(70), ..Spend::default() };
    let session = AgentEvent::SessionStarted { session: "abc".into(), model: None, version: None };
    scenario.report_about(first, RunFact::Agent(session));
    scenario.report_about(first, RunFact::Agent(AgentEvent::Usage(usage)));
    end_turn(&mut scenario, first, TurnEnd::Done);
    let second = submit(&mut scenario, 2, converse()).unwrap();
    let run = &scenario.fleet.runs[&second];
    assert_eq!((run.agent.session.as_deref(), run.spend.session), (Some("abc"), MicroUsd(70)));
    assert_eq!(run.spend.total, Spend::default());
    end_turn(&mut scenario, second, TurnEnd::NoSession { why: "gone".into() });
    assert_eq!(status(&scenario, 2), JobStatus::Running);
    assert_eq!(scenario.fleet.runs[&second].agent.session, None);
    end_turn(&mut scenario, second, TurnEnd::NoSession { why: "gone".into() });
    assert_eq!(status(&scenario, 2), JobStatus::Failed);
}

#[test]
fn callers_budget_limits_its_job() {
    let mut scenario = FleetScenario::with_policy(Policy::default());
    let run = submit(&mut scenario, 1, JobKind::Execute { clone: true }).unwrap();
    assert_eq!(run, RUN);
    worktree_ready(&mut scenario, run);
    let over = Spend { usd: MicroUsd(501), ..Spend::default() };
    scenario.agent_event(AgentEvent::Usage(over));
    assert_eq!(status(&scenario, 1), JobStatus::Failed);
    assert!(scenario.fleet.runs[&run].progress.why.clean_line().contains("spent"));
}

#[test]
fn failing_jobs_do_not_trip_the_breaker() {
    let mut scenario = FleetScenario::with_policy(Policy::default());
    for n in 1..=5 {
        let run = submit(&mut scenario, n, JobKind::Chat).unwrap();
        end_turn(&mut scenario, run, TurnEnd::Crashed { why: "exit 1".into() });
    }
    assert!(!scenario.fleet.paused(scenario.now) && scenario.fleet.breaker.open().is_none());
}
