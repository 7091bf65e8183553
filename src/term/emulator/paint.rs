//! Paints the emulator's cells into a frame.

use alacritty_terminal::index::Column;
use alacritty_terminal::term::cell::{Cell, Flags};
use alacritty_terminal::term::point_to_viewport;
use alacritty_terminal::vte::ansi::{Color as Ansi, NamedColor};
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Color, Modifier, Style};

use super::Emulator;

impl Emulator {
    /// Paints the visible rows into `area`. `colour` is false for a theme without colours, and
    /// `marked` is the first and the last row of a selection.
    pub fn paint(&self, buf: &mut Buffer, area: Rect, colour: bool, marked: Option<(u16, u16)>) {
        let offset = self.behind();
        for indexed in self.term.grid().display_iter() {
            let Some(point) = point_to_viewport(offset, indexed.point) else { continue };
            let (Ok(column), Ok(row)) = (u16::try_from(point.column.0), u16::try_from(point.line))
            else {
                continue;
            };
            if column >= area.width || row >= area.height {
                continue;
            }
            let cell = indexed.cell;
            let Some(place) = buf.cell_mut((area.x + column, area.y + row)) else { continue };
            let mut style = style(cell, colour);
            let hit = self.hit.as_ref().is_some_and(|hit| hit.contains(&indexed.point));
            let marked = marked.is_some_and(|(a, b)| (a.min(b)..=a.max(b)).contains(&row));
            if hit || marked {
                style = style.add_modifier(Modifier::REVERSED);
            }
            place.set_style(Style::reset().patch(style));
            // One half of a wide character may have been overwritten.
            let (cells, at) = (&self.term.grid()[indexed.point.line], indexed.point.column.0);
            let has = |column: usize, flag| {
                column < cells.len() && cells[Column(column)].flags.contains(flag)
            };
            let second = cell.flags.contains(Flags::WIDE_CHAR_SPACER)
                && at > 0
                && has(at - 1, Flags::WIDE_CHAR);
            let whole = cell.flags.contains(Flags::WIDE_CHAR)
                && column + 1 < area.width
                && has(at + 1, Flags::WIDE_CHAR_SPACER);
            if second {
                place.set_symbol("");
            } else {
                place.set_symbol(&symbol(cell, whole));
            }
        }
    }
}

/// The text of a cell, without characters that would change its width. `whole` says that both
/// halves of a wide character are there.
fn symbol(cell: &Cell, whole: bool) -> String {
    let spacer = Flags::WIDE_CHAR_SPACER | Flags::LEADING_WIDE_CHAR_SPACER;
    let broken = cell.flags.contains(Flags::WIDE_CHAR) && !whole;
    if cell.flags.intersects(Flags::HIDDEN | spacer) || cell.c.is_control() || broken {
        return " ".into();
    }
    let mut text = String::from(cell.c);
    let marks = cell.zerowidth().unwrap_or_default().iter();
    // A presentation selector or a joiner would change the width of the character before it.
    text.extend(
        marks.filter(|c| !matches!(c, '\u{fe0f}' | '\u{200d}' | '\u{fe0e}') && !c.is_control()),
    );
    text
}

fn style(cell: &Cell, colour: bool) -> Style {
    let mut style = Style::default();
    if colour {
        style = style.fg(colour_of(cell.fg)).bg(colour_of(cell.bg));
    }
    for (flag, modifier) in [
        (Flags::BOLD, Modifier::BOLD),
        (Flags::ITALIC, Modifier::ITALIC),
        (Flags::DIM, Modifier::DIM),
        (Flags::INVERSE, Modifier::REVERSED),
        (Flags::STRIKEOUT, Modifier::CROSSED_OUT),
    ] {
        if cell.flags.contains(flag) {
            style = style.add_modifier(modifier);
        }
    }
    if cell.flags.intersects(Flags::ALL_UNDERLINES) {
        style = style.add_modifier(Modifier::UNDERLINED);
    }
    style
}

fn colour_of(colour: Ansi) -> Color {
    match colour {
        Ansi::Spec(rgb) => Color::Rgb(rgb.r, rgb.g, rgb.b),
        Ansi::Indexed(index) => Color::Indexed(index),
        Ansi::Named(named) => match named {
            NamedColor::Black | NamedColor::DimBlack => Color::Black,
            NamedColor::Red | NamedColor::DimRed => Color::Red,
            NamedColor::Green | NamedColor::DimGreen => Color::Green,
            NamedColor::Yellow | NamedColor::DimYellow => Color::Yellow,
            NamedColor::Blue | NamedColor::DimBlue => Color::Blue,
            NamedColor::Magenta | NamedColor::DimMagenta => Color::Magenta,
            NamedColor::Cyan | NamedColor::DimCyan => Color::Cyan,
            NamedColor::White | NamedColor::DimWhite => Color::Gray,
            NamedColor::BrightBlack => Color::DarkGray,
            NamedColor::BrightRed => Color::LightRed,
            NamedColor::BrightGreen => Color::LightGreen,
            NamedColor::BrightYellow => Color::LightYellow,
            NamedColor::BrightBlue => Color::LightBlue,
            NamedColor::BrightMagenta => Color::LightMagenta,
            NamedColor::BrightCyan => Color::LightCyan,
            NamedColor::BrightWhite => Color::White,
            _ => Color::Reset,
        },
    }
}
