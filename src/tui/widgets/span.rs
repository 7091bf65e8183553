//! Styled pieces of a line.

use ratatui::text::{Line, Span};

use crate::tui::theme::{Theme, Tone};

/// A piece of text in a role's style.
pub(crate) fn piece(text: impl Into<String>, theme: &Theme, role: Tone) -> Span<'static> {
    Span::styled(text.into(), theme.style(role))
}

/// A dim line that says why a component is empty.
pub(crate) fn empty(text: &str, theme: &Theme) -> Vec<Line<'static>> {
    vec![Line::from(piece(format!(" {text}"), theme, Tone::Dim))]
}

/// The text of a line without its styles.
pub(crate) fn plain(line: &Line<'_>) -> String {
    line.spans.iter().map(|span| span.content.as_ref()).collect()
}
