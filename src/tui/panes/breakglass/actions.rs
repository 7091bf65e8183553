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

pub(super) const ARM: Action = Action::new("arm", "Arm breakglass").for_operators();
pub(super) const DISARM: Action = Action::new("disarm", "Disarm breakglass").for_operators();
/// Asks the breakglass agent for a diagnosis, or starts it, as its level is.
pub(super) const DIAGNOSE: Action = Action::new("diagnose", "Start agent").for_operators();
pub(super) const STOP_AGENT: Action = Action::new("stop-agent", "Stop agent").for_operators();
pub(super) const CAPTURE_DIFF: Action = Action::new("capture-diff", "Compare captures");
pub(super) const CONSOLE_LEAVE: Action = Action::new("console-leave", "Leave shell");
pub(super) const CONSOLE_TYPE: Action = Action::new("console-type", "Return to shell");
pub(super) const CONSOLE_CLOSE: Action = Action::new("console-close", "Close terminal");
/// Yes to the question before pasted lines. It has no key, and is not among [`ACTIONS`].
pub(super) const CONSOLE_PASTE: Action = Action::new("console-paste", "Paste lines");
pub(super) const MARK: Action = Action::new("mark", "Select lines");
pub(super) const REPLAY_PAUSE: Action = Action::new("replay-pause", "Toggle playback");
pub(super) const REPLAY_FASTER: Action = Action::new("replay-faster", "Play faster");
pub(super) const REPLAY_SLOWER: Action = Action::new("replay-slower", "Play slower");

/// The actions that this pane carries out also while another one has the focus.
pub(super) const ACTIONS: &[Action] = &[
    ARM,
    DISARM,
    DIAGNOSE,
    STOP_AGENT,
    CAPTURE_DIFF,
    CONSOLE_LEAVE,
    CONSOLE_TYPE,
    CONSOLE_CLOSE,
    MARK,
    REPLAY_PAUSE,
    REPLAY_FASTER,
    REPLAY_SLOWER,
];
