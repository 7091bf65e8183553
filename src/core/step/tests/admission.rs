//! Admission: which waiting runs get a permit, in which order, and what holds them back.

use proptest::prelude::*;

use crate::model::command::{Command, Refusal};
use crate::model::effect::Effect;
use crate::model::input::{CloneEnd, Input};
use crate::model::issue::{Arming, Issue};
use crate::model::policy::Policy;
use crate::model::time::MINUTE;
use crate::query::explain;
use crate::step::tests::scenario::{FleetScenario, RUN, issue, repo};

#[test]
fn operator_cannot_lift_the_configured_kill_switch() {
    let mut scenario = FleetScenario::with_policy(Policy::default());
    let policy = Policy { kill_switch: true, ..scenario.fleet.policy.clone() };
    scenario.input(Input::Policy(Box::new(policy)));
    let lifted = scenario.operate(Command::SetKillSwitch { on: false });
    assert_eq!(lifted, Err(Refusal::SetInConfiguration));
    scenario.input(Input::Issues(vec![issue(1, None)]));
    assert!(scenario.fleet.runs.is_empty());
}

#[test]
fn kill_switch_holds_waiting_runs_and_stops_no_running_one() {
    let mut scenario = FleetScenario::with_policy(Policy { capacity: 1, ..Policy::default() });
    scenario.input(Input::Issues(vec![issue(1, None), issue(2, None)]));
    assert!(scenario.operate(Command::SetKillSwitch { on: true }).is_ok());
    assert!(scenario.operate(Command::SetCapacity { permits: 5 }).is_ok());
    assert_eq!(scenario.fleet.permits_used(), 1);
    assert!(scenario.operate(Command::SetKillSwitch { on: false }).is_ok());
    assert_eq!(scenario.fleet.permits_used(), 2);
}

#[test]
fn lower_capacity_takes_no_permit_away() {
    let mut scenario = FleetScenario::with_policy(Policy { capacity: 2, ..Policy::default() });
    scenario.input(Input::Issues((1..=5).map(|n| issue(n, None)).collect()));
    assert_eq!((scenario.fleet.permits_used(), scenario.fleet.queue.len()), (2, 3));
    assert!(scenario.operate(Command::SetCapacity { permits: 0 }).is_ok());
    assert_eq!(scenario.fleet.permits_used(), 2);
    assert!(scenario.operate(Command::SetCapacity { permits: 4 }).is_ok());
    assert_eq!(scenario.fleet.permits_used(), 4);
}

#[test]
fn queue_refuses_more_than_its_depth() {
    let policy = Policy { capacity: 0, max_queue_depth: 3, ..Policy::default() };
    let mut scenario = FleetScenario::with_policy(policy);
    scenario.input(Input::Issues((1..=9).map(|n| issue(n, None)).collect()));
    assert_eq!(scenario.fleet.queue.len(), 3);
    let submit = Command::Submit { repo: repo(1), prompt: "x".into(), priority: None, job: None };
    assert_eq!(scenario.operate(submit), Err(Refusal::QueueFull));
}

#[test]
fn first_clone_holds_no_permit_and_is_begun_once() {
    let mut scenario = FleetScenario::with_policy(Policy { capacity: 1, ..Policy::default() });
    scenario.input(Input::Uncloned([repo(1)].into()));
    scenario.input(Input::Issues(vec![issue(1, Some(0)), issue(2, None)]));
    assert_eq!(scenario.effects.iter().filter(|e| matches!(e, Effect::Clone { .. })).count(), 1);
    let at_work = |scenario: &FleetScenario| {
        scenario
            .fleet
            .at_work
            .iter()
            .map(|id| scenario.fleet.runs[id].work.repo().clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(at_work(&scenario), [repo(2)]);
    scenario.input(Input::Tick);
    assert!(!scenario.effects.iter().any(|e| matches!(e, Effect::Clone { .. })));
    assert!(scenario.operate(Command::SetCapacity { permits: 2 }).is_ok());
    assert_eq!(at_work(&scenario), [repo(2)]);
    let begins = |scenario: &FleetScenario| {
        scenario.effects.iter().any(|effect| matches!(effect, Effect::Clone { .. }))
    };
    // One whose run is gone is begun again; after one that failed, the run meets the error.
    scenario.input(Input::Cloned { repo: repo(1), end: CloneEnd::Abandoned });
    assert!(begins(&scenario) && at_work(&scenario) == [repo(2)]);
    scenario.input(Input::Cloned { repo: repo(1), end: CloneEnd::Failed });
    assert!(!begins(&scenario) && at_work(&scenario).len() == 2);
    assert!(scenario.volatile.lacks_clone(&repo(1)), "the next run waits for another clone");
    scenario.input(Input::Cloned { repo: repo(1), end: CloneEnd::Done });
    assert!(!scenario.volatile.lacks_clone(&repo(1)));
}

#[test]
fn explanation_of_an_unknown_arming_fits_the_tracker() {
    for (remote, named) in [(vec![], true), (vec![repo(1)], false)] {
        let remote = remote.into_iter().collect();
        let mut scenario = FleetScenario::with_policy(Policy { remote, ..Policy::default() });
        let arming = Arming::Unknown { why: "no event".into() };
        scenario.input(Input::Issues(vec![Issue { arming, ..issue(1, None) }]));
        let lines = explain::issue(&scenario.fleet, &issue(1, None).key).join("\n");
        assert!(lines.contains("What to do: "), "{lines}");
        assert_eq!(lines.contains("armed_by"), named, "{lines}");
    }
}

proptest! {
    #[test]
    fn admission_follows_the_rank_for_any_order_of_arrival(
        priorities in proptest::collection::vec(proptest::option::of(0_u8..5), 1..10)
    ) {
        let mut scenario = FleetScenario::with_policy(Policy { capacity: 0, ..Policy::default() });
        for (n, priority) in (1_u64..).zip(&priorities) {
            let known: Vec<Issue> = (1..n)
                .zip(&priorities)
                .map(|(n, p)| issue(n, *p))
                .chain([issue(n, *priority)])
                .collect();
            scenario.now = scenario.now.plus(1);
            scenario.input(Input::Issues(known));
        }
        let mut expected: Vec<_> = scenario.fleet.waiting(scenario.now).map(|r| (r.priority.map_or(10, |p| p.0), r.id)).collect();
        let mut admitted = vec![];
        for permits in 1..=u32::try_from(priorities.len()).unwrap() {
            scenario.operate(Command::SetCapacity { permits }).unwrap();
            let new = scenario.fleet.live_runs().filter(|r| r.has_permit()).map(|r| r.id).find(|id| !admitted.contains(id));
            admitted.push(new.unwrap());
        }
        expected.sort();
        prop_assert_eq!(admitted, expected.into_iter().map(|(_, id)| id).collect::<Vec<_>>());
    }

    #[test]
    fn aging_admits_a_run_without_priority(minutes in 1_i64..30) {
        let policy = Policy { capacity: 0, aging_ms: minutes * MINUTE, ..Policy::default() };
        let mut scenario = FleetScenario::with_policy(policy);
        scenario.input(Input::Issues(vec![issue(1, None)]));
        scenario.now = scenario.now.plus(11 * minutes * MINUTE);
        scenario.input(Input::Issues(vec![issue(1, None), issue(2, Some(0))]));
        prop_assert_eq!(scenario.fleet.waiting(scenario.now).next().unwrap().id, RUN);
    }
}
