//! Transcripts of 1,000 to 1,000,000 records: open, seek, the last page, search, append.

#![allow(clippy::unwrap_used, reason = "a bench may panic, and prints its figures")]

use afk::core::model::agent_event::AgentEvent;
use afk::core::model::id::RunId;
use afk::core::model::time::Timestamp;
use afk::journal::transcript::{Reader, Store, TranscriptEntry};
use afk::tui::{Theme, TranscriptWindow};

const SIZES: [usize; 3] = [1_000, 100_000, 1_000_000];

fn main() {
    divan::main();
}

fn entry(n: usize) -> TranscriptEntry {
    let text = format!("line {n} of what an agent has to say about the work it is doing here now");
    TranscriptEntry { at: Timestamp(0), turn: 1, event: AgentEvent::Text { text: text.into() } }
}

fn store(records: usize) -> (tempfile::TempDir, Store, Reader) {
    let state = tempfile::tempdir().unwrap();
    let store = Store::open(state.path()).unwrap();
    for from in (0..records).step_by(10_000) {
        let batch: Vec<_> = (from..records.min(from + 10_000)).map(entry).collect();
        store.append(RunId(1), &batch).unwrap();
    }
    let mut reader = store.reader(RunId(1));
    reader.refresh().unwrap();
    (state, store, reader)
}

#[divan::bench(args = SIZES, sample_count = 20)]
fn open(bencher: divan::Bencher<'_, '_>, records: usize) {
    let (_state, store, _) = store(records);
    bencher.bench_local(|| {
        let mut reader = store.reader(RunId(1));
        reader.refresh().unwrap();
        reader.len()
    });
}

#[divan::bench(args = SIZES)]
fn seek_and_read_50(bencher: divan::Bencher<'_, '_>, records: usize) {
    let (_state, _store, reader) = store(records);
    let mut at = 0;
    bencher.bench_local(|| {
        at = (at + 7_919) % (records - 50);
        reader.read(at, 50).unwrap()
    });
}

#[divan::bench(args = SIZES)]
fn last_page(bencher: divan::Bencher<'_, '_>, records: usize) {
    let (_state, store, _) = store(records);
    let theme = Theme::load("dark", false, true).unwrap();
    let mut window = TranscriptWindow::default();
    window.prepare(&store, Some(RunId(1)), 106, 40, &theme).unwrap();
    bencher.bench_local(|| window.prepare(&store, Some(RunId(1)), 106, 40, &theme).unwrap());
}

#[divan::bench(args = SIZES, sample_count = 10)]
fn search_what_is_not_there(bencher: divan::Bencher<'_, '_>, records: usize) {
    let (_state, _store, reader) = store(records);
    bencher.bench_local(|| reader.search("no such words", 0, false).unwrap());
}

#[divan::bench(args = [1, 100])]
fn append(bencher: divan::Bencher<'_, '_>, batch: usize) {
    let (_state, store, _) = store(1);
    let entries: Vec<_> = (0..batch).map(entry).collect();
    bencher.bench_local(|| store.append(RunId(1), &entries).unwrap());
}
