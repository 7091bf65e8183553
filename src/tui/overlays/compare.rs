//! Two runs side by side: their phases, tests, changes and cost.

use std::collections::BTreeMap;

use ratatui::text::Line;

use super::sheet::Sheet;
use crate::core::model::plural::plural;
use crate::core::model::run::{Outcome, Run};
use crate::core::model::stage::Phase;
use crate::core::model::untrusted::Untrusted;
use crate::core::model::verdict::FactKind;
use crate::core::query::brief::long;
use crate::tui::component::Scene;
use crate::tui::response::ComparedRuns;
use crate::tui::subject::Subject;
use crate::tui::theme::Tone;
use crate::tui::widgets::span::{empty, piece};
use crate::tui::widgets::text::{column, wrap};

/// The columns of the names of the rows.
const NAMES: usize = 14;
/// The columns from which on the two runs stand side by side.
const BESIDE: usize = 60;
/// The files of a change that are listed.
const MOST_FILES: usize = 200;

/// A row: its name and what each run has.
type CompareRow = (String, [String; 2]);

pub(super) fn sheet(compared: ComparedRuns) -> Sheet {
    let [one, other] = compared.runs;
    let stats = compared.diffs.map(|diff| diff.map(|diff| diff_stat(&diff)));
    Sheet::new(format!("Compare {one} with {other}"), None, move |scene, columns| {
        let fleet = &scene.snapshot.fleet;
        let known = [one, other].map(|run| fleet.runs.get(&run));
        let [Some(one), Some(other)] = known else {
            return empty("one of the runs is forgotten", scene.theme);
        };
        let mut rows =
            vec![(String::new(), [one, other].map(|run| Subject::Run(run.id).long(fleet)))];
        rows.extend(facts(scene, [one, other]));
        rows.extend(changes(&stats));
        rows.iter().flat_map(|row| lines(row, scene, columns)).collect()
    })
}

/// The rows of everything but the changes.
fn facts(scene: &Scene<'_>, runs: [&Run; 2]) -> Vec<CompareRow> {
    let fleet = &scene.snapshot.fleet;
    let row = |name: &str, of: &dyn Fn(&Run) -> String| (name.to_owned(), runs.map(of));
    let end = |run: &Run| run.progress.ended.unwrap_or(fleet.last_event);
    let mut rows = vec![
        row("outcome", &|run| {
            let outcome = run.progress.outcome.map_or("at work", Outcome::as_str);
            let why = run.progress.why.clean_line();
            if why.is_empty() { outcome.to_owned() } else { format!("{outcome}: {why}") }
        }),
        row("agent", &|run| {
            run.agent.equipment.as_ref().map_or_else(String::new, |agent| {
                let model = agent.model.as_ref().map(Untrusted::clean_line).unwrap_or_default();
                format!("{} {model}", agent.agent).trim_end().to_owned()
            })
        }),
        row("took", &|run| long(end(run).since(run.progress.claimed))),
    ];
    for phase in Phase::ALL {
        let lasted = |run: &Run| {
            let reached = &run.progress.reached;
            let Some(at) = reached.iter().position(|(known, _)| *known == phase) else {
                return String::new();
            };
            let next = reached.get(at + 1).map_or_else(|| end(run), |(_, at)| *at);
            duration(next.since(reached[at].1))
        };
        rows.push(row(&format!("  {}", phase.as_str()), &lasted));
    }
    let facts = |run: &Run, kind: &FactKind| {
        let chain = run.proof.chain().filter_map(|(_, evidence)| evidence);
        chain.flat_map(|evidence| &evidence.facts).filter(|fact| fact.kind == *kind).count()
    };
    rows.push(row("tests", &|run| match facts(run, &FactKind::FailToPass) {
        0 => "none named".to_owned(),
        count => format!("{} fixed", plural(count, "test")),
    }));
    rows.push(row("flaky", &|run| facts(run, &FactKind::Flaky).to_string()));
    rows.push(row("turns", &|run| run.agent.turns.to_string()));
    rows.push(row("gate closed", &|run| plural(run.progress.gate_closed, "time")));
    rows.push(row("fix-forward", &|run| plural(run.progress.attempts, "attempt")));
    rows.push(row("cost", &|run| run.spend.total.summary()));
    rows.push(row("tokens", &|run| {
        let spend = run.spend.total;
        format!("{} in, {} out", spend.tokens_in, spend.tokens_out)
    }));
    rows
}

/// A duration in seconds, or in minutes and hours.
fn duration(ms: i64) -> String {
    if ms < 60_000 { format!("{} s", ms / 1000) } else { long(ms) }
}

/// Added and removed lines, by file.
type DiffStat = BTreeMap<String, (usize, usize)>;

/// Counts the lines of a unified diff.
fn diff_stat(diff: &str) -> DiffStat {
    let mut stat = DiffStat::new();
    let (mut file, mut in_hunk) = (String::new(), false);
    for line in diff.lines() {
        if let Some(names) = line.strip_prefix("diff --git ") {
            in_hunk = false;
            names.rsplit_once(" b/").map_or(names, |(_, path)| path).clone_into(&mut file);
            stat.entry(file.clone()).or_default();
        } else if line.starts_with("@@ ") {
            in_hunk = true;
        } else if in_hunk && !file.is_empty() {
            let counts = stat.entry(file.clone()).or_default();
            match line.as_bytes().first() {
                Some(b'+') => counts.0 += 1,
                Some(b'-') => counts.1 += 1,
                _ => {}
            }
        }
    }
    stat
}

/// The rows of the changes: the sums, and each file of either run.
fn changes(stats: &[Result<DiffStat, String>; 2]) -> Vec<CompareRow> {
    let sum = |stat: &Result<DiffStat, String>| match stat {
        Ok(stat) => {
            let (added, removed) = stat.values().fold((0, 0), |sum, n| (sum.0 + n.0, sum.1 + n.1));
            format!("{}, +{added} -{removed}", plural(stat.len(), "file"))
        }
        Err(why) => why.clone(),
    };
    let [one, other] = stats;
    let mut rows = vec![("changes".to_owned(), [sum(one), sum(other)])];
    let files = stats.iter().filter_map(|stat| stat.as_ref().ok()).flat_map(BTreeMap::keys);
    let files: std::collections::BTreeSet<&String> = files.collect();
    let of = |stat: &Result<DiffStat, String>, file: &String| {
        let counts = stat.as_ref().ok().and_then(|stat| stat.get(file));
        counts.map_or_else(String::new, |(added, removed)| format!("{file} +{added} -{removed}"))
    };
    let rest = files.len().saturating_sub(MOST_FILES);
    rows.extend(
        files
            .into_iter()
            .take(MOST_FILES)
            .map(|file| (String::new(), [of(one, file), of(other, file)])),
    );
    if rest > 0 {
        rows.push((String::new(), [plural(rest, "more file"), String::new()]));
    }
    rows
}

/// The lines of a row; what differs is brighter than what is equal.
fn lines((name, sides): &CompareRow, scene: &Scene<'_>, columns: usize) -> Vec<Line<'static>> {
    let theme = scene.theme;
    let cut = theme.marks.cut;
    let tone = if sides[0] == sides[1] { Tone::Dim } else { Tone::Text };
    if columns < BESIDE {
        // One below the other, each with a sign of its side.
        let mut lines = Vec::new();
        if !name.is_empty() {
            lines.push(Line::from(piece(
                column(&format!(" {name}"), columns, cut),
                theme,
                Tone::Title,
            )));
        }
        for (sign, side) in ['1', '2'].into_iter().zip(sides).filter(|(_, side)| !side.is_empty()) {
            let parts = wrap(side, columns.saturating_sub(5));
            lines.extend(parts.into_iter().enumerate().map(|(at, part)| {
                let sign = if at == 0 { sign } else { ' ' };
                Line::from(vec![
                    piece(format!("  {sign} "), theme, Tone::Accent),
                    piece(part, theme, tone),
                ])
            }));
        }
        return lines;
    }
    let room = (columns - NAMES - 4) / 2;
    let [one, other] = sides.each_ref().map(|side| wrap(side, room));
    (0..one.len().max(other.len()))
        .map(|at| {
            let side =
                |parts: &Vec<String>| column(parts.get(at).map_or("", String::as_str), room, cut);
            let name = if at == 0 { name.as_str() } else { "" };
            Line::from(vec![
                piece(format!(" {}", column(name, NAMES, cut)), theme, Tone::Title),
                piece(side(&one), theme, tone),
                piece(" ", theme, tone),
                piece(side(&other), theme, tone),
            ])
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_a_diff_are_counted_by_file() {
        let diff = "diff --git a/a b/x.rs b/a b/x.rs\n--- a/x\n+++ b/x\n@@ -1 +1,2 @@\n-a\n+b\n+++c\n\
                    diff --git a/gone b/gone\n--- a/gone\n+++ /dev/null\n@@ -1 +0,0 @@\n--- x\n\
                    diff --git a/bin b/bin\nBinary files differ\n";
        let stat = diff_stat(diff);
        let seen: Vec<(&str, (usize, usize))> =
            stat.iter().map(|(file, counts)| (file.as_str(), *counts)).collect();
        assert_eq!(seen, [("bin", (0, 0)), ("gone", (0, 1)), ("x.rs", (2, 1))]);
    }
}
