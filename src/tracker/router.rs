//! Both trackers behind one: the runtime asks the router, which knows for each repository whether its
//! issues are GitHub's or files of the folder.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures::future::BoxFuture;

use super::folder::FolderTracker;
use super::github::GitHubTracker;
use super::{Listing, Tracker, TrackerError};
use crate::core::model::id::{IssueKey, OutboxId, Repo};
use crate::core::model::issue::{Issue, RepoIdentity};
use crate::core::model::outbox::StandingLabel;
use crate::core::model::time::Timestamp;
use crate::error::chain;

/// The trackers as configured; at least one of the two is there.
#[derive(Debug)]
pub struct TrackerRouter {
    /// The folder of Markdown issues.
    pub folder: Option<Arc<FolderTracker>>,
    /// GitHub, and the repositories whose issues are there.
    pub github: Option<(Arc<GitHubTracker>, BTreeSet<Repo>)>,
}

impl TrackerRouter {
    /// The tracker of the issue's repository.
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

impl Tracker for TrackerRouter {
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
                let on_github = repos.contains(&issue.key.repo);
                if on_github {
                    let line = format!(
                        "{} is in the folder, but the issues of its repository are on GitHub",
                        issue.key
                    );
                    all.problems.push(line);
                }
                !on_github
            });
            match github.list(follow).await {
                Ok(listing) => {
                    all.issues.extend(listing.issues);
                    all.problems.extend(listing.problems);
                    all.unread.extend(listing.unread);
                    all.identities.extend(listing.identities);
                }
                Err(error) => {
                    let why = chain(&error);
                    all.problems.push(why.clone());
                    let unread: BTreeMap<Repo, String> =
                        repos.iter().map(|repo| (repo.clone(), why.clone())).collect();
                    all.unread.extend(unread);
                }
            }
            Ok(all)
        })
    }

    fn read<'a>(
        &'a self,
        issue: &'a IssueKey,
    ) -> BoxFuture<'a, Result<Option<Issue>, TrackerError>> {
        Box::pin(async move { self.of(issue)?.read(issue).await })
    }

    fn remember(&self, known: &BTreeMap<Repo, RepoIdentity>) {
        if let Some((github, _)) = &self.github {
            github.remember(known);
        }
    }

    fn identity<'a>(
        &'a self,
        repo: &'a Repo,
    ) -> BoxFuture<'a, Result<Option<RepoIdentity>, TrackerError>> {
        Box::pin(async move {
            match &self.github {
                Some((github, repos)) if repos.contains(repo) => github.identity(repo).await,
                _ => Ok(None),
            }
        })
    }

    fn tidy<'a>(
        &'a self,
        issue: &'a IssueKey,
        of: Option<OutboxId>,
    ) -> BoxFuture<'a, Result<(), TrackerError>> {
        Box::pin(async move { self.of(issue)?.tidy(issue, of).await })
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
        claim: Option<Timestamp>,
    ) -> BoxFuture<'a, Result<(), TrackerError>> {
        Box::pin(async move { self.of(issue)?.progress(issue, text, claim).await })
    }

    fn close<'a>(&'a self, issue: &'a IssueKey) -> BoxFuture<'a, Result<(), TrackerError>> {
        Box::pin(async move { self.of(issue)?.close(issue).await })
    }
}
