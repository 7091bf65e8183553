//! The groups of the help: what a key does to the operator's view, to a question, or to the fleet.

use super::action::{
    Action, BACK, CANCEL, INBOX, INTERRUPT, KILL_SWITCH, NEXT_PANE, PREVIOUS_PANE, SEARCH,
    SEARCH_NEXT, SEARCH_PREVIOUS, SHELL, UNDO, ZOOM,
};

/// A group of actions, in the order of the help.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum ActionGroup {
    Move,
    See,
    Answer,
    Act,
    Danger,
}

impl ActionGroup {
    pub(crate) const ALL: [Self; 5] =
        [Self::Move, Self::See, Self::Answer, Self::Act, Self::Danger];

    pub(crate) const fn title(self) -> &'static str {
        match self {
            Self::Move => "Move",
            Self::See => "See",
            Self::Answer => "Answer",
            Self::Act => "Act",
            Self::Danger => "Danger",
        }
    }

    /// The group of an action. One that isn't named here acts where only operators may carry it out, and
    /// shows something otherwise.
    pub(crate) fn of(action: Action) -> Self {
        const MOVES: [Action; 7] =
            [NEXT_PANE, PREVIOUS_PANE, ZOOM, BACK, SEARCH, SEARCH_NEXT, SEARCH_PREVIOUS];
        const DANGERS: [Action; 4] = [CANCEL, INTERRUPT, KILL_SWITCH, SHELL];
        const ANSWERS: [&str; 6] =
            ["approve", "approve-run", "edit", "deny", "answer", "acknowledge"];
        const DANGEROUS: [&str; 2] = ["arm", "console-type"];
        let name = action.name();
        if action.motion().is_some()
            || MOVES.contains(&action)
            || name.starts_with("pane-")
            || name.starts_with("jump-")
            || name == "follow"
        {
            Self::Move
        } else if action == INBOX || action == UNDO || ANSWERS.contains(&name) {
            Self::Answer
        } else if DANGERS.contains(&action) || DANGEROUS.contains(&name) {
            Self::Danger
        } else if action.changes() {
            Self::Act
        } else {
            Self::See
        }
    }
}
