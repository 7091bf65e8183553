//! The state of one client: focus, zoom, the panes and a stack of overlays.
//!
//! `app` routes: an action goes to the overlay on top, else to the focused pane, else to the pane
//! that registered it, else to the actions on runs and on the cockpit itself. Each returns a
//! [`Response`], whose reactions are applied here; only the requests leave.

mod actions;
pub(crate) mod catalog;
mod drafts;
mod draw;
mod time_travel;

use std::time::Instant;

use crossterm::event::KeyEvent;
use ratatui::layout::Position;

use super::action::BRIEF;
use super::bars::notice::NoticeBand;
use super::bars::tabs;
use super::component::{Overlay, Pane, PaneMessage, PaneSetup, Receipt, Scene};
use super::drafts::Drafts;
use super::held::HeldAnswers;
use super::keymap::{KeyContext, Keymap, Match};
use super::layout::{self, Places};
use super::motion::Motion;
use super::pane_id::PaneId;
use super::past::Past;
use super::request::Request;
use super::response::{Dialog, Reaction, Response};
use super::saved_layout::{SavedLayout, SavedLayouts};
use super::subject::Subject;
use super::theme::{Rgb, Theme};
use super::tour::Tour;
use super::{overlays, panes};
use crate::config::ConfigError;
use crate::core::model::command::{Command, Role};
use crate::core::model::id::{Actor, RunId};
use crate::core::model::time::Timestamp;
use crate::core::query::brief::long;
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
    /// The operator at this client, and what they may do.
    pub(crate) actor: Actor,
    pub(crate) role: Role,
    /// Mouse events are taken.
    pub(crate) mouse: bool,
    /// Leaving the cockpit stops nothing.
    pub(crate) detaches: bool,
    /// The layouts that the operator left.
    pub(crate) layouts: SavedLayouts,
    /// What the operator began to write and did not send.
    pub(crate) drafts: Drafts,
    pub(crate) panes: PaneSetup,
}

/// The state that every component may read.
#[derive(Debug)]
struct Desk {
    keymap: Keymap,
    theme: Theme,
    now: Timestamp,
    actor: Actor,
    role: Role,
    /// The thing that the transcript shows: the subject of the last pane that had one.
    subject: Option<Subject>,
    /// Answers that can still be taken back.
    held: HeldAnswers,
    /// What was begun and waits to be sent.
    drafts: Drafts,
    /// The moment of the last key or frame.
    instant: Instant,
}

impl Desk {
    fn scene<'a>(&'a self, snapshot: &'a Snapshot, at: Standing) -> Scene<'a> {
        Scene {
            snapshot,
            theme: &self.theme,
            keymap: &self.keymap,
            now: self.now,
            actor: &self.actor,
            role: self.role,
            subject: self.subject.as_ref(),
            held: &self.held,
            reviews: &self.drafts.reviews,
            instant: self.instant,
            focused: at.focused,
            covered: at.covered,
            page: at.page,
        }
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
    /// The operator's layout for this size, and those for others.
    layout: SavedLayout,
    layouts: SavedLayouts,
    /// The panes that have nothing to show.
    unneeded: Vec<PaneId>,
    tour: Tour,
    /// The last one is on top and has the keys.
    overlays: Vec<Box<dyn Overlay>>,
    size: (u16, u16),
    host: String,
    /// The last answer, until the next key.
    message: Option<NoticeBand>,
    /// The keys of a chord that isn't finished.
    pending: Vec<Key>,
    mouse: bool,
    detaches: bool,
    slow: bool,
    lost: Option<Timestamp>,
    /// The run that the next one is compared with.
    marked: Option<RunId>,
    /// The past that is shown in place of the present.
    past: Option<Past>,
    pane_setup: PaneSetup,
}

impl App {
    pub(crate) fn new(setup: AppSetup) -> Self {
        let AppSetup {
            keymap,
            theme,
            size,
            host,
            actor,
            role,
            mouse,
            detaches,
            layouts,
            drafts,
            panes,
        } = setup;
        let desk = Desk {
            keymap,
            theme,
            now: Timestamp::default(),
            actor,
            role,
            subject: None,
            held: HeldAnswers::default(),
            drafts,
            instant: Instant::now(),
        };
        Self {
            desk,
            panes: panes::ALL.iter().map(|known| (known.new)(&panes)).collect(),
            ids: panes::ALL.iter().map(|known| known.id).collect(),
            focus: 0,
            layout: layouts.of(size),
            layouts,
            unneeded: Vec::new(),
            tour: Tour::default(),
            overlays: Vec::new(),
            size,
            host,
            message: None,
            pending: Vec::new(),
            mouse,
            detaches,
            slow: false,
            lost: None,
            marked: None,
            past: None,
            pane_setup: panes,
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
            role: Role::Operator,
            mouse: false,
            detaches: false,
            layouts: SavedLayouts::default(),
            drafts: Drafts::default(),
            panes: PaneSetup::default(),
        }))
    }

    /// Changes the theme of the following frames.
    pub fn set_theme(&mut self, theme: Theme) {
        self.desk.theme = theme;
    }

    pub(crate) const fn theme(&self) -> &Theme {
        &self.desk.theme
    }

    /// Takes the background that the terminal reports: it chooses dark or light where neither was
    /// configured.
    pub(crate) fn set_background(&mut self, background: Rgb) {
        match self.desk.theme.on_background(background) {
            Ok(theme) => self.desk.theme = theme,
            Err(error) => self.say(error.to_string()),
        }
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

    /// Sets the moment of the following keys and frames.
    pub(crate) const fn set_instant(&mut self, instant: Instant) {
        self.desk.instant = instant;
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
        self.message = Some(NoticeBand::said(message));
    }

    /// Shows until the next key why something can't be.
    pub(crate) fn refuse(&mut self, message: impl Into<String>) {
        self.message = Some(NoticeBand::refused(message));
    }

    /// Shows a run's transcript and gives it the focus.
    pub(crate) fn open_transcript(&mut self, run: RunId) {
        self.desk.subject = Some(Subject::Run(run));
        self.focus(panes::transcript::ID);
    }

    /// Gives the whole body to a pane.
    pub(crate) fn zoom_to(&mut self, pane: PaneId) {
        self.focus(pane);
        self.layout.zoomed = true;
    }

    /// The layouts to keep for the next time.
    pub(crate) fn layouts(&mut self) -> &SavedLayouts {
        self.layouts.note(self.size, self.layout);
        &self.layouts
    }

    pub(crate) fn open(&mut self, mut dialog: Dialog) {
        if let Dialog::Prompt(prompt) = &mut dialog {
            self.fill_with_draft(prompt);
        }
        self.overlays.push(overlays::open(dialog));
    }

    /// Shows an overlay with what was fetched for it. It stays below a box that somebody types into, whose
    /// keys it would take otherwise.
    pub(crate) fn show(&mut self, dialog: Dialog) {
        let top = self.overlays.iter().rposition(|overlay| !overlay.is_input());
        self.overlays.insert(top.map_or(0, |at| at + 1), overlays::open(dialog));
    }

    /// Names the brief to an operator who comes back.
    pub(crate) fn note_absence(&mut self, away: i64) {
        if self.message.is_none() {
            let key = self.desk.keymap.key_of(KeyContext::GLOBAL, BRIEF);
            self.say(format!("nobody was here for {}: {key} shows what happened", long(away)));
        }
    }

    /// Takes a new size of the terminal.
    pub(crate) fn resize(&mut self, size: (u16, u16), problems: usize) {
        if size != self.size {
            self.layouts.note(self.size, self.layout);
            self.layout = self.layouts.of(size);
        }
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
        let focus = self.ids[self.focus];
        let shown = |id: &PaneId| *id == focus || !self.unneeded.contains(id);
        let panes: Vec<PaneId> = self.ids.iter().copied().filter(shown).collect();
        let arrangement = layout::Arrangement {
            size: self.size,
            panes: &panes,
            focus,
            zoomed: self.layout.zoomed || self.panes[self.focus].fills_screen(),
            problems,
            tour: self.tour.rows(self.size.0, &self.desk.keymap),
            split: self.layout.split,
        };
        arrangement.places()
    }

    /// The one thing that keys act on now.
    fn subject(&self, snapshot: &Snapshot) -> Option<Subject> {
        let scene = self.desk.scene(snapshot, self.front(snapshot));
        match self.overlays.last() {
            Some(top) => top.subject(&scene),
            None => self.panes[self.focus].subject(&scene),
        }
    }

    /// Lets the transcript follow the cursor of the focused pane. Where nothing was selected yet, it
    /// is bound to the newest run that works, else to the newest.
    fn follow(&mut self, snapshot: &Snapshot) {
        let scene = self.desk.scene(snapshot, self.front(snapshot));
        let selected = self.panes[self.focus].subject(&scene);
        let newest = || {
            let fleet = &snapshot.fleet;
            let working = fleet.live_runs().filter(|run| run.has_permit()).map(|run| run.id);
            working.max().or_else(|| fleet.runs.keys().next_back().copied()).map(Subject::Run)
        };
        let kept = self.desk.subject.take();
        self.desk.subject = selected.or(kept).or_else(newest);
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
        if let Some(action) = self.past_key() {
            return self.act(action, snapshot);
        }
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

    /// Turns the wheel: in the overlay on top, else in the pane under the pointer.
    pub(crate) fn wheel(
        &mut self,
        at: Position,
        motion: Motion,
        snapshot: &Snapshot,
    ) -> Vec<Request> {
        let under = self.places(snapshot.problems.len()).pane_at(at);
        let under = under.and_then(|pane| self.ids.iter().position(|id| *id == pane));
        match under {
            Some(pane) if self.overlays.is_empty() && pane != self.focus => {
                let front = Standing { focused: false, ..self.front(snapshot) };
                let scene = self.desk.scene(snapshot, front);
                let response = self.panes[pane].go(motion, &scene);
                self.apply(response, snapshot)
            }
            _ => self.go(motion, snapshot),
        }
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
            let focus = self.ids[self.focus];
            let pane = tabs::pane_at(&self.ids, focus, tabs.width, at.x - tabs.x);
            if let Some(pane) = pane {
                self.focus(pane);
            }
            return self.apply(Response::none(), snapshot);
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

    /// Hands a message from outside to the pane that waits for it, also while the past is shown.
    pub(crate) fn receive(&mut self, message: PaneMessage, snapshot: &Snapshot) -> Vec<Request> {
        let past = self.leave_past_for_now();
        let requests = self.receive_now(message, snapshot);
        self.return_to_past(past);
        requests
    }

    fn receive_now(&mut self, message: PaneMessage, snapshot: &Snapshot) -> Vec<Request> {
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

    /// When the cockpit wants to change by itself.
    pub(crate) fn due(&self, now: Instant) -> Option<Instant> {
        let panes = self.panes.iter().filter_map(|pane| pane.due(now));
        let overlays = self.overlays.iter().filter_map(|overlay| overlay.due(now));
        panes.chain(overlays).chain(self.desk.held.due()).min()
    }

    /// Lets panes make the changes that are due, and returns the answers to send now.
    pub(crate) fn tick(&mut self, now: Instant) -> Vec<Request> {
        for pane in &mut self.panes {
            pane.tick(now);
        }
        for overlay in &mut self.overlays {
            overlay.tick(now);
        }
        self.desk.held.take_due(now)
    }

    /// Takes out the answers that were held: the operator leaves, and meant them.
    pub(crate) fn take_held(&mut self) -> Vec<Command> {
        self.desk.held.take_all()
    }

    /// Passes a request on, unless it is an answer, which can be taken back for a while.
    fn send(&mut self, request: Request) -> Option<Request> {
        let Some(escalation) = HeldAnswers::answered_by(&request) else { return Some(request) };
        if self.desk.held.answer_to(escalation).is_some() {
            self.keep_unsent(&request);
            self.refuse("it has your answer already; undo that one first");
        } else {
            self.desk.held.hold(request, self.desk.instant);
        }
        None
    }

    /// Applies a response's reactions in order and returns the requests among them.
    fn apply(&mut self, response: Response, snapshot: &Snapshot) -> Vec<Request> {
        let mut requests = Vec::new();
        for reaction in response.into_reactions() {
            match reaction {
                Reaction::Request(request) if self.past.is_some() && !request.is_of_screen() => {
                    self.keep_unsent(&request);
                    self.say(self.past_refusal());
                }
                Reaction::Request(request) => requests.extend(self.send(request)),
                Reaction::Review(run, change) => self.desk.drafts.reviews.change(run, change),
                Reaction::Message(message) => self.say(message),
                Reaction::Refusal(message) => self.refuse(message),
                Reaction::OpenTranscript(run) => self.open_transcript(run),
                Reaction::Focus(pane) => self.focus(pane),
                Reaction::Open(dialog) => self.open(dialog),
                Reaction::Close => drop(self.overlays.pop()),
                Reaction::Act(action) => requests.extend(self.act(action, snapshot)),
                Reaction::KeepDraft { title, text } => self.keep_draft(title, text),
                Reaction::SendDraft { title, text, command } => {
                    self.desk.drafts.send(&title, text, command);
                }
                Reaction::DropDraft(title) => self.desk.drafts.drop(&title),
                Reaction::Search(text) => {
                    let scene = self.desk.scene(snapshot, self.front(snapshot));
                    let found = self.panes[self.focus].search(text, &scene);
                    requests.extend(self.apply(found, snapshot));
                }
            }
        }
        self.follow(snapshot);
        requests
    }
}
