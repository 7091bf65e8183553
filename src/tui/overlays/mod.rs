//! The overlays, a file each, and how they are opened.
//!
//! A new overlay is its file, a variant of [`Dialog`] and its arm in [`open`]; one with keys of its
//! own also registers its context and its actions here.

mod brief;
mod card_guard;
pub(crate) mod clients;
mod compare;
pub(crate) mod confirm;
mod grid;
pub(crate) mod help;
pub(crate) mod inbox;
mod inbox_keys;
mod inbox_order;
pub(crate) mod input;
pub(crate) mod outbox_row;
mod pager;
pub(crate) mod palette;
mod review;
mod sheet;
pub(crate) mod spend;
mod timeline;

use super::action::Action;
use super::component::Overlay;
use super::keymap::KeyContext;
use super::response::{Dialog, Response};

/// The contexts of overlays with keys of their own.
pub(crate) const CONTEXTS: &[KeyContext] =
    &[inbox_keys::CONTEXT, review::CONTEXT, timeline::CONTEXT];

/// The actions that are the overlays' own, by overlay.
pub(crate) const ACTIONS: &[&[Action]] = &[inbox_keys::ACTIONS, review::ACTIONS, timeline::ACTIONS];

/// The overlay that a dialog describes.
pub(crate) fn open(dialog: Dialog) -> Box<dyn Overlay> {
    match dialog {
        Dialog::Inbox => Box::<inbox::Inbox>::default(),
        Dialog::Help(context) => Box::new(help::Help::new(context)),
        Dialog::Palette => Box::<palette::Palette>::default(),
        Dialog::Spend => Box::new(spend::sheet()),
        Dialog::Brief(brief) => Box::new(brief::sheet(*brief)),
        Dialog::Timeline(timeline) => Box::new(timeline::TimelineView::new(*timeline)),
        Dialog::Compare(compared) => Box::new(compare::sheet(*compared)),
        Dialog::Grid => Box::<grid::Grid>::default(),
        Dialog::Review(diff) => Box::new(review::ReviewView::new(*diff)),
        Dialog::Clients => Box::new(pager::Pager::new(clients::document())),
        Dialog::Confirm { question, means, yes } => {
            Box::new(confirm::ConfirmDialog::new(question, means, yes))
        }
        Dialog::Prompt(prompt) => Box::new(input::TextInput::new(*prompt)),
        Dialog::Text(document) => Box::new(pager::Pager::new(document)),
    }
}

/// Carries out an overlay's own action while that overlay isn't on top; none for other actions.
pub(crate) fn act_from_outside(action: Action) -> Option<Response> {
    if inbox_keys::ACTIONS.contains(&action) {
        return Some(inbox::act_from_outside(action));
    }
    let is_own = ACTIONS.iter().any(|own| own.contains(&action));
    is_own.then(|| Response::message(format!("{}: only where it is shown", action.label())))
}
