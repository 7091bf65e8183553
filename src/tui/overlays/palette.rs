//! The palette: every action by a few letters of its name.

use nucleo_matcher::pattern::{CaseMatching, Normalization, Pattern};
use nucleo_matcher::{Config, Matcher};
use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::Line;
use ratatui::widgets::Paragraph;

use super::super::act::{ALL, Act};
use super::super::keymap::Context;
use super::super::panes::{piece, row};
use super::super::theme::Role;
use super::super::view::{Palette, View};
use super::super::widgets::list::first_row;
use super::{centred, framed};

/// The actions that match, best first; all of them for an empty text.
#[must_use]
pub fn matches(text: &str, view: &View) -> Vec<(Act, String)> {
    let label = |act: Act, name: &str| {
        let bound = view.keymap.active(Context::Global).find(|b| b.run == act);
        bound.map_or_else(|| name.to_owned(), |b| format!("{name}  {}", b.desc))
    };
    let mut matcher = Matcher::new(Config::DEFAULT);
    let pattern = Pattern::parse(text, CaseMatching::Ignore, Normalization::Smart);
    let mut buffer = Vec::new();
    let mut scored: Vec<(u32, Act, String)> = ALL
        .iter()
        .filter_map(|(act, name)| {
            let label = label(*act, name);
            let hay = nucleo_matcher::Utf32Str::new(&label, &mut buffer);
            let score = pattern.score(hay, &mut matcher)?;
            Some((score, *act, label))
        })
        .collect();
    // Stable, so that equals keep the order of the list.
    scored.sort_by_key(|(score, ..)| std::cmp::Reverse(*score));
    scored.into_iter().map(|(_, act, label)| (act, label)).collect()
}

/// Draws it.
pub fn draw(frame: &mut Frame<'_>, area: Rect, palette: &Palette, view: &View) {
    let theme = &view.theme;
    let inner = framed(frame, centred(area, 60, 18), "All actions", theme);
    let prompt = Line::from(vec![
        piece("> ", theme, Role::Accent),
        piece(palette.text.clone(), theme, Role::Text),
    ]);
    frame.render_widget(Paragraph::new(prompt), Rect { height: 1.min(inner.height), ..inner });
    let found = matches(&palette.text, view);
    let height = usize::from(inner.height.saturating_sub(1));
    let selected = palette.selected.min(found.len().saturating_sub(1));
    let first = first_row(selected, found.len(), height);
    let lines: Vec<Line<'_>> = found
        .into_iter()
        .enumerate()
        .skip(first)
        .take(height)
        .map(|(at, (act, label))| {
            let key = view.keymap.key_of(Context::Global, act).unwrap_or_default();
            let text = format!("{label:<48} {key}");
            row(at == selected, true, theme, vec![piece(text, theme, Role::Text)])
        })
        .collect();
    let below = Rect { y: inner.y + 1, height: inner.height.saturating_sub(1), ..inner };
    frame.render_widget(Paragraph::new(lines), below);
    let typed = u16::try_from(super::super::widgets::text::width(&palette.text)).unwrap_or(0);
    let x = (inner.x + 2 + typed).min(inner.right().saturating_sub(1));
    frame.set_cursor_position((x, inner.y));
}
