//! The background of a frame: the theme's own, and dim below an overlay.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Color;

use super::theme::Theme;

/// Gives the theme's own colours to all cells that have none.
pub(crate) fn paint(buffer: &mut Buffer, theme: &Theme) {
    let (text, ground) = theme.ground();
    if (text, ground) == (Color::Reset, Color::Reset) {
        return;
    }
    for cell in &mut buffer.content {
        if cell.fg == Color::Reset {
            cell.fg = text;
        }
        if cell.bg == Color::Reset {
            cell.bg = ground;
        }
    }
}

/// Dims all that was drawn in an area: an overlay comes over it and has the keys.
pub(crate) fn shade(buffer: &mut Buffer, area: Rect, theme: &Theme) {
    buffer.set_style(area, theme.shade());
}

#[cfg(test)]
mod tests {
    use ratatui::style::{Modifier, Style};

    use super::*;
    use crate::tui::colour::ColourDepth;
    use crate::tui::theme::Tone;

    #[test]
    fn ground_fills_bare_cells_alone_and_shade_keeps_no_bar() {
        let area = Rect::new(0, 0, 2, 1);
        for (depth, painted) in [(ColourDepth::True, true), (ColourDepth::Sixteen, false)] {
            let theme = Theme::load("dark", false, true).unwrap().at_depth(depth);
            let mut buffer = Buffer::empty(area);
            buffer[(0, 0)].set_style(theme.style(Tone::Selection));
            paint(&mut buffer, &theme);
            assert_eq!(Some(buffer[(0, 0)].bg), theme.style(Tone::Selection).bg);
            assert_eq!(buffer[(1, 0)].bg != Color::Reset, painted);
            shade(&mut buffer, area, &theme);
            assert_eq!(buffer[(0, 0)].bg, Color::Reset);
            let dims = buffer[(0, 0)].modifier.contains(Modifier::DIM);
            assert_ne!(dims, painted, "a theme with a dim colour needs no other");
        }
        let mono = Theme::load("mono", false, true).unwrap();
        let mut buffer = Buffer::empty(area);
        buffer[(0, 0)].set_style(Style::new().add_modifier(Modifier::REVERSED));
        shade(&mut buffer, area, &mono);
        assert_eq!(buffer[(0, 0)].modifier, Modifier::DIM);
    }
}
