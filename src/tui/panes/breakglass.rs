//! Breakglass: not configured here yet, and said so.

use ratatui::text::Line;

use super::super::theme::Role;
use super::super::view::View;
use super::piece;

/// The lines of the pane.
#[must_use]
pub fn lines(view: &View) -> Vec<Line<'static>> {
    let theme = &view.theme;
    let line = |text: &str, role| Line::from(piece(format!(" {text}"), theme, role));
    vec![
        line("not configured: this afk has no devvm and no hypervisor to reach", Role::Text),
        line("nothing here can start, stop or reset a machine", Role::Dim),
    ]
}
