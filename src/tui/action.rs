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
}

impl Action {
    pub(crate) const fn new(name: &'static str, label: &'static str) -> Self {
        Self { name, label }
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
pub(crate) const OPEN: Action = Action::new("open", "Open");
pub(crate) const BACK: Action = Action::new("back", "Go back");
pub(crate) const COPY: Action = Action::new("copy", "Copy");
pub(crate) const SPEND: Action = Action::new("spend", "Show spend");
pub(crate) const CLIENTS: Action = Action::new("attached", "Show clients");
pub(crate) const KILL_SWITCH: Action = Action::new("kill-switch", "Toggle kill switch");
pub(crate) const PERMIT_MORE: Action = Action::new("permit-more", "Add permit");
pub(crate) const PERMIT_LESS: Action = Action::new("permit-less", "Remove permit");
pub(crate) const THEME: Action = Action::new("theme", "Next theme");
pub(crate) const MOUSE: Action = Action::new("mouse", "Toggle mouse");
pub(crate) const REDRAW: Action = Action::new("redraw", "Redraw");
pub(crate) const QUIT: Action = Action::new("quit", "Quit");

// The run that the focused pane is about.
pub(crate) const STEER: Action = Action::new("steer", "Steer run");
pub(crate) const RETRY: Action = Action::new("retry", "Retry run");
pub(crate) const LOOK_AGAIN: Action = Action::new("look-again", "Look again");
pub(crate) const CANCEL: Action = Action::new("cancel", "Cancel run");
pub(crate) const INTERRUPT: Action = Action::new("interrupt", "Interrupt agent");
pub(crate) const DIFF: Action = Action::new("diff", "Show diff");
pub(crate) const SHELL: Action = Action::new("shell", "Open shell");

// Panes that can be searched.
pub(crate) const SEARCH: Action = Action::new("search", "Search");
pub(crate) const SEARCH_NEXT: Action = Action::new("search-next", "Find next");
pub(crate) const SEARCH_PREVIOUS: Action = Action::new("search-previous", "Find previous");

/// The actions that a list of issues or runs offers.
pub(crate) const ON_RUNS: [Action; 10] =
    [HELP, INBOX, OPEN, STEER, RETRY, CANCEL, KILL_SWITCH, ZOOM, PALETTE, QUIT];

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
    MOUSE,
    REDRAW,
    QUIT,
];
