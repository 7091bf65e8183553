//! What lies over the panes, a file each.

pub mod help;
pub mod inbox;
pub mod palette;
pub mod simple;

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::Line;
use ratatui::widgets::{Block, Borders, Clear, Paragraph};

use super::theme::{Role, Theme};

/// An area in the middle of another, at most as large.
#[must_use]
pub fn centred(area: Rect, width: u16, height: u16) -> Rect {
    let (width, height) = (width.min(area.width), height.min(area.height));
    Rect {
        x: area.x + (area.width - width) / 2,
        y: area.y + (area.height - height) / 2,
        width,
        height,
    }
}

/// Draws a framed box over what is there and gives its inside.
pub(super) fn framed(frame: &mut Frame<'_>, area: Rect, title: &str, theme: &Theme) -> Rect {
    let block = Block::new()
        .borders(Borders::ALL)
        .border_style(theme.style(Role::BorderFocus))
        .title(Line::styled(format!(" {title} "), theme.style(Role::Title)));
    let inner = block.inner(area);
    frame.render_widget(Clear, area);
    frame.render_widget(block, area);
    inner
}

/// Draws lines from a first one on, in the inside of a frame, and says on the frame's lower edge
/// how much there is below.
pub(super) fn scrolled(
    frame: &mut Frame<'_>,
    area: Rect,
    lines: Vec<Line<'static>>,
    scroll: usize,
    theme: &Theme,
) {
    let height = usize::from(area.height);
    let first = scroll.min(lines.len().saturating_sub(height));
    let below = lines.len().saturating_sub(first + height);
    let shown: Vec<Line<'_>> = lines.into_iter().skip(first).take(height).collect();
    frame.render_widget(Paragraph::new(shown), area);
    if below > 0 {
        let text = format!(" {below} lines below ");
        let width = u16::try_from(text.len()).unwrap_or(0).min(area.width);
        let spot = Rect { x: area.right() - width, y: area.bottom(), width, height: 1 };
        let spot = spot.intersection(frame.area());
        frame.render_widget(Paragraph::new(Line::styled(text, theme.style(Role::Warn))), spot);
    }
}
