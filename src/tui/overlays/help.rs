//! The keys that are really active: read from the keymap in force.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::Line;

use super::super::keymap::Context;
use super::super::panes::piece;
use super::super::theme::Role;
use super::super::view::View;
use super::{centred, framed, scrolled};

/// Draws it.
pub fn draw(frame: &mut Frame<'_>, area: Rect, scroll: usize, context: Context, view: &View) {
    let theme = &view.theme;
    let mut lines: Vec<(String, String)> = Vec::new();
    for binding in view.keymap.active(context) {
        let same = lines.iter_mut().find(|(_, desc)| *desc == binding.desc);
        match same {
            Some((keys, _)) => keys.push_str(&format!("  {}", binding.keys())),
            None => lines.push((binding.keys(), binding.desc.clone())),
        }
    }
    let lines: Vec<Line<'static>> = lines
        .into_iter()
        .map(|(keys, desc)| {
            Line::from(vec![
                piece(format!(" {desc:<30}"), theme, Role::Text),
                piece(keys, theme, Role::Accent),
            ])
        })
        .collect();
    let height = u16::try_from(lines.len() + 2).unwrap_or(u16::MAX);
    let inner = framed(frame, centred(area, 64, height), "Keys", theme);
    scrolled(frame, inner, lines, scroll, theme);
}
