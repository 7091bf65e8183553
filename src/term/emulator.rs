//! A terminal in a pane: the one place where a remote program's bytes are interpreted.

use std::sync::{Arc, Mutex};

use alacritty_terminal::event::{Event, EventListener};
use alacritty_terminal::grid::{Dimensions, Scroll};
use alacritty_terminal::index::{Column, Direction, Line, Point, Side};
use alacritty_terminal::term::cell::{Cell, Flags};
use alacritty_terminal::term::search::{Match, RegexSearch};
use alacritty_terminal::term::{Config, Term, TermMode, point_to_viewport};
use alacritty_terminal::vte::ansi::{Color as Ansi, NamedColor, Processor};
use ratatui::buffer::Buffer;
use ratatui::layout::{Position, Rect};
use ratatui::style::{Color, Modifier, Style};

use super::gate::Gate;
use crate::lock::LockExt;

/// Lines above the screen that are kept.
pub const SCROLLBACK: usize = 10_000;
/// Bytes that are answered to one piece of output: a flood of questions gets no flood of answers.
const REPLIES: usize = 1024;

/// What the emulator said; everything that is not here is dropped.
#[derive(Debug, Default)]
struct Heard {
    replies: Vec<u8>,
    title: Option<String>,
    bell: bool,
}

#[derive(Debug, Clone, Default)]
struct Listener(Arc<Mutex<Heard>>);

impl EventListener for Listener {
    fn send_event(&self, event: Event) {
        let mut heard = self.0.locked();
        match event {
            Event::PtyWrite(text)
                if allowed(text.as_bytes()) && heard.replies.len() + text.len() <= REPLIES =>
            {
                heard.replies.extend_from_slice(text.as_bytes());
            }
            Event::Title(title) => {
                heard.title = Some(crate::core::model::untrusted::clean_line(&title))
            }
            Event::ResetTitle => heard.title = None,
            Event::Bell => heard.bell = true,
            _ => {}
        }
    }
}

/// Where the cursor is, that all is well, and what we are: nothing that holds received text.
fn allowed(reply: &[u8]) -> bool {
    let Some((last, rest)) = reply.strip_prefix(b"\x1b[").and_then(<[u8]>::split_last) else {
        return false;
    };
    matches!(last, b'c' | b'n' | b'R')
        && rest.iter().all(|byte| byte.is_ascii_digit() || b";?>".contains(byte))
}

struct Size(u16, u16);

impl Dimensions for Size {
    fn total_lines(&self) -> usize {
        self.screen_lines()
    }

    fn screen_lines(&self) -> usize {
        usize::from(self.1)
    }

    fn columns(&self) -> usize {
        usize::from(self.0)
    }
}

/// See the module.
pub struct Emulator {
    term: Term<Listener>,
    parser: Processor,
    gate: Gate,
    heard: Listener,
    passed: Vec<u8>,
    size: (u16, u16),
    hit: Option<Match>,
}

impl std::fmt::Debug for Emulator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Emulator").field("size", &self.size).finish_non_exhaustive()
    }
}

/// Under two columns a wide character would be wrapped for ever.
fn clamped((columns, rows): (u16, u16)) -> (u16, u16) {
    (columns.clamp(2, 500), rows.clamp(1, 300))
}

impl Emulator {
    /// An empty one, in columns and rows.
    #[must_use]
    pub fn new(size: (u16, u16)) -> Self {
        let size = clamped(size);
        let heard = Listener::default();
        let config = Config { scrolling_history: SCROLLBACK, ..Config::default() };
        let term = Term::new(config, &Size(size.0, size.1), heard.clone());
        let (parser, gate) = (Processor::new(), Gate::default());
        Self { term, parser, gate, heard, passed: Vec::new(), size, hit: None }
    }

    /// Takes output; gives what is to be answered.
    pub fn feed(&mut self, bytes: &[u8]) -> Vec<u8> {
        self.passed.clear();
        self.gate.pass(bytes, &mut self.passed);
        self.parser.advance(&mut self.term, &self.passed);
        let mut heard = self.heard.0.locked();
        std::mem::take(&mut heard.replies)
    }

    /// What the program calls itself; cleaned.
    #[must_use]
    pub fn title(&self) -> Option<String> {
        self.heard.0.locked().title.clone()
    }

    /// Whether it rang since the last look.
    pub fn rang(&mut self) -> bool {
        let mut heard = self.heard.0.locked();
        std::mem::take(&mut heard.bell)
    }

    /// Columns and rows.
    #[must_use]
    pub const fn size(&self) -> (u16, u16) {
        self.size
    }

    /// Has another size; true where it is one.
    pub fn resize(&mut self, size: (u16, u16)) -> bool {
        let size = clamped(size);
        if size == self.size {
            return false;
        }
        self.size = size;
        self.hit = None;
        self.term.resize(Size(size.0, size.1));
        true
    }

    /// What the program asked keys to be like.
    #[must_use]
    pub fn mode(&self) -> TermMode {
        *self.term.mode()
    }

    /// Looks further up (positive) or down.
    pub fn scroll(&mut self, lines: i32) {
        self.term.scroll_display(Scroll::Delta(lines));
    }

    /// Looks at the oldest line that is kept.
    pub fn top(&mut self) {
        self.term.scroll_display(Scroll::Top);
    }

    /// Looks at what is written now.
    pub fn bottom(&mut self) {
        self.term.scroll_display(Scroll::Bottom);
        self.hit = None;
    }

    /// Lines between what is looked at and what is written now.
    #[must_use]
    pub fn behind(&self) -> usize {
        self.term.grid().display_offset()
    }

    /// Goes to the next place of a text, further up or further down than the last one; false
    /// where there is none.
    pub fn search(&mut self, text: &str, up: bool) -> bool {
        let Ok(mut regex) = RegexSearch::new(&format!("(?i){}", regex::escape(text))) else {
            return false;
        };
        let grid = self.term.grid();
        let last = Point::new(self.term.bottommost_line(), self.term.last_column());
        let from = match (&self.hit, up) {
            (Some(hit), true) => hit.start().sub_by_one(grid.topmost_line(), grid.columns()),
            (Some(hit), false) => Some(add_one(*hit.end(), grid.columns())),
            (None, _) => Some(last),
        };
        let Some(from) = from else { return false };
        let (direction, side) =
            if up { (Direction::Left, Side::Right) } else { (Direction::Right, Side::Left) };
        let found = self.term.search_next(&mut regex, from, direction, side, None);
        // It goes round; a person wants to know.
        let found = found.filter(|hit| match (&self.hit, up) {
            (Some(old), true) => hit.start() < old.start(),
            (Some(old), false) => hit.start() > old.start(),
            (None, _) => true,
        });
        let Some(hit) = found else { return false };
        self.term.scroll_to_point(*hit.start());
        self.hit = Some(hit);
        true
    }

    /// The text of the rows on the screen from one to another, as they were written.
    #[must_use]
    pub fn text(&self, from: u16, to: u16) -> String {
        let line =
            |row: u16| Line(i32::from(row) - i32::try_from(self.behind()).unwrap_or(i32::MAX));
        let (from, to) = (from.min(to), from.max(to));
        let (start, end) =
            (Point::new(line(from), Column(0)), Point::new(line(to), self.term.last_column()));
        crate::core::model::untrusted::clean(&self.term.bounds_to_string(start, end))
    }

    /// Where the cursor is in `area`; none where it isn't shown.
    #[must_use]
    pub fn cursor(&self, area: Rect) -> Option<Position> {
        if !self.mode().contains(TermMode::SHOW_CURSOR) || self.behind() > 0 {
            return None;
        }
        let point = self.term.grid().cursor.point;
        let (column, row) =
            (u16::try_from(point.column.0).ok()?, u16::try_from(point.line.0).ok()?);
        (column < area.width && row < area.height)
            .then(|| Position::new(area.x + column, area.y + row))
    }

    /// Draws it; `colour` is wanted, and `marked` are the rows that are chosen.
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
            // Half of a wide character may have been overwritten.
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

fn add_one(point: Point, columns: usize) -> Point {
    if point.column.0 + 1 < columns {
        Point::new(point.line, Column(point.column.0 + 1))
    } else {
        Point::new(Line(point.line.0 + 1), Column(0))
    }
}

trait Before: Sized {
    fn sub_by_one(&self, top: Line, columns: usize) -> Option<Self>;
}

impl Before for Point {
    /// The point before; none before the first.
    fn sub_by_one(&self, top: Line, columns: usize) -> Option<Self> {
        if self.column.0 > 0 {
            Some(Self::new(self.line, Column(self.column.0 - 1)))
        } else {
            (self.line > top).then(|| Self::new(Line(self.line.0 - 1), Column(columns - 1)))
        }
    }
}

/// A cell's text: without what would make a neighbour vanish. `whole` is that both halves of a wide
/// character are there.
fn symbol(cell: &Cell, whole: bool) -> String {
    let spacer = Flags::WIDE_CHAR_SPACER | Flags::LEADING_WIDE_CHAR_SPACER;
    let broken = cell.flags.contains(Flags::WIDE_CHAR) && !whole;
    if cell.flags.intersects(Flags::HIDDEN | spacer) || cell.c.is_control() || broken {
        return " ".into();
    }
    let mut text = String::from(cell.c);
    let marks = cell.zerowidth().unwrap_or_default().iter();
    // A presentation mark or a joiner changes the width of what stands before it.
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

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Its rows as they are drawn.
    pub fn rows(emulator: &Emulator) -> Vec<String> {
        let (columns, rows) = emulator.size();
        let area = Rect::new(0, 0, columns, rows);
        let mut buf = Buffer::empty(area);
        emulator.paint(&mut buf, area, true, None);
        (0..rows)
            .map(|row| (0..columns).map(|column| buf[(column, row)].symbol()).collect())
            .collect()
    }

    fn painted(emulator: &Emulator) -> Vec<String> {
        rows(emulator).iter().map(|row| row.trim_end().to_owned()).collect()
    }

    #[test]
    fn it_draws_what_a_terminal_would() {
        let mut emulator = Emulator::new((20, 4));
        emulator.feed("one\r\n\u{1b}[1;31m日本\u{1b}[m|e\u{301}\u{fe0f}|\r\n".as_bytes());
        assert_eq!(painted(&emulator)[..2], ["one", "日本|e\u{301}|"]);
        let mut buf = Buffer::empty(Rect::new(0, 0, 20, 4));
        emulator.paint(&mut buf, Rect::new(0, 0, 20, 4), true, None);
        assert_eq!(buf[(0, 1)].fg, Color::Red);
        assert!(buf[(0, 1)].modifier.contains(Modifier::BOLD));
        assert_eq!(emulator.cursor(Rect::new(0, 0, 20, 4)), Some(Position::new(0, 2)));
        emulator.feed(b"\x1b[?25l");
        assert_eq!(emulator.cursor(Rect::new(0, 0, 20, 4)), None);
    }

    #[test]
    fn only_harmless_questions_are_answered() {
        let mut emulator = Emulator::new((20, 4));
        assert_eq!(emulator.feed(b"\x1b[6n"), b"\x1b[1;1R");
        assert_eq!(emulator.feed(b"\x1b[5n"), b"\x1b[0n");
        assert!(emulator.feed(b"\x1b[c").starts_with(b"\x1b[?"));
        // The clipboard, a title and a mode: nothing.
        assert_eq!(emulator.feed(b"\x1b]52;c;?\x07\x1b]0;echo pwned\x07\x1b[21t\x1b[?2004$p"), b"");
        assert_eq!(emulator.title().as_deref(), Some("echo pwned"));
        let flood = emulator.feed(&b"\x1b[6n".repeat(10_000));
        assert!(flood.len() <= REPLIES);
    }

    #[test]
    fn what_scrolled_away_is_found_and_copied() {
        let mut emulator = Emulator::new((20, 4));
        for n in 0..200 {
            emulator.feed(format!("line {n}\r\n").as_bytes());
        }
        assert!(emulator.search("LINE 42", true));
        assert!(emulator.behind() > 0);
        let row = painted(&emulator).iter().position(|line| line == "line 42").unwrap();
        let row = u16::try_from(row).unwrap();
        assert_eq!(emulator.text(row, row).trim(), "line 42");
        assert!(emulator.search("line 4", true) && emulator.search("line 4", false));
        assert!(!emulator.search("nowhere", true));
        emulator.top();
        assert_eq!(painted(&emulator)[0], "line 0");
        emulator.bottom();
        assert_eq!(painted(&emulator)[2], "line 199");
        // What is kept has a bound.
        for _ in 0..SCROLLBACK + 100 {
            emulator.feed(b"x\r\n");
        }
        emulator.top();
        assert_eq!(emulator.behind(), SCROLLBACK);
    }

    #[test]
    fn no_size_and_no_bytes_break_it() {
        let mut emulator = Emulator::new((0, 0));
        emulator.feed("日本日本\r\n".as_bytes());
        for size in [(1, 1), (500, 300), (2, 1), (65_535, 65_535), (80, 24)] {
            emulator.resize(size);
            emulator.feed("日本\u{1b}[1000b\u{1b}[1000;1000Hx\u{1b}#8\u{1b}[?1049h".as_bytes());
            painted(&emulator);
        }
        let mut seed = 1_u32;
        let noise: Vec<u8> = (0..200_000)
            .map(|_| {
                seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (seed >> 24) as u8
            })
            .collect();
        for piece in noise.chunks(777) {
            emulator.feed(piece);
        }
        painted(&emulator);
    }
}
