//! The one thing that keys act on: the row under the cursor of the focused pane, or the thing that
//! the overlay on top shows.
//!
//! Panes and overlays name it (`Component::subject`); the footer, dialogs, the transcript and the
//! actions on runs all ask the same subject, so that they can't disagree.

use crate::core::fleet::Fleet;
use crate::core::model::id::{IssueKey, Repo, RunId};
use crate::core::model::run::Run;
use crate::core::model::untrusted::Untrusted;
use crate::tui::widgets::text::fit;

/// Columns of a title in a dialog: the title of a job is its whole prompt.
const TITLE: usize = 80;

/// The one thing that keys act on; see the module.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Subject {
    /// An issue, with or without a run; actions on runs concern its newest one.
    Issue(IssueKey),
    Run(RunId),
}

impl Subject {
    /// The run that actions on runs concern; none for an issue that was never claimed.
    pub(crate) fn run<'a>(&self, fleet: &'a Fleet) -> Option<&'a Run> {
        let id = match self {
            Self::Issue(key) => fleet.last_run.get(key)?,
            Self::Run(run) => run,
        };
        fleet.runs.get(id).map(AsRef::as_ref)
    }

    /// The issue, where there is one.
    pub(crate) fn issue<'a>(&'a self, fleet: &'a Fleet) -> Option<&'a IssueKey> {
        match self {
            Self::Issue(key) => Some(key),
            Self::Run(run) => fleet.runs.get(run)?.work.issue(),
        }
    }

    /// The name in the footer, as short as it is unique: `pulse#9`, or `r4` for a run without an
    /// issue.
    pub(crate) fn name(&self, fleet: &Fleet) -> String {
        let Some(key) = self.issue(fleet) else {
            return self.run(fleet).map_or_else(String::new, |run| run.id.to_string());
        };
        let older = match self {
            Self::Run(run) if fleet.last_run.get(key) != Some(run) => format!(" {run}"),
            _ => String::new(),
        };
        format!("{}{older}", short_key(key, fleet))
    }

    /// The name in a dialog: `pulse#9 "Show the phase of the moon" (r7)`.
    pub(crate) fn long(&self, fleet: &Fleet) -> String {
        let run = self.run(fleet);
        let known = self.issue(fleet).and_then(|key| fleet.issues.get(key));
        let title = known.map(|issue| &issue.title).or_else(|| run.map(|run| run.work.title()));
        let quoted = |title: &Untrusted| format!(" \"{}\"", fit(&title.clean_line(), TITLE, "..."));
        let title = title.map(quoted).unwrap_or_default();
        match (self.issue(fleet), run) {
            (Some(key), Some(run)) => format!("{}{title} ({})", short_key(key, fleet), run.id),
            (Some(key), None) => format!("{}{title}", short_key(key, fleet)),
            (None, _) => format!("{}{title}", self.name(fleet)),
        }
    }
}

/// An issue's key without the owner, unless another repository has the same name.
pub(crate) fn short_key(key: &IssueKey, fleet: &Fleet) -> String {
    let (repo, name) = (&key.repo, key.repo.name());
    let twin = |other: &&Repo| other.name() == name && *other != repo;
    if fleet.policy.allowlist.iter().any(|other| twin(&other)) {
        return key.to_string();
    }
    format!("{name}#{}", key.number)
}
