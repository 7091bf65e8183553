//! A list with a selection that stays with its row when rows come and go.
//!
//! The selection is bound to a row's name in the first frame, and only the operator moves it. A
//! selected row that is gone leaves nothing selected: the row in its place is another thing, on which
//! no key must act until the operator has moved there.

use ratatui::text::{Line, Span};

use super::scrollbar::Extent;
use super::span::{empty, piece, plain};
use super::text::column;
use crate::tui::motion::Motion;
use crate::tui::theme::{Theme, Tone};

/// A row with a name by which a [`Cursor`] finds it again.
pub(crate) trait Named<T> {
    fn name(&self) -> &T;
}

impl<T> Named<T> for T {
    fn name(&self) -> &T {
        self
    }
}

/// The selection of a list, by the row's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cursor<T> {
    /// The name of the selected row; none before the first frame with rows.
    selected: Option<T>,
    /// The row's last place, for when the row is gone.
    at: usize,
}

impl<T> Default for Cursor<T> {
    fn default() -> Self {
        Self { selected: None, at: 0 }
    }
}

impl<T: PartialEq + Clone> Cursor<T> {
    /// Selects the first row where nothing was selected yet. Called before each frame.
    pub(crate) fn bind<R: Named<T>>(&mut self, rows: &[R]) {
        match self.found(rows) {
            Some(at) => self.at = at,
            None if self.selected.is_none() => drop(self.put(self.at, rows)),
            None => {}
        }
    }

    /// The selected row's place among `rows`; none where the row is gone.
    pub(crate) fn found<R: Named<T>>(&self, rows: &[R]) -> Option<usize> {
        let name = self.selected.as_ref()?;
        // Mostly the row is where it was.
        if rows.get(self.at).is_some_and(|row| row.name() == name) {
            return Some(self.at);
        }
        rows.iter().position(|row| row.name() == name)
    }

    /// The selected row's place among `rows`; its last place where the row is gone.
    pub(crate) fn place<R: Named<T>>(&self, rows: &[R]) -> usize {
        self.found(rows).unwrap_or_else(|| self.at.min(rows.len().saturating_sub(1)))
    }

    /// The selected row; none where it is gone.
    pub(crate) fn row<'r, R: Named<T>>(&self, rows: &'r [R]) -> Option<&'r R> {
        self.found(rows).and_then(|at| rows.get(at))
    }

    /// Moves by a motion and returns the selected row. Where the selected row is gone, the way down
    /// leads to the row in its place.
    pub(crate) fn go<'r, R: Named<T>>(
        &mut self,
        motion: Motion,
        rows: &'r [R],
        page: usize,
    ) -> Option<&'r R> {
        let last = rows.len().saturating_sub(1);
        let to = match (self.found(rows), motion) {
            (None, Motion::Next) if self.selected.is_some() => self.at,
            (Some(at), _) => motion.from(at, last, page),
            (None, _) => motion.from(self.place(rows), last, page),
        };
        self.put(to, rows)
    }

    /// Selects a row by its place.
    pub(crate) fn select<R: Named<T>>(&mut self, at: usize, rows: &[R]) {
        self.put(at, rows);
    }

    /// Selects the row that is shown in line `line` of `height`, and returns it.
    pub(crate) fn click<'r, R: Named<T>>(
        &mut self,
        line: usize,
        height: usize,
        rows: &'r [R],
    ) -> Option<&'r R> {
        self.put(first_row(self.place(rows), rows.len(), height) + line, rows)
    }

    fn put<'r, R: Named<T>>(&mut self, to: usize, rows: &'r [R]) -> Option<&'r R> {
        self.at = to.min(rows.len().saturating_sub(1));
        let row = rows.get(self.at);
        self.selected = row.map(|row| row.name().clone());
        row
    }
}

/// The first row to show, so that the selected one is seen, in the middle where it can be.
pub(crate) fn first_row(selected: usize, rows: usize, height: usize) -> usize {
    selected.saturating_sub(height / 2).min(rows.saturating_sub(height))
}

/// How a list is drawn.
#[derive(Debug, Clone, Copy)]
pub(crate) struct List<'a> {
    pub(crate) theme: &'a Theme,
    /// The list has the keys.
    pub(crate) focused: bool,
    /// Rows that can be shown, and their columns: the bar of the selected row takes all of them.
    pub(crate) height: usize,
    pub(crate) width: usize,
    /// The sentence in the place of the rows where there are none.
    pub(crate) empty: &'a str,
}

impl List<'_> {
    /// The part of a list that [`List::around`] shows.
    pub(crate) fn extent<T: PartialEq + Clone, R: Named<T>>(
        &self,
        rows: &[R],
        cursor: &Cursor<T>,
    ) -> Extent {
        let first = first_row(cursor.place(rows), rows.len(), self.height);
        Extent { first, shown: self.height, all: rows.len() }
    }

    /// The lines of a list around its selected row.
    pub(crate) fn around<T: PartialEq + Clone, R: Named<T>>(
        &self,
        rows: &[R],
        cursor: &Cursor<T>,
        spans: impl Fn(&R) -> Vec<Span<'static>>,
    ) -> Vec<Line<'static>> {
        let at = cursor.found(rows);
        self.lines(rows, cursor.place(rows), at.is_some(), spans)
    }

    /// The lines around a row, which is marked as the selected one where `marked`.
    pub(crate) fn lines<R>(
        &self,
        rows: &[R],
        selected: usize,
        marked: bool,
        spans: impl Fn(&R) -> Vec<Span<'static>>,
    ) -> Vec<Line<'static>> {
        if rows.is_empty() {
            return empty(self.empty, self.theme);
        }
        let first = first_row(selected, rows.len(), self.height);
        let shown = rows.iter().enumerate().skip(first).take(self.height);
        shown.map(|(at, row)| self.row(marked && at == selected, spans(row))).collect()
    }

    /// One row; a sign as well as a colour marks the selected one. Only the list that has the keys has a
    /// sign, so that there is one on the screen.
    pub(crate) fn row(&self, selected: bool, spans: Vec<Span<'static>>) -> Line<'static> {
        let sign = if selected && self.focused { ">" } else { " " };
        let mut all = vec![piece(sign, self.theme, Tone::Accent)];
        all.extend(spans);
        let line = Line::from(all);
        if selected && self.focused {
            // The whole row in the selection's colours: its own would not be readable on them.
            let text = column(&plain(&line), self.width, self.theme.marks.cut);
            return Line::from(piece(text, self.theme, Tone::Selection));
        }
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selection_stays_with_its_row() {
        let mut cursor = Cursor::default();
        cursor.bind(&["a", "b", "c"]);
        // A newcomer above never takes the cursor, not even in the second frame.
        assert_eq!(cursor.row(&["x", "a", "b", "c"]), Some(&"a"));
        cursor.go(Motion::Next, &["a", "b", "c"], 10);
        assert_eq!(cursor.selected, Some("b"));
        assert_eq!(cursor.place(&["x", "a", "b", "c"]), 2);
        assert_eq!(cursor.place(&["a"]), 0);
        // The selected row is gone: nothing is selected until the operator moves.
        cursor.bind(&["a", "c"]);
        assert_eq!(cursor.row(&["a", "c"]), None);
        assert_eq!(cursor.go(Motion::Next, &["a", "c"], 10), Some(&"c"));
        cursor.go(Motion::Bottom, &["a", "b", "c"], 10);
        assert_eq!(cursor.selected, Some("c"));
        cursor.go(Motion::Next, &[] as &[&str], 10);
        assert_eq!(cursor.selected, None);
    }

    #[test]
    fn first_row_keeps_the_selected_row_visible() {
        for (selected, rows, height) in [(0, 5, 3), (4, 5, 3), (50, 100, 10), (0, 0, 3), (2, 3, 0)]
        {
            let first = first_row(selected, rows, height);
            assert!(height == 0 || rows == 0 || (first..first + height).contains(&selected));
        }
    }
}
