//! Marks and colours of runs, verdicts and lines of a diff.

use crate::core::model::run::{Outcome, Run};
use crate::core::model::verdict::Verdict;
use crate::tui::theme::{Marks, Tone};

/// The mark and the colour of a run's state; `asks` where its agent waits for a human, which is no work.
pub(crate) fn run_mark(run: &Run, asks: bool, marks: &Marks) -> (&'static str, Tone) {
    match run.progress.outcome {
        None if asks => (marks.asks, Tone::Warn),
        Some(Outcome::Done) => (marks.done, Tone::Good),
        Some(Outcome::NeedsHuman) => (marks.human, Tone::Warn),
        Some(Outcome::Frozen) => (marks.frozen, Tone::Bad),
        Some(Outcome::Cancelled | Outcome::Failed) => (marks.stopped, Tone::Dim),
        None if run.has_permit() => (marks.busy, Tone::Busy),
        None => (marks.waiting, Tone::Dim),
    }
}

/// The mark and the colour of a verdict; none is "not yet".
pub(crate) const fn verdict_mark(verdict: Option<Verdict>, marks: &Marks) -> (&'static str, Tone) {
    match verdict {
        Some(Verdict::Green) => (marks.done, Tone::Good),
        Some(
            Verdict::Red | Verdict::NoCi | Verdict::Stuck | Verdict::Lost | Verdict::NotApplied,
        ) => (marks.bad, Tone::Bad),
        Some(Verdict::Pending) => (marks.busy, Tone::Busy),
        Some(Verdict::Unknown) => (marks.unknown, Tone::Warn),
        None => (marks.open, Tone::Dim),
    }
}

/// The colour of a line of a unified diff, whose sign says the same; `other` for all other lines.
pub(crate) fn diff_role(line: &str, other: Tone) -> Tone {
    match line.as_bytes().first() {
        Some(b'+') => Tone::Good,
        Some(b'-') => Tone::Bad,
        Some(b'@') => Tone::Accent,
        _ => other,
    }
}
