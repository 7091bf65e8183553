//! Where issues come from, and where their labels, comments and state are written back.
//!
//! ```text
//! runtime::tracker_watch → TrackerRouter::list → FolderTracker (Markdown files) ┐
//!                                         → GitHubTracker (REST, GraphQL)  ┴→ Listing → core
//! core → outbox step → runtime::delivery → set_label, comment, progress, close
//! ```

pub mod folder;
mod front_matter;
pub mod github;
pub mod router;

use std::collections::{BTreeMap, BTreeSet};

use futures::future::BoxFuture;

use crate::core::model::id::{IssueKey, OutboxId, Repo};
use crate::core::model::issue::Issue;
use crate::core::model::outbox::StandingLabel;
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
    /// GitHub refused a request or can't be reached.
    #[error(transparent)]
    GitHub(#[from] ApiError),
}

/// A source of issues. Every write is idempotent, since the outbox repeats it after a crash.
pub trait Tracker: Send + Sync {
    /// Reads every issue with the ready label, and those in `follow` whatever their labels are. A
    /// failure is an error, never an empty list.
    fn list<'a>(
        &'a self,
        follow: &'a BTreeSet<IssueKey>,
    ) -> BoxFuture<'a, Result<Listing, TrackerError>>;
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
    /// Writes or edits the one comment that shows the progress of an issue.
    fn progress<'a>(
        &'a self,
        issue: &'a IssueKey,
        text: &'a str,
    ) -> BoxFuture<'a, Result<(), TrackerError>>;
    /// Closes an issue as completed.
    fn close<'a>(&'a self, issue: &'a IssueKey) -> BoxFuture<'a, Result<(), TrackerError>>;
}
