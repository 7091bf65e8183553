//! Worktrees: repository, branch, run, dirty and ahead, disk, and the agent's process tree.

use ratatui::text::Line;

use super::super::theme::Role;
use super::super::view::View;
use super::super::widgets::list::first_row;
use super::super::widgets::text::{column, size};
use super::{empty, piece, row, run_mark};
use crate::core::model::id::RunId;
use crate::core::model::run::Outcome;
use crate::runtime::Snapshot;

/// The runs that have a worktree now.
#[must_use]
pub fn rows(snapshot: &Snapshot) -> Vec<RunId> {
    let has =
        |outcome| !matches!(outcome, Some(Outcome::Done | Outcome::Cancelled | Outcome::Failed));
    let runs = snapshot.fleet.runs.values();
    runs.filter(|run| run.worktree.is_some() && has(run.outcome)).map(|run| run.id).collect()
}

/// The lines of the pane.
#[must_use]
pub fn lines(
    snapshot: &Snapshot,
    view: &View,
    focused: bool,
    width: usize,
    height: usize,
) -> Vec<Line<'static>> {
    let theme = &view.theme;
    let rows = rows(snapshot);
    if rows.is_empty() {
        return empty("no run has a worktree; clean ones are kept ready", theme);
    }
    let selected = view.worktrees.place(&rows);
    let first = first_row(selected, rows.len(), height);
    let cut = theme.marks.cut;
    let branch = width.saturating_sub(1 + 2 + 5 + 34).clamp(8, 48);
    rows.iter()
        .enumerate()
        .skip(first)
        .take(height)
        .filter_map(|(at, id)| {
            let run = snapshot.fleet.runs.get(id)?;
            let facts = snapshot.worktrees.get(id).copied().unwrap_or_default();
            let (mark, role) = run_mark(run, &theme.marks);
            let place =
                format!("{}:{}", run.work.repo().name(), run.branch.clone().unwrap_or_default());
            let standing = format!("~{} +{}", facts.dirty, facts.ahead);
            let disk = facts.disk.map_or_else(|| "-".into(), size);
            let process = match facts.pid {
                Some(pid) => format!("{pid} {}% {}", facts.cpu_permille / 10, size(facts.memory)),
                None => "no process".into(),
            };
            let spans = vec![
                piece(format!("{mark} "), theme, role),
                piece(column(&id.to_string(), 5, cut), theme, Role::Text),
                piece(format!("{} ", column(&place, branch, cut)), theme, Role::Text),
                piece(column(&standing, 8, cut), theme, Role::Warn),
                piece(column(&disk, 6, cut), theme, Role::Dim),
                piece(column(&process, 18, cut), theme, Role::Dim),
            ];
            Some(row(at == selected, focused, theme, spans))
        })
        .collect()
}
