//! A terminal inside a pane, for breakglass shells and recordings: the only place that interprets
//! the bytes of a remote program.
//!
//! Bytes pass the output filter first. The emulator may answer a few harmless queries; the caller
//! sends these replies back to the program.

mod paint;

use std::sync::{Arc, Mutex};

use alacritty_terminal::event::{Event, EventListener};
use alacritty_terminal::grid::{Dimensions, Scroll};
use alacritty_terminal::index::{Column, Direction, Line, Point, Side};
use alacritty_terminal::term::search::{Match, RegexSearch};
use alacritty_terminal::term::{Config, Term, TermMode};
use alacritty_terminal::vte::ansi::Processor;
use ratatui::layout::{Position, Rect};

use super::filter::OutputFilter;
use crate::lock::LockExt;

/// The most lines above the screen that are kept.
const SCROLLBACK: usize = 10_000;
/// The most reply bytes to one piece of output, so that a flood of queries causes no flood of
/// replies.
pub(super) const MAX_REPLY: usize = 1024;

/// The events of the emulator that we use; the listener drops all others.
#[derive(Debug, Default)]
struct EmulatorEvents {
    replies: Vec<u8>,
    title: Option<String>,
}

#[derive(Debug, Clone, Default)]
struct Listener(Arc<Mutex<EmulatorEvents>>);

impl EventListener for Listener {
    fn send_event(&self, event: Event) {
        let mut events = self.0.locked();
        match event {
            Event::PtyWrite(text)
                if is_harmless(text.as_bytes())
                    && events.replies.len() + text.len() <= MAX_REPLY =>
            {
                events.replies.extend_from_slice(text.as_bytes());
            }
            Event::Title(title) => {
                events.title = Some(crate::core::model::untrusted::clean_line(&title));
            }
            Event::ResetTitle => events.title = None,
            _ => {}
        }
    }
}

/// Whether a reply may be sent: the cursor's position, the status and the device attributes. None
/// of these holds text that the program sent before.
pub(super) fn is_harmless(reply: &[u8]) -> bool {
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

/// Emulates one terminal and keeps its scrollback.
pub struct Emulator {
    term: Term<Listener>,
    parser: Processor,
    filter: OutputFilter,
    events: Listener,
    /// A buffer for the filtered bytes of one piece.
    filtered: Vec<u8>,
    size: (u16, u16),
    /// The last hit of a search.
    hit: Option<Match>,
}

impl std::fmt::Debug for Emulator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Emulator").field("size", &self.size).finish_non_exhaustive()
    }
}

/// Below two columns a wide character would wrap forever.
fn clamp_size((columns, rows): (u16, u16)) -> (u16, u16) {
    (columns.clamp(2, 500), rows.clamp(1, 300))
}

impl Emulator {
    /// An empty terminal with the given columns and rows, clamped to 2x1 to 500x300.
    #[must_use]
    pub fn new(size: (u16, u16)) -> Self {
        let size = clamp_size(size);
        let events = Listener::default();
        let config = Config { scrolling_history: SCROLLBACK, ..Config::default() };
        let term = Term::new(config, &Size(size.0, size.1), events.clone());
        let (parser, filter) = (Processor::new(), OutputFilter::default());
        Self { term, parser, filter, events, filtered: Vec::new(), size, hit: None }
    }

    /// Interprets output of the program, and returns the bytes to reply to it.
    pub fn feed(&mut self, bytes: &[u8]) -> Vec<u8> {
        self.filtered.clear();
        self.filter.filter(bytes, &mut self.filtered);
        self.parser.advance(&mut self.term, &self.filtered);
        std::mem::take(&mut self.events.0.locked().replies)
    }

    /// The title that the program has set, without control characters.
    #[must_use]
    pub fn title(&self) -> Option<String> {
        self.events.0.locked().title.clone()
    }

    /// The size in columns and rows.
    #[must_use]
    pub const fn size(&self) -> (u16, u16) {
        self.size
    }

    /// Changes the size; returns whether it differs from the one before.
    pub fn resize(&mut self, size: (u16, u16)) -> bool {
        let size = clamp_size(size);
        if size == self.size {
            return false;
        }
        self.size = size;
        self.hit = None;
        self.term.resize(Size(size.0, size.1));
        true
    }

    /// The modes that the program has set; `encode` needs them.
    #[must_use]
    pub fn mode(&self) -> TermMode {
        *self.term.mode()
    }

    /// Scrolls the view up (positive) or down, in lines.
    pub fn scroll(&mut self, lines: i32) {
        self.term.scroll_display(Scroll::Delta(lines));
    }

    /// Scrolls the view to the oldest line.
    pub fn top(&mut self) {
        self.term.scroll_display(Scroll::Top);
    }

    /// Scrolls the view back to the screen, and forgets the last search.
    pub fn bottom(&mut self) {
        self.term.scroll_display(Scroll::Bottom);
        self.hit = None;
    }

    /// How many lines the view is above the screen; 0 while it follows the output.
    #[must_use]
    pub fn behind(&self) -> usize {
        self.term.grid().display_offset()
    }

    /// Scrolls to the next hit of a text, above or below the last hit; returns false where there is
    /// none. Ignores case.
    pub fn search(&mut self, text: &str, up: bool) -> bool {
        let Ok(mut regex) = RegexSearch::new(&format!("(?i){}", regex::escape(text))) else {
            return false;
        };
        let grid = self.term.grid();
        let last = Point::new(self.term.bottommost_line(), self.term.last_column());
        let from = match (&self.hit, up) {
            (Some(hit), true) => point_before(*hit.start(), grid.topmost_line(), grid.columns()),
            (Some(hit), false) => Some(point_after(*hit.end(), grid.columns())),
            (None, _) => Some(last),
        };
        let Some(from) = from else { return false };
        let (direction, side) =
            if up { (Direction::Left, Side::Right) } else { (Direction::Right, Side::Left) };
        let found = self.term.search_next(&mut regex, from, direction, side, None);
        // The search wraps around; a wrapped hit counts as none.
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

    /// The text of the visible rows from one to another, in either order; wrapped lines are joined.
    #[must_use]
    pub fn text(&self, from: u16, to: u16) -> String {
        let line =
            |row: u16| Line(i32::from(row) - i32::try_from(self.behind()).unwrap_or(i32::MAX));
        let (from, to) = (from.min(to), from.max(to));
        let (start, end) =
            (Point::new(line(from), Column(0)), Point::new(line(to), self.term.last_column()));
        crate::core::model::untrusted::clean(&self.term.bounds_to_string(start, end))
    }

    /// The most combining marks on one cell, of the screen and the lines above it.
    #[cfg(any(test, fuzzing))]
    pub(super) fn most_marks(&self) -> usize {
        let grid = self.term.grid();
        let lines = (grid.topmost_line().0..=grid.bottommost_line().0).map(Line);
        let cells = lines.flat_map(|line| (0..grid.columns()).map(move |at| (line, Column(at))));
        let marks = cells.map(|(line, at)| grid[line][at].zerowidth().map_or(0, <[char]>::len));
        marks.max().unwrap_or_default()
    }

    /// The cursor's position in `area`; `None` where the cursor is hidden or out of view.
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
}

fn point_after(point: Point, columns: usize) -> Point {
    if point.column.0 + 1 < columns {
        Point::new(point.line, Column(point.column.0 + 1))
    } else {
        Point::new(Line(point.line.0 + 1), Column(0))
    }
}

/// The point before another; `None` before the first.
fn point_before(point: Point, top: Line, columns: usize) -> Option<Point> {
    if point.column.0 > 0 {
        Some(Point::new(point.line, Column(point.column.0 - 1)))
    } else {
        (point.line > top).then(|| Point::new(Line(point.line.0 - 1), Column(columns - 1)))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use ratatui::buffer::Buffer;
    use ratatui::style::{Color, Modifier};

    use super::*;
    use crate::term::filter::MARKS;

    /// The rows of an emulator as it paints them.
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
    fn emulator_paints_the_cells_of_a_terminal() {
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
    fn emulator_replies_to_harmless_queries_alone() {
        let mut emulator = Emulator::new((20, 4));
        assert_eq!(emulator.feed(b"\x1b[6n"), b"\x1b[1;1R");
        assert_eq!(emulator.feed(b"\x1b[5n"), b"\x1b[0n");
        assert!(emulator.feed(b"\x1b[c").starts_with(b"\x1b[?"));
        // Queries for the clipboard, the title and a mode get no reply.
        assert_eq!(emulator.feed(b"\x1b]52;c;?\x07\x1b]0;echo pwned\x07\x1b[21t\x1b[?2004$p"), b"");
        assert_eq!(emulator.title().as_deref(), Some("echo pwned"));
        let flood = emulator.feed(&b"\x1b[6n".repeat(10_000));
        assert!(flood.len() <= MAX_REPLY);
    }

    #[test]
    fn no_cell_gets_more_marks_than_a_character_may_have() {
        let marks = "\u{301}".repeat(MARKS);
        let ways = [
            ("start of the line", "\r".to_owned()),
            ("backspace", "\u{8}".to_owned()),
            ("line feed and up", "\n\u{1b}[A".to_owned()),
            ("cursor to the start", "\u{1b}[H".to_owned()),
            ("cursor saved and restored", "\u{1b}7\u{1b}8".to_owned()),
            ("reverse index", "\u{1b}M".to_owned()),
            ("title", "\u{1b}]0;x\u{7}".to_owned()),
            ("dropped string", "\u{1b}_x\u{1b}\\".to_owned()),
            ("colour", "\u{1b}[1m".to_owned()),
            ("repeat count", format!("a{marks}\u{1b}[1000b\u{1b}[m\u{1b}[9b")),
            ("bell", "\u{7}".to_owned()),
            ("tab", "\t\r".to_owned()),
            ("character and back", format!("a{marks}\u{8}")),
            ("wide character without room", "\u{1b}[?7l\u{1b}[99C日".to_owned()),
            ("wide character over its half", "\u{1b}[?7l\u{1b}[99C\u{8}日日".to_owned()),
            ("wide character in its row", "日\u{1b}[2D".to_owned()),
            ("insertion", "\u{1b}[4h\u{1b}[99Ca日\r".to_owned()),
        ];
        for (name, way) in ways {
            let mut emulator = Emulator::new((20, 4));
            emulator.feed(format!("x{marks}\r").as_bytes());
            for _ in 0..50 {
                emulator.feed(format!("{way}{marks}").as_bytes());
            }
            assert!(emulator.most_marks() <= MARKS, "{name}: {}", emulator.most_marks());
        }
        let mut emulator = Emulator::new((20, 4));
        emulator.feed(format!("x{marks}日{marks}").as_bytes());
        assert_eq!(emulator.most_marks(), MARKS, "marks of a text are lost");
    }

    #[test]
    fn search_finds_lines_that_scrolled_away() {
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
        // The scrollback is bounded.
        for _ in 0..SCROLLBACK + 100 {
            emulator.feed(b"x\r\n");
        }
        emulator.top();
        assert_eq!(emulator.behind(), SCROLLBACK);
    }

    #[test]
    fn emulator_survives_any_size_and_any_bytes() {
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
