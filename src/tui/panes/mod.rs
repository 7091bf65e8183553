//! The five panes, a file each.

pub mod breakglass;
pub mod deploy;
pub mod queue;
pub mod transcript;
pub mod worktrees;

use ratatui::style::Style;
use ratatui::text::{Line, Span};

use super::theme::{Marks, Role, Theme};
use crate::core::model::run::{Outcome, Run};
use crate::core::model::verdict::Verdict;

/// The panes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Pane {
    Queue,
    Worktrees,
    Transcript,
    Deploy,
    Breakglass,
}

impl Pane {
    /// All of them, by their keys.
    pub const ALL: [Self; 5] =
        [Self::Queue, Self::Worktrees, Self::Transcript, Self::Deploy, Self::Breakglass];

    /// Its title.
    #[must_use]
    pub const fn title(self) -> &'static str {
        match self {
            Self::Queue => "Queue",
            Self::Worktrees => "Worktrees",
            Self::Transcript => "Transcript",
            Self::Deploy => "Deploy health",
            Self::Breakglass => "Breakglass",
        }
    }

    /// Its title where there is little room.
    #[must_use]
    pub const fn short(self) -> &'static str {
        match self {
            Self::Queue => "Queue",
            Self::Worktrees => "Trees",
            Self::Transcript => "Script",
            Self::Deploy => "Deploy",
            Self::Breakglass => "Break",
        }
    }

    /// Its place among them.
    #[must_use]
    pub fn index(self) -> usize {
        Self::ALL.iter().position(|pane| *pane == self).unwrap_or(0)
    }
}

/// The mark and the colour of where a run stands.
#[must_use]
pub fn run_mark(run: &Run, marks: &Marks) -> (&'static str, Role) {
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
#[must_use]
pub const fn verdict_mark(verdict: Option<Verdict>, marks: &Marks) -> (&'static str, Role) {
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

/// A row of pieces; the selected one is marked by a sign as well as by colour.
pub(super) fn row(
    selected: bool,
    focused: bool,
    theme: &Theme,
    spans: Vec<Span<'static>>,
) -> Line<'static> {
    let sign = if selected { ">" } else { " " };
    let mut all = vec![Span::styled(sign.to_owned(), theme.style(Role::Accent))];
    all.extend(spans);
    let line = Line::from(all);
    if selected && focused {
        // The whole row in the selection's colours: its own would not be readable on them.
        let text: String = line.spans.iter().map(|s| s.content.as_ref()).collect();
        return Line::from(Span::styled(text, theme.style(Role::Selection)));
    }
    line
}

/// A dim line that says why a pane is empty.
pub(super) fn empty(text: &str, theme: &Theme) -> Vec<Line<'static>> {
    vec![Line::from(Span::styled(format!(" {text}"), theme.style(Role::Dim)))]
}

/// A piece in a role.
pub(super) fn piece(text: impl Into<String>, theme: &Theme, role: Role) -> Span<'static> {
    let style: Style = theme.style(role);
    Span::styled(text.into(), style)
}
