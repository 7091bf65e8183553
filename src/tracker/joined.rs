//! Both trackers as one: each repository's issues come from one of them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures::future::BoxFuture;

use super::folder::Folder;
use super::github::GitHub;
use super::{Listing, Tracker, TrackerError};
use crate::core::model::id::{IssueKey, OutboxId, Repo};
use crate::core::model::outbox::StandingLabel;
use crate::core::model::untrusted::clean_line;

/// See the module.
#[derive(Debug)]
pub struct Joined {
    /// The folder of Markdown issues.
    pub folder: Option<Arc<Folder>>,
    /// GitHub, and the repositories that are its.
    pub github: Option<(Arc<GitHub>, BTreeSet<Repo>)>,
}

impl Joined {
    /// The tracker of an issue's repository.
    fn of(&self, issue: &IssueKey) -> Result<&dyn Tracker, TrackerError> {
        if let Some((github, repos)) = &self.github
            && repos.contains(&issue.repo)
        {
            return Ok(github.as_ref());
        }
        let folder = self.folder.as_deref().map(|folder| folder as &dyn Tracker);
        folder.ok_or_else(|| TrackerError::Missing(issue.clone()))
    }
}

impl Tracker for Joined {
    fn list<'a>(
        &'a self,
        follow: &'a BTreeSet<IssueKey>,
    ) -> BoxFuture<'a, Result<Listing, TrackerError>> {
        Box::pin(async move {
            let mut all = match &self.folder {
                Some(folder) => folder.list(follow).await?,
                None => Listing::default(),
            };
            let Some((github, repos)) = &self.github else { return Ok(all) };
            all.issues.retain(|issue| {
                let theirs = repos.contains(&issue.key.repo);
                if theirs {
                    let line = format!("{}: its repository's issues are GitHub's", issue.key);
                    all.problems.push(line);
                }
                !theirs
            });
            match github.list(follow).await {
                Ok(listing) => {
                    all.issues.extend(listing.issues);
                    all.problems.extend(listing.problems);
                    all.unread.extend(listing.unread);
                }
                Err(error) => {
                    let why = clean_line(&error.to_string());
                    all.problems.push(why.clone());
                    let unread: BTreeMap<Repo, String> =
                        repos.iter().map(|repo| (repo.clone(), why.clone())).collect();
                    all.unread.extend(unread);
                }
            }
            Ok(all)
        })
    }

    fn set_label<'a>(
        &'a self,
        issue: &'a IssueKey,
        label: Option<StandingLabel>,
    ) -> BoxFuture<'a, Result<(), TrackerError>> {
        Box::pin(async move { self.of(issue)?.set_label(issue, label).await })
    }

    fn comment<'a>(
        &'a self,
        issue: &'a IssueKey,
        entry: OutboxId,
        text: &'a str,
    ) -> BoxFuture<'a, Result<(), TrackerError>> {
        Box::pin(async move { self.of(issue)?.comment(issue, entry, text).await })
    }

    fn progress<'a>(
        &'a self,
        issue: &'a IssueKey,
        text: &'a str,
    ) -> BoxFuture<'a, Result<(), TrackerError>> {
        Box::pin(async move { self.of(issue)?.progress(issue, text).await })
    }

    fn close<'a>(&'a self, issue: &'a IssueKey) -> BoxFuture<'a, Result<(), TrackerError>> {
        Box::pin(async move { self.of(issue)?.close(issue).await })
    }
}
