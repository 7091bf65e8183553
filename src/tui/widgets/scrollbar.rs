//! The scrollbar in the frame of a list or a text: where the shown part stands in the whole.

use ratatui::Frame;
use ratatui::layout::Rect;

use crate::tui::theme::{Theme, Tone};

/// The shown part of a whole, in rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Extent {
    pub(crate) first: usize,
    pub(crate) shown: usize,
    pub(crate) all: usize,
}

impl Extent {
    /// The thumb on a bar of `height` rows: its first row and its length; none where all is shown. It
    /// touches an end of the bar only where the shown part touches that end.
    fn thumb(self, height: usize) -> Option<(usize, usize)> {
        if self.all <= self.shown || height < 3 {
            return None;
        }
        let length = (height * self.shown / self.all).clamp(1, height - 2);
        let hidden = self.all - self.shown;
        let first = self.first.min(hidden);
        let room = height - length;
        let at = match first {
            0 => 0,
            _ if first == hidden => room,
            _ => (first * room / hidden).clamp(1, room.saturating_sub(1).max(1)),
        };
        Some((at, length))
    }

    /// Draws the thumb on the frame to the right of `area`, the inside.
    pub(crate) fn draw(self, frame: &mut Frame<'_>, area: Rect, theme: &Theme) {
        let Some((at, length)) = self.thumb(usize::from(area.height)) else { return };
        let style = theme.style(Tone::Accent);
        let rows = (area.y..area.bottom()).skip(at).take(length);
        for y in rows {
            if let Some(cell) = frame.buffer_mut().cell_mut((area.right(), y)) {
                cell.set_symbol(theme.marks.thumb).set_style(style);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thumb_shows_what_is_hidden_above_and_below() {
        let thumb = |first, shown, all, height| Extent { first, shown, all }.thumb(height);
        assert_eq!(thumb(0, 10, 10, 10), None);
        assert_eq!(thumb(0, 10, 20, 10), Some((0, 5)));
        assert_eq!(thumb(10, 10, 20, 10), Some((5, 5)));
        // One hidden row on either side moves it off that end.
        assert_eq!(thumb(1, 10, 10_000, 10), Some((1, 1)));
        assert_eq!(thumb(9_989, 10, 10_000, 10), Some((8, 1)));
        assert_eq!(thumb(9_990, 10, 10_000, 10), Some((9, 1)));
        assert_eq!(thumb(1, 9, 11, 9), Some((1, 7)));
        for height in 0..6 {
            for first in 0..30 {
                let thumb = thumb(first, height, 20, height);
                assert!(thumb.is_none_or(|(at, length)| length > 0 && at + length <= height));
            }
        }
    }
}
