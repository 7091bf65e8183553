//! An agent that floods afk: each of its floods ends at a bound, and its own run goes on.

use crate::model::agent_event::AgentEvent;
use crate::model::approval::{Answer, DecidedBy};
use crate::model::budget::{MicroUsd, Spend};
use crate::model::effect::Effect;
use crate::model::event::Event;
use crate::model::input::Input;
use crate::model::outbox::OutboxStep;
use crate::model::permission::{MAX_TARGET, MAX_TARGETS, PermissionRequest, Permissions, Tool};
use crate::model::policy::Policy;
use crate::model::untrusted::Untrusted;
use crate::step::request::OPEN_REQUESTS;
use crate::step::tests::scenario::{FleetScenario, RUN};

fn question(n: usize) -> AgentEvent {
    AgentEvent::Question { id: n.to_string(), text: format!("and {n}?").into(), options: vec![] }
}

fn permission(id: &str, targets: Vec<Untrusted>) -> AgentEvent {
    let request = PermissionRequest {
        tool: Tool::Shell,
        title: "make".into(),
        detail: "make".into(),
        targets,
        editable: false,
    };
    AgentEvent::PermissionRequest { id: id.into(), request: Box::new(request) }
}

/// Sends events of the agent, and returns the effects of all of them.
fn send(scenario: &mut FleetScenario, events: impl IntoIterator<Item = AgentEvent>) -> Vec<Effect> {
    let effects = events.into_iter().map(|event| {
        scenario.agent_event(event);
        std::mem::take(&mut scenario.effects)
    });
    effects.flatten().collect()
}

/// The requests that were refused by afk, with the reasons that the agent reads.
fn refusals(effects: &[Effect]) -> Vec<(String, String)> {
    let refusal = |effect: &Effect| match effect {
        Effect::Answer { request, answer: Answer::Deny { reason }, by: DecidedBy::Afk, .. } => {
            Some((request.clone(), reason.clean()))
        }
        _ => None,
    };
    effects.iter().filter_map(refusal).collect()
}

fn notices(scenario: &FleetScenario) -> usize {
    let outbox = scenario.fleet.outbox.values();
    outbox.filter(|entry| matches!(entry.step, OutboxStep::Notify { .. })).count()
}

#[test]
fn flood_of_questions_stays_within_the_inbox() {
    let mut scenario = FleetScenario::in_turn(Policy::default());
    let effects = send(&mut scenario, (0..3000).map(question));
    assert_eq!(scenario.fleet.inbox().len(), OPEN_REQUESTS);
    let refused = refusals(&effects);
    assert_eq!(refused.len(), 3000 - OPEN_REQUESTS);
    assert!(refused[0].1.contains("too many questions are open"), "{refused:?}");
    assert!(notices(&scenario) < 10, "{} notices", notices(&scenario));
    assert!(scenario.run().live());
    // An answer makes room for the next question.
    assert!(scenario.answer_newest(Answer::Text { text: "yes".into() }).is_ok());
    let effects = send(&mut scenario, [question(9999)]);
    assert_eq!(scenario.fleet.inbox().len(), OPEN_REQUESTS);
    assert_eq!(refusals(&effects), []);
}

#[test]
fn flood_of_permission_requests_is_refused_and_allowed_ones_still_pass() {
    let mut scenario = FleetScenario::in_turn(Policy::default());
    let asks = Permissions {
        ask: vec!["shell(x*)".to_owned().try_into().unwrap()],
        ..Permissions::default()
    };
    let run = scenario.fleet.runs.get_mut(&RUN).unwrap();
    std::sync::Arc::make_mut(run).agent.permissions = asks;
    let requests = (0..100).map(|n| permission(&format!("p{n}"), vec![format!("x {n}").into()]));
    let effects = send(&mut scenario, requests);
    assert_eq!(scenario.fleet.inbox().len(), OPEN_REQUESTS);
    assert_eq!(refusals(&effects).len(), 100 - OPEN_REQUESTS);
    scenario.request_permission(Tool::Shell, "make");
    let allowed =
        |effect: &Effect| matches!(effect, Effect::Answer { answer: Answer::Approve, .. });
    assert!(scenario.effects.iter().any(allowed), "a policy's own answer needs no room");
}

#[test]
fn requests_that_are_withdrawn_in_turns_send_few_notices() {
    let mut scenario = FleetScenario::in_turn(Policy::default());
    for n in 0..500 {
        scenario.agent_event(question(n));
        scenario.agent_event(AgentEvent::RequestWithdrawn { id: n.to_string() });
    }
    assert!(notices(&scenario) <= 31, "{} notices", notices(&scenario));
    // Later questions are announced again.
    let before = notices(&scenario);
    scenario.now = scenario.now.plus(11 * 60_000);
    scenario.agent_event(question(1000));
    assert_eq!(notices(&scenario), before + 1);
}

#[test]
fn reminders_of_one_run_share_a_notice() {
    let mut scenario = FleetScenario::in_turn(Policy::default());
    for n in 0..20 {
        scenario.agent_event(question(n));
    }
    let before = notices(&scenario);
    scenario.now = scenario.now.plus(scenario.fleet.policy.notices.remind_ms);
    scenario.input(Input::Tick);
    assert!(notices(&scenario) <= before + 1, "{} notices", notices(&scenario) - before);
    assert!(scenario.fleet.inbox().iter().all(|e| e.reminded == 1));
}

#[test]
fn request_that_is_too_large_is_refused_as_a_whole() {
    let mut scenario = FleetScenario::in_turn(Policy::default());
    // A guardrail would forbid the last target, which an adapter must not cut away.
    let mut targets: Vec<Untrusted> = vec!["make".into(); MAX_TARGETS];
    targets.push("git push --force".into());
    let long = vec!["x".repeat(MAX_TARGET + 1).into()];
    let effects = send(&mut scenario, [permission("many", targets), permission("long", long)]);
    let refused = refusals(&effects);
    assert_eq!(refused.len(), 2, "{refused:?}");
    assert!(refused.iter().all(|(_, why)| why.contains("too large")), "{refused:?}");
    assert!(scenario.fleet.inbox().is_empty());
}

#[test]
fn invented_cost_is_ignored_and_stops_nobody() {
    let mut scenario = FleetScenario::in_turn(Policy {
        day_limit: Some(MicroUsd(50_000_000)),
        run_limit: Some(MicroUsd(20_000_000)),
        ..Policy::default()
    });
    let figures = [1e308, 1e18, 5e6].map(MicroUsd::from_usd);
    let figures = figures.into_iter().chain([i64::MIN, -1, i64::MAX].map(MicroUsd));
    let reports = figures.map(|usd| AgentEvent::Usage(Spend { usd, ..Spend::default() }));
    let effects = send(&mut scenario, reports);
    let noted = |effect: &&Effect| matches!(effect, Effect::Note { text, .. } if text.clean().contains("ignores that report"));
    assert_eq!(effects.iter().filter(noted).count(), 6);
    assert_eq!(scenario.fleet.books.day(scenario.now).usd, MicroUsd(0));
    assert!(!scenario.events.iter().any(|(_, event)| matches!(event, Event::Spent { .. })));
    assert!(scenario.run().live());
    // A figure that can be still counts, and ends the run at its limit.
    let spend = Spend { usd: MicroUsd::from_usd(30.0), ..Spend::default() };
    scenario.agent_event(AgentEvent::Usage(spend));
    assert!(!scenario.run().live());
}
