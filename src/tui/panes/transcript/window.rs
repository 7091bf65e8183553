//! A window onto a transcript: the text stays in its file, and only the records that a frame shows
//! are read.

use std::io;

use ratatui::text::Line;

use super::cells::Cells;
use crate::core::model::id::RunId;
use crate::journal::transcript::{Reader, Store};
use crate::tui::motion::Motion;
use crate::tui::theme::{Theme, Tone};
use crate::tui::widgets::span::{piece, plain};

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
    /// The record that the last search found.
    pub(crate) hit: Option<usize>,
    lines: Vec<Line<'static>>,
    height: usize,
    width: usize,
}

impl Window {
    /// The lines to draw, as prepared for the last frame.
    pub(crate) fn lines(&self) -> &[Line<'static>] {
        &self.lines
    }

    /// The number of records in the transcript.
    pub(crate) fn records(&self) -> usize {
        self.reader.as_ref().map_or(0, Reader::len)
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
            let unfolded = self.unfolded;
            let reader = run.map(|run| store.reader(run));
            *self = Self { run, reader, follow: true, unfolded, ..Self::default() };
        }
        (self.width, self.height) = (width, height);
        self.lines.clear();
        let Some(reader) = &mut self.reader else { return Ok(()) };
        reader.refresh()?;
        if self.follow {
            self.show_end(theme)?;
        }
        self.fill(theme)
    }

    const fn cells<'a>(&self, theme: &'a Theme) -> Cells<'a> {
        Cells { width: self.width, unfolded: self.unfolded, theme }
    }

    fn fill(&mut self, theme: &Theme) -> io::Result<()> {
        let Some(reader) = &self.reader else { return Ok(()) };
        let mut skip = self.top.line;
        let mut record = self.top.record;
        while self.lines.len() < self.height && record < reader.len() {
            let entries = reader.read(record, self.height.max(16))?;
            let count = entries.len();
            for entry in entries {
                let newest = record + 1 == reader.len();
                let mut cell = self.cells(theme).lines(&entry, newest);
                if self.hit == Some(record)
                    && let Some(first) = cell.first_mut()
                {
                    first.spans.insert(0, piece(">", theme, Tone::Accent));
                }
                self.lines.extend(cell.into_iter().skip(skip));
                skip = 0;
                record += 1;
            }
            if count == 0 {
                break;
            }
        }
        self.lines.truncate(self.height);
        Ok(())
    }

    /// Moves the window so that it ends with the last line.
    fn show_end(&mut self, theme: &Theme) -> io::Result<()> {
        let Some(reader) = &self.reader else { return Ok(()) };
        self.top = self.back(Place { record: reader.len(), line: 0 }, self.height, theme)?;
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
                let height = self.cells(theme).lines(entry, newest).len();
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
                let height = self.cells(theme).lines(&entry, newest).len();
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
        self.hit = None;
        self.follow = false;
        self.top = self.back(self.top, lines, theme)?;
        Ok(())
    }

    fn down(&mut self, lines: usize, theme: &Theme) -> io::Result<()> {
        self.hit = None;
        let end = Place { record: self.records(), line: 0 };
        let bottom = self.back(end, self.height, theme)?;
        let to = self.forward(self.top, lines, theme)?;
        self.follow = (to.record, to.line) >= (bottom.record, bottom.line);
        self.top = if self.follow { bottom } else { to };
        Ok(())
    }

    /// Goes to the next match after the last one, or after the top of the window. False where
    /// there is none.
    ///
    /// # Errors
    /// Where the file can't be read.
    pub(crate) fn search(&mut self, text: &str, backwards: bool) -> io::Result<bool> {
        let Some(reader) = &self.reader else { return Ok(false) };
        let found = match (self.hit, backwards) {
            (Some(0), true) => None,
            (Some(hit), true) => reader.search(text, hit - 1, true)?,
            (Some(hit), false) => reader.search(text, hit + 1, false)?,
            (None, true) => reader.search(text, reader.len(), true)?,
            (None, false) => match reader.search(text, self.top.record, false)? {
                None => reader.search(text, 0, false)?,
                found => found,
            },
        };
        if let Some(record) = found {
            self.hit = found;
            self.follow = false;
            self.top = Place { record: record.saturating_sub(2), line: 0 };
        }
        Ok(found.is_some())
    }

    /// The window as text.
    pub(crate) fn text(&self) -> String {
        self.lines.iter().map(plain).collect::<Vec<_>>().join(
            "
",
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::model::agent_event::AgentEvent;
    use crate::core::model::time::Timestamp;
    use crate::journal::transcript::TranscriptEntry;

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
        assert!(window.search("line 777", false).unwrap());
        window.prepare(&store, run, 40, 10, &theme).unwrap();
        assert!(window.text().contains(">line 777"));
        assert!(!window.search("line 778x", false).unwrap());
        window.go(Motion::PageUp, &theme).unwrap();
        window.prepare(&store, run, 40, 10, &theme).unwrap();
        assert!(window.text().contains("line 770"));
    }
}
