//! The palette: every action, found by a few letters of its name or its label.

use crossterm::event::{KeyCode, KeyEvent};
use nucleo_matcher::pattern::{CaseMatching, Normalization, Pattern};
use nucleo_matcher::{Config, Matcher, Utf32Str};
use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::Line;

use crate::core::model::untrusted::clean_line;
use crate::term::key::Key;
use crate::tui::action::Action;
use crate::tui::component::{Component, Overlay, Scene};
use crate::tui::keymap::{KeyContext, Keymap};
use crate::tui::response::{Reaction, Response};
use crate::tui::theme::Tone;
use crate::tui::widgets::boxes::{centred, framed};
use crate::tui::widgets::lines;
use crate::tui::widgets::list::{List, first_row};
use crate::tui::widgets::scrollbar::Extent;
use crate::tui::widgets::span::piece;
use crate::tui::widgets::text::width;

/// The typed text and the selected match.
#[derive(Debug, Default)]
pub(super) struct Palette {
    text: String,
    selected: usize,
}

/// The actions that match, best first; all of them for an empty text.
fn matches(text: &str, keymap: &Keymap) -> Vec<Action> {
    let mut matcher = Matcher::new(Config::DEFAULT);
    let pattern = Pattern::parse(text, CaseMatching::Ignore, Normalization::Smart);
    let mut buffer = Vec::new();
    let mut scored: Vec<(u32, Action)> = keymap
        .actions()
        .iter()
        .filter_map(|action| {
            let words = format!("{}  {}", action.name(), action.label());
            let score = pattern.score(Utf32Str::new(&words, &mut buffer), &mut matcher)?;
            Some((score, *action))
        })
        .collect();
    // Stable, so that equals keep the order of the list.
    scored.sort_by_key(|(score, _)| std::cmp::Reverse(*score));
    scored.into_iter().map(|(_, action)| action).collect()
}

impl Component for Palette {
    fn typed(&mut self, event: &KeyEvent, scene: &Scene<'_>) -> Option<Response> {
        let last = scene.keymap.actions().len().saturating_sub(1);
        match event.code {
            KeyCode::Esc => return Some(Reaction::Close.into()),
            KeyCode::Enter => {
                let found = matches(&self.text, scene.keymap);
                let chosen = found.get(self.selected.min(found.len().saturating_sub(1)));
                let close = Response::from(Reaction::Close);
                return Some(match chosen {
                    Some(action) => close.then(Reaction::Act(*action)),
                    None => close,
                });
            }
            KeyCode::Down => self.selected = (self.selected + 1).min(last),
            KeyCode::Up => self.selected = self.selected.saturating_sub(1),
            KeyCode::Backspace => {
                self.text.pop();
                self.selected = 0;
            }
            _ => {
                if let Some(c) = Key::from(*event).typed() {
                    self.text.push(c);
                    self.selected = 0;
                }
            }
        }
        Some(Response::none())
    }

    fn paste(&mut self, text: &str) -> Response {
        self.text.push_str(&clean_line(text));
        Response::none()
    }
}

impl Overlay for Palette {
    fn is_input(&self) -> bool {
        true
    }

    fn draw(&self, frame: &mut Frame<'_>, area: Rect, scene: &Scene<'_>) {
        let theme = scene.theme;
        let inner = framed(frame, centred(area, 60, 18), "Find action", theme);
        let prompt = Line::from(vec![
            piece("> ", theme, Tone::Accent),
            piece(self.text.clone(), theme, Tone::Text),
        ]);
        lines::draw(frame, Rect { height: 1.min(inner.height), ..inner }, [prompt]);
        let found = matches(&self.text, scene.keymap);
        let height = inner.height.saturating_sub(1);
        let list = List {
            theme,
            focused: true,
            width: usize::from(inner.width),
            height: usize::from(height),
            empty: "no action has these letters",
        };
        let selected = self.selected.min(found.len().saturating_sub(1));
        let lines = list.lines(&found, selected, true, |action| {
            let key = scene.keymap.key_of(KeyContext::GLOBAL, *action);
            vec![piece(format!("{:<40} {key}", action.label()), theme, Tone::Text)]
        });
        let area = Rect { y: inner.y + 1, height, ..inner };
        lines::draw(frame, area, lines);
        let first = first_row(selected, found.len(), usize::from(height));
        let extent = Extent { first, shown: usize::from(height), all: found.len() };
        extent.draw(frame, area, theme);
        let typed = u16::try_from(width(&self.text)).unwrap_or(0);
        let x = (inner.x + 2 + typed).min(inner.right().saturating_sub(1));
        frame.set_cursor_position((x, inner.y));
    }
}
