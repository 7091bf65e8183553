//! A run from its claim to its end: where each report leads, at each bound of the policy.

use std::sync::Arc;

use crate::model::activity::{Activity, TurnPrompt};
use crate::model::agent_event::{AgentEvent, TurnEnd};
use crate::model::approval::{Answer, EscalationKind};
use crate::model::budget::{MicroUsd, Spend};
use crate::model::effect::{Effect, Task};
use crate::model::id::RunId;
use crate::model::input::{Input, RunFact};
use crate::model::outbox::{FailedDelivery, OutboxStep};
use crate::model::policy::Policy;
use crate::model::run::Outcome;
use crate::model::stage::{Phase, Stage};
use crate::model::time::MINUTE;
use crate::model::verdict::Verdict;
use crate::step::tests::scenario::{FleetScenario, RUN, issue, sha};

#[test]
fn healthy_run_reaches_every_phase_in_order() {
    let mut scenario = FleetScenario::in_ci(Policy::default());
    for _ in 0..3 {
        scenario.report_verdict("h1", Verdict::Green);
    }
    let reached: Vec<Phase> =
        scenario.run().progress.reached.iter().map(|(phase, _)| *phase).collect();
    assert_eq!(reached, Phase::ALL);
    assert_eq!(scenario.outcome(), Some(Outcome::Done));
    assert!(scenario.fleet.locks.is_empty());
    let posted: Vec<&OutboxStep> = scenario.fleet.outbox.values().map(|e| &e.step).collect();
    assert!(posted.iter().any(|step| matches!(step, OutboxStep::Close { .. })));
    assert!(scenario.effects.contains(&Effect::GiveBack { run: RUN }));
}

#[test]
fn run_skips_stages_that_the_repository_lacks() {
    let (ci, deploy, probe) = (Stage::Ci, Stage::Deploy, Stage::Probe);
    for asked in [vec![], vec![ci], vec![deploy, probe], vec![ci, probe]] {
        let stages = asked.iter().copied().collect();
        let mut scenario = FleetScenario::in_turn_with_stages(Policy::default(), stages);
        scenario.reach_ci("h1");
        let mut seen = vec![];
        while let Activity::Stage { stage } = scenario.run().progress.activity {
            seen.push(stage);
            scenario.report_verdict("h1", Verdict::Green);
        }
        assert_eq!(seen, asked);
        assert_eq!(scenario.outcome(), Some(Outcome::Done));
    }
}

#[test]
fn change_that_asks_is_pushed_only_after_its_approval_and_not_after_another_turn() {
    let pushes = |scenario: &FleetScenario| {
        let is_push = |e: &&Effect| matches!(e, Effect::Begin { task: Task::Push { .. }, .. });
        scenario.effects.iter().any(|e| is_push(&e))
    };
    let asked = || {
        let mut scenario = FleetScenario::in_turn(Policy::default());
        scenario.end_turn(TurnEnd::Done);
        scenario.report_gate_that_asks("h1");
        assert!(!pushes(&scenario));
        assert_eq!(scenario.outcome(), Some(Outcome::NeedsHuman));
        scenario
    };
    let mut approved = asked();
    approved.answer_newest(Answer::Approve).unwrap();
    assert_eq!(approved.run().progress.activity, Activity::Gate, "the tests run again");
    approved.report_gate_that_asks("h1");
    assert!(pushes(&approved));
    // With another turn in between, the agent may have changed what was approved.
    let mut changed = asked();
    changed.answer_newest(Answer::Approve).unwrap();
    changed.report_gate("h1", true, false);
    assert!(matches!(changed.run().progress.activity, Activity::Turn { .. }));
    assert_eq!(changed.run().progress.approved, None);
    changed.end_turn(TurnEnd::Done);
    changed.report_gate_that_asks("h1");
    assert!(!pushes(&changed));
}

#[test]
fn push_takes_only_the_head_that_the_gate_opened_for() {
    let mut scenario = FleetScenario::in_turn(Policy::default());
    scenario.end_turn(TurnEnd::Done);
    assert_eq!(scenario.run().progress.activity, Activity::Gate);
    scenario.report_gate("h1", true, true);
    let push = Task::Push { head: sha("h1") };
    assert!(
        scenario.effects.iter().any(|e| matches!(e, Effect::Begin { task, .. } if *task == push))
    );
}

#[test]
fn closed_gate_returns_to_the_agent_and_then_asks_a_human() {
    for (red, green) in [(false, true), (true, false), (false, false)] {
        let mut scenario = FleetScenario::in_turn(Policy { gate_retries: 2, ..Policy::default() });
        for round in 0..3 {
            scenario.end_turn(TurnEnd::Done);
            scenario.report_gate("h1", red, green);
            assert_eq!(scenario.outcome().is_some(), round == 2, "round {round}");
        }
        assert_eq!(scenario.outcome(), Some(Outcome::NeedsHuman));
        assert!(scenario.run().workspace.pushed.is_none());
        assert!(scenario.fleet.locks.is_empty(), "the lock is free, because nothing was pushed");
    }
}

#[test]
fn policy_caps_fix_forward_attempts_by_number_and_time() {
    for (attempts, minutes_an_attempt, granted) in [(2, 1, 2), (5, 25, 3), (0, 1, 0), (5, 0, 5)] {
        let policy = Policy { fix_forward_attempts: attempts, ..Policy::default() };
        let mut scenario = FleetScenario::in_ci(policy);
        let mut head = 1;
        while scenario.outcome().is_none() {
            scenario.report_verdict(&format!("h{head}"), Verdict::Red);
            if scenario.outcome().is_none() {
                let Activity::Turn { prompt: TurnPrompt::FixForward { log, .. } } =
                    &scenario.run().progress.activity
                else {
                    panic!("{:?}", scenario.run().progress.activity)
                };
                assert_eq!(log.as_received(), "the log");
                scenario.now = scenario.now.plus(minutes_an_attempt * MINUTE);
                head += 1;
                scenario.reach_ci(&format!("h{head}"));
            }
        }
        assert_eq!(
            scenario.run().progress.attempts,
            granted,
            "cap {attempts}, {minutes_an_attempt} min an attempt"
        );
        assert_eq!(scenario.outcome(), Some(Outcome::Frozen));
    }
}

#[test]
fn unknown_verdict_is_retried_and_spends_no_attempt() {
    let mut scenario = FleetScenario::in_ci(Policy { crash_retries: 1, ..Policy::default() });
    scenario.report_verdict("h1", Verdict::Unknown);
    assert!(matches!(scenario.run().progress.activity, Activity::Backoff { .. }));
    assert_eq!(scenario.run().progress.attempts, 0, "an unknown verdict spends no attempt");
    scenario.now = scenario.now.plus(MINUTE);
    scenario.input(Input::Tick);
    assert_eq!(scenario.run().progress.activity, Activity::Stage { stage: Stage::Ci });
    scenario.report_verdict("h1", Verdict::Unknown);
    assert_eq!(scenario.outcome(), Some(Outcome::Frozen));
}

#[test]
fn run_ignores_verdicts_of_other_commits_and_older_epochs() {
    let mut scenario = FleetScenario::in_ci(Policy::default());
    scenario.report_verdict("h0", Verdict::Green);
    assert_eq!(scenario.run().progress.activity, Activity::Stage { stage: Stage::Ci });
    let epoch = scenario.run().progress.epoch - 1;
    let (detail, log) = ("x".into(), "x".into());
    let fact =
        RunFact::Judged { sha: sha("h1"), verdict: Verdict::Red, detail, log, facts: vec![] };
    scenario.input(Input::Run { run: RUN, epoch, fact });
    assert_eq!(scenario.run().progress.activity, Activity::Stage { stage: Stage::Ci });
}

#[test]
fn turn_end_decides_between_retry_and_human() {
    let why = || "x".into();
    for (end, outcome, retried) in [
        (TurnEnd::Blocked { why: why() }, Some(Outcome::NeedsHuman), false),
        (TurnEnd::NotStarted { why: why() }, Some(Outcome::NeedsHuman), false),
        (TurnEnd::Interrupted, Some(Outcome::NeedsHuman), false),
        (TurnEnd::ApiError { status: None, why: why() }, None, true),
        (TurnEnd::ApiError { status: Some(529), why: why() }, None, true),
        (TurnEnd::ApiError { status: Some(403), why: why() }, Some(Outcome::NeedsHuman), false),
        (TurnEnd::Refused { why: why() }, Some(Outcome::NeedsHuman), false),
        (TurnEnd::Budget, Some(Outcome::NeedsHuman), false),
        (TurnEnd::TurnLimit, None, true),
        (TurnEnd::Nudged, None, true),
        (TurnEnd::OutOfMemory { why: why() }, None, true),
        (TurnEnd::Crashed { why: why() }, None, true),
        (TurnEnd::Silent, Some(Outcome::NeedsHuman), false),
        (TurnEnd::TimedOut, None, true),
    ] {
        let mut scenario = FleetScenario::in_turn(Policy::default());
        scenario.end_turn(end.clone());
        assert_eq!(scenario.outcome(), outcome, "{end:?}");
        assert_eq!(
            matches!(scenario.run().progress.activity, Activity::Backoff { .. }),
            retried,
            "{end:?}"
        );
    }
}

#[test]
fn repeated_crashes_ask_a_human() {
    let mut scenario = FleetScenario::in_turn(Policy { crash_retries: 2, ..Policy::default() });
    for _ in 0..3 {
        assert_eq!(scenario.outcome(), None);
        scenario.end_turn(TurnEnd::TimedOut);
        scenario.now = scenario.now.plus(10 * MINUTE);
        scenario.input(Input::Tick);
    }
    assert_eq!(scenario.outcome(), Some(Outcome::NeedsHuman));
}

#[test]
fn rejected_push_is_rebased_and_gated_again_up_to_the_limit() {
    let mut scenario = FleetScenario::in_turn(Policy { push_rejections: 2, ..Policy::default() });
    scenario.end_turn(TurnEnd::Done);
    scenario.report_gate("h1", true, true);
    for round in 0..3 {
        assert_eq!(scenario.outcome(), None);
        scenario.report(RunFact::PushRejected { why: "fetch first".into() });
        if round < 2 {
            assert_eq!(scenario.run().progress.activity, Activity::Rebase);
            scenario.report(RunFact::Rebased { base: sha("b2") });
            assert_eq!(scenario.run().progress.activity, Activity::Gate);
            scenario.report_gate(&format!("h{round}"), true, true);
        }
    }
    assert_eq!(scenario.outcome(), Some(Outcome::NeedsHuman));
}

#[test]
fn commits_that_need_a_human_end_the_run_at_once() {
    for (mut scenario, outcome) in [
        (FleetScenario::in_turn(Policy::default()), Outcome::NeedsHuman),
        (FleetScenario::in_ci(Policy::default()), Outcome::Frozen),
    ] {
        let detail = "abc Add a secret".into();
        scenario.report(RunFact::NeedsHuman { line: "somebody rewrote master".into(), detail });
        assert_eq!(scenario.outcome(), Some(outcome));
        let asked = scenario.fleet.escalations.values().next().unwrap();
        assert_eq!(asked.title.clean(), "somebody rewrote master");
        assert!(asked.detail.clean().contains("abc Add a secret"));
    }
}

#[test]
fn spend_over_the_run_limit_stops_the_run() {
    let mut scenario =
        FleetScenario::in_turn(Policy { run_limit: Some(MicroUsd(100)), ..Policy::default() });
    let usd = MicroUsd(101);
    scenario.report(RunFact::Agent(AgentEvent::Usage(Spend { usd, ..Spend::default() })));
    assert_eq!(scenario.outcome(), Some(Outcome::NeedsHuman));
    assert_eq!(scenario.fleet.inbox()[0].kind, EscalationKind::OverBudget);
    assert!(scenario.effects.contains(&Effect::Stop { run: RUN }));
}

#[test]
fn outbox_retries_a_failing_step_in_order_and_hides_no_escalation() {
    let mut scenario =
        FleetScenario::in_ci(Policy { fix_forward_attempts: 0, ..Policy::default() });
    scenario.report_verdict("h1", Verdict::Red);
    assert_eq!(scenario.fleet.inbox().len(), 1, "the escalation precedes any delivery");
    let first = *scenario.fleet.outbox.keys().next().unwrap();
    for _ in 0..20 {
        scenario.input(Input::NotDelivered(FailedDelivery {
            entry: first,
            error: "502".into(),
            wait: 0,
            doubtful: false,
        }));
        assert_eq!(scenario.fleet.inbox().len(), 1);
        let due = scenario.fleet.outbox[&first].not_before;
        scenario.now = due;
        scenario.input(Input::Tick);
        let delivered: Vec<_> = scenario
            .effects
            .iter()
            .filter_map(|e| match e {
                Effect::Deliver { entry, step } if step.subject().contains('#') => Some(*entry),
                _ => None,
            })
            .collect();
        assert_eq!(delivered, [first], "the next entry of the same issue waits for it");
    }
    let count = scenario.fleet.outbox.len();
    scenario.input(Input::Delivered { entry: first });
    scenario.input(Input::Delivered { entry: first });
    assert_eq!(scenario.fleet.outbox.len(), count - 1);
}

#[test]
fn restart_begins_the_activity_again_and_keeps_the_attempts() {
    let mut scenario =
        FleetScenario::in_ci(Policy { fix_forward_attempts: 2, ..Policy::default() });
    scenario.report_verdict("h1", Verdict::Red);
    let policy = Box::new(scenario.fleet.policy.clone());
    scenario.input(Input::Started { policy });
    assert_eq!(scenario.run().progress.attempts, 1, "a restart spends no attempt");
    let begun = scenario.effects.iter().any(|effect| {
        matches!(effect, Effect::Begin { task: Task::Turn { prompt: TurnPrompt::Continue { of, .. }, .. }, .. }
            if matches!(**of, TurnPrompt::FixForward { .. }))
    });
    assert!(begun, "the failing log was lost: {:?}", scenario.effects);
}

#[test]
fn failed_setup_asks_a_human_at_once_and_begins_no_turn() {
    let mut scenario = FleetScenario::with_policy(Policy::default());
    scenario.input(Input::Issues(vec![issue(1, None)]));
    assert_eq!(scenario.run().progress.activity, Activity::Worktree);
    let why = "the setup command `npm ci` in the workspace: exit code 1".into();
    scenario.report(RunFact::SetupFailed { why, log: "no such package".into() });
    assert_eq!(scenario.outcome(), Some(Outcome::NeedsHuman));
    assert_eq!((scenario.run().agent.turns, scenario.run().progress.failures), (0, 0));
    let asked = scenario.fleet.inbox();
    assert_eq!(asked[0].kind, EscalationKind::NeedsHuman);
    assert!(asked[0].title.clean_line().contains("`npm ci`"), "{:?}", asked[0].title);
    assert!(asked[0].detail.as_received().contains("no such package"), "{:?}", asked[0].detail);
    assert!(scenario.fleet.locks.is_empty(), "nothing was pushed");
}

#[test]
fn worktree_that_a_later_run_has_is_no_longer_the_first_ones() {
    let mut scenario = FleetScenario::in_turn(Policy::default());
    scenario.end_turn(TurnEnd::Refused { why: "no".into() });
    let first = scenario.run().clone();
    let path = first.workspace.worktree.clone();
    assert!(path.is_some());
    assert_eq!(scenario.fleet.own_worktree(&first), path.as_deref());
    let mut later = first.clone();
    later.id = RunId(first.id.0 + 1);
    scenario.fleet.runs.insert(later.id, Arc::new(later.clone()));
    assert_eq!(scenario.fleet.own_worktree(&first), None);
    assert_eq!(scenario.fleet.own_worktree(&later), path.as_deref());
}
