//! Changes of an issue while a run works on it, and the reading before a claim.

use std::collections::BTreeMap;

use crate::model::activity::{Activity, TurnPrompt};
use crate::model::agent_event::TurnEnd;
use crate::model::approval::{Answer, EscalationKind};
use crate::model::brief::Brief;
use crate::model::command::Command;
use crate::model::effect::{Effect, Task};
use crate::model::event::Event;
use crate::model::gate_report::ChangeClass;
use crate::model::id::{Actor, OutboxId};
use crate::model::input::{Input, RunFact, TryFailure};
use crate::model::issue::{Arming, Issue, RepoIdentity};
use crate::model::ledger::Reason;
use crate::model::outage::{OutageCause, OutageKind};
use crate::model::outbox::{OutboxStep, StandingLabel};
use crate::model::policy::Policy;
use crate::model::run::Outcome;
use crate::model::stage::Stages;
use crate::model::time::Timestamp;
use crate::model::verdict::Verdict;
use crate::step::tests::scenario::{FleetScenario, RUN, issue, repo};

fn hold() -> Arming {
    Arming::Hold { why: "mallory changed it".into() }
}

fn with_body(body: &str, arming: Arming) -> Issue {
    Issue { body: body.into(), arming, ..issue(1, None) }
}

fn body_of(scenario: &FleetScenario) -> String {
    scenario.run().issue.brief.as_ref().unwrap().body.as_received().to_owned()
}

/// A queued run, one in its turn, one at the gate, one at its push and one that has pushed.
fn at_each_step() -> Vec<(&'static str, FleetScenario, bool)> {
    let mut queued = FleetScenario::with_policy(Policy { capacity: 0, ..Policy::default() });
    queued.input(Input::Issues(vec![issue(1, None)]));
    let mut gate = FleetScenario::in_turn(Policy::default());
    gate.end_turn(TurnEnd::Done);
    let mut push = FleetScenario::in_turn(Policy::default());
    push.end_turn(TurnEnd::Done);
    push.report_gate("h1", true, true);
    vec![
        ("queued", queued, false),
        ("turn", FleetScenario::in_turn(Policy::default()), false),
        ("gate", gate, false),
        ("push", push, true),
        ("ci", FleetScenario::in_ci(Policy::default()), true),
    ]
}

#[test]
fn issue_that_is_no_longer_asked_for_ends_its_run_before_the_push_only() {
    let not_ready = || vec![Issue { arming: Arming::NotReady, ..issue(1, None) }];
    let stranger = Arming::Untrusted { by: Actor("mallory".into()) };
    let changes: [(&str, Vec<Issue>); 4] = [
        ("closed", vec![Issue { open: false, ..issue(1, None) }]),
        ("unlabelled", not_ready()),
        ("labelled by a stranger", vec![Issue { arming: stranger, ..issue(1, None) }]),
        ("gone", vec![]),
    ];
    for (change, issues) in changes {
        for (step, mut scenario, past) in at_each_step() {
            // An API that failed in between hides nothing.
            let unread = BTreeMap::from([(repo(1), "502".to_owned())]);
            scenario.input(Input::PartialIssues { issues: vec![], unread });
            assert_eq!(scenario.outcome(), None, "{change}, {step}: no news is no change");
            scenario.input(Input::Issues(issues.clone()));
            let withdrawn = scenario.run().issue.withdrawn.is_some();
            assert!(withdrawn, "{change}, {step}");
            let outcome = (!past).then_some(Outcome::Cancelled);
            assert_eq!(scenario.outcome(), outcome, "{change}, {step}");
            assert!(scenario.fleet.inbox().is_empty(), "{change}, {step}: it needs no human");
            if past {
                continue;
            }
            assert!(scenario.effects.contains(&Effect::Stop { run: RUN }), "{change}, {step}");
            assert!(scenario.effects.contains(&Effect::GiveBack { run: RUN }), "{change}, {step}");
            assert!(scenario.fleet.locks.is_empty(), "{change}, {step}");
            // Armed again, by the tracker's clock, it starts another run.
            let arming = Arming::Trusted { by: Actor("ana".into()), at: Timestamp(1) };
            scenario.input(Input::Issues(vec![Issue { arming, ..issue(1, None) }]));
            assert_eq!(scenario.fleet.runs.len(), 2, "{change}, {step}");
        }
    }
}

#[test]
fn push_that_did_not_land_is_not_repeated_for_a_withdrawn_issue() {
    let mut scenario = FleetScenario::in_turn(Policy::default());
    scenario.end_turn(TurnEnd::Done);
    scenario.report_gate("h1", true, true);
    scenario.input(Input::Issues(vec![Issue { open: false, ..issue(1, None) }]));
    scenario.report(RunFact::PushRejected { why: "fetch first".into() });
    assert_eq!(scenario.outcome(), Some(Outcome::Cancelled));
}

#[test]
fn withdrawn_issue_is_finished_after_the_push() {
    let mut scenario = FleetScenario::in_ci(Policy::default());
    scenario.input(Input::Issues(vec![Issue { open: false, ..issue(1, None) }]));
    scenario.report_verdict("h1", Verdict::Red);
    assert!(matches!(scenario.run().progress.activity, Activity::Turn { .. }), "fix forward");
    scenario.reach_ci("h2");
    for _ in 0..3 {
        scenario.report_verdict("h2", Verdict::Green);
    }
    assert_eq!(scenario.outcome(), Some(Outcome::Done));
}

#[test]
fn retried_run_does_not_end_for_a_label_that_was_off_before() {
    let mut scenario = FleetScenario::in_turn(Policy::default());
    scenario.operate(Command::Cancel { run: RUN }).unwrap();
    // The removal of the label is not delivered before the operator changes their mind.
    scenario.operate(Command::Retry { run: RUN, guidance: "go on".into() }).unwrap();
    assert!(scenario.run().issue.detached);
    scenario.input(Input::Issues(vec![Issue { arming: Arming::NotReady, ..issue(1, None) }]));
    assert_eq!(scenario.outcome(), None);
    for entry in scenario.fleet.outbox.keys().copied().collect::<Vec<_>>() {
        scenario.input(Input::Delivered { entry });
    }
    // Armed again, its label counts again.
    let arming = Arming::Trusted { by: Actor("ana".into()), at: Timestamp(9) };
    scenario.input(Input::Issues(vec![Issue { arming, ..issue(1, None) }]));
    assert!(!scenario.run().issue.detached);
    scenario.input(Input::Issues(vec![Issue { arming: Arming::NotReady, ..issue(1, None) }]));
    assert_eq!(scenario.outcome(), Some(Outcome::Cancelled));
}

#[test]
fn retried_run_does_not_end_for_a_label_that_afk_itself_took_off() {
    let mut scenario = FleetScenario::in_turn(Policy::default());
    scenario.operate(Command::Cancel { run: RUN }).unwrap();
    for entry in scenario.fleet.outbox.keys().copied().collect::<Vec<_>>() {
        scenario.input(Input::Delivered { entry });
    }
    // The label is off, and no look at the tracker has seen it yet.
    scenario.operate(Command::Retry { run: RUN, guidance: "go on".into() }).unwrap();
    assert!(scenario.run().issue.detached);
    // A look that began before the removal does not attach the run again.
    scenario.input(Input::Issues(vec![Issue { title: "Do it well".into(), ..issue(1, None) }]));
    assert!(scenario.run().issue.detached);
    scenario.input(Input::Issues(vec![Issue { arming: Arming::NotReady, ..issue(1, None) }]));
    assert_eq!(scenario.outcome(), None);
    // Armed again, its label counts again.
    let arming = Arming::Trusted { by: Actor("ana".into()), at: Timestamp(9) };
    scenario.input(Input::Issues(vec![Issue { arming, ..issue(1, None) }]));
    assert!(!scenario.run().issue.detached);
}

#[test]
fn edit_by_a_stranger_holds_the_run_and_asks_with_the_difference() {
    for (step, mut scenario, past) in at_each_step() {
        scenario.input(Input::Issues(vec![with_body("evil", hold())]));
        assert_eq!(body_of(&scenario), "b", "{step}: the text that was armed stays");
        if past {
            assert_eq!(scenario.outcome(), None, "{step}");
            assert!(scenario.fleet.inbox().is_empty(), "{step}");
            continue;
        }
        assert_eq!(scenario.outcome(), Some(Outcome::NeedsHuman), "{step}");
        let asked = scenario.fleet.inbox()[0].as_ref().clone();
        assert_eq!(asked.kind, EscalationKind::Edited, "{step}");
        let detail = asked.detail.as_received();
        assert!(detail.contains("-b\n+evil\n"), "{step}: {detail}");
        // The operator goes on without the edit, which is not asked about again.
        scenario.answer_newest(Answer::Approve).unwrap();
        scenario.input(Input::Issues(vec![with_body("evil", hold()), issue(2, None)]));
        assert_eq!((scenario.outcome(), body_of(&scenario).as_str()), (None, "b"), "{step}");
        scenario.input(Input::Issues(vec![with_body("worse", hold()), issue(2, None)]));
        assert_eq!(scenario.outcome(), Some(Outcome::NeedsHuman), "{step}: another edit");
    }
}

#[test]
fn text_that_is_back_at_the_armed_version_holds_nothing() {
    let mut scenario = FleetScenario::in_turn(Policy::default());
    scenario.input(Input::Issues(vec![with_body("b", hold())]));
    assert_eq!(scenario.outcome(), None);
}

#[test]
fn title_and_class_are_held_as_the_text_is() {
    let title = Issue { title: "other".into(), ..with_body("b", hold()) };
    let class = Issue { class: ChangeClass::NoTest, ..with_body("b", hold()) };
    for edited in [title, class] {
        let mut scenario = FleetScenario::in_turn(Policy::default());
        scenario.input(Input::Issues(vec![edited]));
        assert_eq!(scenario.outcome(), Some(Outcome::NeedsHuman));
        assert_eq!(scenario.run().issue.brief.as_deref(), Some(&Brief::of(&issue(1, None))));
    }
}

#[test]
fn every_turn_and_a_restart_keep_the_text_while_nobody_knows_who_edited_it() {
    let mut scenario = FleetScenario::in_turn(Policy::default());
    let unknown = || Arming::Unknown { why: "502".into() };
    scenario.input(Input::Issues(vec![with_body("evil", unknown())]));
    let policy = scenario.fleet.policy.clone();
    scenario.input(Input::Started { policy: Box::new(policy) });
    assert_eq!((scenario.outcome(), body_of(&scenario).as_str()), (None, "b"));
    let mut folded = crate::fleet::Fleet::default();
    for (at, event) in &scenario.events {
        folded.apply(*at, event);
    }
    assert_eq!(folded.runs[&RUN].issue, scenario.run().issue, "the journal has the text");
}

/// A run whose change passed the gate while nobody knew who had edited its issue.
fn at_unjudged_push() -> FleetScenario {
    let mut scenario = FleetScenario::in_turn(Policy::default());
    let unknown = Arming::Unknown { why: "it lags".into() };
    scenario.input(Input::Issues(vec![with_body("evil", unknown)]));
    scenario.end_turn(TurnEnd::Done);
    scenario.report_gate("h1", true, true);
    scenario
}

fn pushes(scenario: &FleetScenario) -> bool {
    let is_push = |e: &Effect| matches!(e, Effect::Begin { task: Task::Push { .. }, .. });
    scenario.effects.iter().any(is_push)
}

#[test]
fn push_waits_until_the_editor_of_its_issue_is_known() {
    let trusted = issue(1, None).arming;
    let changes: [(&str, &str, Arming); 5] = [
        ("a stranger's edit", "evil", hold()),
        ("a trusted edit", "evil", trusted.clone()),
        ("edited back", "b", trusted),
        ("edited back, unknown", "b", Arming::Unknown { why: "it lags".into() }),
        ("taken off", "evil", Arming::NotReady),
    ];
    for (change, body, arming) in changes {
        let mut scenario = at_unjudged_push();
        assert!(!pushes(&scenario), "{change}: it waits");
        assert!(matches!(scenario.run().progress.activity, Activity::Backoff { .. }), "{change}");
        scenario.now = scenario.now.plus(10_000);
        scenario.input(Input::Tick);
        scenario.input(Input::Started { policy: Box::new(scenario.fleet.policy.clone()) });
        assert!(!pushes(&scenario), "{change}: it still waits");
        scenario.input(Input::Issues(vec![with_body(body, arming)]));
        let (outcome, begins) = match change {
            "a stranger's edit" => (Some(Outcome::NeedsHuman), "nothing"),
            "a trusted edit" => (None, "turn"),
            "taken off" => (Some(Outcome::Cancelled), "nothing"),
            _ => (None, "push"),
        };
        assert_eq!(scenario.outcome(), outcome, "{change}");
        assert_eq!(pushes(&scenario), begins == "push", "{change}");
        let turn = matches!(
            scenario.run().progress.activity,
            Activity::Turn { prompt: TurnPrompt::Edited }
        );
        assert_eq!(turn, begins == "turn", "{change}");
        assert_eq!(scenario.fleet.inbox().len(), usize::from(outcome == Some(Outcome::NeedsHuman)));
    }
}

#[test]
fn edit_whose_editor_stays_unknown_asks_as_one_of_a_stranger() {
    let mut scenario = at_unjudged_push();
    scenario.now = scenario.now.plus(30_000);
    scenario.input(Input::Tick);
    assert_eq!(scenario.outcome(), Some(Outcome::NeedsHuman));
    let asked = scenario.fleet.inbox()[0].as_ref().clone();
    assert_eq!(asked.kind, EscalationKind::Edited);
    let text = asked.detail.as_received();
    assert!(text.contains("it lags") && text.contains("-b\n+evil"), "{text}");
    // The operator goes on without the edit, and the push does not wait again.
    scenario.answer_newest(Answer::Approve).unwrap();
    scenario.end_turn(TurnEnd::Done);
    scenario.report_gate("h2", true, true);
    assert!(pushes(&scenario), "{:?}", scenario.run().progress);
}

#[test]
fn editor_is_waited_for_through_an_outage_of_the_forge() {
    let mut scenario = at_unjudged_push();
    let cause = OutageCause::new(OutageKind::Forge, "https://api");
    let failure = TryFailure { why: "502".into(), wait_ms: 0 };
    let repo = Some(repo(1));
    scenario.input(Input::Unavailable { cause: cause.clone(), repo, failure });
    for _ in 0..20 {
        scenario.now = scenario.now.plus(30_000);
        scenario.input(Input::Tick);
        assert_eq!(scenario.outcome(), None, "the run is not at fault");
        assert!(!pushes(&scenario));
    }
    scenario.input(Input::OutageTried { cause, failure: None });
    scenario.input(Input::Issues(vec![with_body("b", issue(1, None).arming)]));
    assert!(pushes(&scenario));
}

#[test]
fn trusted_edit_reaches_the_agent_before_the_push() {
    for (step, mut scenario, past) in at_each_step() {
        scenario.input(Input::Issues(vec![with_body("better", issue(1, None).arming)]));
        assert_eq!(scenario.outcome(), None, "{step}");
        assert_eq!(body_of(&scenario), if past { "b" } else { "better" }, "{step}");
        if step == "turn" {
            assert!(matches!(scenario.run().progress.activity, Activity::Turn { .. }));
            scenario.end_turn(TurnEnd::Done);
        }
        if step == "turn" || step == "gate" {
            let begun = scenario.effects.iter().any(|effect| {
                matches!(effect, Effect::Begin { task: Task::Turn { prompt, turn: 2, .. }, .. }
                    if *prompt == TurnPrompt::Edited)
            });
            assert!(begun, "{step}: {:?}", scenario.effects);
            assert!(scenario.run().issue.shows_edit(2), "{step}");
            scenario.end_turn(TurnEnd::Done);
            assert_eq!(scenario.run().progress.activity, Activity::Gate, "{step}");
        }
    }
}

#[test]
fn remote_issue_is_claimed_only_as_it_was_read_right_before() {
    let remote = || Policy { remote: [repo(1)].into(), ..Policy::default() };
    let started = |read: Issue| {
        let mut scenario = FleetScenario::with_policy(remote());
        scenario.input(Input::Issues(vec![issue(1, None)]));
        assert!(scenario.fleet.runs.is_empty());
        assert!(scenario.effects.contains(&Effect::ReadIssue { issue: read.key.clone() }));
        scenario.input(Input::Issues(vec![issue(1, None), issue(2, None)]));
        let again = scenario.effects.iter().any(|e| matches!(e, Effect::ReadIssue { .. }));
        assert!(!again, "it is being read already");
        let (key, read) = (read.key.clone(), Ok(Some(Box::new(read))));
        scenario.input(Input::IssueRead { key, read });
        scenario
    };
    let scenario = started(with_body("new", issue(1, None).arming));
    let run = scenario.fleet.runs.values().find(|run| run.work.issue().unwrap().number == 1);
    assert_eq!(run.unwrap().issue.brief.as_ref().unwrap().body.as_received(), "new");
    for arming in [hold(), Arming::NotReady, Arming::Unknown { why: "it lags".into() }] {
        let scenario = started(with_body("new", arming));
        assert!(scenario.fleet.runs.values().all(|run| run.work.issue().unwrap().number == 2));
    }
    // A failed reading starts nothing, and is repeated.
    let mut scenario = FleetScenario::with_policy(remote());
    scenario.input(Input::Issues(vec![issue(1, None)]));
    let key = issue(1, None).key;
    scenario.input(Input::IssueRead { key: key.clone(), read: Err("502".into()) });
    assert!(scenario.fleet.runs.is_empty());
    assert!(scenario.effects.contains(&Effect::ReadIssue { issue: key.clone() }));
    scenario.input(Input::IssueRead { key: key.clone(), read: Ok(None) });
    assert!(scenario.fleet.issues.is_empty() && scenario.fleet.runs.is_empty());
}

#[test]
fn issue_in_progress_elsewhere_is_left_alone() {
    let mut scenario = FleetScenario::with_policy(Policy::default());
    let claimed = || Issue { in_progress: true, ..issue(1, None) };
    scenario.input(Input::Issues(vec![claimed()]));
    assert!(scenario.fleet.runs.is_empty());
    let reason = scenario.fleet.ledger[&issue(1, None).key].reason.clone();
    assert_eq!(reason, Reason::ClaimedElsewhere);
    scenario.input(Input::Issues(vec![issue(1, None)]));
    assert_eq!(scenario.fleet.runs.len(), 1);
    // Our own label changes nothing, and is not taken for a claim of another afk.
    scenario.input(Input::Issues(vec![claimed()]));
    assert_eq!(scenario.outcome(), None);
    scenario.operate(Command::Cancel { run: RUN }).unwrap();
    let arming = Arming::Trusted { by: Actor("ana".into()), at: Timestamp(1) };
    scenario.input(Input::Issues(vec![Issue { arming, ..claimed() }]));
    assert_eq!(scenario.fleet.runs.len(), 2, "its removal is on the way");
    let label = |step: &OutboxStep| {
        matches!(step, OutboxStep::Label { label: Some(StandingLabel::InProgress), .. })
    };
    assert!(scenario.fleet.outbox.values().any(|entry| label(&entry.step)));
}

#[test]
fn run_whose_issue_another_afk_claimed_first_ends_and_leaves_the_labels() {
    let mut scenario =
        FleetScenario::with_policy(Policy { remote: [repo(1)].into(), ..Policy::default() });
    let armed = issue(1, None);
    scenario.input(Input::Issues(vec![armed.clone()]));
    let read = Ok(Some(Box::new(armed.clone())));
    scenario.input(Input::IssueRead { key: armed.key.clone(), read });
    let entries: Vec<OutboxId> = scenario.fleet.outbox.keys().copied().collect();
    scenario.input(Input::Delivered { entry: entries[0] });
    scenario.input(Input::ClaimLost { entry: entries[1] });
    assert_eq!(scenario.outcome(), Some(Outcome::Cancelled));
    assert!(scenario.run().progress.why.clean_line().contains("another afk"));
    assert!(scenario.effects.contains(&Effect::Stop { run: RUN }));
    assert!(scenario.effects.contains(&Effect::GiveBack { run: RUN }));
    let on_tracker = scenario.fleet.outbox.values().filter(|e| e.step.issue().is_some()).count();
    assert_eq!((on_tracker, scenario.fleet.inbox().len()), (0, 0), "{:?}", scenario.fleet.outbox);
    // The same arming starts it no second time.
    scenario.input(Input::Issues(vec![Issue { in_progress: true, ..armed.clone() }]));
    scenario.input(Input::Issues(vec![armed]));
    assert_eq!(scenario.fleet.live.len(), 0);
}

#[test]
fn repositories_are_told_apart_by_their_numbers() {
    let identified = |id, name: &str| {
        Input::Identified(BTreeMap::from([(repo(1), RepoIdentity { id, name: name.into() })]))
    };
    let mut scenario = FleetScenario::with_policy(Policy::default());
    scenario.input(identified(7, "acme/r1"));
    assert!(scenario.fleet.outbox.is_empty(), "nothing has changed");
    scenario.input(identified(7, "acme/renamed"));
    let notices = scenario.fleet.outbox.len();
    assert_eq!(notices, 1, "the new name is announced once");
    scenario.input(identified(7, "acme/renamed"));
    assert_eq!((scenario.fleet.outbox.len(), scenario.fleet.inbox().len()), (1, 0));
    scenario.input(identified(8, "acme/r1"));
    scenario.input(identified(8, "acme/r1"));
    assert_eq!(scenario.fleet.inbox().len(), 1, "one question");
    assert_eq!(scenario.fleet.identities[&repo(1)].id, 7);
    scenario.answer_newest(Answer::Approve).unwrap();
    assert_eq!(scenario.fleet.identities[&repo(1)].id, 8);
    let asked = scenario.events.iter().filter(|(_, e)| matches!(e, Event::Escalated { .. }));
    assert_eq!(asked.count(), 1);
    assert!(scenario.fleet.outbox.contains_key(&OutboxId(1)));
}

#[test]
fn issue_of_another_clock_is_armed_again_by_that_clock() {
    // The tracker's clock is an hour behind ours.
    let mut scenario = FleetScenario::in_turn_with_stages(Policy::default(), Stages::default());
    scenario.now = Timestamp(3_600_000);
    scenario.reach_ci("h1");
    assert_eq!(scenario.outcome(), Some(Outcome::Done));
    let arming = Arming::Trusted { by: Actor("ana".into()), at: Timestamp(60_000) };
    scenario.input(Input::Issues(vec![Issue { arming, ..issue(1, None) }]));
    assert_eq!(scenario.fleet.runs.len(), 2);
}
