//! The lines of the queue: sections or repositories with their heads, groups that can be folded, rows.
//!
//! They are made once for a snapshot; a frame takes the ones around its selected row.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use super::rows::{Order, Row, RowId, Section, held_because};
use crate::core::fleet::Fleet;

/// The issues that are held for one reason, from which on their rows are hidden below a head.
pub(super) const FOLDED: usize = 5;

/// A line of the pane.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum QueueLine {
    /// The head of a section or of a repository, with a summary.
    Head(String, String, Option<Section>),
    /// The row at this place.
    Row(usize),
    /// A further line of the selected row.
    More(String),
}

/// How the operator wants the rows to stand.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct QueueArrangement {
    pub(super) order: Order,
    /// Rows of a repository stand together.
    pub(super) by_repo: bool,
    /// The groups whose rows are shown.
    pub(super) unfolded: BTreeSet<RowId>,
}

/// The rows in their order, and the lines that they stand in.
#[derive(Debug, Default)]
pub(super) struct Lines {
    pub(super) rows: Vec<Row>,
    /// Without the further lines of the selected row.
    pub(super) all: Vec<QueueLine>,
    /// The line of each row.
    pub(super) line_of: Vec<usize>,
    /// The rows without the heads of groups, also the hidden ones.
    pub(super) count: usize,
}

impl Lines {
    /// Arranges the rows that the filter left. Nothing is folded under a filter, whose rows were asked for.
    pub(super) fn of(
        mut rows: Vec<Row>,
        arrangement: &QueueArrangement,
        filtered: bool,
        fleet: &Fleet,
    ) -> Self {
        let count = rows.len();
        let order = arrangement.order;
        if arrangement.by_repo {
            rows.sort_by(|a, b| {
                let (of_a, of_b) = (a.repo(fleet), b.repo(fleet));
                of_a.cmp(&of_b).then(a.section.cmp(&b.section)).then_with(|| order.compare(a, b))
            });
        } else {
            rows.sort_by(|a, b| a.section.cmp(&b.section).then_with(|| order.compare(a, b)));
        }
        let heads =
            if arrangement.by_repo { repositories(&rows, fleet) } else { sections(&rows, fleet) };
        let folds = !filtered && !arrangement.by_repo;
        let rows = if folds { folded(rows, &arrangement.unfolded, fleet) } else { rows };
        let (mut lines, mut line_of) = (Vec::with_capacity(rows.len() + 8), Vec::new());
        let mut heads = heads.into_iter().peekable();
        let mut last = None;
        for (at, row) in rows.iter().enumerate() {
            let place = if arrangement.by_repo {
                (None, row.repo(fleet))
            } else {
                (Some(row.section), None)
            };
            if last != Some(place) {
                last = Some(place);
                lines.extend(heads.next());
            }
            line_of.push(lines.len());
            lines.push(QueueLine::Row(at));
        }
        Self { rows, all: lines, line_of, count }
    }
}

/// Counts in the order of their size: `blocked 12 · untrusted 3`.
fn summary(counts: BTreeMap<&str, usize>) -> String {
    let mut counts: Vec<(&str, usize)> = counts.into_iter().collect();
    counts.sort_by_key(|(_, count)| Reverse(*count));
    let parts = counts.iter().map(|(why, count)| format!("{why} {count}"));
    parts.collect::<Vec<_>>().join(" · ")
}

/// The heads of the sections that have rows.
fn sections(rows: &[Row], fleet: &Fleet) -> Vec<QueueLine> {
    let by_section = rows.chunk_by(|a, b| a.section == b.section);
    let head = |rows: &[Row]| {
        let section = rows[0].section;
        let mut counts = BTreeMap::new();
        if section == Section::Held {
            for row in rows {
                *counts.entry(held_because(row, fleet)).or_default() += 1;
            }
        }
        let title = format!("{} {}", section.title(), rows.len());
        QueueLine::Head(title, summary(counts), Some(section))
    };
    by_section.map(head).collect()
}

/// The heads of the repositories that have rows.
fn repositories(rows: &[Row], fleet: &Fleet) -> Vec<QueueLine> {
    let by_repo = rows.chunk_by(|a, b| a.repo(fleet) == b.repo(fleet));
    let head = |rows: &[Row]| {
        let parts = rows
            .chunk_by(|a, b| a.section == b.section)
            .map(|rows| format!("{} {}", rows[0].section.title().to_lowercase(), rows.len()));
        let parts = parts.collect::<Vec<_>>().join(" · ");
        let repo = rows[0].repo(fleet).map(ToString::to_string).unwrap_or_default();
        QueueLine::Head(format!("{repo} {}", rows.len()), parts, None)
    };
    by_repo.map(head).collect()
}

/// Puts the held and closed rows of a frequent reason below a head of their own, the largest group first,
/// and hides them unless the operator has unfolded it.
fn folded(rows: Vec<Row>, unfolded: &BTreeSet<RowId>, fleet: &Fleet) -> Vec<Row> {
    let folds = |row: &Row| matches!(row.section, Section::Held | Section::Closed);
    let mut counts: BTreeMap<(Section, &'static str), usize> = BTreeMap::new();
    for row in rows.iter().filter(|row| folds(row)) {
        *counts.entry((row.section, held_because(row, fleet))).or_default() += 1;
    }
    counts.retain(|_, count| *count >= FOLDED);
    if counts.is_empty() {
        return rows;
    }
    let mut groups: BTreeMap<(Section, Reverse<usize>, &'static str), Vec<Row>> = BTreeMap::new();
    let mut flat = Vec::with_capacity(rows.len());
    for row in rows {
        let why = if folds(&row) { held_because(&row, fleet) } else { "" };
        match counts.get(&(row.section, why)) {
            Some(count) => groups.entry((row.section, Reverse(*count), why)).or_default().push(row),
            None => flat.push(row),
        }
    }
    for ((section, _, why), members) in groups {
        let id = RowId::Group(section, why);
        let shown = unfolded.contains(&id);
        let end = flat.partition_point(|row| row.section <= section);
        let head = Row::group(id, section, members.len());
        flat.splice(end..end, std::iter::once(head).chain(members.into_iter().filter(|_| shown)));
    }
    flat
}
