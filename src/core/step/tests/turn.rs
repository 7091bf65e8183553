//! A turn in progress: where each event of a live agent leads.

use crate::model::activity::{Activity, TurnPrompt};
use crate::model::agent_event::{AgentEvent, ContextUse, TurnEnd};
use crate::model::approval::{Answer, DecidedBy, EscalationKind, EscalationState};
use crate::model::breaker::PAUSE;
use crate::model::budget::{MicroUsd, Spend};
use crate::model::capability::{Capabilities, Equipment, Steer};
use crate::model::command::{Command, Refusal};
use crate::model::effect::{Effect, Task};
use crate::model::id::{RunId, Sha};
use crate::model::input::{Input, RunFact};
use crate::model::ledger::Reason;
use crate::model::permission::{Decision, Pattern, Permissions, Tool};
use crate::model::policy::{Policy, RemoteExecutor};
use crate::model::run::Outcome;
use crate::model::stage::Stages;
use crate::model::time::Timestamp;
use crate::model::verdict::Verdict;
use crate::model::worktree::PreparedWorktree;
use crate::step::tests::scenario::{FleetScenario, RUN, issue};

fn usd(cents: i64) -> MicroUsd {
    MicroUsd(cents * 10_000)
}

fn usage(cents: i64) -> AgentEvent {
    AgentEvent::Usage(Spend { usd: usd(cents), ..Spend::default() })
}

/// The last answer that the agent received.
fn last_answer(scenario: &FleetScenario) -> Option<(Answer, DecidedBy)> {
    scenario.effects.iter().rev().find_map(|effect| match effect {
        Effect::Answer { answer, by, .. } => Some((answer.clone(), by.clone())),
        _ => None,
    })
}

fn requiring_approval() -> FleetScenario {
    let mut scenario = FleetScenario::in_turn(Policy::default());
    let asks = Permissions { default: Some(Decision::Ask), ..Permissions::default() };
    let run = scenario.fleet.runs.get_mut(&RUN).unwrap();
    std::sync::Arc::make_mut(run).agent.permissions = asks;
    scenario
}

#[test]
fn policy_answers_without_a_human() {
    let mut scenario = FleetScenario::in_turn(Policy::default());
    scenario.request_permission(Tool::Shell, "make");
    assert_eq!(last_answer(&scenario), Some((Answer::Approve, DecidedBy::Policy)));
    assert!(scenario.fleet.inbox().is_empty());
}

#[test]
fn guardrail_refuses_and_escalates_once() {
    let mut scenario = FleetScenario::in_turn(Policy::default());
    for _ in 0..3 {
        scenario.request_permission(Tool::Shell, "git push --force");
        let (answer, by) = last_answer(&scenario).unwrap();
        assert!(matches!(answer, Answer::Deny { .. }) && by == DecidedBy::Guardrail);
    }
    assert_eq!(scenario.fleet.inbox().len(), 1);
    assert_eq!(scenario.fleet.inbox()[0].kind, EscalationKind::Guardrail);
    assert!(scenario.run().live());
    // After an acknowledgement it may escalate again.
    assert!(scenario.answer_newest(Answer::Approve).is_ok());
    assert!(scenario.run().live());
    scenario.request_permission(Tool::Shell, "git push --force");
    assert_eq!(scenario.fleet.inbox().len(), 1);
}

#[test]
fn run_grant_covers_the_same_request_across_turns() {
    let mut scenario = requiring_approval();
    scenario.request_permission(Tool::Shell, "make");
    assert!(scenario.answer_newest(Answer::ApproveRun).is_ok());
    scenario.request_permission(Tool::Shell, "make");
    assert_eq!(last_answer(&scenario), Some((Answer::Approve, DecidedBy::Grant)));
    scenario.end_turn(TurnEnd::TimedOut);
    scenario.now = scenario.now.plus(600_000);
    scenario.input(Input::Tick);
    scenario.request_permission(Tool::Shell, "make");
    assert!(scenario.fleet.inbox().is_empty());
    scenario.request_permission(Tool::Shell, "make install");
    assert_eq!(scenario.fleet.inbox().len(), 1);
}

#[test]
fn refused_command_that_ran_is_escalated_once() {
    let deny = Pattern::parse("shell(curl*)").unwrap();
    for (command, refused) in [("git push --force", true), ("curl x", true), ("make", false)] {
        let mut scenario = FleetScenario::in_turn(Policy::default());
        let mut permissions = scenario.run().agent.permissions.clone();
        permissions.deny.push(deny.clone());
        let run = std::sync::Arc::make_mut(scenario.fleet.runs.get_mut(&RUN).unwrap());
        run.agent.permissions = permissions;
        scenario.report(RunFact::CommandRan { command: command.into() });
        scenario.report(RunFact::CommandRan { command: command.into() });
        let asked: Vec<_> = scenario.fleet.inbox().iter().map(|e| e.title.clean_line()).collect();
        let expected = format!("ran without asking: {command}");
        assert_eq!(asked, if refused { vec![expected] } else { vec![] });
        assert!(scenario.run().live(), "the turn goes on");
    }
}

#[test]
fn edited_command_reaches_the_agent_unless_a_guardrail_forbids_it() {
    let mut scenario = requiring_approval();
    scenario.request_permission(Tool::Shell, "make");
    let edit = |command: &str| Answer::Edit { command: command.into() };
    assert!(matches!(scenario.answer_newest(edit("git push -f")), Err(Refusal::Guarded { .. })));
    assert!(matches!(scenario.answer_newest(edit(" ")), Err(Refusal::Empty)));
    assert!(scenario.answer_newest(edit("make -n")).is_ok());
    assert_eq!(last_answer(&scenario).unwrap().0, edit("make -n"));
    // Only commands can be edited.
    scenario.request_permission(Tool::Edit, "a.rs");
    assert!(matches!(scenario.answer_newest(edit("x")), Err(Refusal::WrongAnswer { .. })));
}

#[test]
fn withdrawn_request_leaves_the_inbox() {
    let mut scenario = requiring_approval();
    scenario.request_permission(Tool::Shell, "make");
    let id = scenario.fleet.inbox()[0].id;
    scenario.agent_event(AgentEvent::RequestWithdrawn { id: "p".into() });
    let state = &scenario.fleet.escalations[&id].state;
    assert!(matches!(state, EscalationState::Withdrawn { .. }));
}

fn equipped(steer: Steer, interrupt: bool) -> AgentEvent {
    let can = Capabilities { steer, interrupt, ..Capabilities::default() };
    let agent = "x".into();
    let equipment = Equipment {
        agent,
        can,
        model: None,
        version: None,
        place: None,
        folder: None,
        fallback: Vec::new(),
        unasked: Vec::new(),
    };
    AgentEvent::Equipped(Box::new(equipment))
}

#[test]
fn commands_beyond_the_agents_capabilities_are_refused() {
    let steer = || Command::Steer { run: RUN, text: "left".into() };
    let interrupt = || Command::Interrupt { run: RUN };
    let mut scenario = FleetScenario::in_turn(Policy::default());
    scenario.agent_event(equipped(Steer::Unsupported, false));
    assert!(matches!(scenario.operate(steer()), Err(Refusal::Unsupported { .. })));
    assert!(matches!(scenario.operate(interrupt()), Err(Refusal::Unsupported { .. })));
    scenario.agent_event(equipped(Steer::AfterTurn, true));
    assert!(scenario.operate(steer()).is_ok() && scenario.operate(interrupt()).is_ok());
    assert!(scenario.effects.contains(&Effect::Interrupt { run: RUN }));
    // An interrupted run waits for its operator, who continues the same conversation.
    let (session, model, version) = ("s1".into(), Some("m".into()), None);
    scenario.agent_event(AgentEvent::SessionStarted { session, model, version });
    assert_eq!(scenario.run().agent.equipment.as_ref().unwrap().model, Some("m".into()));
    scenario.end_turn(TurnEnd::Interrupted);
    assert_eq!(scenario.outcome(), Some(Outcome::NeedsHuman));
    assert!(scenario.operate(interrupt()).is_err());
    assert!(scenario.answer_newest(Answer::Text { text: "the other way".into() }).is_ok());
    assert_eq!(scenario.run().agent.session.as_deref(), Some("s1"));
    let resumes = scenario.effects.iter().any(|effect| {
        matches!(effect, Effect::Begin { task: Task::Turn { resume: Some(s), .. }, .. } if s == "s1")
    });
    assert!(resumes);
}

#[test]
fn activity_clears_silence_and_retries() {
    let mut scenario = FleetScenario::in_turn(Policy::default());
    scenario.agent_event(AgentEvent::Quiet { seconds: 200, interrupted: false });
    assert_eq!(scenario.run().agent.quiet, Some(scenario.now.plus(-200_000)));
    assert!(scenario.run().doing(scenario.now).contains("silent for 200 s"));
    scenario.agent_event(AgentEvent::Active);
    assert_eq!(scenario.run().agent.quiet, None);
    scenario.agent_event(AgentEvent::Retry { attempt: 3, delay_ms: 12_000, status: Some(529) });
    let line = scenario.run().doing(scenario.now);
    assert!(line == "529: retry 3 in 12 s", "{line}");
    scenario.end_turn(TurnEnd::Done);
    assert_eq!(scenario.run().agent.retry, None);
}

#[test]
fn lost_conversation_begins_a_new_one_up_to_the_limit() {
    let mut scenario = FleetScenario::in_turn(Policy::default());
    let (session, model, version) = ("s1".into(), None, None);
    scenario.agent_event(AgentEvent::SessionStarted { session, model, version });
    scenario.agent_event(usage(5));
    assert_eq!(scenario.run().spend.session, usd(5));
    scenario.end_turn(TurnEnd::NoSession { why: "gone".into() });
    assert_eq!(scenario.run().agent.session, None);
    assert!(matches!(scenario.run().progress.activity, Activity::Turn { .. }));
    for _ in 0..5 {
        if scenario.run().live() {
            scenario.end_turn(TurnEnd::NoSession { why: "gone".into() });
        }
    }
    assert_eq!(scenario.outcome(), Some(Outcome::NeedsHuman));
}

#[test]
fn turn_over_the_run_limit_does_not_begin() {
    let run_limit = Some(usd(100));
    let policy = Policy { run_limit, turn_reserve: usd(30), ..Policy::default() };
    let mut scenario = FleetScenario::in_turn(policy);
    scenario.agent_event(usage(80));
    assert!(scenario.run().live());
    scenario.end_turn(TurnEnd::Done);
    scenario.report_gate("h1", false, true);
    assert_eq!(scenario.fleet.inbox()[0].kind, EscalationKind::OverBudget);
    // An operator who reopens the run grants its limit again.
    assert!(scenario.answer_newest(Answer::Text { text: "go on".into() }).is_ok());
    assert!(matches!(scenario.run().progress.activity, Activity::Turn { .. }));
    let budget = scenario.effects.iter().rev().find_map(|effect| match effect {
        Effect::Begin { task: Task::Turn { budget, .. }, .. } => *budget,
        _ => None,
    });
    assert_eq!(budget, Some(usd(100)));
}

#[test]
fn soft_limit_escalates_once_a_day_and_stops_nothing() {
    let policy = Policy { day_soft_limit: Some(usd(10)), ..Policy::default() };
    let mut scenario = FleetScenario::in_turn(policy);
    scenario.agent_event(usage(11));
    scenario.agent_event(usage(1));
    assert_eq!(scenario.fleet.inbox().len(), 1);
    assert!(scenario.run().live());
    assert!(scenario.answer_newest(Answer::Approve).is_ok());
    assert!(scenario.run().live());
    let repo = scenario.run().work.repo().clone();
    assert_eq!(scenario.fleet.books.repos().next(), Some((&repo, scenario.run().spend.total)));
}

#[test]
fn done_run_takes_a_follow_up_in_its_conversation() {
    let mut scenario = FleetScenario::in_turn(Policy::default());
    let (session, model, version) = ("s1".into(), None, None);
    scenario.agent_event(AgentEvent::SessionStarted { session, model, version });
    scenario.reach_ci("h1");
    for _ in 0..3 {
        scenario.report_verdict("h1", Verdict::Green);
    }
    assert_eq!(scenario.outcome(), Some(Outcome::Done));
    let retry = |guidance: &str| Command::Retry { run: RUN, guidance: guidance.into() };
    assert!(matches!(scenario.operate(retry(" ")), Err(Refusal::Done { .. })));
    assert!(scenario.operate(retry("and the docs")).is_ok());
    // The run gave its worktree back, so it gets another one first.
    assert_eq!(scenario.run().progress.activity, Activity::Worktree);
    assert!(scenario.run().workspace.worktree.is_none() && scenario.run().workspace.home.is_some());
    assert_eq!(scenario.run().agent.session.as_deref(), Some("s1"));
}

/// A fleet with three runs in three repositories, each in its turn.
fn three_turns() -> FleetScenario {
    let mut scenario = FleetScenario::with_policy(Policy { capacity: 4, ..Policy::default() });
    scenario.input(Input::Issues((1..=3).map(|n| issue(n, None)).collect()));
    for n in 1..=3 {
        scenario.report_about(
            RunId(n),
            RunFact::WorktreeReady(PreparedWorktree {
                path: format!("/w/{n}"),
                branch: "b".into(),
                base: Sha("b".into()),
                stages: Stages::default(),
                permissions: Box::default(),
            }),
        );
    }
    scenario
}

#[test]
fn breaker_pauses_pickup_with_one_escalation_and_closes_by_itself() {
    let busy = || {
        RunFact::Agent(AgentEvent::TurnEnd(TurnEnd::ApiError {
            status: Some(529),
            why: "overloaded".into(),
        }))
    };
    let mut scenario = three_turns();
    for n in 1..=3 {
        scenario.report_about(RunId(n), busy());
    }
    let inbox: Vec<_> = scenario.fleet.inbox().iter().map(|e| e.kind).collect();
    assert_eq!(inbox, [EscalationKind::Breaker]);
    // Pickup is paused.
    let fourth = issue(4, None);
    let mut issues: Vec<_> = scenario.fleet.issues.values().map(|i| i.as_ref().clone()).collect();
    issues.push(fourth.clone());
    scenario.input(Input::Issues(issues));
    let reason = &scenario.fleet.ledger[&fourth.key].reason;
    assert!(matches!(reason, Reason::Breaker { .. }), "{reason:?}");
    // The runs keep retrying, and none ends.
    for _ in 0..10 {
        scenario.now = scenario.now.plus(PAUSE);
        scenario.input(Input::Tick);
        for n in 1..=3 {
            scenario.report_about(RunId(n), busy());
        }
    }
    assert!(scenario.fleet.runs.values().all(|run| run.live()));
    assert_eq!(scenario.fleet.inbox().len(), 1);
    // A turn of one run succeeds.
    scenario.now = scenario.now.plus(PAUSE);
    scenario.input(Input::Tick);
    scenario.report_about(RunId(2), RunFact::Agent(AgentEvent::TurnEnd(TurnEnd::Done)));
    assert!(scenario.fleet.inbox().is_empty() && scenario.fleet.breaker.open().is_none());
    assert!(matches!(scenario.fleet.ledger[&fourth.key].reason, Reason::Running { .. }));
}

#[test]
fn open_breaker_lets_one_idle_run_probe() {
    let mut scenario = three_turns();
    for n in 1..=3 {
        scenario.report_about(RunId(n), RunFact::Agent(AgentEvent::TurnEnd(TurnEnd::Silent)));
    }
    // Two runs ended before the breaker tripped; the third waits for it.
    assert!(scenario.operate(Command::Cancel { run: RunId(3) }).is_ok());
    assert!(scenario.fleet.live.is_empty());
    let fourth = issue(4, None);
    scenario.input(Input::Issues(vec![fourth.clone()]));
    assert!(matches!(scenario.fleet.ledger[&fourth.key].reason, Reason::Breaker { .. }));
    assert!(scenario.fleet.next_deadline(&scenario.volatile).is_some_and(|at| at > Timestamp(0)));
    scenario.now = scenario.now.plus(PAUSE);
    scenario.input(Input::Tick);
    assert!(matches!(scenario.fleet.ledger[&fourth.key].reason, Reason::Running { .. }));
}

#[test]
fn restart_keeps_the_requests_of_a_remote_agent() {
    let mut policy = Policy::default();
    let place = RemoteExecutor { name: "farm".into(), issues: true };
    policy.remote_executors.insert(issue(1, None).key.repo, place);
    let mut scenario = FleetScenario::in_turn(policy.clone());
    let asks = Permissions { default: Some(Decision::Ask), ..Permissions::default() };
    let run = scenario.fleet.runs.get_mut(&RUN).unwrap();
    std::sync::Arc::make_mut(run).agent.permissions = asks;
    scenario.request_permission(Tool::Shell, "make");
    let before = scenario.fleet.inbox()[0].id;
    scenario.now = scenario.now.plus(1000);
    scenario.input(Input::Started { policy: Box::new(policy.clone()) });
    assert_eq!(scenario.fleet.inbox().len(), 1, "the question was withdrawn");
    // The repeated request is still one escalation, and its answer arrives.
    scenario.request_permission(Tool::Shell, "make");
    assert_eq!(scenario.fleet.inbox().len(), 1);
    assert!(scenario.answer_newest(Answer::Approve).is_ok());
    assert_eq!(last_answer(&scenario), Some((Answer::Approve, "ana".to_owned().into())));
    // An answer that was lost with the last life is sent again.
    scenario.now = scenario.now.plus(1000);
    scenario.input(Input::Started { policy: Box::new(policy) });
    scenario.request_permission(Tool::Shell, "make");
    assert_eq!(last_answer(&scenario), Some((Answer::Approve, "ana".to_owned().into())));
    assert!(scenario.fleet.inbox().is_empty());
    assert_eq!(scenario.fleet.escalations.keys().next_back(), Some(&before));
    // Another request under the same id gets no earlier answer.
    scenario.request_permission(Tool::Shell, "make clean");
    assert_eq!(last_answer(&scenario), None);
    let other = scenario.fleet.inbox()[0].id;
    assert_ne!(other, before);
    // It also replaces the open request, which is withdrawn.
    scenario.now = scenario.now.plus(1000);
    let policy = Box::new(scenario.fleet.policy.clone());
    scenario.input(Input::Started { policy });
    scenario.request_permission(Tool::Shell, "make all");
    assert_eq!(scenario.fleet.inbox().len(), 1);
    assert_ne!(scenario.fleet.inbox()[0].id, other);
    // In another turn the same id is another request.
    scenario.end_turn(TurnEnd::Crashed { why: "gone".into() });
    scenario.now = scenario.now.plus(60_000);
    scenario.input(Input::Tick);
    scenario.request_permission(Tool::Shell, "make");
    assert_eq!(scenario.fleet.inbox().len(), 1);
    assert_ne!(scenario.fleet.inbox()[0].id, before);
}

fn overflow() -> TurnEnd {
    TurnEnd::ContextOverflow { why: "prompt is too long".into() }
}

#[test]
fn conversation_that_is_full_is_replaced_once_and_the_run_goes_on() {
    let mut scenario = FleetScenario::in_ci(Policy::default());
    let session = |session: &str| AgentEvent::SessionStarted {
        session: session.into(),
        model: None,
        version: None,
    };
    // A pushed run is in a fix-forward turn that resumes its conversation.
    scenario.report_verdict("h1", Verdict::Red);
    scenario.agent_event(session("s1"));
    scenario.agent_event(AgentEvent::Context(ContextUse { used: 199_000, size: Some(200_000) }));
    assert_eq!(scenario.run().agent.context.and_then(ContextUse::percent), Some(99));
    let turns = scenario.run().agent.turns;
    scenario.end_turn(overflow());
    assert_eq!(scenario.outcome(), None, "it does not freeze");
    let begun = scenario.effects.iter().find_map(|effect| match effect {
        Effect::Begin { task: Task::Turn { prompt, resume, .. }, .. } => Some((prompt, resume)),
        _ => None,
    });
    let Some((TurnPrompt::Continue { of, .. }, None)) = begun else { panic!("{begun:?}") };
    assert!(matches!(of.as_ref(), TurnPrompt::FixForward { .. }), "{of:?}");
    assert_eq!(scenario.run().agent.turns, turns + 1);
    assert_eq!((scenario.run().agent.context, scenario.run().progress.failures), (None, 0));
    let told = scenario.effects.iter().any(|effect| {
        matches!(effect, Effect::Note { text, .. } if text.clean_line().contains("a new one"))
    });
    assert!(told, "{:?}", scenario.effects);
    // A new conversation that is too large as well would be so for ever.
    scenario.agent_event(session("s2"));
    scenario.end_turn(overflow());
    assert_eq!(scenario.outcome(), Some(Outcome::Frozen));
    assert_eq!(scenario.run().agent.session, None);
}

#[test]
fn turn_that_is_done_allows_another_new_conversation() {
    let mut scenario = FleetScenario::in_turn(Policy::default());
    scenario.end_turn(overflow());
    scenario.end_turn(TurnEnd::Done);
    assert_eq!(scenario.run().agent.overflows, 0);
}
