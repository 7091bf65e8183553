//! Queue: issues and jobs in sections, each with its state, priority, age and the ledger's reason.

mod columns;
mod filter;
mod lines;
mod rows;

use std::collections::BTreeMap;

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};

use self::columns::{Columns, IssuesBehind, RowText, issues_behind};
use self::filter::{FIELDS, Filter};
use self::lines::{Lines, QueueArrangement, QueueLine};
use self::rows::{Order, Row, RowId, Section, held_because, questions, rows};
use crate::core::model::id::{EscalationId, RunId};
use crate::core::query::explain;
use crate::journal::transcript::Store;
use crate::tui::action::{Action, BACK, OPEN, SEARCH};
use crate::tui::component::{Component, Pane, Registration, Scene};
use crate::tui::keymap::KeyContext;
use crate::tui::motion::Motion;
use crate::tui::pane_id::{Column, PaneId, Slot};
use crate::tui::response::{Dialog, Prompt, Response, TextView};
use crate::tui::run_actions::offered;
use crate::tui::subject::Subject;
use crate::tui::theme::Tone;
use crate::tui::widgets::lines::draw as draw_lines;
use crate::tui::widgets::list::{Cursor, List, first_row};
use crate::tui::widgets::scrollbar::Extent;
use crate::tui::widgets::span::{empty, piece};
use crate::tui::widgets::text::{fit, width as columns, wrap};

const ID: PaneId =
    PaneId::new("pane-queue", "Queue", "Queue", Slot { column: Column::Left, rows: None });

/// The keys of the queue alone.
const CONTEXT: KeyContext = KeyContext::new("queue");

const SORT: Action = Action::new("sort", "Sort queue");
const GROUP: Action = Action::new("group", "Group by repository");

pub(crate) const PANE: Registration =
    Registration::new(ID, |_| Box::<QueuePane>::default()).with(&[CONTEXT], &[SORT, GROUP]);

/// The height from which sections have a line of their own.
const HEADS: usize = 10;
/// The height from which the selected row shows its reason in lines of their own.
const SECONDS: usize = 6;
/// Lines of the selected row's reason.
const SECOND: usize = 2;

/// The pane: its selection, filter and arrangement, and the rows and lines of the last frame. Keys act on
/// the rows that were drawn.
#[derive(Debug, Default)]
struct QueuePane {
    cursor: Cursor<RowId>,
    filter: Filter,
    arrangement: QueueArrangement,
    /// The operator has just changed the filter or the arrangement, which may hide the selected row: the
    /// next frame then selects the first one.
    refiltered: bool,
    /// The journal record that the lines were made for; none before the first frame and after a change.
    made_for: Option<i64>,
    lines: Lines,
    /// The open question of each run.
    asked: BTreeMap<RunId, EscalationId>,
    /// The issues that wait for each run.
    behind: IssuesBehind,
    /// The visible lines, from top to bottom.
    shown: Vec<QueueLine>,
    /// The place of the first of them, and of how many.
    first: usize,
    all: usize,
}

impl QueuePane {
    fn text(&self, row: &Row, scene: &Scene<'_>) -> RowText {
        let question = row.run.and_then(|run| self.asked.get(&run));
        let question = question.and_then(|id| scene.snapshot.fleet.escalations.get(id));
        RowText::of(row, question.map(AsRef::as_ref), scene.snapshot, scene.theme)
    }

    /// Makes the rows and lines of a snapshot.
    fn arrange(&mut self, scene: &Scene<'_>) {
        let fleet = &scene.snapshot.fleet;
        let asked = questions(fleet);
        self.asked = asked.iter().map(|(run, asked)| (*run, asked.id)).collect();
        self.behind = issues_behind(fleet);
        let taken =
            |row: &Row| self.filter.takes(row, held_because(row, fleet), || self.text(row, scene));
        let rows = rows(fleet, &asked).into_iter().filter(taken).collect();
        self.lines = Lines::of(rows, &self.arrangement, !self.filter.is_empty(), fleet);
        self.made_for = Some(scene.snapshot.seq);
    }

    /// Changes the arrangement; the next frame has it.
    fn rearrange(&mut self, change: impl FnOnce(&mut QueueArrangement)) -> Response {
        change(&mut self.arrangement);
        self.made_for = None;
        self.refiltered = true;
        Response::none()
    }

    /// Takes the lines around the selected row.
    fn show(&mut self, area: Rect, scene: &Scene<'_>) {
        let (width, height) = (usize::from(area.width), usize::from(area.height));
        let selected = self.cursor.found(&self.lines.rows);
        let heads = height >= HEADS;
        let line_of = |row: usize| match self.lines.line_of.get(row) {
            Some(line) if heads => *line,
            _ => row,
        };
        let more: Vec<String> = match selected.and_then(|at| self.lines.rows.get(at)) {
            Some(row) if height >= SECONDS && row.members == 0 => {
                let text = self.text(row, scene).second(row, &self.behind, scene.snapshot);
                wrap(&text, width.saturating_sub(6))
            }
            _ => Vec::new(),
        };
        let more: Vec<String> = more.into_iter().take(SECOND).collect();
        let around = line_of(selected.unwrap_or_else(|| self.cursor.place(&self.lines.rows)));
        let lines = if heads { self.lines.all.len() } else { self.lines.rows.len() };
        self.all = lines + more.len();
        // A short list is shown from its top, and the head of the first section with it.
        self.first = first_row(around, self.all, height);
        let line = |at: usize| {
            if heads { self.lines.all[at].clone() } else { QueueLine::Row(at) }
        };
        let end = selected.map_or(lines, |_| (around + 1).min(lines));
        let places = self.first..(self.first + height).min(self.all);
        let shown = places.map(|at| match at.checked_sub(end) {
            None => line(at),
            Some(further) => match more.get(further) {
                Some(text) => QueueLine::More(text.clone()),
                None => line(at - more.len()),
            },
        });
        self.shown = shown.collect();
    }
}

impl QueuePane {
    /// A row in its columns, or the head of a group.
    fn row(&self, row: &Row, places: Columns, scene: &Scene<'_>) -> Vec<Span<'static>> {
        let RowId::Group(_, why) = &row.id else {
            return places.spans(&self.text(row, scene), scene);
        };
        let (theme, marks) = (scene.theme, &scene.theme.marks);
        let shown = self.arrangement.unfolded.contains(&row.id);
        let mark = if shown { marks.unfolded } else { marks.folded };
        vec![
            piece(format!("{mark} "), theme, Tone::Accent),
            piece(format!("{why} {}", row.members), theme, Tone::Text),
        ]
    }
}

/// The columns of a row's title.
fn title_width(row: &Row, scene: &Scene<'_>) -> usize {
    let fleet = &scene.snapshot.fleet;
    let issue = row.issue().and_then(|key| fleet.issues.get(key)).map(|issue| &issue.title);
    let run = row.subject().and_then(|subject| subject.run(fleet));
    let title = issue.or_else(|| run.map(|run| run.work.title()));
    title.map_or(0, |title| columns(&title.clean_line()))
}

impl Component for QueuePane {
    fn context(&self) -> KeyContext {
        CONTEXT
    }

    fn actions(&self, scene: &Scene<'_>) -> Vec<Action> {
        let mut actions = offered(self.subject(scene).as_ref(), scene.snapshot);
        actions.extend([SEARCH, SORT, GROUP]);
        actions
    }

    fn subject(&self, _: &Scene<'_>) -> Option<Subject> {
        self.cursor.row(&self.lines.rows).and_then(|row| row.subject().cloned())
    }

    fn act(&mut self, action: Action, scene: &Scene<'_>) -> Option<Response> {
        match action {
            OPEN => {}
            SEARCH => {
                let filter = Prompt::filter("Filter the queue", self.filter.text()).about(FIELDS);
                return Some(Response::prompt(filter));
            }
            SORT => return Some(self.rearrange(|it| it.order = it.order.next())),
            GROUP => return Some(self.rearrange(|it| it.by_repo = !it.by_repo)),
            BACK if !self.filter.is_empty() => {
                self.filter = Filter::default();
                self.made_for = None;
                return Some(Response::none());
            }
            _ => return None,
        }
        let Some(row) = self.cursor.row(&self.lines.rows) else {
            return Some(Response::message("nothing is selected"));
        };
        let (id, run) = (row.id.clone(), row.run);
        let RowId::Subject(subject) = id else {
            let unfolded = &mut self.arrangement.unfolded;
            if !unfolded.remove(&id) {
                unfolded.insert(id);
            }
            self.made_for = None;
            return Some(Response::none());
        };
        let fleet = &scene.snapshot.fleet;
        let lines = match (&subject, run) {
            (Subject::Issue(key), _) if fleet.issues.contains_key(key) => {
                explain::issue(fleet, key)
            }
            (_, Some(run)) => explain::run(fleet, run),
            (Subject::Run(run), None) => explain::run(fleet, *run),
            (Subject::Issue(key), None) => explain::issue(fleet, key),
        };
        let title = match &subject {
            Subject::Issue(key) => key.to_string(),
            Subject::Run(run) => run.to_string(),
        };
        let document = TextView::fixed(title, lines).about(subject);
        Some(Response::open(Dialog::Text(document)))
    }

    fn go(&mut self, motion: Motion, scene: &Scene<'_>) -> Response {
        self.cursor.go(motion, &self.lines.rows, scene.page);
        Response::none()
    }

    fn copy(&self, _: &Scene<'_>) -> Option<String> {
        Some(match self.cursor.row(&self.lines.rows)?.subject()? {
            Subject::Issue(key) => key.to_string(),
            Subject::Run(run) => run.to_string(),
        })
    }
}

impl Pane for QueuePane {
    fn id(&self) -> PaneId {
        ID
    }

    fn title(&self, scene: &Scene<'_>) -> String {
        let Lines { rows, count, .. } = &self.lines;
        let all = scene.snapshot.fleet.issues.len().max(*count);
        let at = self.cursor.found(rows).map_or(0, |at| at + 1);
        let QueueArrangement { order, by_repo, .. } = &self.arrangement;
        let mut how = String::new();
        if *order != Order::default() {
            how = format!("{} · ", order.title());
        }
        if *by_repo {
            how.push_str("by repository · ");
        }
        if self.filter.is_empty() {
            let folded =
                if rows.len() < *count { format!("{all}, some folded") } else { all.to_string() };
            return format!("{} · {how}{at}/{folded}", ID.title);
        }
        format!("{} · / {} · {how}{at}/{count} of {all}", ID.title, self.filter.text())
    }

    fn prepare(&mut self, area: Rect, _: &Store, scene: &Scene<'_>) -> Response {
        if self.made_for != Some(scene.snapshot.seq) {
            self.arrange(scene);
        }
        if std::mem::take(&mut self.refiltered) && self.cursor.found(&self.lines.rows).is_none() {
            self.cursor = Cursor::default();
        }
        self.cursor.bind(&self.lines.rows);
        self.show(area, scene);
        Response::none()
    }

    fn draw(&self, frame: &mut Frame<'_>, area: Rect, scene: &Scene<'_>) {
        let theme = scene.theme;
        let width = usize::from(area.width);
        let list = List { theme, focused: scene.focused, height: 0, width, empty: "" };
        let longest = self.shown.iter().map(|line| match line {
            QueueLine::Row(at) => self.lines.rows.get(*at).map_or(0, |row| title_width(row, scene)),
            _ => 0,
        });
        let places = Columns::of(width, longest.max().unwrap_or(0));
        let selected = self.cursor.found(&self.lines.rows);
        let line = |entry: &QueueLine| match entry {
            QueueLine::Head(title, summary, section) => {
                let role = match section {
                    Some(Section::WaitsForYou) => Tone::Warn,
                    Some(Section::AtWork) => Tone::Busy,
                    _ => Tone::Title,
                };
                let head = format!(" {title} ");
                let room = width.saturating_sub(columns(&head) + 1);
                Line::from(vec![
                    piece(head, theme, role),
                    piece(format!(" {}", fit(summary, room, theme.marks.cut)), theme, Tone::Dim),
                ])
            }
            QueueLine::Row(at) => match self.lines.rows.get(*at) {
                Some(row) => list.row(selected == Some(*at), self.row(row, places, scene)),
                None => Line::default(),
            },
            QueueLine::More(text) => Line::from(piece(format!("      {text}"), theme, Tone::Text)),
        };
        let lines: Vec<Line<'static>> = match self.shown.as_slice() {
            [] if self.filter.is_empty() => empty("no issues in the tracker yet", theme),
            [] => empty("no row has these words; <Esc> shows all again", theme),
            shown => shown.iter().map(line).collect(),
        };
        draw_lines(frame, area, lines);
        Extent { first: self.first, shown: self.shown.len(), all: self.all }
            .draw(frame, area, theme);
    }

    fn click(&mut self, row: usize, _: usize, _: &Scene<'_>) -> Response {
        match self.shown.get(row) {
            Some(QueueLine::Row(at)) => self.cursor.select(*at, &self.lines.rows),
            _ => return Response::none(),
        }
        Response::none()
    }

    fn search(&mut self, text: Option<String>, _: &Scene<'_>) -> Response {
        self.filter = Filter::new(text.as_deref().unwrap_or_default());
        self.made_for = None;
        self.refiltered = true;
        Response::none()
    }
}
