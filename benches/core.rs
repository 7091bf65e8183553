//! Measures a step of the core with 1, 100 and 10,000 issues, and the clone of a fleet that every
//! snapshot costs.

#![allow(clippy::unwrap_used, reason = "a bench may panic, and prints its figures")]

use afk::core::fleet::Fleet;
use afk::core::fleet::volatile::Volatile;
use afk::core::model::id::{Actor, IssueKey, Repo};
use afk::core::model::input::Input;
use afk::core::model::issue::{Arming, Issue};
use afk::core::model::policy::Policy;
use afk::core::model::time::Timestamp;
use afk::core::step::step;

fn main() {
    divan::main();
}

fn fleet(issues: u64) -> Fleet {
    let repo = Repo::parse("acme/widget").unwrap();
    let mut fleet = Fleet::default();
    let allowlist = [repo.clone()].into();
    let policy = Policy { kill_switch: false, allowlist, ..Policy::default() };
    let _ =
        step(&mut fleet, &mut Volatile::default(), Timestamp(0), Input::Policy(Box::new(policy)));
    let issue = |number| Issue {
        key: IssueKey { repo: repo.clone(), number },
        link: None,
        title: "a title of an issue".into(),
        body: "a body".into(),
        priority: None,
        created: Timestamp(number.cast_signed()),
        arming: Arming::Trusted { by: Actor("ana".into()), at: Timestamp(0) },
        blockers: vec![],
        open: true,
        needs_human: false,
        in_progress: false,
        labels: vec![],
        class: afk::core::model::gate_report::ChangeClass::default(),
    };
    let _ = step(
        &mut fleet,
        &mut Volatile::default(),
        Timestamp(0),
        Input::Issues((1..=issues).map(issue).collect()),
    );
    fleet
}

#[divan::bench(args = [1, 100, 10_000])]
fn tick(bencher: divan::Bencher<'_, '_>, issues: u64) {
    let mut fleet = fleet(issues);
    bencher.bench_local(|| step(&mut fleet, &mut Volatile::default(), Timestamp(1), Input::Tick));
}

/// A changed policy makes the step consider every issue again.
#[divan::bench(args = [1, 100, 10_000])]
fn consider_all(bencher: divan::Bencher<'_, '_>, issues: u64) {
    let mut fleet = fleet(issues);
    let mut policy = fleet.policy.clone();
    bencher.bench_local(|| {
        policy.capacity = policy.capacity.wrapping_add(1) % 7 + 1;
        step(
            &mut fleet,
            &mut Volatile::default(),
            Timestamp(1),
            Input::Policy(Box::new(policy.clone())),
        )
    });
}

#[divan::bench(args = [1, 100, 10_000])]
fn snapshot(bencher: divan::Bencher<'_, '_>, issues: u64) {
    let fleet = fleet(issues);
    bencher.bench_local(|| fleet.clone());
}
