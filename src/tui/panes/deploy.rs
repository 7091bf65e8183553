//! Deploy health: the proof chain of each repository's newest run, its last good commit, and the
//! latency of its probes.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::Span;

use crate::core::model::activity::Activity;
use crate::core::model::id::Repo;
use crate::core::model::run::Run;
use crate::core::model::stage::ProofLink;
use crate::core::model::time::Timestamp;
use crate::core::model::untrusted::clean_line;
use crate::core::model::verdict::{ProbeSample, Verdict};
use crate::core::query::explain;
use crate::journal::transcript::Store;
use crate::runtime::Snapshot;
use crate::tui::action::{Action, OPEN};
use crate::tui::component::{Component, Pane, Registration, Scene};
use crate::tui::motion::Motion;
use crate::tui::pane_id::{Column, PaneId, Slot};
use crate::tui::response::{Dialog, Response, TextView};
use crate::tui::run_actions::offered;
use crate::tui::subject::Subject;
use crate::tui::theme::{Theme, Tone};
use crate::tui::widgets::lines;
use crate::tui::widgets::list::{Cursor, List};
use crate::tui::widgets::marks::verdict_mark;
use crate::tui::widgets::span::piece;
use crate::tui::widgets::text::{age, column, width as columns};

const ID: PaneId = PaneId::new(
    "pane-deploy",
    "Deploy health",
    "Deploy",
    Slot { column: Column::Left, rows: Some(8) },
);

pub(crate) const PANE: Registration = Registration::new(ID, |_| Box::<DeployPane>::default());

/// The pane: its selection.
#[derive(Debug, Default)]
struct DeployPane {
    cursor: Cursor<Repo>,
}

/// The repositories of the allowlist.
fn rows(snapshot: &Snapshot) -> Vec<Repo> {
    snapshot.fleet.policy.allowlist.iter().cloned().collect()
}

impl Component for DeployPane {
    fn actions(&self, scene: &Scene<'_>) -> Vec<Action> {
        offered(self.subject(scene).as_ref(), scene.snapshot)
    }

    /// The newest run of the selected repository.
    fn subject(&self, scene: &Scene<'_>) -> Option<Subject> {
        let rows = rows(scene.snapshot);
        let repo = self.cursor.row(&rows)?;
        newest(scene.snapshot, repo).map(|run| Subject::Run(run.id))
    }

    fn act(&mut self, action: Action, scene: &Scene<'_>) -> Option<Response> {
        if action != OPEN {
            return None;
        }
        let repo = self.cursor.row(&rows(scene.snapshot)).cloned();
        let lines = move |snapshot: &Snapshot, now| {
            repo.as_ref().map(|repo| proof(snapshot, repo, now)).unwrap_or_default()
        };
        let text = TextView { subject: self.subject(scene), ..TextView::live("Proof", lines) };
        Some(Response::open(Dialog::Text(text)))
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

impl Pane for DeployPane {
    fn id(&self) -> PaneId {
        ID
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
            empty: "the allowlist is empty: afk touches no repository",
        };
        let width = usize::from(area.width);
        let lines = list.around(&rows, &self.cursor, |repo| spans(repo, width, scene));
        lines::draw(frame, area, lines);
        list.extent(&rows, &self.cursor).draw(frame, area, scene.theme);
    }

    fn click(&mut self, row: usize, height: usize, scene: &Scene<'_>) -> Response {
        self.cursor.click(row, height, &rows(scene.snapshot));
        Response::none()
    }
}

fn spans(repo: &Repo, width: usize, scene: &Scene<'_>) -> Vec<Span<'static>> {
    let (theme, fleet) = (scene.theme, &scene.snapshot.fleet);
    let cut = theme.marks.cut;
    let run = newest(scene.snapshot, repo);
    let id = run.map_or_else(String::new, |run| run.id.to_string());
    let mut spans = vec![
        piece(format!("{} ", column(repo.name(), 12, cut)), theme, Tone::Text),
        piece(column(&id, 4, cut), theme, Tone::Dim),
    ];
    match run {
        Some(run) => {
            let used: usize = 1 + spans.iter().map(|s| columns(&s.content)).sum::<usize>();
            let whole = strip(run, false, theme);
            let size: usize = whole.iter().map(|s| columns(&s.content)).sum();
            spans.extend(if used + size <= width { whole } else { strip(run, true, theme) });
        }
        None => spans.push(piece("no run here yet", theme, Tone::Dim)),
    }
    let good = fleet.last_good.get(repo).map_or_else(String::new, |(sha, when)| {
        format!("  good {} {}", sha.short(), age(scene.now, *when))
    });
    let used: usize = 1 + spans.iter().map(|s| columns(&s.content)).sum::<usize>();
    if used + columns(&good) <= width {
        spans.push(piece(good.clone(), theme, Tone::Dim));
        let room = width.saturating_sub(used + columns(&good) + 2);
        if let Some(samples) = fleet.probes.get(repo)
            && room > 3
        {
            let latest = samples.back().map_or(0, |s| s.latency_ms);
            let figure = format!("  {latest}ms ");
            let room = room.saturating_sub(figure.len()).min(20);
            spans.push(piece(figure, theme, Tone::Dim));
            spans.extend(sparkline(samples.iter().copied(), theme, room));
        }
    }
    spans
}

/// The newest run of a repository that reached the gate or is live, else the newest of all.
fn newest<'a>(snapshot: &'a Snapshot, repo: &Repo) -> Option<&'a Run> {
    let of = || {
        snapshot
            .fleet
            .runs
            .values()
            .rev()
            .filter(|run| run.work.issue().is_some() && run.work.repo() == repo)
    };
    of().find(|run| run.workspace.gated.is_some() || run.live())
        .or_else(|| of().next())
        .map(AsRef::as_ref)
}

/// The proof chain of a run, as `✓commit─✓ci─◐rollout─○probe`; with short names where there is little room.
fn strip(run: &Run, short: bool, theme: &Theme) -> Vec<Span<'static>> {
    let under_way = match run.progress.activity {
        Activity::Stage { stage } => Some(stage),
        _ => None,
    };
    let mut spans = Vec::new();
    for (at, (proof, link)) in run.proof.chain().enumerate() {
        let ((name, little), stage) = (proof.strip_names(), proof.stage());
        let name = if short { little } else { name };
        let passed_over = match stage {
            Some(stage) => !run.workspace.stages.has(stage),
            None => proof == ProofLink::Image && link.is_none(),
        };
        if passed_over {
            continue;
        }
        let verdict = if stage.is_some() && stage == under_way {
            Some(Verdict::Pending)
        } else {
            link.map(|link| link.verdict)
        };
        let (mark, role) = verdict_mark(verdict, &theme.marks);
        if at > 0 {
            spans.push(piece(theme.marks.link, theme, Tone::Border));
        }
        spans.push(piece(format!("{mark}{name}"), theme, role));
    }
    spans
}

fn sparkline(
    samples: impl DoubleEndedIterator<Item = ProbeSample>,
    theme: &Theme,
    room: usize,
) -> Vec<Span<'static>> {
    let mut last: Vec<ProbeSample> = samples.rev().take(room).collect();
    last.reverse();
    let most = last.iter().map(|s| s.latency_ms).max().unwrap_or(0).max(1);
    last.iter()
        .map(|sample| {
            if !sample.ok {
                return piece(theme.marks.bad, theme, Tone::Bad);
            }
            let level = (u64::from(sample.latency_ms) * 7 / u64::from(most)).min(7);
            let bar = theme.marks.bars[usize::try_from(level).unwrap_or(7)];
            piece(bar, theme, Tone::Good)
        })
        .collect()
}

/// The proof of a repository's newest run, and the state of the watchers of rollouts.
fn proof(snapshot: &Snapshot, repo: &Repo, now: Timestamp) -> Vec<String> {
    let mut lines = vec![repo.to_string()];
    match newest(snapshot, repo) {
        Some(run) => {
            lines.push(format!("{}: {}", run.id, snapshot.doing(run, now)));
            lines.extend(explain::proof(run));
        }
        None => lines.push("no run here yet".into()),
    }
    if !snapshot.watchers.is_empty() {
        lines.push(String::new());
        lines.push("Watchers, with the age of their last event".into());
    }
    for (name, watcher) in &snapshot.watchers {
        let heard = age(now, watcher.last_seen);
        let error = watcher.error.as_ref().map(|error| format!("  {error}"));
        lines.push(format!("  {name:<40} {heard:>4}{}", error.unwrap_or_default()));
    }
    lines.iter().map(|line| clean_line(line)).collect()
}
