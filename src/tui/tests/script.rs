//! A cockpit that is driven by typed keys, in the notation of keymaps: `i<PageDown>a`.

use std::fmt::Debug;
use std::time::{Duration, Instant};

use crossterm::event::{
    Event, KeyCode, KeyEvent, KeyModifiers, MouseButton, MouseEvent, MouseEventKind,
};
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::buffer::Buffer;
use tempfile::TempDir;

use super::fixture;
use crate::core::fleet::Fleet;
use crate::core::model::command::Role;
use crate::core::model::id::{Actor, RunId};
use crate::journal::transcript::{Store, TranscriptEntry};
use crate::runtime::Snapshot;
use crate::tui::app::{self, App, catalog};
use crate::tui::component::{PaneMessage, PaneSetup};
use crate::tui::drafts::Drafts;
use crate::tui::held::HOLD;
use crate::tui::input;
use crate::tui::request::Request;
use crate::tui::response::Dialog;
use crate::tui::saved_layout::SavedLayouts;
use crate::tui::theme::Theme;

pub(super) struct Script {
    pub(super) app: App,
    pub(super) snapshot: Snapshot,
    store: Store,
    /// The moment of the next key. A person reads between two keys.
    instant: Instant,
    _state: TempDir,
}

/// The time between two keys of a person who reads.
const READS: Duration = Duration::from_secs(1);

impl Script {
    /// A cockpit of 80x24 on the fleet of the pictures.
    pub(super) fn new() -> Self {
        Self::on(fixture::fleet(), (80, 24))
    }

    pub(super) fn sized(size: (u16, u16)) -> Self {
        Self::on(fixture::fleet(), size)
    }

    pub(super) fn on(fleet: Fleet, size: (u16, u16)) -> Self {
        Self::as_role(fleet, size, Role::Operator)
    }

    pub(super) fn as_role(fleet: Fleet, size: (u16, u16), role: Role) -> Self {
        let state = tempfile::tempdir().unwrap();
        let store = Store::open(state.path()).unwrap();
        fixture::transcript(&store);
        let cold_path = Some("ssh -p 52222 -i key root@192.0.2.10 status".into());
        let mut app = App::new(app::AppSetup {
            keymap: catalog::keymap("default").unwrap(),
            theme: Theme::load("dark", false, true).unwrap(),
            size,
            host: "devbox".into(),
            actor: Actor("ana".into()),
            role,
            mouse: false,
            detaches: false,
            layouts: SavedLayouts::default(),
            drafts: Drafts::default(),
            panes: PaneSetup { cold_path },
        });
        app.set_now(fleet.last_event);
        app.set_instant(Instant::now());
        let snapshot = Snapshot { fleet, ..Snapshot::default() };
        let mut script = Self { app, snapshot, store, instant: Instant::now(), _state: state };
        script.frame();
        script
    }

    /// Types keys as a person who reads, with a frame after each, and returns the requests.
    pub(super) fn keys(&mut self, keys: &str) -> Vec<Request> {
        let mut requests = Vec::new();
        for event in events(keys) {
            requests.extend(self.later(READS));
            requests.extend(self.event(&Event::Key(event)));
        }
        requests
    }

    /// Types keys at the moment of the last one.
    pub(super) fn at_once(&mut self, keys: &str) -> Vec<Request> {
        events(keys).into_iter().flat_map(|event| self.event(&Event::Key(event))).collect()
    }

    /// Types keys, and waits until the answers among them are sent.
    pub(super) fn answered(&mut self, keys: &str) -> Vec<Request> {
        let mut requests = self.keys(keys);
        requests.extend(self.later(HOLD));
        requests
    }

    /// Lets time pass, and returns the requests that become due.
    pub(super) fn later(&mut self, time: Duration) -> Vec<Request> {
        self.instant += time;
        self.app.set_instant(self.instant);
        let due = self.app.tick(self.instant);
        let next = self.app.due(self.instant);
        assert!(next.is_none_or(|next| next > self.instant), "a tick leaves itself due");
        self.frame();
        due
    }

    pub(super) fn event(&mut self, event: &Event) -> Vec<Request> {
        let past = self.app.past_snapshot();
        let shown = past.as_deref().unwrap_or(&self.snapshot);
        let requests = input::take(&mut self.app, shown, event);
        self.frame();
        requests
    }

    pub(super) fn click(&mut self, column: u16, row: u16) -> Vec<Request> {
        let kind = MouseEventKind::Down(MouseButton::Left);
        let modifiers = KeyModifiers::NONE;
        self.event(&Event::Mouse(MouseEvent { kind, column, row, modifiers }))
    }

    pub(super) fn receive(&mut self, message: PaneMessage) {
        assert!(self.app.receive(message, &self.snapshot).is_empty());
        self.frame();
    }

    pub(super) fn open(&mut self, dialog: Dialog) {
        self.app.open(dialog);
        self.frame();
    }

    pub(super) fn frame(&mut self) {
        // A test may have changed the fleet.
        self.snapshot.seq += 1;
        self.still_frame();
    }

    /// A frame for which nothing has changed.
    pub(super) fn still_frame(&mut self) {
        let past = self.app.past_snapshot();
        self.app.prepare(past.as_deref().unwrap_or(&self.snapshot), &self.store);
    }

    /// Appends to the transcript of a run.
    pub(super) fn write(&mut self, run: RunId, entries: &[TranscriptEntry]) {
        self.store.append(run, entries).unwrap();
        self.frame();
    }

    pub(super) fn picture(&self) -> Buffer {
        let (width, height) = self.app.size();
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        let past = self.app.past_snapshot();
        let shown = past.as_deref().unwrap_or(&self.snapshot);
        terminal.draw(|frame| self.app.draw(frame, shown)).unwrap();
        terminal.backend().buffer().clone()
    }

    /// The screen as text.
    pub(super) fn text(&self) -> String {
        text(&self.picture())
    }

    #[track_caller]
    pub(super) fn shows(&self, part: &str) {
        let text = self.text();
        assert!(text.contains(part), "{part:?} is not on the screen:\n{text}");
    }

    #[track_caller]
    pub(super) fn lacks(&self, part: &str) {
        let text = self.text();
        assert!(!text.contains(part), "{part:?} is on the screen:\n{text}");
    }
}

pub(super) fn text(buffer: &Buffer) -> String {
    let area = buffer.area;
    (0..area.height)
        .map(|y| (0..area.width).map(|x| buffer[(x, y)].symbol()).collect::<String>() + "\n")
        .collect()
}

/// Requests in a form to compare: one line each.
pub(super) fn lines<T: Debug>(requests: &[T]) -> Vec<String> {
    requests.iter().map(|request| format!("{request:?}")).collect()
}

/// The key presses of a text in the notation of keymaps; `<lt>` types `<`.
fn events(keys: &str) -> Vec<KeyEvent> {
    let mut events = Vec::new();
    let mut rest = keys;
    while let Some(first) = rest.chars().next() {
        let name = rest.strip_prefix('<').and_then(|rest| rest.split_once('>'));
        let (event, after) = match name {
            Some((name, after)) => (named(name), after),
            None => (key(KeyCode::Char(first)), &rest[first.len_utf8()..]),
        };
        events.push(event);
        rest = after;
    }
    events
}

fn key(code: KeyCode) -> KeyEvent {
    KeyEvent::new(code, KeyModifiers::NONE)
}

fn named(name: &str) -> KeyEvent {
    let modified = |modifiers, name| KeyEvent { modifiers, ..named(name) };
    if let Some(name) = name.strip_prefix("C-") {
        return modified(KeyModifiers::CONTROL, name);
    }
    if let Some(name) = name.strip_prefix("A-") {
        return modified(KeyModifiers::ALT, name);
    }
    key(match name {
        "Enter" => KeyCode::Enter,
        "Esc" => KeyCode::Esc,
        "Tab" => KeyCode::Tab,
        "S-Tab" => KeyCode::BackTab,
        "Space" => KeyCode::Char(' '),
        "Backspace" => KeyCode::Backspace,
        "Up" => KeyCode::Up,
        "Left" => KeyCode::Left,
        "Right" => KeyCode::Right,
        "Down" => KeyCode::Down,
        "Home" => KeyCode::Home,
        "End" => KeyCode::End,
        "PageUp" => KeyCode::PageUp,
        "PageDown" => KeyCode::PageDown,
        "lt" => KeyCode::Char('<'),
        "F1" => KeyCode::F(1),
        "F12" => KeyCode::F(12),
        one if one.chars().count() == 1 => KeyCode::Char(one.chars().next().unwrap()),
        other => panic!("{other:?} is no key of this notation"),
    })
}
