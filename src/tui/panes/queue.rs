//! Queue: issues and jobs, each with its state, priority, age and the ledger's reason.

use std::sync::Arc;

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::Span;
use ratatui::widgets::Paragraph;

use crate::core::model::id::{IssueKey, RunId};
use crate::core::model::ledger::Reason;
use crate::core::model::plural::plural;
use crate::core::model::run::{Outcome, Run, Work};
use crate::core::model::time::Timestamp;
use crate::core::query::explain;
use crate::runtime::Snapshot;
use crate::tui::action::{Action, OPEN};
use crate::tui::component::{Component, Pane, Registration, Scene};
use crate::tui::motion::Motion;
use crate::tui::pane_id::{Column, PaneId, Slot};
use crate::tui::response::{Dialog, Reaction, Response, TextView};
use crate::tui::run_actions::offered;
use crate::tui::theme::{Theme, Tone};
use crate::tui::widgets::list::{Cursor, List, Named};
use crate::tui::widgets::marks::run_mark;
use crate::tui::widgets::span::piece;
use crate::tui::widgets::text::{age, column, fit};

const ID: PaneId =
    PaneId::new("pane-queue", "Queue", "Queue", Slot { column: Column::Left, rows: None });

pub(crate) const PANE: Registration = Registration::new(ID, |_| Box::<QueuePane>::default());

/// How long the outcome of a closed issue is shown, in milliseconds.
const DAY: i64 = 24 * 60 * 60_000;

/// The name of a row.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum RowId {
    Issue(IssueKey),
    /// An ad-hoc job, or a run whose issue left its tracker's list.
    Job(RunId),
}

#[derive(Debug, Clone)]
struct Row {
    id: RowId,
    /// The newest run of an issue.
    run: Option<RunId>,
    /// The place in the list: running work comes first, ended work last.
    rank: (u8, u8, Timestamp),
    mark: &'static str,
    role: Tone,
    priority: String,
    subject: String,
    since: Timestamp,
    title: String,
    reason: String,
}

impl Named<RowId> for Row {
    fn name(&self) -> &RowId {
        &self.id
    }
}

/// The pane: its selection.
#[derive(Debug, Default)]
struct QueuePane {
    cursor: Cursor<RowId>,
}

/// The transcript goes with the selection, where the row has a run.
fn follow(row: Option<&Row>) -> Response {
    row.and_then(|row| row.run).map_or_else(Response::none, |run| Reaction::ShowRun(run).into())
}

impl Component for QueuePane {
    fn actions(&self, scene: &Scene<'_>) -> Vec<Action> {
        offered(self.subject(scene), scene.snapshot)
    }

    fn act(&mut self, action: Action, scene: &Scene<'_>) -> Option<Response> {
        if action != OPEN {
            return None;
        }
        let rows = rows(scene.snapshot, scene.theme);
        let Some(row) = self.cursor.row(&rows) else { return Some(Response::none()) };
        let fleet = &scene.snapshot.fleet;
        let document = match &row.id {
            RowId::Issue(key) => TextView::fixed(key.to_string(), explain::issue(fleet, key)),
            RowId::Job(run) => TextView::fixed(run.to_string(), explain::run(fleet, *run)),
        };
        Some(Response::open(Dialog::Text(document)))
    }

    fn go(&mut self, motion: Motion, scene: &Scene<'_>) -> Response {
        let rows = rows(scene.snapshot, scene.theme);
        follow(self.cursor.go(motion, &rows, scene.page))
    }

    fn copy(&self, scene: &Scene<'_>) -> Option<String> {
        let rows = rows(scene.snapshot, scene.theme);
        Some(match &self.cursor.row(&rows)?.id {
            RowId::Issue(key) => key.to_string(),
            RowId::Job(run) => run.to_string(),
        })
    }
}

impl Pane for QueuePane {
    fn id(&self) -> PaneId {
        ID
    }

    fn title(&self, scene: &Scene<'_>) -> String {
        format!("{} · {}", ID.title, plural(scene.snapshot.fleet.issues.len(), "issue"))
    }

    fn draw(&self, frame: &mut Frame<'_>, area: Rect, scene: &Scene<'_>) {
        let rows = rows(scene.snapshot, scene.theme);
        let list = List {
            theme: scene.theme,
            focused: scene.focused,
            height: usize::from(area.height),
            empty: "no issues in the tracker yet",
        };
        let columns = Columns::of(usize::from(area.width));
        let spans = |row: &Row| columns.spans(row, scene);
        let lines = list.lines(&rows, self.cursor.place(&rows), spans);
        frame.render_widget(Paragraph::new(lines), area);
    }

    fn subject(&self, scene: &Scene<'_>) -> Option<RunId> {
        self.cursor.row(&rows(scene.snapshot, scene.theme)).and_then(|row| row.run)
    }

    fn click(&mut self, row: usize, height: usize, scene: &Scene<'_>) -> Response {
        follow(self.cursor.click(row, height, &rows(scene.snapshot, scene.theme)))
    }
}

/// The widths of the columns that depend on the pane's.
#[derive(Debug, Clone, Copy)]
struct Columns {
    wide: bool,
    subject: usize,
    /// None of it where there is little room: the reason needs it.
    title: usize,
    reason: usize,
}

impl Columns {
    fn of(width: usize) -> Self {
        let wide = width >= 60;
        let subject = if wide { 16 } else { 12 };
        let rest = width.saturating_sub(1 + 2 + 3 + subject + 1 + 4);
        let title = if rest >= 50 { rest * 2 / 5 } else { 0 };
        Self { wide, subject, title, reason: rest.saturating_sub(title) }
    }

    fn spans(self, row: &Row, scene: &Scene<'_>) -> Vec<Span<'static>> {
        let theme = scene.theme;
        let cut = theme.marks.cut;
        // Without the owner where it is narrow: the name and the number matter more.
        let short = row.subject.split_once('/').filter(|_| !self.wide);
        let name = short.map_or(row.subject.as_str(), |(_, name)| name);
        let mut spans = vec![
            piece(format!("{} ", row.mark), theme, row.role),
            piece(column(&row.priority, 3, ""), theme, Tone::Dim),
            piece(column(name, self.subject, cut), theme, Tone::Text),
            piece(format!(" {:>3} ", age(scene.now, row.since)), theme, Tone::Dim),
        ];
        if self.title > 0 {
            let title = format!("{} ", column(&row.title, self.title - 1, cut));
            spans.push(piece(title, theme, Tone::Text));
        }
        spans.push(piece(fit(&row.reason, self.reason, cut), theme, row.role));
        spans
    }
}

/// The state of a run, with its activity, or the reason of its end.
fn standing(run: &Run, snapshot: &Snapshot) -> String {
    let now = snapshot.fleet.last_event;
    if let Some(outcome) = run.progress.outcome {
        format!("{}: {}", outcome.as_str(), run.progress.why.clean_line())
    } else {
        let attempt = if run.progress.attempts > 0 {
            format!(" (attempt {})", run.progress.attempts)
        } else {
            String::new()
        };
        if run.agent.quiet.is_some() || run.agent.retry.is_some() {
            return snapshot.doing(run, now);
        }
        format!("{}{attempt}", snapshot.standing(run, now))
    }
}

/// The rows in their order: issues, and the runs whose issue left its tracker's list.
fn rows(snapshot: &Snapshot, theme: &Theme) -> Vec<Row> {
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
                let group = match run.progress.outcome {
                    None if run.has_permit() => 0,
                    Some(Outcome::Frozen | Outcome::NeedsHuman) => 1,
                    None => 2,
                    Some(Outcome::Cancelled | Outcome::Failed) => 5,
                    Some(Outcome::Done) => 6,
                };
                (mark, role, group, standing(run, snapshot))
            }
            (_, Some(Reason::Closed)) => (marks.done, Tone::Dim, 7, Reason::Closed.summary()),
            (_, Some(Reason::Eligible)) => {
                (marks.waiting, Tone::Text, 3, Reason::Eligible.summary())
            }
            (_, Some(reason)) => (marks.waiting, Tone::Dim, 4, reason.summary()),
            (_, None) => (marks.waiting, Tone::Dim, 4, String::new()),
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
    // A closed issue leaves its tracker's list; its outcome is shown for a day.
    let left = |run: &Arc<Run>| match &run.work {
        Work::Prompt { .. } => true,
        Work::Issue { key, .. } => {
            let recent = run.progress.ended.is_none_or(|ended| fleet.last_event.since(ended) < DAY);
            let held = fleet.locks.values().any(|holder| *holder == run.id);
            let last = fleet.last_run.get(key) == Some(&run.id);
            last && !fleet.issues.contains_key(key) && (recent || held)
        }
    };
    for run in fleet.runs.values().filter(|run| left(run)) {
        let (mark, role) = run_mark(run, marks);
        let group = match run.progress.outcome {
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
            rank: (group, u8::MAX, run.progress.claimed),
            mark,
            role,
            priority: "--".into(),
            subject,
            since: run.progress.claimed,
            title: run.work.title().clean_line(),
            reason: standing(run, snapshot),
        });
    }
    rows.sort_by(|a, b| a.rank.cmp(&b.rank).then_with(|| a.id.cmp(&b.id)));
    rows
}
