//! Deploy health: the proof chain of each repository's newest run, its last good commit, and the
//! latency of its probes.

use ratatui::text::{Line, Span};

use super::super::theme::{Role, Theme};
use super::super::view::View;
use super::super::widgets::list::first_row;
use super::super::widgets::text::{age, column, width as columns};
use super::{empty, piece, row, verdict_mark};
use crate::core::model::id::Repo;
use crate::core::model::run::{Activity, Run};
use crate::core::model::stage::ProofLink;
use crate::core::model::verdict::{ProbeSample, Verdict};
use crate::runtime::Snapshot;

/// The allow-listed repositories.
#[must_use]
pub fn rows(snapshot: &Snapshot) -> Vec<Repo> {
    snapshot.fleet.policy.allowlist.iter().cloned().collect()
}

/// The newest run of a repository that got as far as the gate, or else its newest.
fn newest<'a>(snapshot: &'a Snapshot, repo: &Repo) -> Option<&'a Run> {
    let of = || {
        snapshot
            .fleet
            .runs
            .values()
            .rev()
            .filter(|run| run.work.issue().is_some() && run.work.repo() == repo)
    };
    of().find(|run| run.gated.is_some() || run.live()).or_else(|| of().next()).map(AsRef::as_ref)
}

/// The chain as `✓commit─✓ci─◐rollout─○probe`.
fn strip(run: &Run, theme: &Theme) -> Vec<Span<'static>> {
    let under_way = match run.activity {
        Activity::Stage { stage } => Some(stage),
        _ => None,
    };
    let mut spans = Vec::new();
    for (at, (proof, link)) in run.proof.chain().enumerate() {
        let (name, stage) = (proof.as_str(), proof.stage());
        let passed_over = match stage {
            Some(stage) => !run.stages.has(stage),
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
            spans.push(piece(theme.marks.link, theme, Role::Border));
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
                return piece(theme.marks.bad, theme, Role::Bad);
            }
            let level = (u64::from(sample.latency_ms) * 7 / u64::from(most)).min(7);
            let bar = theme.marks.bars[usize::try_from(level).unwrap_or(7)];
            piece(bar, theme, Role::Good)
        })
        .collect()
}

/// What is known of the selected repository: the proof of its newest run, and how the watchers of
/// its rollouts fare.
#[must_use]
pub fn details(snapshot: &Snapshot, view: &View) -> Vec<String> {
    let rows = rows(snapshot);
    let Some(repo) = rows.get(view.deploy.place(&rows)) else { return Vec::new() };
    let mut lines = vec![repo.to_string()];
    match newest(snapshot, repo) {
        Some(run) => {
            lines.push(format!("{} {}", run.id, run.doing(view.now)));
            lines.extend(crate::core::query::explain::proof(run));
        }
        None => lines.push("nothing was run here yet".into()),
    }
    if !snapshot.watchers.is_empty() {
        lines.push(String::new());
        lines.push("Watchers, with the age of the last that was heard".into());
    }
    for (what, watcher) in &snapshot.watchers {
        let heard = age(view.now, watcher.last_seen);
        let error = watcher.error.as_ref().map(|error| format!("  {error}"));
        lines.push(format!("  {what:<40} {heard:>4}{}", error.unwrap_or_default()));
    }
    lines.iter().map(|line| crate::core::model::untrusted::clean_line(line)).collect()
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
        return empty("the allowlist is empty: nothing is ever touched", theme);
    }
    let fleet = &snapshot.fleet;
    let selected = view.deploy.place(&rows);
    let first = first_row(selected, rows.len(), height);
    let cut = theme.marks.cut;
    rows.iter()
        .enumerate()
        .skip(first)
        .take(height)
        .map(|(at, repo)| {
            let run = newest(snapshot, repo);
            let mut spans = vec![
                piece(format!("{} ", column(repo.name(), 12, cut)), theme, Role::Text),
                piece(
                    column(&run.map_or_else(String::new, |run| run.id.to_string()), 4, cut),
                    theme,
                    Role::Dim,
                ),
            ];
            match run {
                Some(run) => spans.extend(strip(run, theme)),
                None => spans.push(piece("nothing was run here yet", theme, Role::Dim)),
            }
            let good = fleet.last_good.get(repo).map_or_else(String::new, |(sha, when)| {
                format!("  good {} {}", sha.short(), age(view.now, *when))
            });
            let used: usize = 1 + spans.iter().map(|s| columns(&s.content)).sum::<usize>();
            if used + columns(&good) <= width {
                spans.push(piece(good.clone(), theme, Role::Dim));
                let room = width.saturating_sub(used + columns(&good) + 2);
                if let Some(samples) = fleet.probes.get(repo)
                    && room > 3
                {
                    let latest = samples.back().map_or(0, |s| s.latency_ms);
                    let figure = format!("  {latest}ms ");
                    let room = room.saturating_sub(figure.len()).min(20);
                    spans.push(piece(figure, theme, Role::Dim));
                    spans.extend(sparkline(samples.iter().copied(), theme, room));
                }
            }
            row(at == selected, focused, theme, spans)
        })
        .collect()
}
