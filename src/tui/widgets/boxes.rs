//! The boxes of overlays.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::Line;
use ratatui::widgets::{Block, Borders, Clear};

use super::span::piece;
use super::text::{width, wrap};
use crate::tui::theme::{Theme, Tone};

/// The heading of a box: in its frame where it fits, else in whole lines below a short title, so that
/// the thing that a dialog is about is never cut.
pub(crate) struct Heading {
    pub(crate) title: String,
    pub(crate) lines: Vec<Line<'static>>,
}

impl Heading {
    pub(crate) fn of(text: &str, columns: usize, theme: &Theme) -> Self {
        if width(text) <= columns {
            return Self { title: text.to_owned(), lines: Vec::new() };
        }
        let title = text.split(' ').next().unwrap_or_default().to_owned();
        let line = |part| Line::from(piece(format!(" {part}"), theme, Tone::Title));
        let mut lines: Vec<Line<'static>> = wrap(text, columns).into_iter().map(line).collect();
        lines.push(Line::default());
        Self { title, lines }
    }
}

/// An area in the middle of another, at most as large.
pub(crate) fn centred(area: Rect, width: u16, height: u16) -> Rect {
    let (width, height) = (width.min(area.width), height.min(area.height));
    Rect {
        x: area.x + (area.width - width) / 2,
        y: area.y + (area.height - height) / 2,
        width,
        height,
    }
}

/// Draws a titled box over an area, clears it, and returns its inside.
pub(crate) fn framed(frame: &mut Frame<'_>, area: Rect, title: &str, theme: &Theme) -> Rect {
    let block = Block::new()
        .borders(Borders::ALL)
        .border_style(theme.style(Tone::BorderFocus))
        .title(Line::styled(format!(" {title} "), theme.style(Tone::Title)));
    let inner = block.inner(area);
    frame.render_widget(Clear, area);
    frame.render_widget(block, area);
    inner
}
