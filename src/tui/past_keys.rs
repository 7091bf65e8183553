//! The keys of the past: steps on the journal, the way back to the present, and the actions that are
//! carried out in it too.

use super::action::{
    Action, BACK, COPY, HELP, INBOX, MOUSE, NEXT_PANE, OPEN, PALETTE, PREVIOUS_PANE, QUIT, REDRAW,
    SEARCH, SEARCH_NEXT, SEARCH_PREVIOUS, SPEND, SUSPEND, THEME, TIME_TRAVEL, UNDO, ZOOM,
};
use super::component::Registration;
use super::keymap::KeyContext;
use super::panes;

/// The context comes before those of the panes, and takes its own keys alone.
pub(crate) const CONTEXT: KeyContext = KeyContext::closed("past");

pub(crate) const NEXT_MARK: Action = Action::new("past-next-mark", "Next landmark");
pub(crate) const PREVIOUS_MARK: Action = Action::new("past-previous-mark", "Previous landmark");
pub(crate) const FORWARD: Action = Action::new("past-forward", "Next record");
pub(crate) const BACKWARD: Action = Action::new("past-backward", "Previous record");
pub(crate) const HOUR_FORWARD: Action = Action::new("past-hour-forward", "Hour later");
pub(crate) const HOUR_BACKWARD: Action = Action::new("past-hour-backward", "Hour earlier");
pub(crate) const LEAVE: Action = Action::new("past-leave", "Return to now");

pub(crate) const ACTIONS: &[Action] =
    &[LEAVE, PREVIOUS_MARK, NEXT_MARK, BACKWARD, FORWARD, HOUR_BACKWARD, HOUR_FORWARD];

/// The shared actions that change nothing, so that they are right in the past too.
const ALLOWED: [Action; 21] = [
    BACK,
    COPY,
    HELP,
    INBOX,
    MOUSE,
    NEXT_PANE,
    OPEN,
    PALETTE,
    PREVIOUS_PANE,
    QUIT,
    REDRAW,
    SEARCH,
    SEARCH_NEXT,
    SEARCH_PREVIOUS,
    SPEND,
    SUSPEND,
    THEME,
    TIME_TRAVEL,
    // It takes back an answer that was given before the past was shown.
    UNDO,
    ZOOM,
    LEAVE,
];

/// Whether an action is carried out in the past.
pub(crate) fn is_allowed(action: Action) -> bool {
    let is_of_pane = |pane: &Registration| {
        pane.id.focus == action || (pane.actions.contains(&action) && !action.changes())
    };
    ALLOWED.contains(&action)
        || ACTIONS.contains(&action)
        || action.motion().is_some()
        || panes::ALL.iter().any(is_of_pane)
}
