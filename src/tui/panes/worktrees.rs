//! Worktrees: repository, branch, run, dirty and ahead, disk, and the agent's process tree.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::Span;

use crate::core::model::id::RunId;
use crate::journal::transcript::Store;
use crate::runtime::Snapshot;
use crate::tui::action::{Action, OPEN};
use crate::tui::component::{Component, Pane, Registration, Scene};
use crate::tui::motion::Motion;
use crate::tui::pane_id::{Column, PaneId, Slot};
use crate::tui::response::{Reaction, Response};
use crate::tui::run_actions::offered;
use crate::tui::subject::Subject;
use crate::tui::theme::Tone;
use crate::tui::widgets::lines;
use crate::tui::widgets::list::{Cursor, List};
use crate::tui::widgets::marks::run_mark;
use crate::tui::widgets::span::piece;
use crate::tui::widgets::text::{column, size};

const ID: PaneId = PaneId::new(
    "pane-worktrees",
    "Worktrees",
    "Trees",
    Slot { column: Column::Left, rows: Some(8) },
);

pub(crate) const PANE: Registration = Registration::new(ID, |_| Box::<WorktreesPane>::default());

/// The pane: its selection.
#[derive(Debug, Default)]
struct WorktreesPane {
    cursor: Cursor<RunId>,
}

/// The runs that have a worktree of their own now.
fn rows(snapshot: &Snapshot) -> Vec<RunId> {
    let runs = snapshot.fleet.runs.values();
    runs.filter(|run| run.own_worktree().is_some()).map(|run| run.id).collect()
}

impl Component for WorktreesPane {
    fn actions(&self, scene: &Scene<'_>) -> Vec<Action> {
        offered(self.subject(scene).as_ref(), scene.snapshot)
    }

    fn subject(&self, scene: &Scene<'_>) -> Option<Subject> {
        self.cursor.row(&rows(scene.snapshot)).copied().map(Subject::Run)
    }

    fn act(&mut self, action: Action, scene: &Scene<'_>) -> Option<Response> {
        if action != OPEN {
            return None;
        }
        let shown = self.cursor.row(&rows(scene.snapshot)).copied();
        let open = |run| Reaction::OpenTranscript(run).into();
        Some(shown.map_or_else(Response::none, open))
    }

    fn go(&mut self, motion: Motion, scene: &Scene<'_>) -> Response {
        self.cursor.go(motion, &rows(scene.snapshot), scene.page);
        Response::none()
    }

    fn copy(&self, scene: &Scene<'_>) -> Option<String> {
        let fleet = &scene.snapshot.fleet;
        let subject = self.subject(scene)?;
        fleet.own_worktree(subject.run(fleet)?).map(str::to_owned)
    }
}

impl Pane for WorktreesPane {
    fn id(&self) -> PaneId {
        ID
    }

    fn title(&self, _: &Scene<'_>) -> String {
        format!("{} · ~changed files +unpushed commits", ID.title)
    }

    fn prepare(&mut self, _: Rect, _: &Store, scene: &Scene<'_>) -> Response {
        self.cursor.bind(&rows(scene.snapshot));
        Response::none()
    }

    fn draw(&self, frame: &mut Frame<'_>, area: Rect, scene: &Scene<'_>) {
        let rows = rows(scene.snapshot);
        let list = List {
            theme: scene.theme,
            focused: scene.focused,
            width: usize::from(area.width),
            height: usize::from(area.height),
            empty: "no run has a worktree; clean ones are kept ready",
        };
        let width = usize::from(area.width);
        let lines = list.around(&rows, &self.cursor, |id| spans(*id, width, scene));
        lines::draw(frame, area, lines);
        list.extent(&rows, &self.cursor).draw(frame, area, scene.theme);
    }

    fn click(&mut self, row: usize, height: usize, scene: &Scene<'_>) -> Response {
        self.cursor.click(row, height, &rows(scene.snapshot));
        Response::none()
    }
}

fn spans(id: RunId, width: usize, scene: &Scene<'_>) -> Vec<Span<'static>> {
    let theme = scene.theme;
    let Some(run) = scene.snapshot.fleet.runs.get(&id) else { return Vec::new() };
    let facts = scene.snapshot.worktrees.get(&id).copied().unwrap_or_default();
    let (mark, role) = run_mark(run, scene.snapshot.fleet.waits_for_human(run), &theme.marks);
    let cut = theme.marks.cut;
    let branch = width.saturating_sub(1 + 2 + 5 + 34).clamp(8, 48);
    let place =
        format!("{}:{}", run.work.repo().name(), run.workspace.branch.clone().unwrap_or_default());
    let state = format!("~{} +{}", facts.dirty, facts.ahead);
    let disk = facts.disk.map_or_else(|| "-".into(), size);
    let process = match facts.pid {
        Some(pid) => format!("{pid} {}% {}", facts.cpu_permille / 10, size(facts.memory)),
        None => "no process".into(),
    };
    vec![
        piece(format!("{mark} "), theme, role),
        piece(column(&id.to_string(), 5, cut), theme, Tone::Text),
        piece(format!("{} ", column(&place, branch, cut)), theme, Tone::Text),
        piece(column(&state, 8, cut), theme, Tone::Warn),
        piece(column(&disk, 6, cut), theme, Tone::Dim),
        piece(column(&process, 18, cut), theme, Tone::Dim),
    ]
}
