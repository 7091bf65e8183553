//! The state of one client: focus, zoom, the panes and a stack of overlays.
//!
//! `app` routes: an action goes to the overlay on top, else to the focused pane, else to the pane
//! that registered it, else to the actions on runs and on the cockpit itself. Each returns an
//! [`Outcome`], whose steps are applied here; only the requests leave.

use std::time::Instant;

use crossterm::event::KeyEvent;
use ratatui::Frame;
use ratatui::layout::{Position, Rect};
use ratatui::text::Line;
use ratatui::widgets::{Block, Borders, Paragraph};

use super::action::{
    Action, BACK, CLIENTS, COPY, HELP, INBOX, KILL_SWITCH, MOUSE, NEXT_PANE, OPEN, PALETTE,
    PERMIT_LESS, PERMIT_MORE, PREVIOUS_PANE, QUIT, REDRAW, SHARED, SPEND, THEME, ZOOM,
};
use super::bars::footer::Footer;
use super::bars::{header, tabs};
use super::component::{Dialog, Message, Outcome, Overlay, Pane, PaneId, Receipt, Scene, Step};
use super::keymap::{Catalog, Context, Keymap, Match};
use super::layout::{self, LEAST, Places};
use super::motion::Motion;
use super::request::Request;
use super::theme::{Role, Theme};
use super::widgets::text::{fit, plural};
use super::{overlays, panes, run_actions};
use crate::config::ConfigError;
use crate::core::command;
use crate::core::id::{Actor, RunId, Timestamp};
use crate::journal::transcript::Store;
use crate::runtime::Snapshot;
use crate::term::key::Key;

/// The configuration that a cockpit starts with.
#[derive(Debug)]
pub(crate) struct Setup {
    pub(crate) keymap: Keymap,
    pub(crate) theme: Theme,
    /// Columns and rows.
    pub(crate) size: (u16, u16),
    /// This machine's name.
    pub(crate) host: String,
    /// The operator at this client.
    pub(crate) actor: Actor,
    /// Mouse events are taken.
    pub(crate) mouse: bool,
    /// Leaving the cockpit stops nothing.
    pub(crate) detaches: bool,
    pub(crate) panes: panes::Setup,
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

/// The contexts and actions of everything that is registered.
pub(crate) fn catalog() -> Catalog {
    let mut catalog = Catalog { contexts: vec![Context::GLOBAL], ..Catalog::default() };
    catalog.actions.extend(panes::ALL.iter().map(|pane| pane.id.focus));
    catalog.actions.extend(SHARED);
    for pane in panes::ALL {
        catalog.contexts.extend(pane.contexts);
        catalog.actions.extend(pane.actions.iter().filter(|action| !SHARED.contains(action)));
    }
    catalog.contexts.extend(overlays::CONTEXTS);
    catalog.actions.extend(overlays::ACTIONS);
    catalog
}

/// Reads a keymap and checks it against everything that is registered.
///
/// # Errors
/// As [`Keymap::load`].
pub(crate) fn keymap(name: &str) -> Result<Keymap, ConfigError> {
    Keymap::load(name, catalog())
}

impl App {
    pub(crate) fn new(setup: Setup) -> Self {
        let Setup { keymap, theme, size, host, actor, mouse, detaches, panes } = setup;
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
        Ok(Self::new(Setup {
            keymap: keymap("default")?,
            theme,
            size,
            host: String::new(),
            actor: Actor(String::new()),
            mouse: false,
            detaches: false,
            panes: panes::Setup::default(),
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
    pub(crate) fn show_run(&mut self, run: RunId) {
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
        let request = layout::Request {
            size: self.size,
            panes: &self.ids,
            focus: self.ids[self.focus],
            zoomed: self.zoomed || self.panes[self.focus].fills_screen(),
            problems,
        };
        request.places()
    }

    /// How an overlay stands, or the focused pane.
    fn front(&self, snapshot: &Snapshot) -> Standing {
        let inside = self.places(snapshot.problems.len()).inside(self.ids[self.focus]);
        let rows = inside.map_or(10, |area| area.height.max(2));
        let covered = !self.overlays.is_empty();
        Standing { focused: true, covered, page: usize::from(rows - 1) }
    }

    /// Where keys are pressed now.
    fn context(&self) -> Context {
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
        if let Some(outcome) = typed {
            return self.apply(outcome, snapshot);
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

    /// Takes pasted text.
    pub(crate) fn paste(&mut self, text: &str, snapshot: &Snapshot) -> Vec<Request> {
        let outcome = match self.overlays.last_mut() {
            Some(top) => top.paste(text),
            None => self.panes[self.focus].paste(text),
        };
        self.apply(outcome, snapshot)
    }

    /// Moves in the overlay on top, else in the focused pane.
    pub(crate) fn go(&mut self, motion: Motion, snapshot: &Snapshot) -> Vec<Request> {
        let scene = self.desk.scene(snapshot, self.front(snapshot));
        let outcome = match self.overlays.last_mut() {
            Some(top) => top.go(motion, &scene),
            None => self.panes[self.focus].go(motion, &scene),
        };
        self.apply(outcome, snapshot)
    }

    /// Focuses what was clicked, and selects its row.
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
        let outcome = self.panes[self.focus].click(row, height, &scene);
        self.apply(outcome, snapshot)
    }

    /// Hands a message from outside to the pane that waits for it.
    pub(crate) fn receive(&mut self, message: Message, snapshot: &Snapshot) -> Vec<Request> {
        let front = self.front(snapshot);
        let mut left = message;
        for at in 0..self.panes.len() {
            let scene = self.desk.scene(snapshot, Standing { focused: at == self.focus, ..front });
            match self.panes[at].receive(left, &scene) {
                Receipt::Taken(outcome) => return self.apply(outcome, snapshot),
                Receipt::Returned(message) => left = message,
            }
        }
        Vec::new()
    }

    /// When a pane wants to change by itself.
    pub(crate) fn due(&self, now: Instant) -> Option<Instant> {
        self.panes.iter().filter_map(|pane| pane.due(now)).min()
    }

    /// Lets panes change what has become due.
    pub(crate) fn tick(&mut self, now: Instant) {
        for pane in &mut self.panes {
            pane.tick(now);
        }
    }

    /// Carries out an action.
    pub(crate) fn act(&mut self, action: Action, snapshot: &Snapshot) -> Vec<Request> {
        if let Some(motion) = action.motion() {
            return self.go(motion, snapshot);
        }
        let outcome = self.route(action, snapshot);
        self.apply(outcome, snapshot)
    }

    fn route(&mut self, action: Action, snapshot: &Snapshot) -> Outcome {
        let front = self.front(snapshot);
        let scene = self.desk.scene(snapshot, front);
        if let Some(top) = self.overlays.last_mut() {
            if let Some(outcome) = top.act(action, &scene) {
                return outcome;
            }
            match action {
                BACK | QUIT => return Step::Close.into(),
                OPEN => return Outcome::none(),
                COPY if let Some(text) = top.copy(&scene) => return copy(text),
                _ => {}
            }
        }
        if let Some(outcome) = self.panes[self.focus].act(action, &scene) {
            return outcome;
        }
        let owner = panes::ALL.iter().position(|known| known.actions.contains(&action));
        if let Some(owner) = owner {
            let scene =
                self.desk.scene(snapshot, Standing { focused: owner == self.focus, ..front });
            if let Some(outcome) = self.panes[owner].act(action, &scene) {
                return outcome;
            }
        }
        let scene = self.desk.scene(snapshot, front);
        let subject = self.panes[self.focus].subject(&scene);
        run_actions::act(action, subject, &scene)
            .or_else(|| overlays::act_from_outside(action))
            .or_else(|| self.fleet_action(action, snapshot))
            .unwrap_or_else(|| self.screen_action(action, snapshot))
    }

    /// Actions on the fleet, and the texts about it.
    fn fleet_action(&self, action: Action, snapshot: &Snapshot) -> Option<Outcome> {
        let fleet = &snapshot.fleet;
        let set_permits =
            |permits| Outcome::request(Request::Command(command::Action::SetCapacity { permits }));
        Some(match action {
            SPEND => Outcome::open(Dialog::Spend),
            CLIENTS => Outcome::open(Dialog::Clients),
            PERMIT_MORE => set_permits(fleet.capacity().saturating_add(1)),
            PERMIT_LESS => set_permits(fleet.capacity().saturating_sub(1)),
            KILL_SWITCH => {
                let on = !fleet.kill_switch();
                let question = if on {
                    "Throw the kill switch? Nothing new is picked up; live runs go on."
                } else {
                    "Lift the kill switch? Eligible issues are picked up at once."
                };
                let yes = Request::Command(command::Action::SetKillSwitch { on });
                Outcome::confirm(question.into(), yes)
            }
            QUIT => self.quit(snapshot),
            _ => return None,
        })
    }

    fn quit(&self, snapshot: &Snapshot) -> Outcome {
        let live = snapshot.fleet.live_runs().filter(|run| run.busy());
        let working: Vec<String> = live.map(|run| run.id.to_string()).collect();
        if self.detaches || working.is_empty() {
            return Outcome::request(Request::Quit);
        }
        let verbs =
            if working.len() == 1 { "stops now and resumes" } else { "stop now and resume" };
        let question = format!("Quit? {} {verbs} at the next start of afk.", working.join(", "));
        Outcome::confirm(question, Request::Quit)
    }

    /// Actions on the screen itself.
    fn screen_action(&mut self, action: Action, snapshot: &Snapshot) -> Outcome {
        let count = self.ids.len();
        match action {
            NEXT_PANE => self.focus(self.ids[(self.focus + 1) % count]),
            PREVIOUS_PANE => self.focus(self.ids[(self.focus + count - 1) % count]),
            ZOOM => self.zoomed = !self.zoomed,
            INBOX => return Outcome::open(Dialog::Inbox),
            HELP => return Outcome::open(Dialog::Help(self.context())),
            PALETTE => return Outcome::open(Dialog::Palette),
            BACK => {
                self.zoomed = false;
                for pane in &mut self.panes {
                    pane.clear_marks();
                }
            }
            COPY => {
                let scene = self.desk.scene(snapshot, self.front(snapshot));
                let text = self.panes[self.focus].copy(&scene);
                return text.map_or_else(Outcome::none, copy);
            }
            THEME => match self.desk.theme.next() {
                Ok(theme) => self.desk.theme = theme,
                Err(error) => return Outcome::message(error.to_string()),
            },
            MOUSE => {
                self.mouse = !self.mouse;
                let message = if self.mouse { "mouse on" } else { "mouse off" };
                let request = Step::Request(Request::Mouse(self.mouse));
                return Outcome::message(message).then(request);
            }
            REDRAW => return Outcome::request(Request::Redraw),
            _ => {
                if let Some(pane) = self.ids.iter().find(|id| id.focus == action) {
                    self.focus(*pane);
                }
            }
        }
        Outcome::none()
    }

    /// Applies an outcome's steps in order and returns the requests among them.
    fn apply(&mut self, outcome: Outcome, snapshot: &Snapshot) -> Vec<Request> {
        let mut requests = Vec::new();
        for step in outcome.into_steps() {
            match step {
                Step::Request(request) => requests.push(request),
                Step::Message(message) => self.message = Some(message),
                Step::ShowRun(run) => self.desk.chosen = Some(run),
                Step::Focus(pane) => self.focus(pane),
                Step::Open(dialog) => self.open(dialog),
                Step::Close => drop(self.overlays.pop()),
                Step::Act(action) => requests.extend(self.act(action, snapshot)),
                Step::Search(text) => {
                    let scene = self.desk.scene(snapshot, self.front(snapshot));
                    let found = self.panes[self.focus].search(text, &scene);
                    requests.extend(self.apply(found, snapshot));
                }
            }
        }
        requests
    }

    /// Brings what depends on the size into its bounds, and reads what the next frame shows.
    pub(crate) fn prepare(&mut self, snapshot: &Snapshot, store: &Store) {
        let places = self.places(snapshot.problems.len());
        let front = self.front(snapshot);
        for at in 0..self.panes.len() {
            let Some(inside) = places.inside(self.ids[at]) else { continue };
            let scene = self.desk.scene(snapshot, Standing { focused: at == self.focus, ..front });
            let outcome = self.panes[at].prepare(inside, store, &scene);
            let _ = self.apply(outcome, snapshot);
        }
        let scene = self.desk.scene(snapshot, front);
        for overlay in &mut self.overlays {
            overlay.prepare(places.body, &scene);
        }
    }

    /// Draws everything: a function of the snapshot and of the state as it was prepared.
    pub fn draw(&self, frame: &mut Frame<'_>, snapshot: &Snapshot) {
        let area = frame.area();
        if area.width < LEAST.0 || area.height < LEAST.1 {
            let (width, height) = (area.width, area.height);
            let text = format!("afk needs {}x{}, this is {width}x{height}", LEAST.0, LEAST.1);
            frame.render_widget(Paragraph::new(text), area);
            return;
        }
        let places = self.places(snapshot.problems.len());
        let theme = &self.desk.theme;
        let header = header::Header {
            snapshot,
            theme,
            now: self.desk.now,
            host: &self.host,
            lost: self.lost,
            slow: self.slow,
        };
        header::draw(frame, places.header, &header);
        header::draw_problems(frame, places.problems, &snapshot.problems, theme);
        if let Some(area) = places.tabs {
            tabs::draw(frame, area, &self.ids, self.ids[self.focus], theme);
        }
        let front = self.front(snapshot);
        for (pane, area) in &places.panes {
            self.draw_pane(frame, *area, *pane, front, snapshot);
        }
        let scene = self.desk.scene(snapshot, front);
        for overlay in &self.overlays {
            overlay.draw(frame, places.body, &scene);
        }
        let actions = match self.overlays.last() {
            Some(top) => top.actions(&scene),
            None => self.panes[self.focus].actions(&scene),
        };
        let footer = Footer {
            theme,
            keymap: &self.desk.keymap,
            context: self.context(),
            message: self.message.as_deref(),
            pending: &self.pending,
            actions: &actions,
        };
        footer.draw(frame, places.footer);
    }

    fn draw_pane(
        &self,
        frame: &mut Frame<'_>,
        area: Rect,
        pane: PaneId,
        front: Standing,
        snapshot: &Snapshot,
    ) {
        let Some(at) = self.ids.iter().position(|id| *id == pane) else { return };
        let focused = at == self.focus;
        let scene = self.desk.scene(snapshot, Standing { focused, ..front });
        let theme = &self.desk.theme;
        let room = usize::from(area.width).saturating_sub(4);
        let title = format!(" {} {} ", at + 1, self.panes[at].title(&scene));
        let (border, name) =
            if focused { (Role::BorderFocus, Role::Title) } else { (Role::Border, Role::Dim) };
        let block = Block::new()
            .borders(Borders::ALL)
            .border_style(theme.style(border))
            .title(Line::styled(fit(&title, room, theme.marks.cut), theme.style(name)));
        let inner = block.inner(area);
        frame.render_widget(block, area);
        self.panes[at].draw(frame, inner, &scene);
    }
}

fn copy(text: String) -> Outcome {
    let message = format!("copied {}", plural(text.chars().count(), "character"));
    Outcome::message(message).then(Step::Request(Request::Copy(text)))
}
