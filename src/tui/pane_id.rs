//! The identity of a pane: its names, and its place in the wide layout.

use super::action::Action;

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
