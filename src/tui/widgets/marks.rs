//! Marks and colours of runs, verdicts and lines of a diff.

use crate::core::model::run::{Outcome, Run};
use crate::core::model::verdict::Verdict;
use crate::tui::theme::{Marks, Role};

/// The mark and the colour of a run's state.
pub(crate) fn run_mark(run: &Run, marks: &Marks) -> (&'static str, Role) {
    match run.outcome {
        Some(Outcome::Done) => (marks.done, Role::Good),
        Some(Outcome::NeedsHuman) => (marks.human, Role::Warn),
        Some(Outcome::Frozen) => (marks.frozen, Role::Bad),
        Some(Outcome::Cancelled | Outcome::Failed) => (marks.stopped, Role::Dim),
        None if run.has_permit() => (marks.busy, Role::Busy),
        None => (marks.waiting, Role::Dim),
    }
}

/// The mark and the colour of a verdict; none is "not yet".
pub(crate) const fn verdict_mark(verdict: Option<Verdict>, marks: &Marks) -> (&'static str, Role) {
    match verdict {
        Some(Verdict::Green) => (marks.done, Role::Good),
        Some(
            Verdict::Red | Verdict::NoCi | Verdict::Stuck | Verdict::Lost | Verdict::NotApplied,
        ) => (marks.bad, Role::Bad),
        Some(Verdict::Pending) => (marks.busy, Role::Busy),
        Some(Verdict::Unknown) => (marks.unknown, Role::Warn),
        None => (marks.open, Role::Dim),
    }
}

/// The colour of a line of a unified diff, whose sign says the same; `other` for all other lines.
pub(crate) fn diff_role(line: &str, other: Role) -> Role {
    match line.as_bytes().first() {
        Some(b'+') => Role::Good,
        Some(b'-') => Role::Bad,
        Some(b'@') => Role::Accent,
        _ => other,
    }
}
