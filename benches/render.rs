//! Measures a frame of 200x50 and of 80x24 with 100 issues, from the snapshot to the bytes: without a change, and with
//! every colour and mark changed.

#![allow(clippy::unwrap_used, reason = "a bench may panic, and prints its figures")]

use std::collections::BTreeSet;

use afk::core::fleet::Fleet;
use afk::core::fleet::volatile::Volatile;
use afk::core::model::id::{Actor, IssueKey, Repo};
use afk::core::model::input::Input;
use afk::core::model::issue::{Arming, Issue};
use afk::core::model::policy::Policy;
use afk::core::model::time::Timestamp;
use afk::core::step::step;
use afk::journal::transcript::Store;
use afk::runtime::Snapshot;
use afk::term::screen::Screen;
use afk::tui::{App, Theme};

fn main() {
    divan::main();
}

fn snapshot() -> Snapshot {
    let mut fleet = Fleet::default();
    let repo = |n: u64| Repo::parse(&format!("acme/r{n}")).unwrap();
    let allowlist: BTreeSet<Repo> = (0..10).map(repo).collect();
    let policy = Policy { kill_switch: false, capacity: 5, allowlist, ..Policy::default() };
    let _ =
        step(&mut fleet, &mut Volatile::default(), Timestamp(0), Input::Policy(Box::new(policy)));
    let issue = |number: u64| Issue {
        key: IssueKey { repo: repo(number % 10), number },
        title: format!("the title of issue number {number}, which is not short").into(),
        link: None,
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
        Input::Issues((1..=100).map(issue).collect()),
    );
    Snapshot { fleet, ..Snapshot::default() }
}

fn bench(bencher: divan::Bencher<'_, '_>, (width, height): (u16, u16), change: bool) {
    let snapshot = snapshot();
    let theme = Theme::load("dark", false, true).unwrap();
    let other = Theme::load("light", true, true).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let mut app = App::for_frames(theme.clone(), (width, height)).unwrap();
    let mut screen = Screen::new(width, height).unwrap();
    let mut odd = false;
    bencher.bench_local(|| {
        odd = !odd;
        app.set_theme(if change && odd { other.clone() } else { theme.clone() });
        app.prepare(&snapshot, &store);
        screen.terminal.draw(|frame| app.draw(frame, &snapshot)).unwrap();
        screen.take().len()
    });
}

#[divan::bench(args = [(200, 50), (80, 24)])]
fn nothing_changed(bencher: divan::Bencher<'_, '_>, size: (u16, u16)) {
    bench(bencher, size, false);
}

#[divan::bench(args = [(200, 50), (80, 24)])]
fn colours_and_marks_changed(bencher: divan::Bencher<'_, '_>, size: (u16, u16)) {
    bench(bencher, size, true);
}
