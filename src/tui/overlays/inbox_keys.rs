//! The context and the actions of the inbox, which its questions and its steps of the outbox share.

use crate::tui::action::Action;
use crate::tui::keymap::KeyContext;

pub(crate) const CONTEXT: KeyContext = KeyContext::new("inbox");

pub(super) const APPROVE: Action = Action::new("approve", "Approve").for_operators();
pub(super) const APPROVE_RUN: Action =
    Action::new("approve-run", "Approve for run").for_operators();
pub(super) const EDIT: Action = Action::new("edit", "Edit command").for_operators();
pub(super) const DENY: Action = Action::new("deny", "Deny").for_operators();
pub(super) const ANSWER: Action = Action::new("answer", "Answer").for_operators();
pub(super) const ACKNOWLEDGE: Action = Action::new("acknowledge", "Acknowledge").for_operators();

pub(crate) const ACTIONS: &[Action] = &[APPROVE, APPROVE_RUN, EDIT, DENY, ANSWER, ACKNOWLEDGE];
