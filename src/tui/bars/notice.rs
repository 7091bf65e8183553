//! The last answer of the cockpit: a band above the footer, so that it never covers the keys.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::Line;
use ratatui::widgets::Clear;

use crate::tui::theme::{Theme, Tone};
use crate::tui::widgets::lines;
use crate::tui::widgets::span::piece;
use crate::tui::widgets::text::{column, fit, width as columns, wrap};

/// Lines of a notice; a longer one is cut.
const LINES: usize = 3;

/// A message until the next key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NoticeBand {
    text: String,
    /// It says why something can't be, which is worth another colour.
    refused: bool,
}

impl NoticeBand {
    pub(crate) fn said(text: impl Into<String>) -> Self {
        Self { text: text.into(), refused: false }
    }

    pub(crate) fn refused(text: impl Into<String>) -> Self {
        Self { text: text.into(), refused: true }
    }

    /// Draws the notice on the last lines of the body.
    pub(crate) fn draw(&self, frame: &mut Frame<'_>, body: Rect, theme: &Theme) {
        let room = usize::from(body.width).saturating_sub(2);
        let mut lines = wrap(&self.text, room);
        if lines.len() > LINES {
            lines.truncate(LINES);
            if let Some(last) = lines.last_mut() {
                // Longer than its room, so that the mark of the cut is there.
                last.push_str(&"-".repeat(room));
                *last = fit(last, room, theme.marks.cut);
            }
        }
        let tone = if self.refused { Tone::Attention } else { Tone::Header };
        let wide = lines.iter().map(|line| columns(line.trim_end())).max().unwrap_or(0);
        let height = u16::try_from(lines.len()).unwrap_or(0).min(body.height);
        let width = u16::try_from(wide + 2).unwrap_or(u16::MAX).min(body.width);
        let line = |text: String| {
            Line::from(piece(format!(" {} ", column(text.trim_end(), wide, "")), theme, tone))
        };
        let area = Rect { x: body.x, y: body.bottom() - height, width, height };
        frame.render_widget(Clear, area);
        lines::draw(frame, area, lines.into_iter().map(line));
    }
}
