//! A list with a selection that stays with its row when rows come and go.

use ratatui::text::{Line, Span};

use super::span::{empty, piece, plain};
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
    /// The name of the selected row; none until the first move.
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
    /// The selected row's place among `rows`; its last place where the row is gone.
    pub(crate) fn place<R: Named<T>>(&self, rows: &[R]) -> usize {
        let found = self.selected.as_ref();
        let found = found.and_then(|name| rows.iter().position(|row| row.name() == name));
        found.unwrap_or(self.at.min(rows.len().saturating_sub(1)))
    }

    /// The selected row; none of an empty list.
    pub(crate) fn row<'r, R: Named<T>>(&self, rows: &'r [R]) -> Option<&'r R> {
        rows.get(self.place(rows))
    }

    /// Moves by a motion and returns the selected row.
    pub(crate) fn go<'r, R: Named<T>>(
        &mut self,
        motion: Motion,
        rows: &'r [R],
        page: usize,
    ) -> Option<&'r R> {
        let last = rows.len().saturating_sub(1);
        self.put(motion.from(self.place(rows), last, page), rows)
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
    /// Rows that can be shown.
    pub(crate) height: usize,
    /// The sentence in the place of the rows where there are none.
    pub(crate) empty: &'a str,
}

impl List<'_> {
    /// The lines of a list around its selected row.
    pub(crate) fn lines<R>(
        &self,
        rows: &[R],
        selected: usize,
        spans: impl Fn(&R) -> Vec<Span<'static>>,
    ) -> Vec<Line<'static>> {
        if rows.is_empty() {
            return empty(self.empty, self.theme);
        }
        let first = first_row(selected, rows.len(), self.height);
        let shown = rows.iter().enumerate().skip(first).take(self.height);
        shown.map(|(at, row)| self.row(at == selected, spans(row))).collect()
    }

    /// One row; a sign as well as a colour marks the selected one.
    pub(crate) fn row(&self, selected: bool, spans: Vec<Span<'static>>) -> Line<'static> {
        let sign = if selected { ">" } else { " " };
        let mut all = vec![piece(sign, self.theme, Tone::Accent)];
        all.extend(spans);
        let line = Line::from(all);
        if selected && self.focused {
            // The whole row in the selection's colours: its own would not be readable on them.
            return Line::from(piece(plain(&line), self.theme, Tone::Selection));
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
        cursor.go(Motion::Next, &["a", "b", "c"], 10);
        assert_eq!(cursor.selected, Some("b"));
        assert_eq!(cursor.place(&["x", "a", "b", "c"]), 2);
        assert_eq!(cursor.place(&["a"]), 0);
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
