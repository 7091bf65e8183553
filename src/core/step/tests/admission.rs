//! Admission: which waiting runs get a permit, in which order, and what holds them back.

use proptest::prelude::*;

use crate::model::command::{Command, Refusal};
use crate::model::input::Input;
use crate::model::issue::Issue;
use crate::model::policy::Policy;
use crate::model::time::MINUTE;
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
