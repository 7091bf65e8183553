//! The state of one client: focus, zoom, the panes and a stack of overlays.
//!
//! `app` routes: an action goes to the overlay on top, else to the focused pane, else to the pane
//! that registered it, else to the actions on runs and on the cockpit itself. Each returns a
//! [`Response`], whose reactions are applied here; only the requests leave.

mod actions;
pub(crate) mod catalog;
mod draw;

use std::time::Instant;

use crossterm::event::KeyEvent;
use ratatui::layout::Position;

use super::component::{Overlay, Pane, PaneMessage, PaneSetup, Receipt, Scene};
use super::keymap::{KeyContext, Keymap, Match};
use super::layout::{self, Places};
use super::motion::Motion;
use super::pane_id::PaneId;
use super::request::Request;
use super::response::{Dialog, Reaction, Response};
use super::theme::Theme;
use super::{overlays, panes};
use crate::config::ConfigError;
use crate::core::model::id::{Actor, RunId};
use crate::core::model::time::Timestamp;
use crate::runtime::Snapshot;
use crate::term::key::Key;

/// The configuration that a cockpit starts with.
#[derive(Debug)]
pub(crate) struct AppSetup {
    pub(crate) keymap: Keymap,
    pub(crate) theme: Theme,
    /// The columns and rows of the terminal.
    pub(crate) size: (u16, u16),
    /// The name of this machine, for the header.
    pub(crate) host: String,
    /// The operator at this client.
    pub(crate) actor: Actor,
    /// Mouse events are taken.
    pub(crate) mouse: bool,
    /// Leaving the cockpit stops nothing.
    pub(crate) detaches: bool,
    pub(crate) panes: PaneSetup,
}

/// The state that every component may read.
#[derive(Debug)]
struct Desk {
    keymap: Keymap,
    theme: Theme,
    now: Timestamp,
    actor: Actor,
    /// The run whose transcript the operator chose; none follows the newest that works.
    chosen: Option<RunId>,
}

impl Desk {
    fn scene<'a>(&'a self, snapshot: &'a Snapshot, at: Standing) -> Scene<'a> {
        Scene {
            snapshot,
            theme: &self.theme,
            keymap: &self.keymap,
            now: self.now,
            actor: &self.actor,
            run: self.run(snapshot),
            focused: at.focused,
            covered: at.covered,
            page: at.page,
        }
    }

    /// The run whose transcript is shown: the chosen one, else the newest that works, else the
    /// newest.
    fn run(&self, snapshot: &Snapshot) -> Option<RunId> {
        let fleet = &snapshot.fleet;
        self.chosen.filter(|run| fleet.runs.contains_key(run)).or_else(|| {
            let working = fleet.live_runs().filter(|run| run.has_permit()).map(|run| run.id);
            working.max().or_else(|| fleet.runs.keys().next_back().copied())
        })
    }
}

/// How a component stands on the screen.
#[derive(Debug, Clone, Copy)]
struct Standing {
    focused: bool,
    covered: bool,
    page: usize,
}

/// One client's cockpit; see the module.
pub struct App {
    desk: Desk,
    panes: Vec<Box<dyn Pane>>,
    ids: Vec<PaneId>,
    /// The place of the focused pane.
    focus: usize,
    zoomed: bool,
    /// The last one is on top and has the keys.
    overlays: Vec<Box<dyn Overlay>>,
    size: (u16, u16),
    host: String,
    /// The last answer, until the next key.
    message: Option<String>,
    /// The keys of a chord that isn't finished.
    pending: Vec<Key>,
    mouse: bool,
    detaches: bool,
    slow: bool,
    lost: Option<Timestamp>,
}

impl App {
    pub(crate) fn new(setup: AppSetup) -> Self {
        let AppSetup { keymap, theme, size, host, actor, mouse, detaches, panes } = setup;
        let desk = Desk { keymap, theme, now: Timestamp::default(), actor, chosen: None };
        Self {
            desk,
            panes: panes::ALL.iter().map(|known| (known.new)(&panes)).collect(),
            ids: panes::ALL.iter().map(|known| known.id).collect(),
            focus: 0,
            zoomed: false,
            overlays: Vec::new(),
            size,
            host,
            message: None,
            pending: Vec::new(),
            mouse,
            detaches,
            slow: false,
            lost: None,
        }
    }

    /// A cockpit with the default keymap and no operator, to measure frames.
    ///
    /// # Errors
    /// [`ConfigError`], where a shipped keymap can't be read.
    pub fn for_frames(theme: Theme, size: (u16, u16)) -> Result<Self, ConfigError> {
        Ok(Self::new(AppSetup {
            keymap: catalog::keymap("default")?,
            theme,
            size,
            host: String::new(),
            actor: Actor(String::new()),
            mouse: false,
            detaches: false,
            panes: PaneSetup::default(),
        }))
    }

    /// Changes the theme of the following frames.
    pub fn set_theme(&mut self, theme: Theme) {
        self.desk.theme = theme;
    }

    pub(crate) const fn size(&self) -> (u16, u16) {
        self.size
    }

    pub(crate) const fn mouse(&self) -> bool {
        self.mouse
    }

    /// Sets the time that the following frames show.
    pub(crate) const fn set_now(&mut self, now: Timestamp) {
        self.desk.now = now;
    }

    /// Notes whether the link takes frames slowly; true where that is a change.
    pub(crate) const fn set_slow(&mut self, slow: bool) -> bool {
        let changed = self.slow != slow;
        self.slow = slow;
        changed
    }

    /// Notes when the connection was lost; none while it is live.
    pub(crate) const fn set_lost(&mut self, lost: Option<Timestamp>) {
        self.lost = lost;
    }

    /// Shows a message until the next key.
    pub(crate) fn say(&mut self, message: impl Into<String>) {
        self.message = Some(message.into());
    }

    /// Shows a run's transcript and gives it the focus.
    pub(crate) fn open_transcript(&mut self, run: RunId) {
        self.desk.chosen = Some(run);
        self.focus(panes::transcript::ID);
    }

    /// Gives the whole body to a pane.
    pub(crate) fn zoom_to(&mut self, pane: PaneId) {
        self.focus(pane);
        self.zoomed = true;
    }

    pub(crate) fn open(&mut self, dialog: Dialog) {
        self.overlays.push(overlays::open(dialog));
    }

    /// Takes a new size of the terminal.
    pub(crate) fn resize(&mut self, size: (u16, u16), problems: usize) {
        self.size = size;
        if let Some(inside) = self.places(problems).inside(self.ids[self.focus]) {
            self.panes[self.focus].resize(inside);
        }
    }

    fn focus(&mut self, pane: PaneId) {
        // Overlays belong to the pane below them.
        self.overlays.clear();
        self.focus = self.ids.iter().position(|id| *id == pane).unwrap_or(self.focus);
    }

    fn places(&self, problems: usize) -> Places {
        let arrangement = layout::Arrangement {
            size: self.size,
            panes: &self.ids,
            focus: self.ids[self.focus],
            zoomed: self.zoomed || self.panes[self.focus].fills_screen(),
            problems,
        };
        arrangement.places()
    }

    /// How an overlay stands, or the focused pane.
    fn front(&self, snapshot: &Snapshot) -> Standing {
        let inside = self.places(snapshot.problems.len()).inside(self.ids[self.focus]);
        let rows = inside.map_or(10, |area| area.height.max(2));
        let covered = !self.overlays.is_empty();
        Standing { focused: true, covered, page: usize::from(rows - 1) }
    }

    /// Where keys are pressed now.
    fn context(&self) -> KeyContext {
        match self.overlays.last() {
            Some(top) => top.context(),
            None => self.panes[self.focus].context(),
        }
    }

    /// Takes a key: raw for a component that types, else by the keymap.
    pub(crate) fn key(&mut self, event: &KeyEvent, snapshot: &Snapshot) -> Vec<Request> {
        self.message = None;
        let scene = self.desk.scene(snapshot, self.front(snapshot));
        let typed = match self.overlays.last_mut() {
            Some(top) => top.typed(event, &scene),
            None => self.panes[self.focus].typed(event, &scene),
        };
        if let Some(response) = typed {
            return self.apply(response, snapshot);
        }
        self.pending.push(Key::from(*event));
        match self.desk.keymap.find(self.context(), &self.pending) {
            Match::Pending => Vec::new(),
            Match::None => {
                self.pending.clear();
                Vec::new()
            }
            Match::Found(action) => {
                self.pending.clear();
                self.act(action, snapshot)
            }
        }
    }

    /// Hands pasted text to the component that has the keys.
    pub(crate) fn paste(&mut self, text: &str, snapshot: &Snapshot) -> Vec<Request> {
        let response = match self.overlays.last_mut() {
            Some(top) => top.paste(text),
            None => self.panes[self.focus].paste(text),
        };
        self.apply(response, snapshot)
    }

    /// Moves in the overlay on top, else in the focused pane.
    pub(crate) fn go(&mut self, motion: Motion, snapshot: &Snapshot) -> Vec<Request> {
        let scene = self.desk.scene(snapshot, self.front(snapshot));
        let response = match self.overlays.last_mut() {
            Some(top) => top.go(motion, &scene),
            None => self.panes[self.focus].go(motion, &scene),
        };
        self.apply(response, snapshot)
    }

    /// Focuses the clicked pane, and selects its row.
    pub(crate) fn click(&mut self, at: Position, snapshot: &Snapshot) -> Vec<Request> {
        if !self.overlays.is_empty() {
            return Vec::new();
        }
        let places = self.places(snapshot.problems.len());
        if let Some(tabs) = places.tabs.filter(|tabs| tabs.contains(at)) {
            let width = usize::from(tabs.width) / self.ids.len();
            let tab = usize::from(at.x - tabs.x) / width.max(1);
            self.focus(self.ids[tab.min(self.ids.len() - 1)]);
            return Vec::new();
        }
        let Some(pane) = places.pane_at(at) else { return Vec::new() };
        self.focus(pane);
        let inside = places.inside(pane).filter(|inside| inside.contains(at));
        let Some(inside) = inside else { return Vec::new() };
        let (row, height) = (usize::from(at.y - inside.y), usize::from(inside.height));
        let scene = self.desk.scene(snapshot, self.front(snapshot));
        let response = self.panes[self.focus].click(row, height, &scene);
        self.apply(response, snapshot)
    }

    /// Hands a message from outside to the pane that waits for it.
    pub(crate) fn receive(&mut self, message: PaneMessage, snapshot: &Snapshot) -> Vec<Request> {
        let front = self.front(snapshot);
        let mut left = message;
        for at in 0..self.panes.len() {
            let scene = self.desk.scene(snapshot, Standing { focused: at == self.focus, ..front });
            match self.panes[at].receive(left, &scene) {
                Receipt::Taken(response) => return self.apply(response, snapshot),
                Receipt::Returned(message) => left = message,
            }
        }
        Vec::new()
    }

    /// When a pane wants to change by itself.
    pub(crate) fn due(&self, now: Instant) -> Option<Instant> {
        self.panes.iter().filter_map(|pane| pane.due(now)).min()
    }

    /// Lets panes make the changes that are due.
    pub(crate) fn tick(&mut self, now: Instant) {
        for pane in &mut self.panes {
            pane.tick(now);
        }
    }

    /// Applies a response's reactions in order and returns the requests among them.
    fn apply(&mut self, response: Response, snapshot: &Snapshot) -> Vec<Request> {
        let mut requests = Vec::new();
        for reaction in response.into_reactions() {
            match reaction {
                Reaction::Request(request) => requests.push(request),
                Reaction::Message(message) => self.message = Some(message),
                Reaction::ShowRun(run) => self.desk.chosen = Some(run),
                Reaction::OpenTranscript(run) => self.open_transcript(run),
                Reaction::Focus(pane) => self.focus(pane),
                Reaction::Open(dialog) => self.open(dialog),
                Reaction::Close => drop(self.overlays.pop()),
                Reaction::Act(action) => requests.extend(self.act(action, snapshot)),
                Reaction::Search(text) => {
                    let scene = self.desk.scene(snapshot, self.front(snapshot));
                    let found = self.panes[self.focus].search(text, &scene);
                    requests.extend(self.apply(found, snapshot));
                }
            }
        }
        requests
    }
}
