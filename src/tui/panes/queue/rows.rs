//! The rows of the queue in their order, and the sections that they stand in.
//!
//! A row is light: its texts are made by `columns` for the rows that a frame shows.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;

use crate::core::fleet::Fleet;
use crate::core::model::approval::Escalation;
use crate::core::model::id::{IssueKey, Repo, RunId};
use crate::core::model::ledger::Reason;
use crate::core::model::run::{Outcome, Run, Work};
use crate::core::model::time::Timestamp;
use crate::tui::subject::Subject;
use crate::tui::widgets::list::Named;

/// How long the outcome of a closed issue is shown, in milliseconds.
const DAY: i64 = 24 * 60 * 60_000;

/// A section of the queue, in the order of the screen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Section {
    WaitsForYou,
    AtWork,
    Next,
    Held,
    DoneToday,
    Closed,
}

impl Section {
    pub(super) const fn title(self) -> &'static str {
        match self {
            Self::WaitsForYou => "WAITS FOR YOU",
            Self::AtWork => "AT WORK",
            Self::Next => "NEXT",
            Self::Held => "HELD",
            Self::DoneToday => "DONE TODAY",
            Self::Closed => "CLOSED",
        }
    }
}

/// The name of a row, by which the selection finds it again.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum RowId {
    /// An issue, an ad-hoc job, or a run whose issue left its tracker's list.
    Subject(Subject),
    /// The head of a group of issues that are there for one reason.
    Group(Section, &'static str),
}

/// A row of the queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) id: RowId,
    /// The rows of a group; 0 for any other row.
    pub(super) members: usize,
    pub(super) section: Section,
    /// The newest run of an issue, where the row is about it.
    pub(super) run: Option<RunId>,
    /// The place in the section.
    rank: (u8, u8, Timestamp),
}

impl Named<RowId> for Row {
    fn name(&self) -> &RowId {
        &self.id
    }
}

impl Row {
    /// The head of a group of rows.
    pub(super) fn group(id: RowId, section: Section, members: usize) -> Self {
        Self { id, members, section, run: None, rank: (0, 0, Timestamp::default()) }
    }

    /// The issue or the run of the row; none for a group.
    pub(super) const fn subject(&self) -> Option<&Subject> {
        match &self.id {
            RowId::Subject(subject) => Some(subject),
            RowId::Group(..) => None,
        }
    }

    /// The issue of the row.
    pub(super) const fn issue(&self) -> Option<&IssueKey> {
        match &self.id {
            RowId::Subject(Subject::Issue(key)) => Some(key),
            _ => None,
        }
    }

    /// The repository of the row; none for a group.
    pub(super) fn repo<'a>(&'a self, fleet: &'a Fleet) -> Option<&'a Repo> {
        let of_run = || Some(fleet.runs.get(&self.run?)?.work.repo());
        self.issue().map(|key| &key.repo).or_else(of_run)
    }
}

/// The order of the rows in their section.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Order {
    /// The order in which afk takes them.
    #[default]
    Urgency,
    Oldest,
    Newest,
    Name,
}

impl Order {
    /// The order after this one.
    pub(super) const fn next(self) -> Self {
        match self {
            Self::Urgency => Self::Oldest,
            Self::Oldest => Self::Newest,
            Self::Newest => Self::Name,
            Self::Name => Self::Urgency,
        }
    }

    pub(super) const fn title(self) -> &'static str {
        match self {
            Self::Urgency => "by urgency",
            Self::Oldest => "oldest first",
            Self::Newest => "newest first",
            Self::Name => "by name",
        }
    }

    /// How two rows of one section stand to each other.
    pub(super) fn compare(self, a: &Row, b: &Row) -> Ordering {
        let at = |row: &Row| row.rank.2;
        let order = match self {
            Self::Urgency => a.rank.cmp(&b.rank),
            Self::Oldest => at(a).cmp(&at(b)),
            Self::Newest => at(b).cmp(&at(a)),
            Self::Name => Ordering::Equal,
        };
        order.then_with(|| a.id.cmp(&b.id))
    }
}

/// The open questions by the run that they are about; the most severe one of each run.
pub(super) fn questions(fleet: &Fleet) -> BTreeMap<RunId, &Escalation> {
    let mut asked = BTreeMap::new();
    for escalation in fleet.inbox() {
        if let Some(run) = escalation.run {
            asked.entry(run).or_insert(escalation.as_ref());
        }
    }
    asked
}

/// The section of a run, and its place there.
fn section_of(run: &Run, asked: bool, waits: bool, fleet: &Fleet) -> (Section, u8) {
    match run.progress.outcome {
        // Of those that wait, the ones that hold a permit hold others up.
        None if waits => (Section::WaitsForYou, u8::from(!run.has_permit())),
        None if run.has_permit() => (Section::AtWork, 0),
        None => (Section::Next, 0),
        Some(Outcome::Frozen | Outcome::NeedsHuman) if asked => (Section::WaitsForYou, 2),
        Some(Outcome::Done) => {
            let today = run.progress.ended.is_none_or(|at| fleet.last_event.since(at) < DAY);
            (if today { Section::DoneToday } else { Section::Closed }, 0)
        }
        Some(_) => (Section::Held, 3),
    }
}

/// The rows in no order: issues, and the runs whose issue left its tracker's list.
pub(super) fn rows(fleet: &Fleet, asked: &BTreeMap<RunId, &Escalation>) -> Vec<Row> {
    let waits = fleet.waiting_for_human();
    let place = |run: &Run| {
        section_of(run, asked.contains_key(&run.id), waits.contains_key(&run.id), fleet)
    };
    let mut rows: Vec<Row> = Vec::with_capacity(fleet.issues.len());
    for issue in fleet.issues.values() {
        let reason = fleet.ledger.get(&issue.key).map(|entry| &entry.reason);
        let ran =
            matches!(reason, Some(Reason::Running { .. } | Reason::Ended { .. } | Reason::Closed));
        let run = fleet.last_run.get(&issue.key).and_then(|id| fleet.runs.get(id));
        let (section, group) = match (run, reason) {
            (Some(run), _) if ran => place(run),
            (_, Some(Reason::Closed)) => (Section::Closed, 1),
            (_, Some(Reason::Eligible)) => (Section::Next, 1),
            _ => (Section::Held, 0),
        };
        let urgency = issue.priority.map_or(u8::MAX, |p| p.0);
        rows.push(Row {
            id: RowId::Subject(Subject::Issue(issue.key.clone())),
            members: 0,
            section,
            run: run.filter(|_| ran).map(|run| run.id),
            rank: (group, urgency, issue.created),
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
        let (section, group) = place(run);
        // The row keeps its name when its issue leaves the list, so that the selection stays with it.
        let id = run.work.issue().map_or(Subject::Run(run.id), |key| Subject::Issue(key.clone()));
        let rank = (group, u8::MAX, run.progress.claimed);
        let id = RowId::Subject(id);
        rows.push(Row { id, members: 0, section, run: Some(run.id), rank });
    }
    rows
}

/// Why an issue is held, in one or two words, to count the held issues by.
pub(super) fn held_because(row: &Row, fleet: &Fleet) -> &'static str {
    let run = row.run.and_then(|run| fleet.runs.get(&run));
    if let Some(outcome) = run.and_then(|run| run.progress.outcome) {
        return outcome.as_str();
    }
    let Some(key) = row.issue() else { return "" };
    match fleet.ledger.get(key).map(|entry| &entry.reason) {
        Some(Reason::NotReady) => "not labelled",
        Some(Reason::Untrusted { .. } | Reason::ArmingUnknown { .. }) => "untrusted",
        Some(Reason::Hold { .. }) => "changed",
        Some(Reason::Blocked { .. }) => "blocked",
        Some(Reason::NotAllowed { .. }) => "not allowed",
        Some(Reason::NeedsHuman) => "for a human",
        Some(Reason::ClaimedElsewhere) => "elsewhere",
        Some(Reason::RepoBusy { .. }) => "repository busy",
        Some(Reason::RepoFrozen { .. }) => "repository frozen",
        Some(Reason::KillSwitch) => "kill switch",
        Some(Reason::Breaker { .. } | Reason::Outage { .. }) => "paused",
        Some(Reason::OverBudget) => "over budget",
        Some(Reason::QueueFull) => "queue full",
        Some(Reason::Closed) => "closed",
        _ => "other",
    }
}
