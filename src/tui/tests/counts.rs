//! Counts the allocations of a key and its frame. Unlike times, the counts are the same on every machine.
//!
//! The counts of the core and of the journal are in `tests/counts`.

use crossterm::event::{Event, KeyCode, KeyEvent, KeyModifiers};
use ratatui::Terminal;
use ratatui::backend::TestBackend;

use super::fixture;
use super::script::Script;
use crate::tui::input;

/// The allocations, and their bytes, of a key that moves the selection, with its frame.
fn key(issues: u64) -> (u64, u64) {
    let mut script = Script::on(fixture::many(issues), (200, 50));
    let mut terminal = Terminal::new(TestBackend::new(200, 50)).unwrap();
    let down = Event::Key(KeyEvent::new(KeyCode::Char('j'), KeyModifiers::NONE));
    let mut press = || {
        input::take(&mut script.app, &script.snapshot, &down);
        script.still_frame();
        terminal.draw(|frame| script.app.draw(frame, &script.snapshot)).unwrap();
    };
    for _ in 0..3 {
        press();
    }
    let used = allocation_counter::measure(press);
    (used.count_total, used.bytes_total)
}

/// A key costs what is on the screen, and not what exists.
#[test]
fn key_costs_the_same_with_ten_thousand_issues() {
    let (few, many) = (key(300), key(10_000));
    assert!(many.0 * 2 <= few.0 * 3, "allocations: {few:?} with 300, {many:?} with 10,000");
    assert!(many.1 * 2 <= few.1 * 3, "bytes: {few:?} with 300, {many:?} with 10,000");
}
