//! The texts of a row of the queue, and the columns that they stand in.
//!
//! Nothing useful is cut before something less useful: the priority goes first, then the owner, then
//! the reason, which the selected row repeats in full in a second line. The title stays.

use std::collections::BTreeMap;

use ratatui::text::Span;

use super::rows::Row;
use crate::core::fleet::Fleet;
use crate::core::model::approval::Escalation;
use crate::core::model::id::{IssueKey, RunId};
use crate::core::model::issue::{Arming, BlockerState, Issue};
use crate::core::model::ledger::Reason;
use crate::core::model::run::Run;
use crate::core::model::time::Timestamp;
use crate::core::model::untrusted::Untrusted;
use crate::runtime::Snapshot;
use crate::tui::component::Scene;
use crate::tui::subject::short_key;
use crate::tui::theme::{Theme, Tone};
use crate::tui::widgets::marks::run_mark;
use crate::tui::widgets::span::piece;
use crate::tui::widgets::text::{age, column, fit};

/// The least columns of a title, so that the reasons stand apart.
const TITLE: usize = 20;
/// Issues of a repository that wait for one run, at most, in a second line.
const NAMED: usize = 3;

/// The texts of a row.
#[derive(Debug)]
pub(super) struct RowText {
    mark: &'static str,
    role: Tone,
    priority: String,
    /// `acme/pulse#9`, or `r4 acme/pulse` for a job.
    pub(super) key: String,
    /// The same without the owner, where that is unique.
    short: String,
    since: Timestamp,
    pub(super) title: String,
    /// Why the row stands where it stands.
    pub(super) reason: String,
    /// The operator or the account that the row goes back to.
    pub(super) actor: String,
    /// The labels of the issue.
    pub(super) labels: Vec<String>,
    /// The issues and runs that the row waits for.
    pub(super) blockers: Vec<String>,
}

impl RowText {
    /// The texts of a row; `question` is the open question of its run.
    pub(super) fn of(
        row: &Row,
        question: Option<&Escalation>,
        snapshot: &Snapshot,
        theme: &Theme,
    ) -> Self {
        let (fleet, marks) = (&snapshot.fleet, &theme.marks);
        let run = row.run.and_then(|id| fleet.runs.get(&id)).map(AsRef::as_ref);
        let key = row.issue();
        let issue = key.and_then(|key| fleet.issues.get(key));
        let entry = key.and_then(|key| fleet.ledger.get(key));
        let (mark, role) = match (run, entry.map(|entry| &entry.reason)) {
            (Some(run), _) => run_mark(run, fleet.waits_for_human(run), marks),
            (None, Some(Reason::Closed)) => (marks.done, Tone::Dim),
            (None, Some(Reason::Eligible)) => (marks.waiting, Tone::Text),
            (None, _) => (marks.waiting, Tone::Dim),
        };
        let reason = match run {
            Some(run) => standing(run, question, snapshot),
            None => entry.map(|entry| entry.reason.summary()).unwrap_or_default(),
        };
        let actor = match issue.map(|issue| &issue.arming) {
            Some(Arming::Trusted { by, .. } | Arming::Untrusted { by }) => by.0.clone(),
            _ => String::new(),
        };
        let since = match run {
            Some(run) if issue.is_none() => run.progress.claimed,
            _ => entry.map_or(fleet.last_event, |entry| entry.since),
        };
        let title = issue.map(|issue| &issue.title).or_else(|| run.map(|run| run.work.title()));
        let job = || run.map(|run| format!("{} {}", run.id, run.work.repo())).unwrap_or_default();
        Self {
            mark,
            role,
            priority: issue
                .and_then(|issue| issue.priority)
                .map_or_else(|| "--".to_owned(), |p| format!("p{}", p.0)),
            key: key.map_or_else(job, ToString::to_string),
            short: key.map_or_else(job, |key| short_key(key, fleet)),
            since,
            title: title.map(Untrusted::clean_line).unwrap_or_default(),
            reason,
            actor,
            labels: issue
                .into_iter()
                .flat_map(|issue| &issue.labels)
                .map(Untrusted::clean_line)
                .collect(),
            blockers: blockers(issue.map(AsRef::as_ref), entry.map(|entry| &entry.reason), fleet),
        }
    }

    /// The second line of the selected row: its reason in full, and the facts behind it. `behind` names the
    /// issues that wait for its run.
    pub(super) fn second(&self, row: &Row, behind: &IssuesBehind, snapshot: &Snapshot) -> String {
        let run = row.run.and_then(|id| snapshot.fleet.runs.get(&id)).map(AsRef::as_ref);
        let facts = run.map(|run| facts(run, behind, snapshot)).unwrap_or_default();
        let reason = std::iter::once(&self.reason).filter(|reason| !reason.is_empty());
        reason.chain(&facts).map(String::as_str).collect::<Vec<_>>().join(" · ")
    }
}

/// The issues and runs that an issue waits for: `acme/pulse#9`, `r2`.
fn blockers(issue: Option<&Issue>, reason: Option<&Reason>, fleet: &Fleet) -> Vec<String> {
    let mut names = Vec::new();
    if let Some(issue) = issue {
        let open = issue.blockers.iter().filter(|known| known.state != BlockerState::Closed);
        names.extend(open.map(|known| match known.reference.clean_line() {
            short if short.starts_with('#') => format!("{}{short}", issue.key.repo),
            whole => whole,
        }));
    }
    if let Some(Reason::RepoBusy { run } | Reason::RepoFrozen { run }) = reason {
        names.push(run.to_string());
        let key = fleet.runs.get(run).and_then(|run| run.work.issue());
        names.extend(key.map(ToString::to_string));
    }
    names
}

/// The issues that wait for the lock of a run, for each such run: one more at most than a second line names.
pub(super) type IssuesBehind = BTreeMap<RunId, Vec<IssueKey>>;

/// Finds the issues behind each run. It looks at every issue, so it is for a new snapshot and not for a frame.
pub(super) fn issues_behind(fleet: &Fleet) -> IssuesBehind {
    let mut all = IssuesBehind::new();
    for (key, entry) in &fleet.ledger {
        if let Reason::RepoBusy { run } | Reason::RepoFrozen { run } = &entry.reason {
            let behind = all.entry(*run).or_default();
            if behind.len() <= NAMED {
                behind.push(key.clone());
            }
        }
    }
    all
}

/// What a run's state means for others: the permit that it holds, and the issues behind its lock.
fn facts(run: &Run, behind: &IssuesBehind, snapshot: &Snapshot) -> Vec<String> {
    let fleet = &snapshot.fleet;
    let mut facts = Vec::new();
    if fleet.waits_for_human(run) && run.has_permit() {
        facts.push("holds a permit".to_owned());
    }
    if let Some(known) = run.agent.equipment.as_ref().filter(|known| !known.unasked.is_empty()) {
        facts.push(format!("{} can act without asking: {}", known.agent, known.unasked.join(", ")));
    }
    if let Some(held) = behind.get(&run.id) {
        let more = if held.len() > NAMED { ", ..." } else { "" };
        let names: Vec<String> = held.iter().take(NAMED).map(|key| short_key(key, fleet)).collect();
        facts.push(format!("blocks {}{more}", names.join(", ")));
    }
    facts
}

/// The state of a run, with its activity, or the reason of its end.
fn standing(run: &Run, question: Option<&Escalation>, snapshot: &Snapshot) -> String {
    let now = snapshot.fleet.last_event;
    if let Some(outcome) = run.progress.outcome {
        return format!("{}: {}", outcome.as_str(), run.progress.why.clean_line());
    }
    if let Some(question) = question.filter(|_| snapshot.fleet.waits_for_human(run)) {
        return format!("{}: {}", question.kind.as_str(), question.title.clean_line());
    }
    if run.agent.quiet.is_some() || run.agent.retry.is_some() {
        return snapshot.doing(run, now);
    }
    let attempt = match run.progress.attempts {
        0 => String::new(),
        attempts => format!(" (attempt {attempts})"),
    };
    format!("{}{attempt}", snapshot.standing(run, now))
}

/// The widths of the columns in a pane.
#[derive(Debug, Clone, Copy)]
pub(super) struct Columns {
    /// The owner is shown.
    owner: bool,
    priority: bool,
    key: usize,
    title: usize,
    /// None of it where there is little room: the second line has it.
    reason: usize,
}

impl Columns {
    /// `longest` is the width of the longest title that is shown: a reason takes the room that no title
    /// needs.
    pub(super) fn of(width: usize, longest: usize) -> Self {
        let (owner, priority) = (width >= 84, width >= 60);
        let key = match width {
            84.. => 18,
            60.. => 14,
            _ => 11,
        };
        let fixed = 1 + 2 + if priority { 3 } else { 0 } + key + 1 + 4;
        let rest = width.saturating_sub(fixed);
        let least = if rest >= 36 { rest * 9 / 20 } else { 0 };
        let title = longest.max(TITLE) + 1;
        let reason = if least > 0 { rest.saturating_sub(title).max(least) } else { 0 };
        Self { owner, priority, key, title: rest.saturating_sub(reason), reason }
    }

    pub(super) fn spans(self, text: &RowText, scene: &Scene<'_>) -> Vec<Span<'static>> {
        let theme = scene.theme;
        let cut = theme.marks.cut;
        let key = if self.owner { &text.key } else { &text.short };
        let mut spans = vec![piece(format!("{} ", text.mark), theme, text.role)];
        if self.priority {
            spans.push(piece(column(&text.priority, 3, ""), theme, Tone::Dim));
        }
        spans.push(piece(column(key, self.key, cut), theme, Tone::Text));
        spans.push(piece(format!(" {:>3} ", age(scene.now, text.since)), theme, Tone::Dim));
        let gap = usize::from(self.reason > 0);
        let title = column(&text.title, self.title.saturating_sub(gap), cut);
        spans.push(piece(title, theme, Tone::Text));
        if self.reason > 0 {
            let reason = format!(" {}", fit(&text.reason, self.reason, cut));
            spans.push(piece(reason, theme, text.role));
        }
        spans
    }
}
