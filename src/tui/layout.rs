//! The places of the panes on a screen, a function of its size and the focus.
//!
//! A small screen has one pane and a line of tabs, a wide one has the main panes of both columns,
//! a large one has all panes in two columns.

use ratatui::layout::{Constraint, Layout, Position, Rect};
use ratatui::widgets::Block;

use super::pane_id::{Column, PaneId};

/// The smallest size that is drawn.
pub(crate) const LEAST: (u16, u16) = (40, 10);
/// The problems that are shown below the header at most.
pub(crate) const PROBLEMS: usize = 3;
/// The height from which the header has a second line.
const FACTS: u16 = 16;
/// The body that has room for all panes.
const ALL: (u16, u16) = (140, 31);
/// The body, without tabs, that has room for two panes.
const TWO: (u16, u16) = (110, 15);

/// Everything that the places of the panes depend on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Arrangement<'a> {
    pub(crate) size: (u16, u16),
    /// The panes that have a place, in the order of registration.
    pub(crate) panes: &'a [PaneId],
    pub(crate) focus: PaneId,
    /// The focused pane has the whole body.
    pub(crate) zoomed: bool,
    /// The problems to show.
    pub(crate) problems: usize,
    /// Rows above the footer that the tour takes.
    pub(crate) tour: u16,
    /// How far the operator moved the split between the columns, in percent.
    pub(crate) split: i16,
}

/// The places of everything on a screen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Places {
    pub(crate) header: Rect,
    pub(crate) problems: Rect,
    /// Each shown pane with its frame.
    pub(crate) panes: Vec<(PaneId, Rect)>,
    /// The line that names all panes, where not all are shown.
    pub(crate) tabs: Option<Rect>,
    /// The room between header and footer.
    pub(crate) body: Rect,
    pub(crate) tour: Rect,
    pub(crate) footer: Rect,
}

impl Places {
    /// The inside of a pane's frame, if the pane is shown.
    pub(crate) fn inside(&self, pane: PaneId) -> Option<Rect> {
        let (_, area) = self.panes.iter().find(|(shown, _)| *shown == pane)?;
        Some(Block::bordered().inner(*area))
    }

    /// The pane at a position of the screen.
    pub(crate) fn pane_at(&self, at: Position) -> Option<PaneId> {
        self.panes.iter().find(|(_, area)| area.contains(at)).map(|(pane, _)| *pane)
    }
}

impl Arrangement<'_> {
    pub(crate) fn places(&self) -> Places {
        let area = Rect::new(0, 0, self.size.0, self.size.1);
        let problems = u16::try_from(self.problems.min(PROBLEMS)).unwrap_or(0);
        let [header, problems, body, tour, footer] = Layout::vertical([
            Constraint::Length(if self.size.1 >= FACTS { 2 } else { 1 }),
            Constraint::Length(problems),
            Constraint::Min(0),
            Constraint::Length(self.tour),
            Constraint::Length(1),
        ])
        .areas(area);
        let all = body.width >= ALL.0 && body.height >= ALL.1;
        let (tabs, panes) = if all && !self.zoomed {
            (None, self.columns(body))
        } else {
            let [tabs, rest] =
                Layout::vertical([Constraint::Length(1), Constraint::Min(0)]).areas(body);
            (Some(tabs), self.focused(rest))
        };
        Places { header, problems, panes, tabs, body, tour, footer }
    }

    /// The focused pane alone, or with the main pane of the other column.
    fn focused(&self, area: Rect) -> Vec<(PaneId, Rect)> {
        let two = !self.zoomed && area.width >= TWO.0 && area.height >= TWO.1;
        let (left, right) = (self.main(Column::Left), self.main(Column::Right));
        let (Some(left), Some(right)) = (left.filter(|_| two), right) else {
            return vec![(self.focus, area)];
        };
        let right = if self.focus == left { right } else { self.focus };
        let [a, b] = Layout::horizontal([self.left(45), Constraint::Fill(1)]).areas(area);
        vec![(left, a), (right, b)]
    }

    /// The width of the left column, whose own share is in percent.
    fn left(&self, share: i16) -> Constraint {
        let share = (share + self.split).clamp(10, 90);
        Constraint::Percentage(u16::try_from(share).unwrap_or(50))
    }

    fn main(&self, column: Column) -> Option<PaneId> {
        let main = |pane: &PaneId| pane.slot.column == column && pane.slot.rows.is_none();
        self.panes.iter().copied().find(main)
    }

    /// All panes, stacked in two columns.
    fn columns(&self, area: Rect) -> Vec<(PaneId, Rect)> {
        let [left, right] = Layout::horizontal([self.left(46), Constraint::Fill(1)]).areas(area);
        let mut placed = self.stack(Column::Left, left);
        placed.extend(self.stack(Column::Right, right));
        placed
    }

    fn stack(&self, column: Column, area: Rect) -> Vec<(PaneId, Rect)> {
        let panes: Vec<PaneId> =
            self.panes.iter().copied().filter(|pane| pane.slot.column == column).collect();
        let rows = panes.iter().map(|pane| match pane.slot.rows {
            Some(rows) => Constraint::Length(rows),
            None => Constraint::Fill(1),
        });
        let areas = Layout::vertical(rows).split(area);
        panes.into_iter().zip(areas.iter().copied()).collect()
    }
}
