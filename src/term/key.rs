//! Keys by name, as keymaps write them: `a`, `A`, `!`, `<C-p>`, `<Enter>`, `<S-Tab>`, `<F5>`.
//!
//! A keymap parses names into keys, a typed key event becomes a key, and help shows a key by its
//! name.

use std::fmt;

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

/// A key press in normal form: a shifted letter is its capital and carries no shift.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Key {
    code: KeyCode,
    modifiers: KeyModifiers,
}

const NAMES: &[(&str, KeyCode)] = &[
    ("Enter", KeyCode::Enter),
    ("Esc", KeyCode::Esc),
    ("Tab", KeyCode::Tab),
    ("Space", KeyCode::Char(' ')),
    ("Backspace", KeyCode::Backspace),
    ("Delete", KeyCode::Delete),
    ("Up", KeyCode::Up),
    ("Down", KeyCode::Down),
    ("Left", KeyCode::Left),
    ("Right", KeyCode::Right),
    ("Home", KeyCode::Home),
    ("End", KeyCode::End),
    ("PageUp", KeyCode::PageUp),
    ("PageDown", KeyCode::PageDown),
];

impl Key {
    /// Parses a name; `None` for an unknown one.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        let mut chars = name.chars();
        if let (Some(c), None) = (chars.next(), chars.next()) {
            return Some(Self { code: KeyCode::Char(c), modifiers: KeyModifiers::NONE });
        }
        let mut inner = name.strip_prefix('<')?.strip_suffix('>')?;
        let mut modifiers = KeyModifiers::NONE;
        loop {
            let (modifier, rest) = match inner.get(..2) {
                Some("C-") => (KeyModifiers::CONTROL, &inner[2..]),
                Some("A-") => (KeyModifiers::ALT, &inner[2..]),
                Some("S-") => (KeyModifiers::SHIFT, &inner[2..]),
                _ => break,
            };
            modifiers |= modifier;
            inner = rest;
        }
        let mut chars = inner.chars();
        let code = match (chars.next(), chars.next()) {
            (Some(c), None) => KeyCode::Char(c),
            (Some('F'), Some(_)) => {
                KeyCode::F(inner[1..].parse().ok().filter(|n| (1..=12).contains(n))?)
            }
            _ => NAMES.iter().find(|(known, _)| *known == inner)?.1,
        };
        Some(Self { code, modifiers })
    }

    /// The character that the key types; `None` for a key with Control or Alt, or without one.
    #[must_use]
    pub fn typed(&self) -> Option<char> {
        match self.code {
            KeyCode::Char(c)
                if !self.modifiers.intersects(KeyModifiers::CONTROL | KeyModifiers::ALT) =>
            {
                Some(c)
            }
            _ => None,
        }
    }
}

impl From<KeyEvent> for Key {
    fn from(event: KeyEvent) -> Self {
        let mut modifiers =
            event.modifiers & (KeyModifiers::CONTROL | KeyModifiers::ALT | KeyModifiers::SHIFT);
        let mut code = event.code;
        match code {
            KeyCode::Char(c) => {
                if modifiers.contains(KeyModifiers::CONTROL) {
                    // A terminal sends 0x1c to 0x1f for these, which crossterm reports as digits.
                    let c = match c {
                        '4' => '\\',
                        '5' => ']',
                        '6' => '^',
                        '7' => '_',
                        c => c,
                    };
                    code = KeyCode::Char(c.to_ascii_lowercase());
                } else if modifiers.contains(KeyModifiers::SHIFT) {
                    code = KeyCode::Char(c.to_uppercase().next().unwrap_or(c));
                }
                modifiers -= KeyModifiers::SHIFT;
            }
            KeyCode::BackTab => {
                code = KeyCode::Tab;
                modifiers |= KeyModifiers::SHIFT;
            }
            _ => {}
        }
        Self { code, modifiers }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut prefix = String::new();
        for (modifier, name) in
            [(KeyModifiers::CONTROL, "C-"), (KeyModifiers::ALT, "A-"), (KeyModifiers::SHIFT, "S-")]
        {
            if self.modifiers.contains(modifier) {
                prefix.push_str(name);
            }
        }
        let named = NAMES.iter().find(|(_, code)| *code == self.code).map(|(name, _)| *name);
        match (self.code, named) {
            (_, Some(name)) => write!(f, "<{prefix}{name}>"),
            (KeyCode::F(n), _) => write!(f, "<{prefix}F{n}>"),
            (KeyCode::Char(c), _) if prefix.is_empty() => write!(f, "{c}"),
            (KeyCode::Char(c), _) => write!(f, "<{prefix}{c}>"),
            _ => f.write_str("<?>"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parse_reads_the_names_that_display_writes() {
        for name in
            ["a", "A", "!", "<C-p>", "<Enter>", "<S-Tab>", "<F5>", "<Esc>", "<A-x>", "<Space>"]
        {
            assert_eq!(Key::parse(name).unwrap().to_string(), name);
        }
        for bad in ["", "ab", "<>", "<C->", "<F99>", "<Nope>", "<C-Nope>"] {
            assert_eq!(Key::parse(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn key_events_become_keys_in_normal_form() {
        let key = |code, modifiers| Key::from(KeyEvent::new(code, modifiers));
        let shift = KeyModifiers::SHIFT;
        assert_eq!(key(KeyCode::Char('G'), shift), Key::parse("G").unwrap());
        assert_eq!(key(KeyCode::Char('g'), shift), Key::parse("G").unwrap());
        assert_eq!(key(KeyCode::Char('?'), shift), Key::parse("?").unwrap());
        assert_eq!(key(KeyCode::BackTab, shift), Key::parse("<S-Tab>").unwrap());
        assert_eq!(
            key(KeyCode::Char('P'), KeyModifiers::CONTROL | shift),
            Key::parse("<C-p>").unwrap()
        );
    }
}
