//! The tabs: the names of all panes where not all are shown.
//!
//! They take the longest of three forms that fits: whole, short, or the number alone but for the
//! focused pane.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};

use crate::tui::pane_id::PaneId;
use crate::tui::theme::{Theme, Tone};
use crate::tui::widgets::lines;
use crate::tui::widgets::span::piece;
use crate::tui::widgets::text::width as columns;

/// The text of each tab, in the longest form that fits.
fn tabs(panes: &[PaneId], focus: PaneId, width: usize) -> Vec<(String, bool)> {
    let forms: [fn(&PaneId, bool) -> &'static str; 3] = [
        |pane, _| pane.title,
        |pane, _| pane.short,
        |pane, focused| if focused { pane.short } else { "" },
    ];
    let tabs = |form: fn(&PaneId, bool) -> &'static str| {
        let tab = |(at, pane): (usize, &PaneId)| {
            let focused = *pane == focus;
            let mark = if focused { ">" } else { " " };
            let name = form(pane, focused);
            let gap = if name.is_empty() { "" } else { " " };
            (format!("{mark}{}{gap}{name} ", at + 1), focused)
        };
        panes.iter().enumerate().map(tab).collect::<Vec<_>>()
    };
    let size = |tabs: &[(String, bool)]| tabs.iter().map(|(tab, _)| columns(tab)).sum::<usize>();
    let [_, _, least] = forms;
    let fitting = forms.into_iter().map(tabs).find(|tabs| size(tabs) <= width);
    fitting.unwrap_or_else(|| tabs(least))
}

/// The pane whose tab is at a column of the line.
pub(crate) fn pane_at(panes: &[PaneId], focus: PaneId, width: u16, column: u16) -> Option<PaneId> {
    let mut end = 0;
    for (pane, (tab, _)) in panes.iter().zip(tabs(panes, focus, usize::from(width))) {
        end += columns(&tab);
        if usize::from(column) < end {
            return Some(*pane);
        }
    }
    None
}

/// Draws the tabs of all panes.
pub(crate) fn draw(
    frame: &mut Frame<'_>,
    area: Rect,
    panes: &[PaneId],
    focus: PaneId,
    theme: &Theme,
) {
    let spans: Vec<Span<'_>> = tabs(panes, focus, usize::from(area.width))
        .into_iter()
        .map(|(tab, focused)| piece(tab, theme, if focused { Tone::Selection } else { Tone::Dim }))
        .collect();
    lines::draw(frame, area, [Line::from(spans)]);
}
