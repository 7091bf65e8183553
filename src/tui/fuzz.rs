//! Fuzz targets for the files and texts that the cockpit reads: keymaps, themes, prose in Markdown.

use super::app::catalog::catalog;
use super::colour::Colours;
use super::keymap::{Keymap, Match};
use super::markdown;
use super::theme::Theme;
use super::widgets::span::plain;
use crate::config::parse;
use crate::core::model::untrusted::{clean, clean_line};
use crate::term::key::Key;

/// Reads a keymap: each binding of an accepted one leads to its action, and its keys read back.
pub(crate) fn keymap(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    match Keymap::parse("keys.toml", &text, catalog()) {
        Ok(keymap) => {
            for context in catalog().contexts {
                for binding in keymap.active(context) {
                    let found = keymap.find(context, &binding.on);
                    assert!(
                        matches!(found, Match::Found(action) if action == binding.action),
                        "{} does not lead to its action",
                        binding.keys()
                    );
                    for key in &binding.on {
                        let name = key.to_string();
                        assert_eq!(Key::parse(&name), Some(*key), "{name} is another key");
                    }
                }
            }
        }
        Err(error) => {
            let shown = error.to_string();
            assert!(!shown.contains(char::is_control), "{shown:?} is not one line");
        }
    }
}

/// Reads a theme: an error is one line.
pub(crate) fn theme(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    if let Err(error) = parse::<Colours>("theme.toml", &text) {
        let shown = error.to_string();
        assert!(!shown.contains(char::is_control), "{shown:?} is not one line");
    }
}

/// Lays out an agent's prose: no line is wider than the pane, and each is clean.
pub(crate) fn markdown(data: &[u8]) {
    let text = clean(&String::from_utf8_lossy(data));
    let Ok(theme) = Theme::load("mono", true, false) else { return };
    for width in [12, 40] {
        for line in markdown::lines(&text, width, &theme) {
            let shown: usize = line.line.width();
            let most = width.max(8 + 4 * markdown::DEEPEST);
            assert!(shown <= most, "a line is {shown} wide in a pane of {width}");
            let shown = plain(&line.line);
            assert_eq!(clean_line(&shown), shown, "a line is not clean");
        }
    }
}
