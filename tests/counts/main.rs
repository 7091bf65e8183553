//! Counts the allocations of the core's and the journal's hot paths. Unlike times, the counts are the
//! same on every machine, so a change that makes a path dearer fails here.
//!
//! The cockpit's own counts are in `src/tui/tests/counts.rs`.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::hint::black_box;

use afk::core::fleet::Fleet;
use afk::core::fleet::volatile::Volatile;
use afk::core::model::event::Event;
use afk::core::model::id::{Actor, IssueKey, Repo, RunId};
use afk::core::model::input::Input;
use afk::core::model::issue::{Arming, Issue};
use afk::core::model::policy::Policy;
use afk::core::model::stage::Phase;
use afk::core::model::time::Timestamp;
use afk::core::step::step;
use afk::journal::Journal;

/// Fails where a path allocates over a fifth more often than its recorded count.
fn holds(what: &str, recorded: u64, path: impl FnOnce()) {
    let count = allocation_counter::measure(path).count_total;
    let most = recorded + recorded / 5;
    assert!(count <= most, "{what}: {count} allocations; {recorded} are recorded");
}

fn fleet(issues: u64) -> Fleet {
    let repo = Repo::parse("acme/widget").unwrap();
    let issue = |number: u64| Issue {
        key: IssueKey { repo: repo.clone(), number },
        link: None,
        title: "a title of an issue".into(),
        body: "a body".into(),
        priority: None,
        created: Timestamp(number.cast_signed()),
        arming: Arming::Trusted { by: Actor("ana".into()), at: Timestamp(0) },
        labels: vec![],
        blockers: vec![],
        open: true,
        needs_human: false,
        in_progress: false,
        class: afk::core::model::gate_report::ChangeClass::default(),
    };
    let policy =
        Policy { kill_switch: false, allowlist: [repo.clone()].into(), ..Policy::default() };
    let mut fleet = Fleet::default();
    for input in [Input::Policy(Box::new(policy)), Input::Issues((1..=issues).map(issue).collect())]
    {
        let _ = step(&mut fleet, &mut Volatile::default(), Timestamp(0), input);
    }
    fleet
}

fn tick(fleet: &mut Fleet, at: i64) {
    black_box(step(fleet, &mut Volatile::default(), Timestamp(at), Input::Tick));
}

#[test]
fn step_that_changes_nothing_costs_the_same_in_every_fleet() {
    for issues in [100, 10_000] {
        let mut fleet = fleet(issues);
        tick(&mut fleet, 1);
        holds(&format!("a tick with {issues} issues"), 7, || tick(&mut fleet, 2));
    }
}

#[test]
fn policy_that_changes_considers_each_issue_cheaply() {
    let mut fleet = fleet(10_000);
    let policy = Policy { capacity: 7, ..fleet.policy.clone() };
    holds("a changed policy with 10,000 issues", 14, || {
        let input = Input::Policy(Box::new(policy));
        black_box(step(&mut fleet, &mut Volatile::default(), Timestamp(1), input));
    });
}

#[test]
fn snapshot_copies_no_issue() {
    let fleet = fleet(10_000);
    holds("the copy of a fleet with 10,000 issues", 8, || drop(black_box(fleet.clone())));
}

#[test]
fn journal_appends_and_folds_in_few_allocations() {
    let state = tempfile::tempdir().unwrap();
    let mut journal = Journal::open(state.path()).unwrap();
    let reached = |n: u64| {
        let event = Event::Reached { run: RunId(n), phase: Phase::TestsGreen };
        (Timestamp(n.cast_signed()), event)
    };
    let events: Vec<_> = (0..100).map(reached).collect();
    journal.append(&events).unwrap();
    holds("a batch of 100 events", 104, || journal.append(&events).unwrap());
    holds("the fold of 200 records", 402, || drop(black_box(journal.fold().unwrap())));
}
