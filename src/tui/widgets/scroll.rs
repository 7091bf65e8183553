//! The scroll position of a text that is taller than its area.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::Line;

use super::lines;
use super::scrollbar::Extent;
use crate::core::model::plural::plural;
use crate::tui::motion::Motion;
use crate::tui::theme::{Theme, Tone};

/// A scroll position; [`Scroll::fit`] clamps it at every redraw.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Scroll {
    /// The first line shown.
    first: usize,
    /// The upper bound of `first`, at which the text's end is at the bottom; as of the last redraw.
    max_first: usize,
    /// Whether the view stays at the end as the text grows.
    follows: bool,
}

impl Default for Scroll {
    fn default() -> Self {
        Self::beginning()
    }
}

impl Scroll {
    /// A position at the beginning.
    pub(crate) const fn beginning() -> Self {
        // `max_first` is unbounded until the first redraw, so that a key before it isn't lost.
        Self { first: 0, max_first: usize::MAX, follows: false }
    }

    /// A position that stays at the end.
    pub(crate) const fn end() -> Self {
        Self { first: usize::MAX, max_first: usize::MAX, follows: true }
    }

    /// Moves by a motion; `page` is the number of lines of a page.
    pub(crate) fn go(&mut self, motion: Motion, page: usize) {
        self.first = motion.from(self.first, self.max_first, page);
        self.follows = match motion {
            Motion::Next | Motion::PageDown | Motion::Bottom => self.first == self.max_first,
            Motion::Previous | Motion::PageUp | Motion::Top => false,
        };
    }

    /// Clamps the position to a text of `lines` lines in a view of `height` lines.
    pub(crate) fn fit(&mut self, lines: usize, height: usize) {
        self.max_first = lines.saturating_sub(height);
        self.first = if self.follows { self.max_first } else { self.first.min(self.max_first) };
    }

    /// The first line on the screen.
    pub(crate) const fn first(&self) -> usize {
        self.first
    }

    /// Draws the visible lines in `area`, a scrollbar in the caller's border beside it, and the number of
    /// lines below on the border under it.
    pub(crate) fn draw(
        mut self,
        frame: &mut Frame<'_>,
        area: Rect,
        lines: &[Line<'static>],
        theme: &Theme,
    ) {
        let height = usize::from(area.height);
        self.fit(lines.len(), height);
        let shown = lines.iter().skip(self.first);
        let below = lines.len().saturating_sub(self.first + height);
        lines::draw(frame, area, shown);
        Extent { first: self.first, shown: height, all: lines.len() }.draw(frame, area, theme);
        if below > 0 {
            let text = format!(" {} below ", plural(below, "line"));
            let width = u16::try_from(text.len()).unwrap_or(0).min(area.width);
            let spot = Rect { x: area.right() - width, y: area.bottom(), width, height: 1 };
            let spot = spot.intersection(frame.area());
            lines::draw(frame, spot, [Line::styled(text, theme.style(Tone::Accent))]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scroll_stops_at_both_ends_and_follows_growth_from_the_end() {
        let mut scroll = Scroll::default();
        scroll.fit(10, 4);
        scroll.go(Motion::Previous, 3);
        assert_eq!(scroll.first, 0);
        scroll.go(Motion::PageDown, 3);
        scroll.fit(20, 4);
        assert_eq!(scroll.first(), 3);
        scroll.go(Motion::Bottom, 3);
        scroll.fit(30, 4);
        assert_eq!(scroll.first(), 26);
        scroll.go(Motion::Previous, 3);
        scroll.fit(40, 4);
        assert_eq!(scroll.first, 25);
    }
}
