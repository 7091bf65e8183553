//! The names that keymaps may use: those of everything that is registered.

use crate::config::ConfigError;
use crate::tui::action::SHARED;
use crate::tui::keymap::{Catalog, KeyContext, Keymap};
use crate::tui::{overlays, panes, past_keys};

/// The contexts and actions of everything that is registered.
pub(crate) fn catalog() -> Catalog {
    let mut catalog = Catalog { contexts: vec![KeyContext::GLOBAL], ..Catalog::default() };
    catalog.actions.extend(panes::ALL.iter().map(|pane| pane.id.focus));
    catalog.actions.extend(SHARED);
    for pane in panes::ALL {
        catalog.contexts.extend(pane.contexts);
        catalog.actions.extend(pane.actions.iter().filter(|action| !SHARED.contains(action)));
    }
    catalog.contexts.extend(overlays::CONTEXTS);
    catalog.actions.extend(overlays::ACTIONS.iter().copied().flatten());
    catalog.contexts.push(past_keys::CONTEXT);
    catalog.actions.extend(past_keys::ACTIONS);
    catalog
}

/// Reads a keymap and checks it against everything that is registered.
///
/// # Errors
/// As [`Keymap::load`].
pub(crate) fn keymap(name: &str) -> Result<Keymap, ConfigError> {
    Keymap::load(name, catalog())
}
