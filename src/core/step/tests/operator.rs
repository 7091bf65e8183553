//! Operators' answers and commands: who may do what, to what they were shown, and how often.

use proptest::prelude::*;

use crate::model::activity::{Activity, TurnPrompt};
use crate::model::agent_event::{AgentEvent, TurnEnd};
use crate::model::approval::{Answer, DecidedBy, EscalationKind};
use crate::model::command::{Command, Refusal, Role};
use crate::model::digest::Digest;
use crate::model::effect::{Effect, Task};
use crate::model::event::Event;
use crate::model::id::EscalationId;
use crate::model::input::{Input, RunFact};
use crate::model::outbox::OutboxStep;
use crate::model::permission::Tool;
use crate::model::policy::Policy;
use crate::model::run::Outcome;
use crate::model::stage::Stage;
use crate::model::verdict::Verdict;
use crate::step::tests::scenario::{FleetScenario, RUN, repo};

#[test]
fn frozen_run_keeps_its_lock_until_an_operator_releases_it() {
    let mut scenario =
        FleetScenario::in_ci(Policy { fix_forward_attempts: 0, ..Policy::default() });
    scenario.report_verdict("h1", Verdict::Red);
    assert_eq!(scenario.fleet.locks.get(&repo(1)), Some(&RUN));
    assert!(scenario.effects.contains(&Effect::Capsule { run: RUN }));
    // A restart changes nothing.
    let policy = scenario.fleet.policy.clone();
    scenario.input(Input::Started { policy: Box::new(policy) });
    assert_eq!((scenario.outcome(), scenario.fleet.locks.len()), (Some(Outcome::Frozen), 1));
    assert_eq!(scenario.command(Role::Viewer, Command::Release { run: RUN }), Err(Refusal::Viewer));
    assert!(scenario.answer_newest(Answer::Approve).is_ok());
    assert!(scenario.fleet.locks.is_empty());
    assert_eq!(scenario.operate(Command::Release { run: RUN }), Err(Refusal::NoLock { run: RUN }));
}

#[test]
fn reopened_run_gets_fresh_caps_and_resumes_its_conversation() {
    let mut scenario =
        FleetScenario::in_turn(Policy { fix_forward_attempts: 0, ..Policy::default() });
    let (model, version) = (None, None);
    let session = "s".to_owned();
    scenario.report(RunFact::Agent(AgentEvent::SessionStarted { session, model, version }));
    scenario.reach_ci("h1");
    scenario.report_verdict("h1", Verdict::Red);
    assert!(scenario.answer_newest(Answer::Text { text: "like this".into() }).is_ok());
    let run = scenario.run();
    assert_eq!(
        (run.progress.attempts, run.progress.first_red, run.progress.outcome),
        (0, None, None)
    );
    let resumes = scenario.effects.iter().any(|effect| {
        matches!(effect, Effect::Begin { task: Task::Turn { resume: Some(s), prompt, .. }, .. }
            if s == "s" && *prompt == TurnPrompt::Guidance { text: "like this".into() })
    });
    assert!(resumes, "{:?}", scenario.effects);
}

/// A run that a red CI froze at its last attempt.
fn frozen() -> FleetScenario {
    let mut scenario =
        FleetScenario::in_ci(Policy { fix_forward_attempts: 0, ..Policy::default() });
    scenario.report_verdict("h1", Verdict::Red);
    assert_eq!(scenario.outcome(), Some(Outcome::Frozen));
    scenario
}

/// The work that began in the run since event `from`.
fn began(scenario: &FleetScenario, from: usize) -> Vec<Activity> {
    let events = scenario.events[from..].iter();
    events
        .filter_map(|(_, event)| match event {
            Event::Began { activity, .. } => Some(activity.clone()),
            _ => None,
        })
        .collect()
}

#[test]
fn frozen_run_that_is_green_after_all_is_closed_by_a_look() {
    let mut scenario = frozen();
    let (from, turns) = (scenario.events.len(), scenario.run().agent.turns);
    assert!(scenario.operate(Command::LookAgain { run: RUN }).is_ok());
    assert_eq!(scenario.fleet.inbox().len(), 0, "the card is answered");
    assert_eq!(scenario.run().doing(scenario.now), "looking again: waiting for CI");
    // A restart looks on.
    let policy = scenario.fleet.policy.clone();
    scenario.input(Input::Started { policy: Box::new(policy) });
    for _ in 0..3 {
        scenario.report_verdict("h1", Verdict::Green);
    }
    assert_eq!(scenario.outcome(), Some(Outcome::Done));
    let stages = Stage::all().map(|stage| Activity::Stage { stage });
    let again = std::iter::once(Activity::Stage { stage: Stage::Ci });
    assert_eq!(began(&scenario, from), again.chain(stages).collect::<Vec<_>>());
    assert_eq!((scenario.run().agent.turns, scenario.run().progress.attempts), (turns, 0));
    let posted: Vec<&OutboxStep> = scenario.fleet.outbox.values().map(|e| &e.step).collect();
    assert!(posted.iter().any(|step| matches!(step, OutboxStep::Close { .. })), "{posted:?}");
    assert!(scenario.fleet.locks.is_empty());
}

#[test]
fn look_that_finds_no_green_says_so_and_leaves_the_run_frozen() {
    for (verdict, why) in [
        (Verdict::Red, "looked again: CI is red (said)"),
        (Verdict::NoCi, "CI: no CI: said"),
        (Verdict::Stuck, "CI: stuck: said"),
        (Verdict::Lost, "CI: lost: said"),
    ] {
        // Attempts are left: a look takes none all the same.
        let mut scenario = FleetScenario::in_ci(Policy::default());
        scenario.report_verdict("h1", Verdict::NoCi);
        let from = scenario.events.len();
        assert!(scenario.operate(Command::LookAgain { run: RUN }).is_ok());
        scenario.report_verdict("h1", verdict);
        assert_eq!(scenario.outcome(), Some(Outcome::Frozen), "{verdict:?}");
        assert_eq!(scenario.run().progress.why.as_received(), why);
        assert_eq!(began(&scenario, from), [Activity::Stage { stage: Stage::Ci }]);
        assert_eq!(scenario.run().progress.looks_again, None);
        assert_eq!(scenario.fleet.inbox()[0].title.as_received(), why);
        assert_eq!(scenario.fleet.locks.get(&repo(1)), Some(&RUN));
        // A retry is a turn again.
        let guidance = "do this".into();
        assert!(scenario.operate(Command::Retry { run: RUN, guidance }).is_ok());
        assert!(matches!(scenario.run().progress.activity, Activity::Turn { .. }));
    }
}

#[test]
fn only_an_operator_looks_again_and_only_at_a_frozen_run() {
    let look = || Command::LookAgain { run: RUN };
    let mut scenario = frozen();
    assert_eq!(scenario.command(Role::Viewer, look()), Err(Refusal::Viewer));
    assert_eq!(scenario.outcome(), Some(Outcome::Frozen));
    let mut live = FleetScenario::in_ci(Policy::default());
    assert_eq!(live.operate(look()), Err(Refusal::NotEnded { run: RUN }));
    let mut unpushed = FleetScenario::in_turn(Policy::default());
    unpushed.end_turn(TurnEnd::Silent);
    assert_eq!(unpushed.operate(look()), Err(Refusal::NotFrozen { run: RUN }));
    let mut done = FleetScenario::in_ci(Policy::default());
    (0..3).for_each(|_| done.report_verdict("h1", Verdict::Green));
    assert_eq!(done.operate(look()), Err(Refusal::NotFrozen { run: RUN }));
    let run = crate::model::id::RunId(9);
    assert_eq!(done.operate(Command::LookAgain { run }), Err(Refusal::NoRun { run }));
}

#[test]
fn approval_is_bound_single_use_and_expires() {
    let request = |scenario: &mut FleetScenario| {
        scenario.request_permission(Tool::Other, "rm -r x");
        scenario.fleet.inbox()[0].as_ref().clone()
    };
    // A second answer is refused.
    let mut scenario = FleetScenario::in_turn(Policy::default());
    let asked = request(&mut scenario);
    assert_eq!(asked.kind, EscalationKind::Permission);
    // An answer to another version is refused, and the question stays open.
    let to_another_version = |scenario: &mut FleetScenario| {
        let escalation = scenario.fleet.inbox()[0].id;
        let answer = Answer::Approve;
        let answered =
            scenario.operate(Command::Answer { escalation, digest: Digest::ZERO, answer });
        assert_eq!(answered, Err(Refusal::Stale { escalation }));
    };
    to_another_version(&mut scenario);
    assert!(scenario.answer_newest(Answer::Approve).is_ok());
    assert!(matches!(scenario.answer_newest(Answer::Approve), Err(Refusal::NotOpen { .. })));
    // A question that never expires is bound to its version, too.
    let mut scenario = FleetScenario::in_turn(Policy::default());
    scenario.end_turn(TurnEnd::Refused { why: "no".into() });
    assert_eq!(scenario.fleet.inbox()[0].expires, None);
    to_another_version(&mut scenario);
    // It expires at its time, with or without a tick before.
    let mut scenario = FleetScenario::in_turn(Policy { answer_ms: 1_000, ..Policy::default() });
    request(&mut scenario);
    scenario.now = scenario.now.plus(1_000);
    assert!(matches!(scenario.answer_newest(Answer::Approve), Err(Refusal::Stale { .. })));
    scenario.input(Input::Tick);
    assert!(scenario.fleet.inbox().is_empty());
    let denied = scenario.effects.iter().any(
        |e| matches!(e, Effect::Answer { answer: Answer::Deny { .. }, by, .. } if *by == DecidedBy::Afk),
    );
    assert!(denied, "the agent still waits");
    // The turn ended meanwhile.
    let mut scenario = FleetScenario::in_turn(Policy::default());
    request(&mut scenario);
    scenario.end_turn(TurnEnd::Done);
    assert!(matches!(scenario.answer_newest(Answer::Approve), Err(Refusal::NotOpen { .. })));
}

#[test]
fn viewer_commands_are_refused_and_change_nothing() {
    let digest = Digest::ZERO;
    let escalation = EscalationId(1);
    let actions = [
        Command::SetKillSwitch { on: true },
        Command::SetCapacity { permits: 9 },
        Command::Answer { escalation, digest, answer: Answer::Approve },
        Command::Steer { run: RUN, text: "x".into() },
        Command::Cancel { run: RUN },
        Command::Retry { run: RUN, guidance: "".into() },
        Command::Release { run: RUN },
        Command::Submit { repo: repo(1), prompt: "x".into(), priority: None, job: None },
    ];
    for action in actions {
        let mut scenario = FleetScenario::in_turn(Policy::default());
        let before = scenario.fleet.clone();
        let events = scenario.events.len();
        assert_eq!(
            scenario.command(Role::Viewer, action.clone()),
            Err(Refusal::Viewer),
            "{action:?}"
        );
        assert_eq!(scenario.fleet, before);
        assert!(matches!(scenario.events[events..], [(_, Event::Refused { .. })]), "not recorded");
    }
}

proptest! {
    #[test]
    fn digest_changes_with_everything_that_is_shown(title in "\\PC{0,12}", detail in "\\PC{0,12}", epoch in 0_u32..9) {
        let mut scenario = FleetScenario::in_turn(Policy::default());
        scenario.request_permission(Tool::Other, "x");
        let shown = scenario.fleet.inbox()[0].as_ref().clone();
        let mut other = shown.clone();
        (other.title, other.detail, other.epoch) = (title.into(), detail.into(), epoch);
        let same = (&other.title, &other.detail, other.epoch) == (&shown.title, &shown.detail, shown.epoch);
        prop_assert_eq!(other.digest_of() == shown.digest, same);
    }
}

#[test]
fn request_that_was_cut_can_only_be_denied() {
    // The policy allows every command, but nobody knows what this one is.
    let mut scenario = FleetScenario::in_turn(Policy::default());
    scenario.request_permission(Tool::Shell, "make\n… afk cut 9 bytes here");
    let asked = scenario.fleet.inbox()[0].id;
    for answer in [Answer::Approve, Answer::ApproveRun] {
        assert_eq!(scenario.answer_newest(answer), Err(Refusal::Cut { escalation: asked }));
    }
    assert!(scenario.answer_newest(Answer::Deny { reason: "too long".into() }).is_ok());
}
