//! From events of a terminal to the cockpit: keys, pasted text and the mouse.

use crossterm::event::{Event, KeyEventKind, MouseEvent, MouseEventKind};
use ratatui::layout::Position;

use super::app::App;
use super::motion::Motion;
use super::request::Request;
use crate::runtime::Snapshot;

/// Lines that a step of the wheel scrolls.
const WHEEL: usize = 3;

/// Hands an event to the cockpit and returns its requests. The session takes changes of the size.
pub(crate) fn take(app: &mut App, snapshot: &Snapshot, event: &Event) -> Vec<Request> {
    match event {
        Event::Key(key) if key.kind != KeyEventKind::Release => app.key(key, snapshot),
        Event::Mouse(event) => mouse(app, snapshot, *event),
        Event::Paste(text) => app.paste(text, snapshot),
        _ => Vec::new(),
    }
}

fn mouse(app: &mut App, snapshot: &Snapshot, event: MouseEvent) -> Vec<Request> {
    let at = Position { x: event.column, y: event.row };
    match event.kind {
        MouseEventKind::ScrollDown => wheel(app, snapshot, at, Motion::Next),
        MouseEventKind::ScrollUp => wheel(app, snapshot, at, Motion::Previous),
        MouseEventKind::Down(_) => app.click(at, snapshot),
        _ => Vec::new(),
    }
}

fn wheel(app: &mut App, snapshot: &Snapshot, at: Position, motion: Motion) -> Vec<Request> {
    (0..WHEEL).flat_map(|_| app.wheel(at, motion, snapshot)).collect()
}
