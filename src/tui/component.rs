//! The contract between the cockpit and its parts.
//!
//! A component is a pane or an overlay: one file (or folder) with its state, its own actions, its
//! handling and its drawing. It sees a [`Scene`], never the whole cockpit, and answers with an
//! [`Response`]: a list of reactions that `app` applies. Panes and overlays therefore know neither
//! `app` nor each other; a pane opens an overlay by describing it as a [`Dialog`].

use std::fmt;
use std::time::Instant;

use crossterm::event::KeyEvent;
use ratatui::Frame;
use ratatui::layout::Rect;
use tokio::sync::mpsc;

use super::action::Action;
use super::keymap::{KeyContext, Keymap};
use super::motion::Motion;
use super::request::Request;
use super::theme::Theme;
use crate::breakglass::recording::Played;
use crate::breakglass::shell::ToShell;
use crate::core::breakglass::{ShellId, VerbId};
use crate::core::id::{Actor, RunId, Timestamp};
use crate::journal::transcript::Store;
use crate::runtime::Snapshot;
use crate::runtime::breakglass::console::FromShell;

/// Everything that a component may read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scene<'a> {
    pub(crate) snapshot: &'a Snapshot,
    pub(crate) theme: &'a Theme,
    pub(crate) keymap: &'a Keymap,
    /// The time to show.
    pub(crate) now: Timestamp,
    /// The operator at this client.
    pub(crate) actor: &'a Actor,
    /// The run whose transcript is shown.
    pub(crate) run: Option<RunId>,
    /// This component is the focused pane, or an overlay.
    pub(crate) focused: bool,
    /// An overlay lies over the panes.
    pub(crate) covered: bool,
    /// The rows of a page of the focused pane.
    pub(crate) page: usize,
}

/// A pane or an overlay; see the module.
pub(crate) trait Component {
    /// The context in which the keymap looks up this component's keys now.
    fn context(&self) -> KeyContext {
        KeyContext::GLOBAL
    }

    /// The actions to offer now, the most wanted first; the footer shows as many as fit.
    fn actions(&self, scene: &Scene<'_>) -> Vec<Action>;

    /// Carries an action out. None: the action isn't this component's, the next one is asked.
    fn act(&mut self, action: Action, scene: &Scene<'_>) -> Option<Response>;

    /// Moves the cursor or scrolls.
    fn go(&mut self, motion: Motion, scene: &Scene<'_>) -> Response {
        let _ = (motion, scene);
        Response::none()
    }

    /// Takes a key before the keymap sees it. None: the keymap decides.
    fn typed(&mut self, event: &KeyEvent, scene: &Scene<'_>) -> Option<Response> {
        let _ = (event, scene);
        None
    }

    /// Takes pasted text, as it came.
    fn paste(&mut self, text: &str) -> Response {
        let _ = text;
        Response::none()
    }

    /// The text that the copy action takes.
    fn copy(&self, scene: &Scene<'_>) -> Option<String> {
        let _ = scene;
        None
    }
}

/// A component with a frame of its own in the body of the screen.
pub(crate) trait Pane: Component {
    fn id(&self) -> PaneId;

    /// The title in the frame, without the pane's number.
    fn title(&self, scene: &Scene<'_>) -> String {
        let _ = scene;
        self.id().title.to_owned()
    }

    /// Fits the state to the size, and reads the records that the frame will show.
    /// Called before each frame in which the pane is shown; `area` is the inside of its frame.
    fn prepare(&mut self, area: Rect, store: &Store, scene: &Scene<'_>) -> Response {
        let _ = (area, store, scene);
        Response::none()
    }

    /// Draws the inside of the frame.
    fn draw(&self, frame: &mut Frame<'_>, area: Rect, scene: &Scene<'_>);

    /// The run that actions on runs are about while this pane has the focus.
    fn subject(&self, scene: &Scene<'_>) -> Option<RunId> {
        scene.run
    }

    /// Takes a click on a row of the inside, `height` rows of which are shown.
    fn click(&mut self, row: usize, height: usize, scene: &Scene<'_>) -> Response {
        let _ = (row, height, scene);
        Response::none()
    }

    /// Searches for a typed text; none repeats the last search where there was one.
    fn search(&mut self, text: Option<String>, scene: &Scene<'_>) -> Response {
        let _ = (text, scene);
        Response::none()
    }

    /// Takes a message from outside, or returns it for the pane that waits for it.
    fn receive(&mut self, message: PaneMessage, scene: &Scene<'_>) -> Receipt {
        let _ = scene;
        Receipt::Returned(message)
    }

    /// The pane takes the whole screen while it has the focus.
    fn fills_screen(&self) -> bool {
        false
    }

    /// When the pane wants to change by itself; none while it stands still.
    fn due(&self, now: Instant) -> Option<Instant> {
        let _ = now;
        None
    }

    /// Makes the change that is due.
    fn tick(&mut self, now: Instant) {
        let _ = now;
    }

    /// Fits a program inside of the pane to a new size at once, before the next key.
    fn resize(&mut self, area: Rect) {
        let _ = area;
    }

    /// Forgets marks that stay only until the operator goes back.
    fn clear_marks(&mut self) {}
}

/// A component that lies over the body of the screen and has the keys while it is on top.
pub(crate) trait Overlay: Component {
    /// Brings state that depends on the size into its bounds. Called before each frame.
    fn prepare(&mut self, area: Rect, scene: &Scene<'_>) {
        let _ = (area, scene);
    }

    /// Draws the overlay over `area`, the body of the screen.
    fn draw(&self, frame: &mut Frame<'_>, area: Rect, scene: &Scene<'_>);
}

/// The identity of a pane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PaneId {
    /// The action that focuses the pane.
    pub(crate) focus: Action,
    pub(crate) title: &'static str,
    /// The title where there is little room.
    pub(crate) short: &'static str,
    /// The column of the wide layout, and the height in it.
    pub(crate) slot: Slot,
}

impl PaneId {
    /// A pane whose focus action is called `action`, `pane-` by custom.
    pub(crate) const fn new(
        action: &'static str,
        title: &'static str,
        short: &'static str,
        slot: Slot,
    ) -> Self {
        Self { focus: Action::new(action, title), title, short, slot }
    }
}

/// A place in the two columns of the wide layout; panes are stacked in the order of registration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Slot {
    pub(crate) column: Column,
    /// Rows with the frame; none takes the rest and makes it the column's main pane.
    pub(crate) rows: Option<u16>,
}

/// A column of the wide layout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Column {
    Left,
    Right,
}

/// Results from outside for the pane that waits for them.
#[derive(Debug)]
pub(crate) enum PaneMessage {
    /// A verb that this client asked for has started.
    VerbStarted(VerbId),
    /// A shell on a host is open; `to` takes typed bytes.
    ShellOpened { host: String, id: ShellId, to: mpsc::Sender<ToShell>, size: (u16, u16) },
    /// A shell wrote something, or ended.
    ShellOutput(ShellId, FromShell),
    /// A recording was read from its file.
    Recording(String, Played),
}

/// Whether a pane took a message.
#[derive(Debug)]
pub(crate) enum Receipt {
    Taken(Response),
    /// The message is for another pane.
    Returned(PaneMessage),
}

/// One thing that the cockpit does for a component.
#[derive(Debug)]
pub(crate) enum Reaction {
    /// Ask the session for something outside.
    Request(Request),
    /// Show a message in the footer until the next key.
    Message(String),
    /// Show a run's transcript.
    ShowRun(RunId),
    /// Give the focus to a pane; overlays are closed.
    Focus(PaneId),
    /// Open an overlay.
    Open(Dialog),
    /// Close the overlay on top.
    Close,
    /// Carry out an action as if its key had been pressed.
    Act(Action),
    /// Search in the focused pane.
    Search(Option<String>),
}

/// The answer of a component that handled something: reactions of the cockpit, in order.
#[derive(Debug, Default)]
pub(crate) struct Response(Vec<Reaction>);

impl Response {
    /// Nothing beyond the component's own change.
    pub(crate) const fn none() -> Self {
        Self(Vec::new())
    }

    pub(crate) fn request(request: Request) -> Self {
        Self::from(Reaction::Request(request))
    }

    pub(crate) fn message(text: impl Into<String>) -> Self {
        Self::from(Reaction::Message(text.into()))
    }

    pub(crate) fn open(dialog: Dialog) -> Self {
        Self::from(Reaction::Open(dialog))
    }

    /// The prompt as an overlay.
    pub(crate) fn prompt(prompt: Prompt) -> Self {
        Self::open(Dialog::Prompt(Box::new(prompt)))
    }

    /// A question before a request that can't be taken back.
    pub(crate) fn confirm(question: String, yes: Request) -> Self {
        Self::open(Dialog::Confirm { question, yes })
    }

    /// This response with a further reaction at its end.
    pub(crate) fn then(mut self, reaction: Reaction) -> Self {
        self.0.push(reaction);
        self
    }

    /// This response followed by another.
    pub(crate) fn followed_by(mut self, other: Self) -> Self {
        self.0.extend(other.0);
        self
    }

    pub(crate) fn into_reactions(self) -> Vec<Reaction> {
        self.0
    }
}

impl From<Reaction> for Response {
    fn from(reaction: Reaction) -> Self {
        Self(vec![reaction])
    }
}

/// An overlay to open, described so that its opener needn't know it.
#[derive(Debug)]
pub(crate) enum Dialog {
    /// The open escalations.
    Inbox,
    /// The keys that are active in a context.
    Help(KeyContext),
    /// Every action, by fuzzy search.
    Palette,
    /// The cost of runs, by day, repository and run.
    Spend,
    /// The clients that are attached to this fleet.
    Clients,
    /// A question before a request that can't be taken back.
    Confirm { question: String, yes: Request },
    /// A text to be typed.
    Prompt(Box<Prompt>),
    /// A text to read.
    Text(TextView),
}

/// A text to be typed, and the function that takes it.
pub(crate) struct Prompt {
    pub(crate) title: String,
    /// Lines above the text: the facts to know before it is sent.
    pub(crate) about: Vec<String>,
    /// The text to begin with.
    pub(crate) text: String,
    pub(crate) size: PromptSize,
    pub(crate) submit: Submit,
}

/// Turns a typed text into a response.
pub(crate) type Submit = Box<dyn FnOnce(String) -> Response>;

/// How much room a prompt gives to its text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PromptSize {
    /// One line, with the verb of the Enter key.
    Line { enter: &'static str },
    /// Several lines.
    Text,
}

impl Prompt {
    /// A prompt for several lines that begins empty.
    pub(crate) fn text(title: String, submit: impl FnOnce(String) -> Response + 'static) -> Self {
        let (about, text) = (Vec::new(), String::new());
        Self { title, about, text, size: PromptSize::Text, submit: Box::new(submit) }
    }

    /// A prompt for one line; `enter` is the verb of the Enter key.
    pub(crate) fn line(
        title: String,
        enter: &'static str,
        submit: impl FnOnce(String) -> Response + 'static,
    ) -> Self {
        Self { size: PromptSize::Line { enter }, ..Self::text(title, submit) }
    }

    /// A prompt for the text to search for in the focused pane.
    pub(crate) fn search() -> Self {
        Self::line("Search".into(), "search", |text| {
            let first = text.lines().next().filter(|line| !line.is_empty());
            Reaction::Search(first.map(str::to_owned)).into()
        })
    }
}

impl fmt::Debug for Prompt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Prompt").field("title", &self.title).finish_non_exhaustive()
    }
}

/// A text to read, a line each; the lines are clean of control characters.
pub(crate) struct TextView {
    pub(crate) title: String,
    pub(crate) content: TextSource,
    /// Opens at the end and stays there as the text grows.
    pub(crate) at_end: bool,
}

/// Where the lines of a document come from.
pub(crate) enum TextSource {
    Fixed(Vec<String>),
    /// Computed for each frame.
    Live(LiveLines),
}

/// Lines that follow the snapshot.
pub(crate) type LiveLines = Box<dyn Fn(&Snapshot, Timestamp) -> Vec<String>>;

impl TextView {
    pub(crate) fn fixed(title: impl Into<String>, lines: Vec<String>) -> Self {
        Self { title: title.into(), content: TextSource::Fixed(lines), at_end: false }
    }

    pub(crate) fn live(
        title: impl Into<String>,
        lines: impl Fn(&Snapshot, Timestamp) -> Vec<String> + 'static,
    ) -> Self {
        Self { title: title.into(), content: TextSource::Live(Box::new(lines)), at_end: false }
    }
}

impl fmt::Debug for TextView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TextView").field("title", &self.title).finish_non_exhaustive()
    }
}
