//! Keymaps as data: which keys, one after the other, ask for what.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::act::Act;
use crate::config::{ConfigError, parse};
use crate::term::key::Key;

/// Where a key is pressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Context {
    /// Anywhere that has nothing of its own.
    Global,
    /// In the transcript.
    Transcript,
    /// In the inbox.
    Inbox,
    /// In the rows of breakglass.
    Breakglass,
    /// In a terminal of breakglass that is looked through.
    Terminal,
    /// In a shell that has the keys: nothing but its own bindings is taken from it.
    Console,
}

/// The contexts with their names in a file.
const CONTEXTS: &[(&str, Context)] = &[
    ("global", Context::Global),
    ("transcript", Context::Transcript),
    ("inbox", Context::Inbox),
    ("breakglass", Context::Breakglass),
    ("terminal", Context::Terminal),
    ("console", Context::Console),
];

/// One binding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binding {
    /// Keys, one after the other.
    pub on: Vec<Key>,
    /// What they ask for.
    pub run: Act,
    /// For people.
    pub desc: String,
}

impl Binding {
    /// The keys as they are shown.
    #[must_use]
    pub fn keys(&self) -> String {
        self.on.iter().map(Key::to_string).collect::<Vec<_>>().join(" ")
    }
}

/// What some keys come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Match {
    /// An action.
    Act(Act),
    /// More keys may follow.
    Pending,
    /// Nothing.
    None,
}

/// A keymap; see the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keymap {
    contexts: BTreeMap<Context, Vec<Binding>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    on: Vec<String>,
    run: String,
    desc: String,
}

impl Keymap {
    /// One of ours by name.
    #[must_use]
    pub fn shipped(name: &str) -> Option<&'static str> {
        match name {
            "default" => Some(include_str!("../../keymaps/default.toml")),
            "vim" => Some(include_str!("../../keymaps/vim.toml")),
            "emacs" => Some(include_str!("../../keymaps/emacs.toml")),
            _ => None,
        }
    }

    /// Reads a keymap: `name` is one of ours, or a file.
    ///
    /// # Errors
    /// [`ConfigError`]: unreadable, an unknown key or action, or a conflict.
    pub fn load(name: &str) -> Result<Self, ConfigError> {
        if let Some(text) = Self::shipped(name) {
            return Self::parse(&format!("keymaps/{name}.toml"), text);
        }
        let text = std::fs::read_to_string(name)
            .map_err(|source| ConfigError::Unreadable { path: name.into(), source })?;
        Self::parse(name, &text)
    }

    /// Reads a keymap's text.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn parse(file: &str, text: &str) -> Result<Self, ConfigError> {
        let read: BTreeMap<String, Vec<Line>> = parse(file, text)?;
        let mut contexts = BTreeMap::new();
        for (name, lines) in read {
            let context = CONTEXTS.iter().find(|(known, _)| *known == name);
            let wrong = |at: usize, message: String| {
                Err(ConfigError::Meaning { key: format!("{file}: {name}[{at}]"), message })
            };
            let Some((_, context)) = context else {
                return wrong(0, format!("there is no context {name:?}"));
            };
            let mut bindings = Vec::new();
            for (at, line) in lines.into_iter().enumerate() {
                let mut on = Vec::new();
                for key in &line.on {
                    match Key::parse(key) {
                        Some(key) => on.push(key),
                        None => return wrong(at, format!("{key:?} is no key")),
                    }
                }
                let Some(run) = Act::parse(&line.run) else {
                    return wrong(at, format!("{:?} is no action", line.run));
                };
                if on.is_empty() {
                    return wrong(at, "has no key".into());
                }
                bindings.push(Binding { on, run, desc: line.desc });
            }
            contexts.insert(*context, bindings);
        }
        let keymap = Self { contexts };
        keymap.check(file)?;
        Ok(keymap)
    }

    /// Refuses a key that asks for two things on one path, and one that begins a longer one.
    fn check(&self, file: &str) -> Result<(), ConfigError> {
        for (name, context) in CONTEXTS {
            let own = self.own(*context);
            for (at, binding) in own.iter().enumerate() {
                let conflict = own
                    .iter()
                    .enumerate()
                    .find(|(other, b)| *other != at && b.on.starts_with(&binding.on));
                if let Some((_, other)) = conflict {
                    return Err(ConfigError::Meaning {
                        key: format!("{file}: {name}"),
                        message: format!(
                            "{} asks for {} and begins {} for {}: take one of them off",
                            binding.keys(),
                            binding.run.name(),
                            other.keys(),
                            other.run.name()
                        ),
                    });
                }
            }
        }
        Ok(())
    }

    fn own(&self, context: Context) -> &[Binding] {
        self.contexts.get(&context).map_or(&[], Vec::as_slice)
    }

    /// The bindings that are active in a context: its own, and the global ones whose keys it
    /// doesn't take.
    pub fn active(&self, context: Context) -> impl Iterator<Item = &Binding> {
        let own = self.own(context);
        let alone = matches!(context, Context::Global | Context::Console);
        let global = if alone { &[] } else { self.own(Context::Global) };
        let free = |binding: &&Binding| {
            !own.iter().any(|o| o.on.starts_with(&binding.on) || binding.on.starts_with(&o.on))
        };
        own.iter().chain(global.iter().filter(free))
    }

    /// What keys come to in a context.
    #[must_use]
    pub fn find(&self, context: Context, keys: &[Key]) -> Match {
        let mut pending = false;
        for binding in self.active(context) {
            if binding.on == keys {
                return Match::Act(binding.run);
            }
            pending |= binding.on.starts_with(keys);
        }
        if pending { Match::Pending } else { Match::None }
    }

    /// The first key of an action in a context, as it is shown.
    #[must_use]
    pub fn key_of(&self, context: Context, act: Act) -> Option<String> {
        self.active(context).find(|binding| binding.run == act).map(Binding::keys)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ours_have_no_conflict_and_reach_every_action() {
        for name in ["default", "vim", "emacs"] {
            let keymap = Keymap::load(name).unwrap();
            for (act, action) in super::super::act::ALL {
                let reached = CONTEXTS.iter().any(|(_, c)| keymap.key_of(*c, *act).is_some());
                assert!(reached, "{name} has no key for {action}");
            }
        }
    }

    #[test]
    fn chords_wait_for_their_end() {
        let keymap = Keymap::load("default").unwrap();
        let g = Key::parse("g").unwrap();
        let find = |keys: &[Key]| keymap.find(Context::Global, keys);
        assert_eq!(find(&[g]), Match::Pending);
        assert_eq!(find(&[g, g]), Match::Act(Act::Top));
        assert_eq!(find(&[g, Key::parse("x").unwrap()]), Match::None);
    }

    #[test]
    fn a_context_comes_before_global() {
        let keymap = Keymap::load("default").unwrap();
        let enter = [Key::parse("<Enter>").unwrap()];
        assert_eq!(keymap.find(Context::Global, &enter), Match::Act(Act::Open));
        assert_eq!(keymap.find(Context::Inbox, &enter), Match::Act(Act::Answer));
    }

    #[test]
    fn mistakes_name_their_place() {
        for (text, error) in [
            (
                "global = [{ on = ['a'], run = 'dance', desc = '' }]",
                "k: global[0]: \"dance\" is no action",
            ),
            (
                "global = [{ on = ['ab'], run = 'quit', desc = '' }]",
                "k: global[0]: \"ab\" is no key",
            ),
            (
                "nowhere = [{ on = ['a'], run = 'quit', desc = '' }]",
                "k: nowhere[0]: there is no context",
            ),
            (
                "global = [{ on = ['a'], run = 'quit', desc = '' }, { on = ['a'], run = 'help', desc = '' }]",
                "k: global: a asks for quit and begins a for help",
            ),
            (
                "global = [{ on = ['a'], run = 'quit', desc = '' }, { on = ['a', 'b'], run = 'help', desc = '' }]",
                "k: global: a asks for quit and begins a b for help",
            ),
        ] {
            let said = Keymap::parse("k", text).unwrap_err().to_string();
            assert!(said.starts_with(error), "{said}");
        }
    }
}
