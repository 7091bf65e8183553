//! A window onto a transcript: the text stays in its file, and only the records that a frame shows
//! are read.

use std::io;

use ratatui::style::Style;
use ratatui::text::{Line, Span};

use super::cells::{CellLine, Cells};
use super::index::Index;
use super::pinned;
use super::search::{SearchStep, TextSearch, places};
use crate::core::model::agent_event::AgentEvent;
use crate::core::model::id::RunId;
use crate::core::model::time::Timestamp;
use crate::journal::transcript::{Reader, Store};
use crate::tui::motion::Motion;
use crate::tui::theme::{Theme, Tone};
use crate::tui::widgets::scrollbar::Extent;
use crate::tui::widgets::span::{piece, plain};

/// Lines that are shown above a hit.
const ABOVE: usize = 2;
/// Records that a jump reads at once.
const JUMP: usize = 64;

/// The line at the top of a window: a record, and a line of the record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Place {
    record: usize,
    line: usize,
}

/// A window onto one run's transcript.
#[derive(Debug, Default)]
pub struct Window {
    run: Option<RunId>,
    reader: Option<Reader>,
    top: Place,
    /// The window stays at the end as the transcript grows.
    pub(crate) follow: bool,
    /// Thoughts and the output of tools are shown in full.
    pub(crate) unfolded: bool,
    /// The last search, until its marks are cleared.
    search: Option<TextSearch>,
    /// What is known beyond single records.
    index: Index,
    /// The run goes on: its plan and its running tools are pinned.
    live: bool,
    now: Timestamp,
    above: Vec<Line<'static>>,
    below: Vec<Line<'static>>,
    lines: Vec<Line<'static>>,
    /// The records that the last frame shows.
    shown: usize,
    height: usize,
    width: usize,
}

impl Window {
    /// The lines to draw, as prepared for the last frame.
    pub(crate) fn lines(&self) -> &[Line<'static>] {
        &self.lines
    }

    /// The lines that stay above the text, and those below it.
    pub(crate) fn pinned(&self) -> (&[Line<'static>], &[Line<'static>]) {
        (&self.above, &self.below)
    }

    /// Notes whether the run goes on, and the time of the next frame.
    pub(crate) const fn set_live(&mut self, live: bool, now: Timestamp) {
        (self.live, self.now) = (live, now);
    }

    /// The number of records in the transcript.
    pub(crate) fn records(&self) -> usize {
        self.reader.as_ref().map_or(0, Reader::len)
    }

    /// The shown part of the transcript, in records.
    pub(crate) fn extent(&self) -> Extent {
        let all = self.records();
        // At the end, the last record is shown.
        let first = if self.follow { all.saturating_sub(self.shown) } else { self.top.record };
        Extent { first, shown: self.shown, all }
    }

    /// The record at the top of the window.
    pub(crate) const fn at(&self) -> usize {
        self.top.record
    }

    /// Reads the records that the window shows. A run that was not shown before is shown from its
    /// end.
    ///
    /// # Errors
    /// Where the file can't be read.
    pub fn prepare(
        &mut self,
        store: &Store,
        run: Option<RunId>,
        width: usize,
        height: usize,
        theme: &Theme,
    ) -> io::Result<()> {
        if self.run != run {
            let Self { unfolded, live, now, .. } = *self;
            let reader = run.map(|run| store.reader(run));
            *self = Self { run, reader, follow: true, unfolded, live, now, ..Self::default() };
        }
        (self.width, self.height) = (width, height);
        self.lines.clear();
        self.above.clear();
        self.below.clear();
        let Some(reader) = &mut self.reader else { return Ok(()) };
        reader.refresh()?;
        self.index.update(reader)?;
        if self.live {
            let newest = reader.len().checked_sub(1);
            let size = (width, height);
            self.above = pinned::plan(&self.index, width, height, theme);
            self.below = pinned::running(&self.index, newest, self.now, size, theme);
            self.height = height.saturating_sub(self.above.len() + self.below.len()).max(1);
        }
        if self.follow { self.show_end(theme) } else { self.fill(theme) }
    }

    /// How a record is drawn: one with the shown hit in full.
    fn cells<'a>(&'a self, record: usize, theme: &'a Theme) -> Cells<'a> {
        let hit = self.search.as_ref().and_then(TextSearch::hit);
        let whole = hit.is_some_and(|hit| hit.record == record);
        Cells { whole, unfolded: self.unfolded, ..self.plain_cells(theme) }
    }

    /// How a record is drawn of which nothing is left out.
    const fn plain_cells<'a>(&'a self, theme: &'a Theme) -> Cells<'a> {
        let Self { index, now, width, .. } = self;
        Cells { width: *width, unfolded: true, whole: true, theme, index, now: *now }
    }

    fn fill(&mut self, theme: &Theme) -> io::Result<()> {
        let Some(reader) = &self.reader else { return Ok(()) };
        let mut skip = self.top.line;
        let mut record = self.top.record;
        while self.lines.len() < self.height && record < reader.len() {
            let entries = reader.read(record, self.height.max(16))?;
            let count = entries.len();
            for entry in entries {
                if self.lines.len() >= self.height {
                    break;
                }
                let newest = record + 1 == reader.len();
                let cells = self.cells(record, theme).lines(record, &entry, newest);
                let shown = self.mark(record, cells, theme);
                self.lines.extend(shown.into_iter().skip(skip));
                skip = 0;
                record += 1;
            }
            if count == 0 {
                break;
            }
        }
        self.lines.truncate(self.height);
        self.shown = record - self.top.record;
        Ok(())
    }

    /// Marks the occurrences of the searched text in a record's lines; a sign as well as a colour marks
    /// the shown one.
    fn mark(&self, record: usize, cells: Vec<CellLine>, theme: &Theme) -> Vec<Line<'static>> {
        let Some(search) = &self.search else {
            return cells.into_iter().map(|cell| cell.line).collect();
        };
        let hit = search.hit().filter(|hit| hit.record == record);
        let shown = hit.and_then(|hit| places(&cells, search.needle()).get(hit.nth).copied());
        let line = |(at, cell): (usize, CellLine)| {
            let tone = if shown == Some(at) { Tone::Selection } else { Tone::Title };
            let mut line = highlighted(cell.line, search.needle(), theme.style(tone));
            if shown == Some(at) {
                line.spans.insert(0, piece(">", theme, Tone::Accent));
            }
            line
        };
        cells.into_iter().enumerate().map(line).collect()
    }

    /// Moves the window so that it ends with the last line. A record is drawn once: this happens for each
    /// frame, and for each run that the selection passes.
    fn show_end(&mut self, theme: &Theme) -> io::Result<()> {
        let Some(reader) = &self.reader else { return Ok(()) };
        let (mut drawn, mut left, mut end) = (Vec::new(), self.height, reader.len());
        let mut top = Place { record: end, line: 0 };
        while left > 0 && end > 0 {
            let begin = end.saturating_sub(64);
            let entries = reader.read(begin, end - begin)?;
            for (at, entry) in entries.iter().enumerate().rev() {
                let record = begin + at;
                let newest = record + 1 == reader.len();
                let cells = self.cells(record, theme).lines(record, entry, newest);
                top = Place { record, line: cells.len().saturating_sub(left) };
                left = left.saturating_sub(cells.len());
                drawn.push(self.mark(record, cells, theme));
                if left == 0 {
                    break;
                }
            }
            end = begin;
        }
        self.shown = reader.len() - top.record;
        self.top = top;
        self.lines.extend(drawn.into_iter().rev().flatten().skip(top.line));
        Ok(())
    }

    /// The place `lines` above another.
    fn back(&self, from: Place, lines: usize, theme: &Theme) -> io::Result<Place> {
        let Some(reader) = &self.reader else { return Ok(from) };
        if from.line >= lines {
            return Ok(Place { line: from.line - lines, ..from });
        }
        let mut left = lines - from.line;
        let mut end = from.record;
        while end > 0 {
            let begin = end.saturating_sub(64);
            let entries = reader.read(begin, end - begin)?;
            for (at, entry) in entries.iter().enumerate().rev() {
                let newest = begin + at + 1 == reader.len();
                let height = self.cells(begin + at, theme).lines(begin + at, entry, newest).len();
                if height >= left {
                    return Ok(Place { record: begin + at, line: height - left });
                }
                left -= height;
            }
            end = begin;
        }
        Ok(Place::default())
    }

    /// The place `lines` below another.
    fn forward(&self, from: Place, lines: usize, theme: &Theme) -> io::Result<Place> {
        let Some(reader) = &self.reader else { return Ok(from) };
        let (mut record, mut left) = (from.record, from.line + lines);
        while record < reader.len() {
            for entry in reader.read(record, 64)? {
                let newest = record + 1 == reader.len();
                let height = self.cells(record, theme).lines(record, &entry, newest).len();
                if height > left {
                    return Ok(Place { record, line: left });
                }
                left -= height;
                record += 1;
            }
        }
        Ok(Place { record, line: 0 })
    }

    /// Scrolls; the end is followed once it is reached.
    ///
    /// # Errors
    /// Where the file can't be read.
    pub(crate) fn go(&mut self, motion: Motion, theme: &Theme) -> io::Result<()> {
        let page = self.height.saturating_sub(1).max(1);
        match motion {
            Motion::Next => self.down(1, theme),
            Motion::Previous => self.up(1, theme),
            Motion::PageDown => self.down(page, theme),
            Motion::PageUp => self.up(page, theme),
            Motion::Top => {
                self.follow = false;
                self.top = Place::default();
                Ok(())
            }
            Motion::Bottom => {
                self.follow = true;
                Ok(())
            }
        }
    }

    fn up(&mut self, lines: usize, theme: &Theme) -> io::Result<()> {
        self.follow = false;
        self.top = self.back(self.top, lines, theme)?;
        Ok(())
    }

    fn down(&mut self, lines: usize, theme: &Theme) -> io::Result<()> {
        let end = Place { record: self.records(), line: 0 };
        let bottom = self.back(end, self.height, theme)?;
        let to = self.forward(self.top, lines, theme)?;
        self.follow = (to.record, to.line) >= (bottom.record, bottom.line);
        self.top = if self.follow { bottom } else { to };
        Ok(())
    }

    /// Goes to the next record after the top one that is a stop, or to the one before it; false where there
    /// is none.
    ///
    /// # Errors
    /// Where the file can't be read.
    pub(crate) fn jump(
        &mut self,
        backwards: bool,
        stops: fn(&AgentEvent) -> bool,
    ) -> io::Result<bool> {
        let Some(reader) = &self.reader else { return Ok(false) };
        let mut found = None;
        if backwards {
            // Within a record, its own beginning is the place before.
            let mut end = self.top.record + usize::from(self.top.line > 0);
            while end > 0 && found.is_none() {
                let begin = end.saturating_sub(JUMP);
                let entries = reader.read(begin, end - begin)?;
                found = entries.iter().rposition(|entry| stops(&entry.event)).map(|at| begin + at);
                end = begin;
            }
        } else {
            let mut begin = self.top.record + 1;
            while begin < reader.len() && found.is_none() {
                let entries = reader.read(begin, JUMP)?;
                if entries.is_empty() {
                    break;
                }
                found = entries.iter().position(|entry| stops(&entry.event)).map(|at| begin + at);
                begin += entries.len();
            }
        }
        if let Some(record) = found {
            self.follow = false;
            self.top = Place { record, line: 0 };
        }
        Ok(found.is_some())
    }

    /// Goes to the next occurrence of a text after the shown one, or after the top of the window; over
    /// the end of the transcript to its beginning.
    ///
    /// # Errors
    /// Where the file can't be read.
    pub(crate) fn search(
        &mut self,
        text: &str,
        backwards: bool,
        theme: &Theme,
    ) -> io::Result<SearchStep> {
        let Some(reader) = &self.reader else { return Ok(SearchStep::Nothing) };
        let mut search = match self.search.take() {
            Some(search) if search.is_for(text) => search,
            _ => TextSearch::new(text),
        };
        let (index, now) = (&self.index, self.now);
        let plain = Cells { width: self.width, unfolded: true, whole: true, theme, index, now };
        search.update(reader, plain)?;
        let found = search.step(backwards, self.top.record);
        let hit = search.hit();
        self.search = (found != SearchStep::Nothing).then_some(search);
        if let Some(hit) = hit {
            let entry =
                self.reader.as_ref().map(|reader| reader.read(hit.record, 1)).transpose()?;
            let entry = entry.into_iter().flatten().next();
            let newest = hit.record + 1 == self.records();
            let cells =
                entry.map(|entry| plain.lines(hit.record, &entry, newest)).unwrap_or_default();
            let needle = self.search.as_ref().map_or("", TextSearch::needle);
            let line = places(&cells, needle).get(hit.nth).copied().unwrap_or(0);
            self.follow = false;
            self.top = self.back(Place { record: hit.record, line }, ABOVE, theme)?;
        }
        Ok(found)
    }

    /// The number of the shown hit, and of all hits.
    pub(crate) fn hit_number(&self) -> Option<(usize, usize)> {
        self.search.as_ref().and_then(TextSearch::number)
    }

    /// Forgets the search and its marks.
    pub(crate) fn clear_search(&mut self) {
        if self.search.take().is_some() {
            // The record that was shown in full is shorter now.
            self.top.line = 0;
        }
    }

    /// The window as text.
    pub(crate) fn text(&self) -> String {
        self.lines.iter().map(plain).collect::<Vec<_>>().join(
            "
",
        )
    }
}

/// A line with another style where a text occurs in it; `needle` is in lower case.
fn highlighted(line: Line<'static>, needle: &str, style: Style) -> Line<'static> {
    let mut spans = Vec::new();
    for span in line.spans {
        let lower = span.content.to_lowercase();
        // Where lower case has other lengths, the places in the text aren't known.
        if needle.is_empty() || lower.len() != span.content.len() || !lower.contains(needle) {
            spans.push(span);
            continue;
        }
        let mut from = 0;
        for (at, found) in lower.match_indices(needle) {
            let to = at + found.len();
            let (Some(before), Some(hit)) = (span.content.get(from..at), span.content.get(at..to))
            else {
                continue;
            };
            spans.push(Span::styled(before.to_owned(), span.style));
            spans.push(Span::styled(hit.to_owned(), style));
            from = to;
        }
        let rest = span.content.get(from..).unwrap_or_default();
        spans.push(Span::styled(rest.to_owned(), span.style));
    }
    Line::from(spans)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::transcript::TranscriptEntry;

    #[test]
    fn search_finds_what_a_reader_would_see_and_goes_around() {
        let (_state, store, theme) = store(3);
        let at = Timestamp(0);
        let output = format!(
            "{}\u{1b}[31mFAI\u{1b}[0mLED: \"quoted\" thing\nline 1 again",
            "x\n".repeat(300)
        );
        let event = AgentEvent::ToolEnd {
            id: "t".into(),
            title: "make".into(),
            ok: false,
            code: Some(1),
            output: output.into(),
        };
        store.append(RunId(1), &[TranscriptEntry { at, turn: 1, event }]).unwrap();
        let (mut window, run) = (Window::default(), Some(RunId(1)));
        window.prepare(&store, run, 20, 6, &theme).unwrap();
        // Coloured, quoted, folded, beyond the lines that unfolding shows, and wrapped.
        window.search("failed: \"quoted\" thing", false, &theme).unwrap();
        window.prepare(&store, run, 20, 6, &theme).unwrap();
        assert!(window.text().contains(">  │ FAILED: "), "{}", window.text());
        let mut step = |backwards| window.search("line 1", backwards, &theme).unwrap();
        let at = |number, wrapped| SearchStep::At { number, all: 2, wrapped };
        assert_eq!(step(false), at(2, false));
        assert_eq!(step(false), at(1, true));
        assert_eq!(step(true), at(2, true));
        assert_eq!(step(true), at(1, false));
        // Names of fields are no text.
        assert_eq!(window.search("output", false, &theme).unwrap(), SearchStep::Nothing);
    }

    fn store(count: usize) -> (tempfile::TempDir, Store, Theme) {
        let state = tempfile::tempdir().unwrap();
        let store = Store::open(state.path()).unwrap();
        let entry = |n: usize| TranscriptEntry {
            at: Timestamp(0),
            turn: 1,
            event: AgentEvent::Text { text: format!("line {n}").into() },
        };
        store.append(RunId(1), &(0..count).map(entry).collect::<Vec<_>>()).unwrap();
        (state, store, Theme::load("dark", false, true).unwrap())
    }

    #[test]
    fn window_follows_scrolls_and_searches() {
        let (_state, store, theme) = store(1000);
        let mut window = Window::default();
        let run = Some(RunId(1));
        window.prepare(&store, run, 40, 10, &theme).unwrap();
        assert!(window.text().ends_with("line 999") && window.lines().len() == 10);
        for _ in 0..5 {
            window.go(Motion::Previous, &theme).unwrap();
        }
        window.prepare(&store, run, 40, 10, &theme).unwrap();
        assert!(window.text().ends_with("line 994") && !window.follow);
        for _ in 0..5 {
            window.go(Motion::Next, &theme).unwrap();
        }
        assert!(window.follow);
        window.go(Motion::Top, &theme).unwrap();
        window.prepare(&store, run, 40, 10, &theme).unwrap();
        assert!(window.text().starts_with("line 0\n"));
        let found = window.search("LINE 777", false, &theme).unwrap();
        assert_eq!(found, SearchStep::At { number: 1, all: 1, wrapped: false });
        window.prepare(&store, run, 40, 10, &theme).unwrap();
        assert!(window.text().contains(">line 777"));
        assert_eq!(window.search("line 778x", false, &theme).unwrap(), SearchStep::Nothing);
        window.go(Motion::PageUp, &theme).unwrap();
        window.prepare(&store, run, 40, 10, &theme).unwrap();
        assert!(window.text().contains("line 770"));
    }
}
