//! The mouse: a click puts the focus and the selection, the wheel scrolls.

use crossterm::event::{MouseEvent, MouseEventKind};

use super::draw::places;
use super::panes::{Pane, deploy, queue, worktrees};
use super::update::{Request, focus, step};
use super::view::View;
use super::widgets::list::first_row;
use crate::runtime::Snapshot;

/// Lines that a wheel step scrolls.
const WHEEL: isize = 3;

/// Takes what the mouse did.
pub fn event(view: &mut View, snapshot: &Snapshot, event: MouseEvent) -> Vec<Request> {
    match event.kind {
        MouseEventKind::ScrollDown => step(view, snapshot, WHEEL),
        MouseEventKind::ScrollUp => step(view, snapshot, -WHEEL),
        MouseEventKind::Down(_) if view.overlays.is_empty() => {
            click(view, snapshot, event.column, event.row);
        }
        _ => {}
    }
    Vec::new()
}

fn click(view: &mut View, snapshot: &Snapshot, x: u16, y: u16) {
    let places = places(view, snapshot.problems.len());
    let at = ratatui::layout::Position { x, y };
    if let Some(tabs) = places.tabs
        && tabs.contains(at)
    {
        let width = usize::from(tabs.width) / Pane::ALL.len();
        let tab = (usize::from(x - tabs.x) / width.max(1)).min(Pane::ALL.len() - 1);
        focus(view, Pane::ALL[tab]);
        return;
    }
    let Some((pane, _)) = places.panes.iter().find(|(_, area)| area.contains(at)) else { return };
    let pane = *pane;
    focus(view, pane);
    let Some(inside) = places.inside(pane).filter(|inside| inside.contains(at)) else { return };
    let (row, height) = (usize::from(y - inside.y), usize::from(inside.height));
    match pane {
        Pane::Queue => {
            let rows = queue::rows(snapshot, &view.theme);
            let ids: Vec<_> = rows.iter().map(|row| row.id.clone()).collect();
            let to = first_row(view.queue.place(&ids), ids.len(), height) + row;
            view.queue.go(&ids, to);
            if let Some(run) = rows.get(view.queue.place(&ids)).and_then(|row| row.run) {
                view.chosen = Some(run);
            }
        }
        Pane::Worktrees => {
            let rows = worktrees::rows(snapshot);
            let to = first_row(view.worktrees.place(&rows), rows.len(), height) + row;
            view.worktrees.go(&rows, to);
            view.chosen = view.worktrees.selected;
        }
        Pane::Deploy => {
            let rows = deploy::rows(snapshot);
            let to = first_row(view.deploy.place(&rows), rows.len(), height) + row;
            view.deploy.go(&rows, to);
        }
        // Its rows have headings between them: keys choose, so that a click can't miss.
        Pane::Transcript | Pane::Breakglass => {}
    }
}
