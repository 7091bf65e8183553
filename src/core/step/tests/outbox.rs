//! Steps of the outbox that can't be done: one question, and an operator's decisions.

use crate::model::approval::{Answer, EscalationKind};
use crate::model::command::{Command, Refusal, Role};
use crate::model::effect::Effect;
use crate::model::event::Event;
use crate::model::id::OutboxId;
use crate::model::input::Input;
use crate::model::outbox::{FailedDelivery, OutboxEntry, OutboxStep};
use crate::model::policy::Policy;
use crate::model::verdict::Verdict;
use crate::query::{explain, outbox};
use crate::step::tests::scenario::{FleetScenario, RUN};

/// A done run whose comment, label and closing are on the way.
fn done() -> FleetScenario {
    let mut scenario = FleetScenario::in_ci(Policy::default());
    for _ in 0..3 {
        scenario.report_verdict("h1", Verdict::Green);
    }
    scenario
}

fn steps(scenario: &FleetScenario) -> Vec<OutboxId> {
    let ours = scenario.fleet.outbox.values().filter(|entry| entry.step.issue().is_some());
    ours.map(|entry| entry.id).collect()
}

/// Answers every delivery about the issue that is under way as impossible, except for `works`.
fn refuse_all(scenario: &mut FleetScenario, works: impl Fn(&OutboxStep) -> bool) {
    for _ in 0..10 {
        let untried = |entry: &&OutboxEntry| !entry.held && entry.step.issue().is_some();
        let Some(entry) = scenario.fleet.outbox.values().find(untried).cloned() else { return };
        scenario.input(if works(&entry.step) {
            Input::Delivered { entry: entry.id }
        } else {
            Input::GivenUp { entry: entry.id, why: "GitHub answered 410".into() }
        });
    }
}

#[test]
fn impossible_steps_ask_once_and_hold_nothing_up() {
    let mut scenario = done();
    let first = steps(&scenario)[0];
    scenario.input(Input::GivenUp { entry: first, why: "GitHub answered 410".into() });
    assert!(scenario.fleet.inbox().is_empty(), "the steps behind it come first");
    let next = steps(&scenario)[1];
    let delivers = |e: &Effect| matches!(e, Effect::Deliver { entry, .. } if *entry == next);
    assert!(scenario.effects.iter().any(delivers), "{:?}", scenario.effects);
    refuse_all(&mut scenario, |step| matches!(step, OutboxStep::Close { .. }));
    let inbox: Vec<_> = scenario.fleet.inbox().into_iter().cloned().collect();
    assert_eq!(inbox.len(), 1);
    assert_eq!((inbox[0].kind, inbox[0].run), (EscalationKind::Undelivered, Some(RUN)));
    let detail = inbox[0].detail.as_received();
    assert!(detail.contains("comment on acme/r1#1: GitHub answered 410"), "{detail}");
    assert!(!detail.contains("close acme"), "the issue was closed: {detail}");
    let explained = explain::run(&scenario.fleet, RUN).join("\n");
    assert!(explained.contains("can't be done: GitHub answered 410"), "{explained}");
    // Denied, the steps are dropped, and nothing asks again.
    scenario.answer_newest(Answer::Deny { reason: "".into() }).unwrap();
    assert!(steps(&scenario).is_empty() && scenario.fleet.inbox().is_empty());
}

#[test]
fn approved_steps_are_tried_again_and_ask_again_only_if_they_fail() {
    let mut scenario = done();
    refuse_all(&mut scenario, |_| false);
    let held = steps(&scenario);
    scenario.answer_newest(Answer::Approve).unwrap();
    assert!(scenario.fleet.inbox().is_empty());
    for entry in &held {
        scenario.input(Input::Delivered { entry: *entry });
    }
    assert!(steps(&scenario).is_empty() && scenario.fleet.inbox().is_empty());
}

#[test]
fn operator_retries_skips_and_edits_single_steps() {
    let mut scenario = done();
    refuse_all(&mut scenario, |_| false);
    let is_comment = |e: &&OutboxEntry| matches!(e.step, OutboxStep::Comment { .. });
    let comment = scenario.fleet.outbox.values().rfind(is_comment).unwrap().id;
    let edit = |text: &str| Command::EditStep { entry: comment, text: text.into() };
    assert_eq!(scenario.command(Role::Viewer, edit("x")), Err(Refusal::Viewer));
    assert_eq!(scenario.operate(edit(" ")), Err(Refusal::Empty));
    let none = OutboxId(999);
    assert_eq!(
        scenario.operate(Command::RetryStep { entry: none }),
        Err(Refusal::NoStep { entry: none })
    );
    scenario.operate(edit("done \u{1b}[2Jby hand")).unwrap();
    let sent = scenario.effects.iter().any(|effect| {
        matches!(effect, Effect::Deliver { step: OutboxStep::Comment { text, .. }, .. }
            if text == "done by hand")
    });
    assert!(sent, "{:?}", scenario.effects);
    assert_eq!(
        scenario.operate(Command::SkipStep { entry: comment }),
        Err(Refusal::StepUnderWay { entry: comment })
    );
    scenario.input(Input::Delivered { entry: comment });
    for entry in steps(&scenario) {
        let step = &scenario.fleet.outbox[&entry].step;
        if !matches!(step, OutboxStep::Comment { .. }) {
            let text = "x".into();
            let edited = scenario.operate(Command::EditStep { entry, text });
            assert_eq!(edited, Err(Refusal::NoComment { entry }));
        }
        scenario.operate(Command::SkipStep { entry }).unwrap();
    }
    assert!(scenario.fleet.inbox().is_empty(), "the question is withdrawn with its last step");
}

#[test]
fn later_label_replaces_one_that_could_not_be_set() {
    let mut scenario = FleetScenario::in_turn(Policy::default());
    refuse_all(&mut scenario, |_| false);
    assert_eq!(scenario.fleet.inbox().len(), 1);
    scenario.operate(Command::Cancel { run: RUN }).unwrap();
    refuse_all(&mut scenario, |_| true);
    assert!(steps(&scenario).is_empty() && scenario.fleet.inbox().is_empty());
}

#[test]
fn failing_step_is_listed_with_its_reason_and_the_next_try() {
    let mut scenario = done();
    let entry = steps(&scenario)[0];
    let error = "GitHub answered 502".into();
    scenario.input(Input::NotDelivered(FailedDelivery { entry, error, wait: 0, doubtful: false }));
    let line = outbox::troubled(&scenario.fleet).map(outbox::summary).next().unwrap();
    assert!(line.contains("failed 1 time: GitHub answered 502; next try 00:00:01 UTC"), "{line}");
}

#[test]
fn comment_that_may_still_arrive_is_looked_for_three_times() {
    let mut scenario = done();
    let is_comment = |step: &OutboxStep| matches!(step, OutboxStep::Comment { .. });
    while let Some(entry) = steps(&scenario).first().copied() {
        if is_comment(&scenario.fleet.outbox[&entry].step) {
            break;
        }
        scenario.input(Input::Delivered { entry });
    }
    let comment = steps(&scenario)[0];
    let error = "the answer was lost".into();
    scenario.input(Input::NotDelivered(FailedDelivery {
        entry: comment,
        error,
        wait: 0,
        doubtful: true,
    }));
    scenario.input(Input::Delivered { entry: comment });
    let mut looks = 0;
    loop {
        let tidies = |entry: &&OutboxEntry| matches!(entry.step, OutboxStep::Tidy { .. });
        let Some(entry) = scenario.fleet.outbox.values().find(tidies).cloned() else { break };
        assert!(entry.not_before > scenario.now, "it waits");
        scenario.now = entry.not_before;
        scenario.input(Input::Tick);
        looks += 1;
        scenario.input(Input::Delivered { entry: entry.id });
    }
    assert_eq!(looks, 3);
    assert!(scenario.now.0 >= 600_000);
}

#[test]
fn notice_that_was_being_sent_at_a_crash_is_given_up() {
    let mut scenario = done();
    let entry = scenario.fleet.outbox.values().next().unwrap().id;
    scenario.fleet.apply(scenario.now, &Event::Attempted { entry });
    let policy = Box::new(scenario.fleet.policy.clone());
    scenario.input(Input::Started { policy });
    assert!(!scenario.fleet.outbox.contains_key(&entry), "{entry} may be sent twice");
}
