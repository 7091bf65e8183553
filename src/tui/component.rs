//! The contract between the cockpit and its parts.
//!
//! A component is a pane or an overlay: one file (or folder) with its state, its own actions, its
//! handling and its drawing. It sees a [`Scene`], never the whole cockpit, and answers with a
//! [`Response`]: a list of reactions that `app` applies. Panes and overlays therefore know neither
//! `app` nor each other; a pane opens an overlay by describing it as a `Dialog`.

use std::time::Instant;

use crossterm::event::KeyEvent;
use ratatui::Frame;
use ratatui::layout::Rect;
use tokio::sync::mpsc;

use super::action::{Action, BACK};
use super::held::HeldAnswers;
use super::keymap::{KeyContext, Keymap};
use super::motion::Motion;
use super::pane_id::PaneId;
use super::response::Response;
use super::review::Reviews;
use super::subject::Subject;
use super::theme::Theme;
use crate::breakglass::recording::Asciicast;
use crate::breakglass::shell::ToShell;
use crate::core::model::breakglass::{ShellId, VerbId};
use crate::core::model::command::Role;
use crate::core::model::id::{Actor, EscalationId};
use crate::core::model::time::Timestamp;
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
    /// The role of this client: a viewer is offered nothing that changes the fleet.
    pub(crate) role: Role,
    /// The thing that the transcript shows: the subject of the last pane that had one.
    pub(crate) subject: Option<&'a Subject>,
    /// Answers that can still be taken back.
    pub(crate) held: &'a HeldAnswers,
    /// Comments on diffs that wait to be sent.
    pub(crate) reviews: &'a Reviews,
    /// The moment of the key or of the frame, for guards that last less than a second.
    pub(crate) instant: Instant,
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
    fn actions(&self, scene: &Scene<'_>) -> Vec<Action> {
        let _ = scene;
        vec![BACK]
    }

    /// The one thing that keys act on while this component has them; none where there is none.
    fn subject(&self, scene: &Scene<'_>) -> Option<Subject> {
        let _ = scene;
        None
    }

    /// Carries an action out. None: the action isn't this component's, the next one is asked.
    fn act(&mut self, action: Action, scene: &Scene<'_>) -> Option<Response> {
        let _ = (action, scene);
        None
    }

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

    /// Takes pasted text, as it came. A component without a box for it takes none: its lines are no
    /// keys.
    fn paste(&mut self, text: &str) -> Response {
        let _ = text;
        Response::message("the pasted text was ignored: no box is open for it")
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

    /// Whether there is anything that the pane could show. One without gives its place to the others
    /// until it is focused.
    fn is_needed(&self, snapshot: &Snapshot) -> bool {
        let _ = snapshot;
        true
    }

    /// Draws the inside of the frame.
    fn draw(&self, frame: &mut Frame<'_>, area: Rect, scene: &Scene<'_>);

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
    /// Reads the records that the next frame shows. Called before [`Overlay::prepare`] while the overlay is
    /// on top.
    fn read(&mut self, area: Rect, store: &Store, scene: &Scene<'_>) {
        let _ = (area, store, scene);
    }

    /// The action that opens this overlay, and closes it again; none for one that has no such key.
    fn opener(&self) -> Option<Action> {
        None
    }

    /// Brings state that depends on the size into its bounds. Called before each frame.
    fn prepare(&mut self, area: Rect, scene: &Scene<'_>) {
        let _ = (area, scene);
    }

    /// Does the same while another overlay covers this one.
    fn prepare_covered(&mut self, area: Rect, scene: &Scene<'_>) {
        self.prepare(area, scene);
    }

    /// The question whose card is shown; none where there is none.
    fn escalation(&self, snapshot: &Snapshot) -> Option<EscalationId> {
        let _ = snapshot;
        None
    }

    /// Whether keys type or confirm here, so that nothing may come between by itself.
    fn is_input(&self) -> bool {
        false
    }

    /// The title and the text of a prompt that is left without an answer; none where nothing was typed.
    fn draft(&self) -> Option<(String, String)> {
        None
    }

    /// When the overlay wants to change by itself; none while it stands still.
    fn due(&self, now: Instant) -> Option<Instant> {
        let _ = now;
        None
    }

    /// Makes the change that is due.
    fn tick(&mut self, now: Instant) {
        let _ = now;
    }

    /// Draws the overlay over `area`, the body of the screen.
    fn draw(&self, frame: &mut Frame<'_>, area: Rect, scene: &Scene<'_>);
}

/// A pane as it is registered in `panes`.
pub(crate) struct Registration {
    pub(crate) id: PaneId,
    /// The contexts of its own keys.
    pub(crate) contexts: &'static [KeyContext],
    /// The actions that it carries out also while another pane has the focus.
    pub(crate) actions: &'static [Action],
    pub(crate) new: fn(&PaneSetup) -> Box<dyn Pane>,
}

impl Registration {
    /// A pane without keys and actions of its own.
    pub(crate) const fn new(id: PaneId, new: fn(&PaneSetup) -> Box<dyn Pane>) -> Self {
        Self { id, contexts: &[], actions: &[], new }
    }

    /// The same pane with contexts and actions of its own.
    pub(crate) const fn with(
        self,
        contexts: &'static [KeyContext],
        actions: &'static [Action],
    ) -> Self {
        Self { contexts, actions, ..self }
    }
}

/// The configuration that panes are made with.
#[derive(Debug, Clone, Default)]
pub(crate) struct PaneSetup {
    /// The command that reaches the VM where no cockpit is at hand.
    pub(crate) cold_path: Option<String>,
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
    Recording(String, Asciicast),
}

/// Whether a pane took a message.
#[derive(Debug)]
pub(crate) enum Receipt {
    Taken(Response),
    /// The message is for another pane.
    Returned(PaneMessage),
}
