//! Actions: the wishes that a key or the palette can express.
//!
//! An action is a constant with the name that keymaps write and the label that the footer, the
//! help and the palette show. Actions that several components share are defined here; a component
//! defines its own beside its behaviour and registers them in `panes` or `overlays`.

use super::motion::Motion;

/// One action; equal to another where the names are equal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Action {
    name: &'static str,
    label: &'static str,
    /// The verb in front of the subject's name, for an action on the subject.
    verb: Option<&'static str>,
    /// The action changes the fleet or a machine, so that viewers aren't offered it.
    changes: bool,
}

impl Action {
    pub(crate) const fn new(name: &'static str, label: &'static str) -> Self {
        Self { name, label, verb: None, changes: false }
    }

    /// The same action as one on the subject, which the footer names behind `verb`.
    const fn on_subject(self, verb: &'static str) -> Self {
        Self { verb: Some(verb), ..self }
    }

    /// The same action as one that only operators may carry out.
    pub(crate) const fn for_operators(self) -> Self {
        Self { changes: true, ..self }
    }

    /// Whether only operators may carry the action out.
    pub(crate) const fn changes(self) -> bool {
        self.changes
    }

    /// The label with the subject's name, "Retry pulse#9"; none for an action on no subject.
    pub(crate) fn label_on(self, subject: &str) -> Option<String> {
        self.verb.map(|verb| format!("{verb} {subject}"))
    }

    /// The name in keymaps and in the palette.
    pub(crate) const fn name(self) -> &'static str {
        self.name
    }

    /// The label for people: a verb in the imperative, two words where possible.
    pub(crate) const fn label(self) -> &'static str {
        self.label
    }

    /// The movement that this action stands for, if it is one.
    pub(crate) fn motion(self) -> Option<Motion> {
        Some(match self {
            NEXT => Motion::Next,
            PREVIOUS => Motion::Previous,
            PAGE_DOWN => Motion::PageDown,
            PAGE_UP => Motion::PageUp,
            TOP => Motion::Top,
            BOTTOM => Motion::Bottom,
            _ => return None,
        })
    }
}

// Movement: goes to the overlay on top, else to the focused pane.
pub(crate) const NEXT: Action = Action::new("next", "Move down");
pub(crate) const PREVIOUS: Action = Action::new("previous", "Move up");
pub(crate) const PAGE_DOWN: Action = Action::new("page-down", "Scroll down");
pub(crate) const PAGE_UP: Action = Action::new("page-up", "Scroll up");
pub(crate) const TOP: Action = Action::new("top", "Go to top");
pub(crate) const BOTTOM: Action = Action::new("bottom", "Go to bottom");

// The cockpit itself.
pub(crate) const NEXT_PANE: Action = Action::new("next-pane", "Next pane");
pub(crate) const PREVIOUS_PANE: Action = Action::new("previous-pane", "Previous pane");
pub(crate) const ZOOM: Action = Action::new("zoom", "Zoom pane");
pub(crate) const INBOX: Action = Action::new("inbox", "Show inbox");
pub(crate) const HELP: Action = Action::new("help", "Show help");
pub(crate) const PALETTE: Action = Action::new("palette", "Find action");
pub(crate) const OPEN: Action = Action::new("open", "Open").on_subject("Open");
pub(crate) const BACK: Action = Action::new("back", "Go back");
pub(crate) const COPY: Action = Action::new("copy", "Copy");
pub(crate) const SPEND: Action = Action::new("spend", "Show spend");
pub(crate) const BRIEF: Action = Action::new("brief", "Show brief");
pub(crate) const TIMELINE: Action = Action::new("timeline", "Show timeline");
pub(crate) const GRID: Action = Action::new("grid", "Show grid");
pub(crate) const TIME_TRAVEL: Action = Action::new("time-travel", "Travel back");
pub(crate) const CLIENTS: Action = Action::new("attached", "Show clients");
pub(crate) const KILL_SWITCH: Action =
    Action::new("kill-switch", "Toggle kill switch").for_operators();
pub(crate) const PERMIT_MORE: Action = Action::new("permit-more", "Add permit").for_operators();
pub(crate) const PERMIT_LESS: Action = Action::new("permit-less", "Remove permit").for_operators();
pub(crate) const THEME: Action = Action::new("theme", "Next theme");
pub(crate) const MOUSE: Action = Action::new("mouse", "Toggle mouse");
pub(crate) const REDRAW: Action = Action::new("redraw", "Redraw");
pub(crate) const SUSPEND: Action = Action::new("suspend", "Suspend");
pub(crate) const UNDO: Action = Action::new("undo", "Undo answer").for_operators();
pub(crate) const TOUR: Action = Action::new("tour", "Show tour");
pub(crate) const SPLIT_LEFT: Action = Action::new("split-left", "Move split left");
pub(crate) const SPLIT_RIGHT: Action = Action::new("split-right", "Move split right");
pub(crate) const QUIT: Action = Action::new("quit", "Quit");

// The run that the focused pane is about.
pub(crate) const STEER: Action =
    Action::new("steer", "Steer run").on_subject("Steer").for_operators();
pub(crate) const RETRY: Action =
    Action::new("retry", "Retry run").on_subject("Retry").for_operators();
pub(crate) const LOOK_AGAIN: Action =
    Action::new("look-again", "Look again").on_subject("Look again at").for_operators();
pub(crate) const CANCEL: Action =
    Action::new("cancel", "Cancel run").on_subject("Cancel").for_operators();
pub(crate) const INTERRUPT: Action =
    Action::new("interrupt", "Interrupt agent").on_subject("Interrupt").for_operators();
pub(crate) const DIFF: Action = Action::new("diff", "Show diff").on_subject("Diff of");
pub(crate) const COMPARE: Action = Action::new("compare", "Compare runs").on_subject("Compare");
pub(crate) const SHELL: Action =
    Action::new("shell", "Open shell").on_subject("Shell in").for_operators();

// Panes that can be searched.
pub(crate) const SEARCH: Action = Action::new("search", "Search");
pub(crate) const SEARCH_NEXT: Action = Action::new("search-next", "Find next");
pub(crate) const SEARCH_PREVIOUS: Action = Action::new("search-previous", "Find previous");

/// The actions of this file, in the order of the palette.
pub(crate) const SHARED: &[Action] = &[
    NEXT_PANE,
    PREVIOUS_PANE,
    ZOOM,
    INBOX,
    HELP,
    PALETTE,
    NEXT,
    PREVIOUS,
    PAGE_DOWN,
    PAGE_UP,
    TOP,
    BOTTOM,
    OPEN,
    BACK,
    STEER,
    RETRY,
    LOOK_AGAIN,
    INTERRUPT,
    CLIENTS,
    CANCEL,
    BRIEF,
    TIMELINE,
    GRID,
    COMPARE,
    TIME_TRAVEL,
    SPEND,
    KILL_SWITCH,
    DIFF,
    SHELL,
    COPY,
    SEARCH,
    SEARCH_NEXT,
    SEARCH_PREVIOUS,
    PERMIT_MORE,
    PERMIT_LESS,
    THEME,
    TOUR,
    SPLIT_LEFT,
    SPLIT_RIGHT,
    MOUSE,
    REDRAW,
    SUSPEND,
    UNDO,
    QUIT,
];
