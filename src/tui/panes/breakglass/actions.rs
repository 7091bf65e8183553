//! The pane's own actions and the contexts of its keys.

use crate::tui::action::Action;
use crate::tui::keymap::KeyContext;

/// The rows of the pane.
pub(super) const BREAKGLASS: KeyContext = KeyContext::new("breakglass");
/// A terminal whose output the operator looks through.
pub(super) const TERMINAL: KeyContext = KeyContext::new("terminal");
/// A shell that has the keys: only the bindings of this context are taken from it.
pub(super) const CONSOLE: KeyContext = KeyContext::closed("console");

pub(super) const CONTEXTS: &[KeyContext] = &[BREAKGLASS, TERMINAL, CONSOLE];

pub(super) const ARM: Action = Action::new("arm", "Arm breakglass");
pub(super) const DISARM: Action = Action::new("disarm", "Disarm breakglass");
pub(super) const DIAGNOSE: Action = Action::new("diagnose", "Diagnose");
pub(super) const CAPTURE_DIFF: Action = Action::new("capture-diff", "Compare captures");
pub(super) const CONSOLE_LEAVE: Action = Action::new("console-leave", "Leave shell");
pub(super) const CONSOLE_TYPE: Action = Action::new("console-type", "Return to shell");
pub(super) const CONSOLE_CLOSE: Action = Action::new("console-close", "Close terminal");
pub(super) const MARK: Action = Action::new("mark", "Select lines");
pub(super) const REPLAY_PAUSE: Action = Action::new("replay-pause", "Toggle playback");
pub(super) const REPLAY_FASTER: Action = Action::new("replay-faster", "Play faster");
pub(super) const REPLAY_SLOWER: Action = Action::new("replay-slower", "Play slower");

/// The actions that this pane carries out also while another one has the focus.
pub(super) const ACTIONS: &[Action] = &[
    ARM,
    DISARM,
    DIAGNOSE,
    CAPTURE_DIFF,
    CONSOLE_LEAVE,
    CONSOLE_TYPE,
    CONSOLE_CLOSE,
    MARK,
    REPLAY_PAUSE,
    REPLAY_FASTER,
    REPLAY_SLOWER,
];
