//! The panes, a file or folder each, and the list of them.
//!
//! A new pane is its file, its line in [`ALL`], its keys in the three keymaps and its picture in
//! `tests`. The order here is the order of the tabs and of the stacks in the wide layout.

pub(crate) mod breakglass;
mod deploy;
mod queue;
pub(crate) mod transcript;
mod worktrees;

use super::component::Registration;

/// Every pane, in the order of their numbers.
pub(crate) const ALL: &[Registration] =
    &[queue::PANE, worktrees::PANE, transcript::PANE, deploy::PANE, breakglass::PANE];
