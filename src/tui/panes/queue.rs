//! Queue: issues and jobs, each with its state, priority, age and the ledger's reason.

use std::sync::Arc;

use ratatui::text::Line;

use super::super::theme::{Role, Theme};
use super::super::view::View;
use super::super::widgets::list::first_row;
use super::super::widgets::text::{age, column, fit};
use super::{empty, piece, row, run_mark};
use crate::core::model::id::{IssueKey, RunId};
use crate::core::model::ledger::Reason;
use crate::core::model::run::{Outcome, Run, Work};
use crate::core::model::time::Timestamp;
use crate::runtime::Snapshot;

/// How long what became of a closed issue is shown, in milliseconds.
const DAY: i64 = 24 * 60 * 60_000;

/// The name of a row.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum RowId {
    /// An issue.
    Issue(IssueKey),
    /// An ad-hoc job, or a run whose issue left its tracker's list.
    Job(RunId),
}

/// One row.
#[derive(Debug, Clone)]
pub struct Row {
    /// Its name.
    pub id: RowId,
    /// Its newest run.
    pub run: Option<RunId>,
    /// Where it sorts: what moves first, what is over last.
    rank: (u8, u8, Timestamp),
    mark: &'static str,
    role: Role,
    priority: String,
    subject: String,
    since: Timestamp,
    title: String,
    reason: String,
}

fn standing(run: &Run, now: Timestamp) -> String {
    if let Some(outcome) = run.outcome {
        format!("{}: {}", outcome.as_str(), run.why.clean_line())
    } else {
        let attempt =
            if run.attempts > 0 { format!(" (attempt {})", run.attempts) } else { String::new() };
        let doing = run.doing(now);
        if run.quiet.is_some() || run.retry.is_some() {
            return doing;
        }
        format!("{} · {doing}{attempt}", run.phase.as_str())
    }
}

/// The rows in their order.
#[must_use]
pub fn rows(snapshot: &Snapshot, theme: &Theme) -> Vec<Row> {
    let fleet = &snapshot.fleet;
    let marks = &theme.marks;
    let mut rows: Vec<Row> = Vec::with_capacity(fleet.issues.len());
    for issue in fleet.issues.values() {
        let entry = fleet.ledger.get(&issue.key);
        let run = fleet.last_run.get(&issue.key).and_then(|id| fleet.runs.get(id));
        let priority = issue.priority.map_or_else(|| "--".to_owned(), |p| format!("p{}", p.0));
        let reason = entry.map(|entry| &entry.reason);
        let ran =
            matches!(reason, Some(Reason::Running { .. } | Reason::Ended { .. } | Reason::Closed));
        let (mark, role, group, text) = match (run, reason) {
            (Some(run), _) if ran => {
                let (mark, role) = run_mark(run, marks);
                let group = match run.outcome {
                    None if run.has_permit() => 0,
                    Some(Outcome::Frozen | Outcome::NeedsHuman) => 1,
                    None => 2,
                    Some(Outcome::Cancelled | Outcome::Failed) => 5,
                    Some(Outcome::Done) => 6,
                };
                (mark, role, group, standing(run, fleet.last_event))
            }
            (_, Some(Reason::Closed)) => (marks.done, Role::Dim, 7, Reason::Closed.summary()),
            (_, Some(Reason::Eligible)) => {
                (marks.waiting, Role::Text, 3, Reason::Eligible.summary())
            }
            (_, Some(reason)) => (marks.waiting, Role::Dim, 4, reason.summary()),
            (_, None) => (marks.waiting, Role::Dim, 4, String::new()),
        };
        let urgency = issue.priority.map_or(u8::MAX, |p| p.0);
        rows.push(Row {
            id: RowId::Issue(issue.key.clone()),
            run: run.map(|run| run.id),
            rank: (group, urgency, issue.created),
            mark,
            role,
            priority,
            subject: issue.key.to_string(),
            since: entry.map_or(fleet.last_event, |entry| entry.since),
            title: issue.title.clean_line(),
            reason: text,
        });
    }
    // A closed issue is in its tracker's list no more; what became of it is shown for a day.
    let left = |run: &Arc<Run>| match &run.work {
        Work::Prompt { .. } => true,
        Work::Issue { key, .. } => {
            let recent = run.ended.is_none_or(|ended| fleet.last_event.since(ended) < DAY);
            let held = fleet.locks.values().any(|holder| *holder == run.id);
            let last = fleet.last_run.get(key) == Some(&run.id);
            last && !fleet.issues.contains_key(key) && (recent || held)
        }
    };
    for run in fleet.runs.values().filter(|run| left(run)) {
        let (mark, role) = run_mark(run, marks);
        let group = match run.outcome {
            None if run.has_permit() => 0,
            None => 2,
            Some(Outcome::Frozen | Outcome::NeedsHuman) => 1,
            Some(_) => 6,
        };
        let subject = match run.work.issue() {
            Some(key) => key.to_string(),
            None => format!("{} {}", run.id, run.work.repo()),
        };
        rows.push(Row {
            id: RowId::Job(run.id),
            run: Some(run.id),
            rank: (group, u8::MAX, run.claimed),
            mark,
            role,
            priority: "--".into(),
            subject,
            since: run.claimed,
            title: run.work.title().clean_line(),
            reason: standing(run, fleet.last_event),
        });
    }
    rows.sort_by(|a, b| a.rank.cmp(&b.rank).then_with(|| a.id.cmp(&b.id)));
    rows
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
    let rows = rows(snapshot, theme);
    if rows.is_empty() {
        return empty("no issues in the tracker yet", theme);
    }
    let ids: Vec<RowId> = rows.iter().map(|row| row.id.clone()).collect();
    let selected = view.queue.place(&ids);
    let first = first_row(selected, rows.len(), height);
    let cut = theme.marks.cut;
    // Where there is room the title has a column; where there is none the reason does.
    let subject = if width >= 60 { 16 } else { 12 };
    let rest = width.saturating_sub(1 + 2 + 3 + subject + 1 + 4);
    let title = if rest >= 50 { rest * 2 / 5 } else { 0 };
    rows.iter()
        .enumerate()
        .skip(first)
        .take(height)
        .map(|(at, r)| {
            let name = if width >= 60 {
                r.subject.clone()
            } else {
                // Without the owner: the name and the number tell more.
                r.subject.split_once('/').map_or(r.subject.clone(), |(_, name)| name.to_owned())
            };
            let mut spans = vec![
                piece(format!("{} ", r.mark), theme, r.role),
                piece(column(&r.priority, 3, ""), theme, Role::Dim),
                piece(column(&name, subject, cut), theme, Role::Text),
                piece(format!(" {:>3} ", age(view.now, r.since)), theme, Role::Dim),
            ];
            if title > 0 {
                spans.push(piece(
                    format!("{} ", column(&r.title, title - 1, cut)),
                    theme,
                    Role::Text,
                ));
            }
            let room = rest.saturating_sub(title);
            spans.push(piece(fit(&r.reason, room, cut), theme, r.role));
            row(at == selected, focused, theme, spans)
        })
        .collect()
}
