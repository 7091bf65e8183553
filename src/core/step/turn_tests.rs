//! What a live agent says, thing by thing: what each leads to.

use crate::model::agent_event::{AgentEvent, TurnEnd};
use crate::model::approval::DecidedBy;
use crate::model::approval::{Answer, EscalationKind, EscalationState};
use crate::model::breaker::PAUSE;
use crate::model::budget::{MicroUsd, Spend};
use crate::model::capability::{Capabilities, Equipment, Steer};
use crate::model::command::{Command, Refusal};
use crate::model::effect::{Effect, Task};
use crate::model::id::RunId;
use crate::model::input::{Input, RunFact};
use crate::model::ledger::Reason;
use crate::model::permission::{Decision, Permissions, Tool};
use crate::model::policy::{Policy, RemoteExecutor};
use crate::model::run::{Activity, Outcome};
use crate::model::time::Timestamp;
use crate::step::tests::{Play, RUN, issue};

fn usd(cents: i64) -> MicroUsd {
    MicroUsd(cents * 10_000)
}

fn spends(cents: i64) -> AgentEvent {
    AgentEvent::Usage(Spend { usd: usd(cents), ..Spend::default() })
}

/// The last answer that was handed to the agent.
fn answered(play: &Play) -> Option<(Answer, DecidedBy)> {
    play.effects.iter().rev().find_map(|effect| match effect {
        Effect::Answer { answer, by, .. } => Some((answer.clone(), by.clone())),
        _ => None,
    })
}

fn asking() -> Play {
    let mut play = Play::turning(Policy::default());
    let asks = Permissions { default: Some(Decision::Ask), ..Permissions::default() };
    let run = play.fleet.runs.get_mut(&RUN).unwrap();
    std::sync::Arc::make_mut(run).permissions = asks;
    play
}

#[test]
fn the_policy_answers_without_a_human() {
    let mut play = Play::turning(Policy::default());
    play.asks(Tool::Shell, "make");
    assert_eq!(answered(&play), Some((Answer::Approve, DecidedBy::Policy)));
    assert!(play.fleet.inbox().is_empty());
}

#[test]
fn a_guardrail_refuses_and_tells_a_human_once() {
    let mut play = Play::turning(Policy::default());
    for _ in 0..3 {
        play.asks(Tool::Shell, "git push --force");
        let (answer, by) = answered(&play).unwrap();
        assert!(matches!(answer, Answer::Deny { .. }) && by == DecidedBy::Guardrail);
    }
    assert_eq!(play.fleet.inbox().len(), 1);
    assert_eq!(play.fleet.inbox()[0].kind, EscalationKind::Guardrail);
    assert!(play.run().live());
    // Acknowledged, it may be told again.
    assert!(play.answer(Answer::Approve).is_ok());
    assert!(play.run().live());
    play.asks(Tool::Shell, "git push --force");
    assert_eq!(play.fleet.inbox().len(), 1);
}

#[test]
fn a_grant_for_the_run_covers_the_same_again_and_survives_the_turn() {
    let mut play = asking();
    play.asks(Tool::Shell, "make");
    assert!(play.answer(Answer::ApproveRun).is_ok());
    play.asks(Tool::Shell, "make");
    assert_eq!(answered(&play), Some((Answer::Approve, DecidedBy::Grant)));
    play.turn_end(TurnEnd::TimedOut);
    play.now = play.now.plus(600_000);
    play.tell(Input::Tick);
    play.asks(Tool::Shell, "make");
    assert!(play.fleet.inbox().is_empty());
    play.asks(Tool::Shell, "make install");
    assert_eq!(play.fleet.inbox().len(), 1);
}

#[test]
fn an_edited_command_goes_to_the_agent_unless_a_guardrail_forbids_it() {
    let mut play = asking();
    play.asks(Tool::Shell, "make");
    let edit = |command: &str| Answer::Edit { command: command.into() };
    assert!(matches!(play.answer(edit("git push -f")), Err(Refusal::Guarded { .. })));
    assert!(matches!(play.answer(edit(" ")), Err(Refusal::Empty)));
    assert!(play.answer(edit("make -n")).is_ok());
    assert_eq!(answered(&play).unwrap().0, edit("make -n"));
    // Not everything can be edited.
    play.asks(Tool::Edit, "a.rs");
    assert!(matches!(play.answer(edit("x")), Err(Refusal::WrongAnswer { .. })));
}

#[test]
fn a_withdrawn_request_is_asked_no_more() {
    let mut play = asking();
    play.asks(Tool::Shell, "make");
    let id = play.fleet.inbox()[0].id;
    play.agent(AgentEvent::RequestWithdrawn { id: "p".into() });
    let state = &play.fleet.escalations[&id].state;
    assert!(matches!(state, EscalationState::Withdrawn { .. }));
}

fn equipped(steer: Steer, interrupt: bool) -> AgentEvent {
    let can = Capabilities { steer, interrupt, ..Capabilities::default() };
    let agent = "x".into();
    let equipment = Equipment { agent, can, model: None, version: None, place: None, folder: None };
    AgentEvent::Equipped(Box::new(equipment))
}

#[test]
fn what_an_agent_can_not_do_is_not_offered() {
    let steer = || Command::Steer { run: RUN, text: "left".into() };
    let interrupt = || Command::Interrupt { run: RUN };
    let mut play = Play::turning(Policy::default());
    play.agent(equipped(Steer::Unsupported, false));
    assert!(matches!(play.operate(steer()), Err(Refusal::Unsupported { .. })));
    assert!(matches!(play.operate(interrupt()), Err(Refusal::Unsupported { .. })));
    play.agent(equipped(Steer::AfterTurn, true));
    assert!(play.operate(steer()).is_ok() && play.operate(interrupt()).is_ok());
    assert!(play.effects.contains(&Effect::Interrupt { run: RUN }));
    // An interrupted run waits for its operator, who goes on in the same conversation.
    let (session, model, version) = ("s1".into(), Some("m".into()), None);
    play.agent(AgentEvent::SessionStarted { session, model, version });
    assert_eq!(play.run().equipment.as_ref().unwrap().model, Some("m".into()));
    play.turn_end(TurnEnd::Interrupted);
    assert_eq!(play.outcome(), Some(Outcome::NeedsHuman));
    assert!(play.operate(interrupt()).is_err());
    assert!(play.answer(Answer::Text { text: "the other way".into() }).is_ok());
    assert_eq!(play.run().session.as_deref(), Some("s1"));
    let resumes = play.effects.iter().any(|effect| {
        matches!(effect, Effect::Begin { task: Task::Turn { resume: Some(s), .. }, .. } if s == "s1")
    });
    assert!(resumes);
}

#[test]
fn silence_and_retries_are_shown_until_something_is_heard() {
    let mut play = Play::turning(Policy::default());
    play.agent(AgentEvent::Quiet { seconds: 200, interrupted: false });
    assert_eq!(play.run().quiet, Some(play.now.plus(-200_000)));
    assert!(play.run().doing(play.now).contains("silent for 200 s"));
    play.agent(AgentEvent::Active);
    assert_eq!(play.run().quiet, None);
    play.agent(AgentEvent::Retry { attempt: 3, delay_ms: 12_000, status: Some(529) });
    let line = play.run().doing(play.now);
    assert!(line == "529: retries in 12 s, attempt 3", "{line}");
    play.turn_end(TurnEnd::Done);
    assert_eq!(play.run().retry, None);
}

#[test]
fn a_lost_conversation_begins_another() {
    let mut play = Play::turning(Policy::default());
    let (session, model, version) = ("s1".into(), None, None);
    play.agent(AgentEvent::SessionStarted { session, model, version });
    play.agent(spends(5));
    assert_eq!(play.run().session_cost, usd(5));
    play.turn_end(TurnEnd::NoSession { why: "gone".into() });
    assert_eq!(play.run().session, None);
    assert!(matches!(play.run().activity, Activity::Turn { .. }));
    for _ in 0..5 {
        if play.run().live() {
            play.turn_end(TurnEnd::NoSession { why: "gone".into() });
        }
    }
    assert_eq!(play.outcome(), Some(Outcome::NeedsHuman));
}

#[test]
fn a_turn_that_can_not_be_paid_for_is_not_begun() {
    let run_limit = Some(usd(100));
    let policy = Policy { run_limit, turn_reserve: usd(30), ..Policy::default() };
    let mut play = Play::turning(policy);
    play.agent(spends(80));
    assert!(play.run().live());
    play.turn_end(TurnEnd::Done);
    play.gate("h1", false, true);
    assert_eq!(play.fleet.inbox()[0].kind, EscalationKind::OverBudget);
    // Sent on by an operator, it has its limit once more.
    assert!(play.answer(Answer::Text { text: "go on".into() }).is_ok());
    assert!(matches!(play.run().activity, Activity::Turn { .. }));
    let budget = play.effects.iter().rev().find_map(|effect| match effect {
        Effect::Begin { task: Task::Turn { budget, .. }, .. } => *budget,
        _ => None,
    });
    assert_eq!(budget, Some(usd(100)));
}

#[test]
fn the_soft_limit_is_told_once_a_day_and_stops_nothing() {
    let policy = Policy { day_soft_limit: Some(usd(10)), ..Policy::default() };
    let mut play = Play::turning(policy);
    play.agent(spends(11));
    play.agent(spends(1));
    assert_eq!(play.fleet.inbox().len(), 1);
    assert!(play.run().live());
    assert!(play.answer(Answer::Approve).is_ok());
    assert!(play.run().live());
    let repo = play.run().work.repo().clone();
    assert_eq!(play.fleet.books.repos().next(), Some((&repo, play.run().spend)));
}

#[test]
fn a_done_run_takes_a_follow_up_in_the_same_conversation() {
    let mut play = Play::turning(Policy::default());
    let (session, model, version) = ("s1".into(), None, None);
    play.agent(AgentEvent::SessionStarted { session, model, version });
    play.reach_ci("h1");
    for _ in 0..3 {
        play.judged("h1", crate::model::verdict::Verdict::Green);
    }
    assert_eq!(play.outcome(), Some(Outcome::Done));
    let retry = |guidance: &str| Command::Retry { run: RUN, guidance: guidance.into() };
    assert!(matches!(play.operate(retry(" ")), Err(Refusal::Done { .. })));
    assert!(play.operate(retry("and the docs")).is_ok());
    // It gave its worktree back, so it gets another first.
    assert_eq!(play.run().activity, Activity::Worktree);
    assert!(play.run().worktree.is_none() && play.run().home.is_some());
    assert_eq!(play.run().session.as_deref(), Some("s1"));
}

/// A fleet with three runs in three repositories, each in its turn.
fn three() -> Play {
    let mut play = Play::with(Policy { capacity: 4, ..Policy::default() });
    play.tell(Input::Issues((1..=3).map(|n| issue(n, None)).collect()));
    for n in 1..=3 {
        play.about(
            RunId(n),
            RunFact::WorktreeReady {
                path: format!("/w/{n}"),
                branch: "b".into(),
                base: crate::model::id::Sha("b".into()),
                stages: crate::model::stage::Stages::default(),
                permissions: Box::default(),
            },
        );
    }
    play
}

#[test]
fn runs_that_fail_alike_pause_pickup_with_one_question_and_resume_by_themselves() {
    let busy = || {
        RunFact::Agent(AgentEvent::TurnEnd(TurnEnd::ApiError {
            status: Some(529),
            why: "overloaded".into(),
        }))
    };
    let mut play = three();
    for n in 1..=3 {
        play.about(RunId(n), busy());
    }
    let inbox: Vec<_> = play.fleet.inbox().iter().map(|e| e.kind).collect();
    assert_eq!(inbox, [EscalationKind::Breaker]);
    // Nothing new is picked up.
    let fourth = issue(4, None);
    let mut issues: Vec<_> = play.fleet.issues.values().map(|i| i.as_ref().clone()).collect();
    issues.push(fourth.clone());
    play.tell(Input::Issues(issues));
    let reason = &play.fleet.ledger[&fourth.key].reason;
    assert!(matches!(reason, Reason::Breaker { .. }), "{reason:?}");
    // The runs go on trying, and none gives up.
    for _ in 0..10 {
        play.now = play.now.plus(PAUSE);
        play.tell(Input::Tick);
        for n in 1..=3 {
            play.about(RunId(n), busy());
        }
    }
    assert!(play.fleet.runs.values().all(|run| run.live()));
    assert_eq!(play.fleet.inbox().len(), 1);
    // One works again.
    play.now = play.now.plus(PAUSE);
    play.tell(Input::Tick);
    play.about(RunId(2), RunFact::Agent(AgentEvent::TurnEnd(TurnEnd::Done)));
    assert!(play.fleet.inbox().is_empty() && play.fleet.breaker.open().is_none());
    assert!(matches!(play.fleet.ledger[&fourth.key].reason, Reason::Running { .. }));
}

#[test]
fn an_open_breaker_with_nothing_at_work_lets_one_run_try() {
    let mut play = three();
    for n in 1..=3 {
        play.about(RunId(n), RunFact::Agent(AgentEvent::TurnEnd(TurnEnd::Silent)));
    }
    // Two were stopped before the cause was known; the third waits for it.
    assert!(play.operate(Command::Cancel { run: RunId(3) }).is_ok());
    assert!(play.fleet.live.is_empty());
    let fourth = issue(4, None);
    play.tell(Input::Issues(vec![fourth.clone()]));
    assert!(matches!(play.fleet.ledger[&fourth.key].reason, Reason::Breaker { .. }));
    assert!(play.fleet.next_deadline(&play.volatile).is_some_and(|at| at > Timestamp(0)));
    play.now = play.now.plus(PAUSE);
    play.tell(Input::Tick);
    assert!(matches!(play.fleet.ledger[&fourth.key].reason, Reason::Running { .. }));
}

#[test]
fn a_restart_leaves_what_an_agent_elsewhere_asked_with_the_human() {
    let mut policy = Policy::default();
    let place = RemoteExecutor { name: "farm".into(), issues: true };
    policy.remote_executors.insert(issue(1, None).key.repo, place);
    let mut play = Play::turning(policy.clone());
    let asks = Permissions { default: Some(Decision::Ask), ..Permissions::default() };
    let run = play.fleet.runs.get_mut(&RUN).unwrap();
    std::sync::Arc::make_mut(run).permissions = asks;
    play.asks(Tool::Shell, "make");
    let before = play.fleet.inbox()[0].id;
    play.now = play.now.plus(1000);
    play.tell(Input::Started { policy: Box::new(policy.clone()) });
    assert_eq!(play.fleet.inbox().len(), 1, "the question was withdrawn");
    // Told again, it is still one question, whose answer arrives.
    play.asks(Tool::Shell, "make");
    assert_eq!(play.fleet.inbox().len(), 1);
    assert!(play.answer(Answer::Approve).is_ok());
    assert_eq!(answered(&play), Some((Answer::Approve, "ana".to_owned().into())));
    // An answer that was lost with the last life is given again.
    play.now = play.now.plus(1000);
    play.tell(Input::Started { policy: Box::new(policy) });
    play.asks(Tool::Shell, "make");
    assert_eq!(answered(&play), Some((Answer::Approve, "ana".to_owned().into())));
    assert!(play.fleet.inbox().is_empty());
    assert_eq!(play.fleet.escalations.keys().next_back(), Some(&before));
    // Something else by the same name is nothing that anybody answered.
    play.asks(Tool::Shell, "make clean");
    assert_eq!(answered(&play), None);
    let other = play.fleet.inbox()[0].id;
    assert_ne!(other, before);
    // Nor is it what is still asked: that is withdrawn.
    play.now = play.now.plus(1000);
    let policy = Box::new(play.fleet.policy.clone());
    play.tell(Input::Started { policy });
    play.asks(Tool::Shell, "make all");
    assert_eq!(play.fleet.inbox().len(), 1);
    assert_ne!(play.fleet.inbox()[0].id, other);
    // In another turn the same name is another request.
    play.turn_end(TurnEnd::Crashed { why: "gone".into() });
    play.now = play.now.plus(60_000);
    play.tell(Input::Tick);
    play.asks(Tool::Shell, "make");
    assert_eq!(play.fleet.inbox().len(), 1);
    assert_ne!(play.fleet.inbox()[0].id, before);
}
