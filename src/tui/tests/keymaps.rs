//! Keymaps against everything that is registered.

use std::collections::BTreeSet;

use crate::term::key::Key;
use crate::tui::action::{BOTTOM, OPEN, TOP};
use crate::tui::app::catalog::{catalog, keymap};
use crate::tui::keymap::{Binding, KeyContext, Keymap, Match, SHIPPED};

#[test]
fn shipped_keymaps_reach_every_action() {
    for (name, _) in SHIPPED {
        let keymap = keymap(name).unwrap();
        for action in keymap.actions() {
            let reached = catalog()
                .contexts
                .iter()
                .any(|context| !keymap.key_of(*context, *action).is_empty());
            assert!(reached, "{name} has no key for {}", action.name());
        }
    }
}

#[test]
fn names_of_actions_and_contexts_are_unique() {
    let catalog = catalog();
    let names: BTreeSet<&str> = catalog.actions.iter().map(|action| action.name()).collect();
    assert_eq!(names.len(), catalog.actions.len());
    let contexts: BTreeSet<KeyContext> = catalog.contexts.iter().copied().collect();
    assert_eq!(contexts.len(), catalog.contexts.len());
}

#[test]
fn chords_wait_for_their_last_key() {
    let keymap = keymap("default").unwrap();
    let g = Key::parse("g").unwrap();
    let find = |keys: &[Key]| keymap.find(KeyContext::GLOBAL, keys);
    assert_eq!(find(&[g]), Match::Pending);
    assert_eq!(find(&[g, g]), Match::Found(TOP));
    assert_eq!(find(&[g, Key::parse("x").unwrap()]), Match::None);
    assert_eq!(find(&[Key::parse("G").unwrap()]), Match::Found(BOTTOM));
}

#[test]
fn own_context_comes_before_global() {
    let keymap = keymap("default").unwrap();
    let enter = [Key::parse("<Enter>").unwrap()];
    assert_eq!(keymap.find(KeyContext::GLOBAL, &enter), Match::Found(OPEN));
    let inbox = *catalog().contexts.iter().find(|known| **known != KeyContext::GLOBAL && {
        matches!(keymap.find(**known, &enter), Match::Found(action) if action.name() == "answer")
    }).unwrap();
    assert_eq!(
        keymap.find(inbox, &[Key::parse("q").unwrap()]),
        keymap.find(KeyContext::GLOBAL, &[Key::parse("q").unwrap()])
    );
}

#[test]
fn desc_of_a_keymap_replaces_the_label() {
    let text =
        "global = [{ on = ['a'], run = 'quit', desc = 'Go home' }, { on = ['b'], run = 'help' }]";
    let keymap = Keymap::parse("k", text, catalog()).unwrap();
    let labels: Vec<&str> = keymap.active(KeyContext::GLOBAL).map(Binding::label).collect();
    assert_eq!(labels, ["Go home", "Show help"]);
}

#[test]
fn mistakes_name_their_place() {
    for (text, error) in [
        ("global = [{ on = ['a'], run = 'dance' }]", "k: global[0]: \"dance\" is no action"),
        ("global = [{ on = ['ab'], run = 'quit' }]", "k: global[0]: \"ab\" is no key"),
        ("global = [{ on = [], run = 'quit' }]", "k: global[0]: has no key"),
        ("nowhere = [{ on = ['a'], run = 'quit' }]", "k: nowhere[0]: there is no context"),
        (
            "global = [{ on = ['a'], run = 'quit' }, { on = ['a'], run = 'help' }]",
            "k: global: a asks for quit and begins a for help",
        ),
        (
            "global = [{ on = ['a'], run = 'quit' }, { on = ['a', 'b'], run = 'help' }]",
            "k: global: a asks for quit and begins a b for help",
        ),
    ] {
        let message = Keymap::parse("k", text, catalog()).unwrap_err().to_string();
        assert!(message.starts_with(error), "{message}");
    }
}
