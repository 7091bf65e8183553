//! Lines of text, each on a row of its own.

use std::borrow::Borrow;

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::Line;

/// Draws a line on each row of the area, as far as both reach. A paragraph would also style every cell of the
/// area twice and look for places to break a line.
pub(crate) fn draw<'l, L: Borrow<Line<'l>>>(
    frame: &mut Frame<'_>,
    area: Rect,
    lines: impl IntoIterator<Item = L>,
) {
    let area = area.intersection(frame.area());
    for (y, line) in (area.top()..area.bottom()).zip(lines) {
        frame.buffer_mut().set_line(area.x, y, line.borrow(), area.width);
    }
}
