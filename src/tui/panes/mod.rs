//! The panes, a file or folder each, and their registration.
//!
//! A new pane is its file, one line in [`ALL`], its keys in the three keymaps and its picture in
//! `tests`. The order here is the order of the keys, of the tabs and of the stacks in the wide
//! layout.

pub(crate) mod breakglass;
pub(crate) mod deploy;
pub(crate) mod queue;
pub mod transcript;
pub(crate) mod worktrees;

use super::action::Action;
use super::component::{Pane, PaneId};
use super::keymap::KeyContext;

/// A pane that the cockpit has.
pub(crate) struct Registration {
    pub(crate) id: PaneId,
    /// The contexts of its own keys.
    pub(crate) contexts: &'static [KeyContext],
    /// The actions that it carries out also while another pane has the focus.
    pub(crate) actions: &'static [Action],
    pub(crate) new: fn(&PaneSetup) -> Box<dyn Pane>,
}

/// The configuration that panes are made with.
#[derive(Debug, Clone, Default)]
pub(crate) struct PaneSetup {
    /// The command that reaches the VM where no cockpit is at hand.
    pub(crate) cold_path: Option<String>,
}

impl Registration {
    /// A pane without keys and actions of its own.
    const fn plain(id: PaneId, new: fn(&PaneSetup) -> Box<dyn Pane>) -> Self {
        Self { id, contexts: &[], actions: &[], new }
    }

    /// The same pane with contexts and actions of its own.
    const fn with(self, contexts: &'static [KeyContext], actions: &'static [Action]) -> Self {
        Self { contexts, actions, ..self }
    }
}

/// Every pane.
#[rustfmt::skip] // A line a pane.
pub(crate) const ALL: &[Registration] = &[
    Registration::plain(queue::ID, |_| Box::<queue::QueuePane>::default()),
    Registration::plain(worktrees::ID, |_| Box::<worktrees::WorktreesPane>::default()),
    Registration::plain(transcript::ID, |_| Box::<transcript::TranscriptPane>::default()).with(&[transcript::CONTEXT], transcript::ACTIONS),
    Registration::plain(deploy::ID, |_| Box::<deploy::DeployPane>::default()),
    Registration::plain(breakglass::ID, |setup| Box::new(breakglass::BreakglassPane::new(setup.cold_path.clone()))).with(breakglass::actions::CONTEXTS, breakglass::actions::ACTIONS),
];
