//! Breakglass: the state of the VM, the current arming, the verbs with their effects, shells on
//! hosts, and the record of all of it.
//!
//! The pane shows rows, or in their place one of its terminals. A verb or a shell is asked of the
//! fleet; its result comes back as a [`PaneMessage`].

mod actions;
mod agent;
mod prompts;
mod replay;
mod rows;
mod terminal;
mod text;

use std::time::Instant;

use crossterm::event::KeyEvent;
use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::Line;

use self::actions::{
    ARM, BREAKGLASS, CAPTURE_DIFF, CONSOLE, CONSOLE_CLOSE, CONSOLE_LEAVE, CONSOLE_PASTE,
    CONSOLE_TYPE, DIAGNOSE, DISARM, MARK, REPLAY_FASTER, REPLAY_PAUSE, REPLAY_SLOWER, STOP_AGENT,
    TERMINAL,
};
use self::rows::Item;
use self::terminal::{Behind, Terminal};
use crate::core::model::breakglass::{BreakglassRequest, ShellId, VerbId};
use crate::core::model::command::Role;
use crate::journal::transcript::Store;
use crate::runtime::Snapshot;
use crate::runtime::breakglass::console::FromShell;
use crate::term::encode;
use crate::term::key::Key;
use crate::tui::action::{
    Action, BACK, COPY, HELP, INBOX, INTERRUPT, OPEN, QUIT, SEARCH, SEARCH_NEXT, SEARCH_PREVIOUS,
    ZOOM,
};
use crate::tui::component::{Component, Pane, PaneMessage, Receipt, Registration, Scene};
use crate::tui::keymap::{KeyContext, Match};
use crate::tui::motion::Motion;
use crate::tui::pane_id::{Column, PaneId, Slot};
use crate::tui::request::Request;
use crate::tui::response::{Dialog, Prompt, Reaction, Response, TextView};
use crate::tui::theme::Tone;
use crate::tui::widgets::lines;
use crate::tui::widgets::list::{Cursor, List, first_row};
use crate::tui::widgets::scrollbar::Extent;
use crate::tui::widgets::span::piece;

pub(crate) const ID: PaneId = PaneId::new(
    "pane-breakglass",
    "Breakglass",
    "Break",
    Slot { column: Column::Right, rows: Some(8) },
);

pub(crate) const PANE: Registration =
    Registration::new(ID, |setup| Box::new(BreakglassPane::new(setup.cold_path.clone())))
        .with(actions::CONTEXTS, actions::ACTIONS);

/// The pane: its selection and its terminals.
#[derive(Debug, Default)]
struct BreakglassPane {
    cursor: Cursor<Item>,
    terminals: Vec<Terminal>,
    /// The terminal that is shown in the place of the rows.
    shown: Option<usize>,
    /// The command that reaches the VM where no cockpit is at hand.
    cold_path: Option<String>,
}

impl BreakglassPane {
    fn new(cold_path: Option<String>) -> Self {
        Self { cold_path, ..Self::default() }
    }

    fn front(&self) -> Option<&Terminal> {
        self.shown.and_then(|at| self.terminals.get(at))
    }

    fn front_mut(&mut self) -> Option<&mut Terminal> {
        self.shown.and_then(|at| self.terminals.get_mut(at))
    }

    fn typing(&self) -> bool {
        self.front().is_some_and(Terminal::typing)
    }

    /// Shows a terminal; it replaces ended shells on the same host.
    fn show(&mut self, terminal: Terminal) {
        let replaced = |old: &Terminal| {
            old.name == terminal.name && matches!(old.behind, Behind::Shell { ended: Some(_), .. })
        };
        self.terminals.retain(|old| !replaced(old));
        self.terminals.push(terminal);
        self.shown = Some(self.terminals.len() - 1);
    }

    fn close(&mut self) {
        if let Some(at) = self.shown.take()
            && at < self.terminals.len()
        {
            self.terminals.remove(at);
        }
    }

    fn open(&mut self, scene: &Scene<'_>) -> Response {
        let items = rows::rows(scene.snapshot);
        let state = scene.snapshot.breakglass();
        match self.cursor.row(&items) {
            None => Response::none(),
            Some(Item::Verb(_) | Item::Host(_)) if scene.role == Role::Viewer => {
                Response::message("viewers are read-only")
            }
            Some(Item::Verb(verb)) if verb.mutates() => {
                let rules = scene.snapshot.fleet.policy.breakglass.as_ref();
                let ask = |rules| Response::prompt(prompts::confirm(*verb, rules, scene));
                rules.map_or_else(Response::none, ask)
            }
            Some(Item::Verb(verb)) => {
                prompts::command(BreakglassRequest::Verb { verb: *verb, confirm: None })
            }
            Some(Item::Host(host)) => {
                let here = self.terminals.iter().position(|terminal| terminal.name == *host);
                if here.is_some() {
                    self.shown = here;
                    return self.resume();
                }
                Response::request(Request::OpenShell(host.clone()))
            }
            Some(Item::Agent) => agent_calls(),
            Some(Item::Run(id)) => {
                let run = rows::run(state, *id);
                let capture = run
                    .and_then(|run| run.end.as_ref())
                    .and_then(|(_, end)| end.capture.as_ref().filter(|capture| capture.stored));
                match capture {
                    Some(capture) => Response::request(Request::Capture(capture.digest)),
                    None => live_output(*id),
                }
            }
            Some(Item::Recording(shell)) => {
                let kept = state.recordings.iter().find(|kept| kept.shell == *shell);
                let play = |file: &String| Response::request(Request::Replay(file.clone()));
                kept.map_or_else(Response::none, |kept| play(&kept.file))
            }
        }
    }

    /// Gives the keys to the shell that is shown; an ended one is opened again.
    fn resume(&mut self) -> Response {
        let Some(terminal) = self.front_mut() else { return Response::none() };
        match &mut terminal.behind {
            Behind::Shell { ended: Some(_), .. } => {
                return Response::request(Request::OpenShell(terminal.name.clone()));
            }
            Behind::Shell { typing, .. } => {
                *typing = true;
                terminal.mark = None;
                terminal.emulator.bottom();
            }
            Behind::Replay(replay) => replay.pause(Instant::now(), &mut terminal.emulator),
        }
        Response::none()
    }

    /// Compares the chosen capture with the one before it.
    fn compare(&self, scene: &Scene<'_>) -> Response {
        let items = rows::rows(scene.snapshot);
        let Some(Item::Run(id)) = self.cursor.row(&items) else {
            return Response::message("select a verb that ran");
        };
        match scene.snapshot.breakglass().captures_to_compare(*id) {
            Some([old, new]) => Response::request(Request::CaptureDiff(old.digest, new.digest)),
            None => Response::message(format!("{id} has no capture to compare with")),
        }
    }

    /// Goes to the next match; `up` leads to older output.
    fn find(&mut self, up: bool) -> Response {
        let Some(terminal) = self.front_mut() else { return Response::none() };
        let Some(needle) = &terminal.needle else {
            return Response::message("nothing to repeat: search for a text first");
        };
        if terminal.emulator.search(needle, up) {
            Response::none()
        } else {
            Response::message(format!("no further match of {needle:?} that way"))
        }
    }

    /// Pastes the lines that the operator said yes to.
    fn paste_lines(&mut self) -> Response {
        let waiting =
            self.front_mut().and_then(|terminal| Some((terminal.take_paste()?, terminal)));
        let Some((text, terminal)) = waiting else {
            return Response::message("no pasted lines wait");
        };
        pasted(terminal.paste(&text))
    }

    fn replay(&mut self, action: Action) {
        let Some(Terminal { behind: Behind::Replay(replay), emulator, .. }) = self.front_mut()
        else {
            return;
        };
        match action {
            REPLAY_FASTER => replay.faster(),
            REPLAY_SLOWER => replay.slower(),
            _ => replay.pause(Instant::now(), emulator),
        }
    }

    fn shell_output(&mut self, shell: ShellId, output: FromShell) -> Response {
        let of =
            |shown: &&mut Terminal| matches!(shown.behind, Behind::Shell { id, .. } if id == shell);
        let Some(terminal) = self.terminals.iter_mut().find(of) else { return Response::none() };
        match output {
            FromShell::Bytes(bytes) => {
                terminal.feed(&bytes);
                Response::none()
            }
            FromShell::Link(state) => {
                terminal.set_link(state);
                Response::none()
            }
            FromShell::Ended(end) => {
                let change = end.key.clone();
                terminal.end(end);
                change
                    .map_or_else(Response::none, |change| Response::prompt(prompts::trust(change)))
            }
        }
    }

    /// The rows with the text around them, in the inside of the frame.
    /// The lines of the pane, and the part of it that its rows take with how many of them it shows.
    fn lines(&self, area: Rect, scene: &Scene<'_>) -> (Vec<Line<'static>>, Rect, Extent) {
        let Some(rules) = &scene.snapshot.fleet.policy.breakglass else {
            let all = Extent { first: 0, shown: 0, all: 0 };
            return (text::unconfigured(scene), area, all);
        };
        let (width, height) = (usize::from(area.width), usize::from(area.height));
        let theme = scene.theme;
        let mut lines = text::head(rules, scene, width);
        lines.truncate(height.saturating_sub(2));
        let items = rows::rows(scene.snapshot);
        let chosen = self.cursor.place(&items);
        let is_bound = self.cursor.found(&items).is_some();
        let roomy = height >= 16;
        let about = if roomy {
            text::about(items.get(chosen), self.cold_path.as_deref(), scene, width)
        } else {
            Vec::new()
        };
        let list = List { theme, focused: scene.focused, height, width, empty: "" };
        let (mut drawn, mut chosen_at, mut group) = (Vec::new(), 0, None);
        for (at, item) in items.iter().enumerate() {
            let heading = rows::heading(item);
            if roomy && group != Some(heading) {
                group = Some(heading);
                drawn.push(Line::from(piece(format!(" {heading}"), theme, Tone::Title)));
            }
            if at == chosen {
                chosen_at = drawn.len();
            }
            let spans = rows::spans(item, &self.terminals, scene, width);
            drawn.push(list.row(is_bound && at == chosen, spans));
        }
        let room = height.saturating_sub(lines.len() + about.len());
        let first = first_row(chosen_at, drawn.len(), room);
        let extent = Extent { first, shown: room, all: drawn.len() };
        let height = |rows: usize| u16::try_from(rows).unwrap_or(u16::MAX).min(area.height);
        let rows = Rect { y: area.y + height(lines.len()), height: height(room), ..area };
        lines.extend(drawn.into_iter().skip(first).take(room));
        while lines.len() + about.len() < usize::from(area.height) {
            lines.push(Line::default());
        }
        lines.extend(about);
        (lines, rows, extent)
    }
}

/// What a paste says: nothing where all of it was sent.
fn pasted(whole: bool) -> Response {
    if whole {
        return Response::none();
    }
    Response::message("the link is busy: part of the text was not pasted")
}

/// Shows the output of a verb as it comes.
fn live_output(id: VerbId) -> Response {
    let lines = move |snapshot: &Snapshot, now| rows::output(snapshot, id, now);
    let document = TextView::live("Live output; the verb goes on without you", lines);
    Response::open(Dialog::Text(TextView { at_end: true, ..document }))
}

/// Shows the calls of the breakglass agent as they come.
fn agent_calls() -> Response {
    let lines = |snapshot: &Snapshot, now| agent::calls(snapshot, now);
    let document = TextView::live("The breakglass agent's calls", lines);
    Response::open(Dialog::Text(TextView { at_end: true, ..document }))
}

impl Component for BreakglassPane {
    fn context(&self) -> KeyContext {
        match self.front() {
            Some(shown) if shown.typing() => CONSOLE,
            Some(_) => TERMINAL,
            None => BREAKGLASS,
        }
    }

    fn actions(&self, scene: &Scene<'_>) -> Vec<Action> {
        match self.front() {
            None if scene.snapshot.breakglass().agent.is_some() => {
                vec![HELP, STOP_AGENT, OPEN, INBOX, DISARM, CAPTURE_DIFF, ZOOM, QUIT]
            }
            None => vec![HELP, ARM, OPEN, INBOX, DISARM, CAPTURE_DIFF, ZOOM, QUIT],
            Some(shown) if shown.typing() => vec![CONSOLE_LEAVE],
            Some(Terminal { behind: Behind::Replay(_), .. }) => {
                vec![HELP, REPLAY_PAUSE, REPLAY_FASTER, REPLAY_SLOWER, SEARCH, CONSOLE_CLOSE, BACK]
            }
            Some(_) => vec![HELP, CONSOLE_TYPE, BACK, SEARCH, MARK, COPY, CONSOLE_CLOSE],
        }
    }

    fn act(&mut self, action: Action, scene: &Scene<'_>) -> Option<Response> {
        let browsing = scene.focused && !scene.covered && self.context() == TERMINAL;
        match action {
            // What these act on must be on the screen first.
            CAPTURE_DIFF | CONSOLE_TYPE | CONSOLE_CLOSE | CONSOLE_LEAVE | MARK | REPLAY_PAUSE
            | REPLAY_FASTER | REPLAY_SLOWER
                if !scene.focused =>
            {
                return Some(Reaction::Focus(ID).into());
            }
            OPEN => return Some(self.open(scene)),
            BACK => {
                // With no terminal in front, going back is the cockpit's.
                self.shown.take()?;
            }
            SEARCH if browsing => return Some(Response::prompt(Prompt::search())),
            SEARCH_NEXT if browsing => return Some(self.find(true)),
            SEARCH_PREVIOUS if browsing => return Some(self.find(false)),
            ARM => return Some(Response::prompt(prompts::arm(scene))),
            DISARM => return Some(prompts::command(BreakglassRequest::Disarm)),
            DIAGNOSE => return Some(prompts::agent(scene)),
            STOP_AGENT => return Some(prompts::command(BreakglassRequest::StopAgent)),
            // The same key, where an output or a terminal covers the rows.
            INTERRUPT if scene.snapshot.breakglass().agent.is_some() => {
                return Some(prompts::command(BreakglassRequest::StopAgent));
            }
            CAPTURE_DIFF => return Some(self.compare(scene)),
            CONSOLE_TYPE => return Some(self.resume()),
            CONSOLE_CLOSE => self.close(),
            CONSOLE_PASTE => return Some(self.paste_lines()),
            CONSOLE_LEAVE => {
                if let Some(terminal) = self.front_mut() {
                    terminal.leave();
                }
            }
            MARK => {
                if let Some(terminal) = self.front_mut() {
                    terminal.toggle_mark();
                }
            }
            REPLAY_PAUSE | REPLAY_FASTER | REPLAY_SLOWER => self.replay(action),
            _ => return None,
        }
        Some(Response::none())
    }

    fn go(&mut self, motion: Motion, scene: &Scene<'_>) -> Response {
        match self.front_mut() {
            Some(terminal) => terminal.go(motion, scene.page),
            None => {
                self.cursor.go(motion, &rows::rows(scene.snapshot), scene.page);
            }
        }
        Response::none()
    }

    fn typed(&mut self, event: &KeyEvent, scene: &Scene<'_>) -> Option<Response> {
        if !self.typing() {
            return None;
        }
        if let Match::Found(action) = scene.keymap.find(CONSOLE, &[Key::from(*event)]) {
            return Some(Reaction::Act(action).into());
        }
        let terminal = self.front_mut()?;
        let bytes = encode::key(event, terminal.emulator.mode());
        if !bytes.is_empty() && !terminal.send(bytes) {
            return Some(Response::message("the link is busy: the key was not sent"));
        }
        Some(Response::none())
    }

    fn paste(&mut self, text: &str) -> Response {
        let Some(terminal) = self.front_mut().filter(|terminal| terminal.typing()) else {
            return Response::message("the pasted text was ignored: no shell has the keys");
        };
        if text.contains(['\n', '\r']) {
            terminal.hold_paste(text.to_owned());
            return prompts::paste(&terminal.name, text);
        }
        pasted(terminal.paste(text))
    }

    fn copy(&self, _: &Scene<'_>) -> Option<String> {
        self.front().map(Terminal::marked)
    }
}

impl Pane for BreakglassPane {
    fn id(&self) -> PaneId {
        ID
    }

    fn is_needed(&self, snapshot: &Snapshot) -> bool {
        snapshot.fleet.policy.breakglass.is_some()
    }

    fn title(&self, scene: &Scene<'_>) -> String {
        let shown = self.front().filter(|_| scene.focused);
        let leave = || scene.keymap.keys_of(CONSOLE, CONSOLE_LEAVE).join(" or ");
        shown.map_or_else(|| ID.title.to_owned(), |shown| shown.title(&leave()))
    }

    fn prepare(&mut self, area: Rect, _: &Store, scene: &Scene<'_>) -> Response {
        self.cursor.bind(&rows::rows(scene.snapshot));
        if scene.focused {
            self.resize(area);
        }
        Response::none()
    }

    fn draw(&self, frame: &mut Frame<'_>, area: Rect, scene: &Scene<'_>) {
        if let Some(shown) = self.front().filter(|_| scene.focused) {
            let resume = scene.keymap.key_of(TERMINAL, CONSOLE_TYPE);
            let leave = scene.keymap.keys_of(CONSOLE, CONSOLE_LEAVE).join(" or ");
            shown.draw(frame, area, scene, (&resume, &leave));
        } else {
            let (lines, rows, extent) = self.lines(area, scene);
            lines::draw(frame, area, lines);
            extent.draw(frame, rows, scene.theme);
        }
    }

    fn search(&mut self, text: Option<String>, _: &Scene<'_>) -> Response {
        if let (Some(terminal), Some(text)) = (self.front_mut(), text) {
            terminal.needle = Some(text);
        }
        self.find(true)
    }

    fn receive(&mut self, message: PaneMessage, _: &Scene<'_>) -> Receipt {
        Receipt::Taken(match message {
            PaneMessage::VerbStarted(verb) => live_output(verb),
            PaneMessage::ShellOutput(shell, output) => self.shell_output(shell, output),
            PaneMessage::ShellOpened { host, id, to, size } => {
                self.show(Terminal::shell(host, id, to, size));
                Reaction::Focus(ID).into()
            }
            PaneMessage::Recording(name, played) => {
                self.show(Terminal::replay(name, played));
                Response::none()
            }
        })
    }

    fn fills_screen(&self) -> bool {
        self.shown.is_some()
    }

    fn due(&self, now: Instant) -> Option<Instant> {
        let front = self.front()?;
        match &front.behind {
            Behind::Replay(replay) => replay.due(now),
            Behind::Shell { .. } => front.link_due(now),
        }
    }

    fn tick(&mut self, now: Instant) {
        if let Some(Terminal { behind: Behind::Replay(replay), emulator, .. }) = self.front_mut() {
            replay.advance(now, emulator);
        }
    }

    fn resize(&mut self, area: Rect) {
        if let Some(terminal) = self.front_mut() {
            terminal.fit((area.width, area.height));
        }
    }
}
