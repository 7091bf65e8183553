//! Where issues come from, and where their labels, comments and state are written back.
//!
//! ```text
//! runtime::tracker_watch → TrackerRouter::list → FolderTracker (Markdown files) ┐
//!                                         → GitHubTracker (REST, GraphQL)  ┴→ Listing → core
//! core, before a claim → runtime::tracker_watch → read → Issue → core
//! core → outbox step → runtime::delivery → set_label, comment, progress, close, tidy
//! ```

pub mod folder;
mod front_matter;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
pub mod github;
pub mod router;

use std::collections::{BTreeMap, BTreeSet};

use futures::future::BoxFuture;

use crate::core::model::id::{IssueKey, OutboxId, Repo};
use crate::core::model::issue::{Issue, RepoIdentity};
use crate::core::model::outbox::StandingLabel;
use crate::core::model::time::Timestamp;
use crate::github::ApiError;

/// The issues of a tracker at one reading.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listing {
    /// Every issue that was read, open and closed.
    pub issues: Vec<Issue>,
    /// One line for each issue or repository that can't be read, for the operator.
    pub problems: Vec<String>,
    /// The repositories that can't be read, and why. Their known issues stay as they are, and none
    /// of them starts.
    pub unread: BTreeMap<Repo, String>,
    /// The repositories that the names lead to, where the tracker has such identities.
    pub identities: BTreeMap<Repo, RepoIdentity>,
}

/// Why a tracker could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum TrackerError {
    /// A file or the folder can't be read or written.
    #[error("{path}")]
    Io {
        /// The file or folder.
        path: String,
        /// The error of the operating system.
        source: std::io::Error,
    },
    /// The tracker has no such issue.
    #[error("{0} is not in the tracker")]
    Missing(IssueKey),
    /// The content of a file is not an issue.
    #[error("{path}: {why}")]
    Invalid {
        /// The file that holds the issue, or may hold it.
        path: String,
        /// The mistake in the file, in a line.
        why: String,
    },
    /// The name of a repository leads to another repository than before.
    #[error("{repo} is another repository now: number {now} in place of {known}")]
    Replaced {
        /// The repository as the configuration names it.
        repo: Repo,
        /// The number that afk knows.
        known: u64,
        /// The number that the name leads to.
        now: u64,
    },
    /// The repository is read-only, so no issue of it can be finished.
    #[error("{0} is archived, so nothing can be written there")]
    Archived(Repo),
    /// The issue was transferred to another repository.
    #[error("{issue} was transferred to {to}")]
    Transferred {
        /// The issue as afk knows it.
        issue: IssueKey,
        /// The issue that its address leads to.
        to: String,
    },
    /// Another afk has claimed the issue for the same arming, and came first.
    #[error("another afk claimed {0} first")]
    ClaimedElsewhere(IssueKey),
    /// GitHub refused a request or can't be reached.
    #[error(transparent)]
    GitHub(#[from] ApiError),
}

impl TrackerError {
    /// Whether retries can't help until a person changes something.
    #[must_use]
    pub const fn is_permanent(&self) -> bool {
        match self {
            Self::Missing(_)
            | Self::Replaced { .. }
            | Self::Archived(_)
            | Self::ClaimedElsewhere(_)
            | Self::Transferred { .. } => true,
            Self::GitHub(error) => matches!(error.status(), Some(403 | 404 | 410 | 422 | 451)),
            Self::Io { .. } | Self::Invalid { .. } => false,
        }
    }

    /// Whether the write may have taken effect, or may still do so.
    #[must_use]
    pub const fn is_doubtful(&self) -> bool {
        matches!(self, Self::GitHub(ApiError::Unknown { .. }))
    }
}

/// A source of issues. Every write is idempotent, since the outbox repeats it after a crash.
pub trait Tracker: Send + Sync {
    /// Reads every issue with the ready label, and those in `follow` whatever their labels are. A
    /// failure is an error, never an empty list.
    fn list<'a>(
        &'a self,
        follow: &'a BTreeSet<IssueKey>,
    ) -> BoxFuture<'a, Result<Listing, TrackerError>>;
    /// Reads one issue as it is now, past every cache; none if the tracker has no such issue.
    fn read<'a>(
        &'a self,
        issue: &'a IssueKey,
    ) -> BoxFuture<'a, Result<Option<Issue>, TrackerError>>;
    /// Takes the known identities of repositories, so that another repository under a known name is
    /// neither read nor written.
    fn remember(&self, _known: &BTreeMap<Repo, RepoIdentity>) {}
    /// The repository that a name leads to now, where the tracker has such identities.
    fn identity<'a>(
        &'a self,
        _repo: &'a Repo,
    ) -> BoxFuture<'a, Result<Option<RepoIdentity>, TrackerError>> {
        Box::pin(async { Ok(None) })
    }
    /// Removes copies of our comment of an outbox entry, or of the progress comment, which a lost
    /// request wrote late.
    fn tidy<'a>(
        &'a self,
        _issue: &'a IssueKey,
        _of: Option<OutboxId>,
    ) -> BoxFuture<'a, Result<(), TrackerError>> {
        Box::pin(async { Ok(()) })
    }
    /// Sets the one label of ours that an issue should carry and removes the others; without a
    /// label it removes the ready label too, so that the issue is not picked again.
    fn set_label<'a>(
        &'a self,
        issue: &'a IssueKey,
        label: Option<StandingLabel>,
    ) -> BoxFuture<'a, Result<(), TrackerError>>;
    /// Adds a comment, unless one of the same outbox entry exists.
    fn comment<'a>(
        &'a self,
        issue: &'a IssueKey,
        entry: OutboxId,
        text: &'a str,
    ) -> BoxFuture<'a, Result<(), TrackerError>>;
    /// Writes or edits the one comment that shows the progress of an issue. With `claim`, the time of
    /// its arming, the comment also claims the issue: of two afks that claim it at once, the one
    /// whose comment is older goes on, and the other one gets [`TrackerError::ClaimedElsewhere`].
    fn progress<'a>(
        &'a self,
        issue: &'a IssueKey,
        text: &'a str,
        claim: Option<Timestamp>,
    ) -> BoxFuture<'a, Result<(), TrackerError>>;
    /// Closes an issue as completed.
    fn close<'a>(&'a self, issue: &'a IssueKey) -> BoxFuture<'a, Result<(), TrackerError>>;
}
