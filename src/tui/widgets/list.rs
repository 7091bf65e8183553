//! A list with a selection that stays with its row when rows come and go.

/// The selection of a list, by the row's own name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor<T> {
    /// The row; none until somebody moves.
    pub selected: Option<T>,
    /// Where it was last, for when its row is gone.
    at: usize,
}

impl<T> Default for Cursor<T> {
    fn default() -> Self {
        Self { selected: None, at: 0 }
    }
}

impl<T: PartialEq + Clone> Cursor<T> {
    /// The selected row's place among `rows`; the place it had where it is gone.
    #[must_use]
    pub fn place(&self, rows: &[T]) -> usize {
        let found = self.selected.as_ref().and_then(|row| rows.iter().position(|r| r == row));
        found.unwrap_or(self.at.min(rows.len().saturating_sub(1)))
    }

    /// Moves by rows, stopping at both ends.
    pub fn step(&mut self, rows: &[T], by: isize) {
        let to = self.place(rows).saturating_add_signed(by);
        self.go(rows, to);
    }

    /// Moves to a place.
    pub fn go(&mut self, rows: &[T], to: usize) {
        self.at = to.min(rows.len().saturating_sub(1));
        self.selected = rows.get(self.at).cloned();
    }
}

/// The first row to show, so that the selected one is seen, in the middle where it can be.
#[must_use]
pub fn first_row(selected: usize, rows: usize, height: usize) -> usize {
    selected.saturating_sub(height / 2).min(rows.saturating_sub(height))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_selection_stays_with_its_row() {
        let mut cursor = Cursor::default();
        cursor.step(&["a", "b", "c"], 1);
        assert_eq!(cursor.selected, Some("b"));
        assert_eq!(cursor.place(&["x", "a", "b", "c"]), 2);
        assert_eq!(cursor.place(&["a"]), 0);
        cursor.step(&["a", "b", "c"], 99);
        assert_eq!(cursor.selected, Some("c"));
        cursor.step(&[], 1);
        assert_eq!(cursor.selected, None);
    }

    #[test]
    fn the_selected_row_is_seen() {
        for (selected, rows, height) in [(0, 5, 3), (4, 5, 3), (50, 100, 10), (0, 0, 3), (2, 3, 0)]
        {
            let first = first_row(selected, rows, height);
            assert!(height == 0 || rows == 0 || (first..first + height).contains(&selected));
        }
    }
}
