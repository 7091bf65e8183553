//! Keymaps as data: which keys, pressed one after the other, ask for which action.
//!
//! A keymap is read from a file of ours or the operator's and checked against the [`Catalog`] of
//! all registered components, so that a misspelled action is an error at the start.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::action::Action;
use crate::config::{ConfigError, parse};
use crate::term::key::Key;

/// The keymaps that are shipped, by name.
pub(crate) const SHIPPED: [(&str, &str); 3] = [
    ("default", include_str!("../../keymaps/default.toml")),
    ("vim", include_str!("../../keymaps/vim.toml")),
    ("emacs", include_str!("../../keymaps/emacs.toml")),
];

/// Where a key is pressed: the name of a list of bindings in a keymap. Components define their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct KeyContext {
    name: &'static str,
    /// Keys that the context doesn't bind are looked up in the global one.
    falls_through: bool,
}

impl KeyContext {
    /// The keys that all contexts share which fall through.
    pub(crate) const GLOBAL: Self = Self::closed("global");

    /// A context on top of the global one.
    pub(crate) const fn new(name: &'static str) -> Self {
        Self { name, falls_through: true }
    }

    /// A context that takes its own keys alone.
    pub(crate) const fn closed(name: &'static str) -> Self {
        Self { name, falls_through: false }
    }
}

/// The contexts and the actions that a keymap may name: those of all registered components.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Catalog {
    pub(crate) contexts: Vec<KeyContext>,
    /// In the order of the palette.
    pub(crate) actions: Vec<Action>,
}

/// One line of a keymap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Binding {
    /// Keys, pressed one after the other.
    pub(crate) on: Vec<Key>,
    pub(crate) action: Action,
    /// The operator's own words for the action.
    desc: Option<String>,
}

impl Binding {
    /// The keys as the footer and the help show them.
    pub(crate) fn keys(&self) -> String {
        self.on.iter().map(Key::to_string).collect::<Vec<_>>().join(" ")
    }

    /// Whether the keymap has its own words for the action.
    pub(crate) const fn has_own_words(&self) -> bool {
        self.desc.is_some()
    }

    /// The label for people: the keymap's own, else the action's.
    pub(crate) fn label(&self) -> &str {
        self.desc.as_deref().unwrap_or(self.action.label())
    }
}

/// The meaning of some pressed keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Match {
    Found(Action),
    /// The keys begin a longer binding.
    Pending,
    None,
}

/// The bindings of each context; see the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Keymap {
    contexts: BTreeMap<KeyContext, Vec<Binding>>,
    catalog: Catalog,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    on: Vec<String>,
    run: String,
    desc: Option<String>,
}

impl Keymap {
    /// Reads a keymap; `name` is the name of a shipped one, or the path of a file.
    ///
    /// # Errors
    /// [`ConfigError`]: unreadable, an unknown context, key or action, or a conflict.
    pub(crate) fn load(name: &str, catalog: Catalog) -> Result<Self, ConfigError> {
        if let Some((_, text)) = SHIPPED.iter().find(|(known, _)| *known == name) {
            return Self::parse(&format!("keymaps/{name}.toml"), text, catalog);
        }
        let text = std::fs::read_to_string(name)
            .map_err(|source| ConfigError::Unreadable { path: name.into(), source })?;
        Self::parse(name, &text, catalog)
    }

    /// Reads a keymap's text; `file` is named in errors.
    ///
    /// # Errors
    /// As [`Keymap::load`].
    pub(crate) fn parse(file: &str, text: &str, catalog: Catalog) -> Result<Self, ConfigError> {
        let read: BTreeMap<String, Vec<Line>> = parse(file, text)?;
        let mut contexts = BTreeMap::new();
        for (name, lines) in read {
            let wrong = |at: usize, message: String| {
                ConfigError::meaning(format!("{file}: {name}[{at}]"), message)
            };
            let Some(context) = catalog.contexts.iter().find(|known| known.name == name) else {
                return Err(wrong(0, format!("there is no context {name:?}")));
            };
            let bindings = lines
                .into_iter()
                .enumerate()
                .map(|(at, line)| {
                    Self::binding(line, &catalog).map_err(|message| wrong(at, message))
                })
                .collect::<Result<Vec<_>, _>>()?;
            refuse_conflicts(&format!("{file}: {name}"), &bindings)?;
            contexts.insert(*context, bindings);
        }
        Ok(Self { contexts, catalog })
    }

    fn binding(line: Line, catalog: &Catalog) -> Result<Binding, String> {
        let read = |key: &String| Key::parse(key).ok_or_else(|| format!("{key:?} is no key"));
        let on = line.on.iter().map(read).collect::<Result<Vec<_>, _>>()?;
        let action = catalog.actions.iter().find(|action| action.name() == line.run);
        let action = *action.ok_or_else(|| format!("{:?} is no action", line.run))?;
        if on.is_empty() {
            return Err("has no key".into());
        }
        Ok(Binding { on, action, desc: line.desc })
    }

    /// Every action that a keymap may name, in the order of the palette.
    pub(crate) fn actions(&self) -> &[Action] {
        &self.catalog.actions
    }

    fn own(&self, context: KeyContext) -> &[Binding] {
        self.contexts.get(&context).map_or(&[], Vec::as_slice)
    }

    /// The bindings that are active in a context: its own, and the global ones whose keys it
    /// doesn't take.
    pub(crate) fn active(&self, context: KeyContext) -> impl Iterator<Item = &Binding> {
        let own = self.own(context);
        let global = if context.falls_through { self.own(KeyContext::GLOBAL) } else { &[] };
        let free = |binding: &&Binding| {
            !own.iter().any(|o| o.on.starts_with(&binding.on) || binding.on.starts_with(&o.on))
        };
        own.iter().chain(global.iter().filter(free))
    }

    /// The meaning of pressed keys in a context.
    pub(crate) fn find(&self, context: KeyContext, keys: &[Key]) -> Match {
        let mut pending = false;
        for binding in self.active(context) {
            if binding.on == keys {
                return Match::Found(binding.action);
            }
            pending |= binding.on.starts_with(keys);
        }
        if pending { Match::Pending } else { Match::None }
    }

    /// Every key of an action in a context, as they are shown.
    pub(crate) fn keys_of(&self, context: KeyContext, action: Action) -> Vec<String> {
        let bound = self.active(context).filter(|binding| binding.action == action);
        bound.map(Binding::keys).collect()
    }

    /// The first key of an action in a context, as it is shown; empty where it has none.
    pub(crate) fn key_of(&self, context: KeyContext, action: Action) -> String {
        let bound = self.active(context).find(|binding| binding.action == action);
        bound.map(Binding::keys).unwrap_or_default()
    }
}

/// Refuses keys that ask for two things, and keys that begin a longer binding.
fn refuse_conflicts(key: &str, bindings: &[Binding]) -> Result<(), ConfigError> {
    for (at, binding) in bindings.iter().enumerate() {
        let mut others = bindings.iter().enumerate().filter(|(other, _)| *other != at);
        if let Some((_, other)) = others.find(|(_, other)| other.on.starts_with(&binding.on)) {
            return Err(ConfigError::meaning(
                key,
                format!(
                    "{} asks for {} and begins {} for {}: remove one of them",
                    binding.keys(),
                    binding.action.name(),
                    other.keys(),
                    other.action.name()
                ),
            ));
        }
    }
    Ok(())
}
