//! A table in columns that fit: the widest ones give way first, and their cells are wrapped.

use ratatui::text::Span;

use super::flow::StyledText;
use crate::tui::theme::{Theme, Tone};
use crate::tui::widgets::text::width;

/// The least columns of a cell.
const LEAST: usize = 3;
/// Columns of a table at most; further ones are dropped from the layout into the last.
const MOST: usize = 32;

/// The cells of a table, row by row; the first row is its head.
#[derive(Debug, Default)]
pub(super) struct Table {
    rows: Vec<Vec<StyledText>>,
    /// The columns whose cells stand at the right.
    right: Vec<bool>,
}

/// The pieces of a cell's lines.
type CellLines = Vec<Vec<Span<'static>>>;

impl Table {
    pub(super) fn new(right: Vec<bool>) -> Self {
        Self { rows: Vec::new(), right }
    }

    pub(super) fn begin_row(&mut self) {
        self.rows.push(Vec::new());
    }

    pub(super) fn push(&mut self, cell: StyledText) {
        if let Some(row) = self.rows.last_mut().filter(|row| row.len() < MOST) {
            row.push(cell);
        }
    }

    /// The widths of the columns in a room.
    fn widths(&self, room: usize) -> Vec<usize> {
        let count = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let widest = |at: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(at));
            cells.map(StyledText::widest).max().unwrap_or(0).max(1)
        };
        let mut widths: Vec<usize> = (0..count).map(widest).collect();
        let room = room.saturating_sub(3 * count.saturating_sub(1));
        while widths.iter().sum::<usize>() > room {
            let Some(largest) = widths.iter_mut().max() else { break };
            if *largest <= LEAST {
                break;
            }
            *largest -= 1;
        }
        widths
    }

    /// The lines of the table, and whether each continues the one above it.
    pub(super) fn lines(&self, room: usize, theme: &Theme) -> Vec<(Vec<Span<'static>>, bool)> {
        let widths = self.widths(room);
        let border = theme.style(Tone::Border);
        let mut out = Vec::new();
        for (at, row) in self.rows.iter().enumerate() {
            let cell = |(place, width): (usize, &usize)| -> CellLines {
                let wrapped = row.get(place).map(|cell| cell.wrapped(*width));
                wrapped.unwrap_or_default().into_iter().map(|(spans, _)| spans).collect()
            };
            let cells: Vec<CellLines> = widths.iter().enumerate().map(cell).collect();
            let height = cells.iter().map(Vec::len).max().unwrap_or(0);
            for nth in 0..height {
                let mut spans = Vec::new();
                for (place, (cell, columns)) in cells.iter().zip(&widths).enumerate() {
                    if place > 0 {
                        spans.push(Span::styled(" │ ", border));
                    }
                    let cell = cell.get(nth).cloned().unwrap_or_default();
                    let used: usize = cell.iter().map(|span| width(&span.content)).sum();
                    let gap = Span::raw(" ".repeat(columns.saturating_sub(used)));
                    let right = self.right.get(place).copied().unwrap_or(false);
                    if right {
                        spans.push(gap);
                        spans.extend(cell);
                    } else {
                        spans.extend(cell);
                        spans.push(gap);
                    }
                }
                out.push((spans, false));
            }
            if at == 0 {
                let rule: Vec<String> = widths.iter().map(|width| "─".repeat(*width)).collect();
                out.push((vec![Span::styled(rule.join("─┼─"), border)], false));
            }
        }
        out
    }
}
