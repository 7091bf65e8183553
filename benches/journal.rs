//! Measures the journal: an append with its sync for batches of 1 to 1,000 events, fold and verify
//! of 1,000 to 100,000 records, and the bytes of a record.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a bench may panic, and prints its figures"
)]

use afk::core::model::event::Event;
use afk::core::model::id::RunId;
use afk::core::model::stage::Phase;
use afk::core::model::time::Timestamp;
use afk::journal::{Journal, chain};

fn main() {
    let (state, journal) = filled(100_000);
    drop(journal);
    let bytes = std::fs::metadata(state.path().join("journal.sqlite")).unwrap().len();
    println!("bytes a record: {}", bytes / 100_000);
    divan::main();
}

fn event(n: u64) -> (Timestamp, Event) {
    let event = Event::Reached { run: RunId(n), phase: Phase::TestsGreen };
    (Timestamp(n.cast_signed()), event)
}

fn filled(records: u64) -> (tempfile::TempDir, Journal) {
    let state = tempfile::tempdir().unwrap();
    let mut journal = Journal::open(state.path()).unwrap();
    for from in (0..records).step_by(10_000) {
        let batch: Vec<_> = (from..records.min(from + 10_000)).map(event).collect();
        journal.append(&batch).unwrap();
    }
    (state, journal)
}

#[divan::bench(args = [1, 100, 1_000])]
fn append(bencher: divan::Bencher<'_, '_>, batch: u64) {
    let (_state, mut journal) = filled(0);
    let events: Vec<_> = (0..batch).map(event).collect();
    bencher.bench_local(|| journal.append(&events).unwrap());
}

#[divan::bench(args = [1_000, 10_000, 100_000])]
fn fold(bencher: divan::Bencher<'_, '_>, records: u64) {
    let (_state, journal) = filled(records);
    bencher.bench_local(|| journal.fold().unwrap());
}

#[divan::bench(args = [1_000, 10_000, 100_000])]
fn verify(bencher: divan::Bencher<'_, '_>, records: u64) {
    let (_state, journal) = filled(records);
    bencher.bench_local(|| chain::verify(&journal).unwrap());
}
