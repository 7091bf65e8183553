//! Where issues come from, and where their standing is written back.

pub mod folder;
pub mod front_matter;
pub mod github;
pub mod joined;

use std::collections::{BTreeMap, BTreeSet};

use futures::future::BoxFuture;

use crate::core::model::id::{IssueKey, OutboxId, Repo};
use crate::core::model::issue::Issue;
use crate::core::model::outbox::StandingLabel;
use crate::github::ApiError;

/// What a tracker told.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listing {
    /// Every issue, open and closed.
    pub issues: Vec<Issue>,
    /// What could not be read, a line each, for the operator.
    pub problems: Vec<String>,
    /// Repositories that could not be read, and why: what is known of their issues stays, and none
    /// of them is started.
    pub unread: BTreeMap<Repo, String>,
}

/// Why a tracker could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum TrackerError {
    /// A file or folder.
    #[error("{path}: {source}")]
    Io {
        /// Which.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// An issue isn't there.
    #[error("{0} is not in the tracker")]
    Missing(IssueKey),
    /// A file can't be read as an issue.
    #[error("{path}: {why}")]
    Invalid {
        /// Which.
        path: String,
        /// Why, in a line.
        why: String,
    },
    /// GitHub.
    #[error(transparent)]
    GitHub(#[from] ApiError),
}

/// A tracker. Every write is idempotent: done twice is done once.
pub trait Tracker: Send + Sync {
    /// All issues that may concern us, and those that are followed whatever their labels are. A
    /// failure is an error, never an empty list.
    fn list<'a>(
        &'a self,
        follow: &'a BTreeSet<IssueKey>,
    ) -> BoxFuture<'a, Result<Listing, TrackerError>>;
    /// Puts on the one label of ours that an issue should carry and takes the others off; without
    /// a label also the ready label, since the issue is no longer to be picked.
    fn set_label<'a>(
        &'a self,
        issue: &'a IssueKey,
        label: Option<StandingLabel>,
    ) -> BoxFuture<'a, Result<(), TrackerError>>;
    /// Adds a comment unless one of the same entry is there.
    fn comment<'a>(
        &'a self,
        issue: &'a IssueKey,
        entry: OutboxId,
        text: &'a str,
    ) -> BoxFuture<'a, Result<(), TrackerError>>;
    /// Writes the one comment that shows how far an issue has come, or edits it.
    fn progress<'a>(
        &'a self,
        issue: &'a IssueKey,
        text: &'a str,
    ) -> BoxFuture<'a, Result<(), TrackerError>>;
    /// Closes an issue.
    fn close<'a>(&'a self, issue: &'a IssueKey) -> BoxFuture<'a, Result<(), TrackerError>>;
}
