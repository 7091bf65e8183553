//! GitHub's issues as a tracker: ready and followed issues with their arming (table T1) and blockers
//! (table T2), and the labels and comments that afk writes back.

mod arming;
mod blockers;
mod dto;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod repository;
mod writes;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use futures::future::BoxFuture;
use futures::{StreamExt, TryStreamExt};
use http::Method;
use serde_json::json;
use tokio::time::Instant;

use self::arming::{ArmingHistory, HistoryUse};
use self::dto::IssueDto;
use super::{Listing, Tracker, TrackerError};
use crate::config::repos::LabelsConfig;
use crate::core::model::gate_report::ChangeClass;
use crate::core::model::id::{Actor, IssueKey, OutboxId, Repo};
use crate::core::model::issue::{Arming, Issue, LABELS, Priority, RepoIdentity};
use crate::core::model::outbox::StandingLabel;
use crate::core::model::time::Timestamp;
use crate::core::model::untrusted::clean_line;
use crate::core::tables::arming::RepoRight;
use crate::error::chain;
use crate::github::{Api, ApiError, time};

/// The issues that are completed at once.
const AT_ONCE: usize = 4;

/// The settings of the tracker, from several sections of the configuration.
#[derive(Debug, Clone)]
pub struct GitHubTrackerConfig {
    /// The repositories whose issues are read.
    pub repos: BTreeSet<Repo>,
    /// The names of afk's labels.
    pub labels: LabelsConfig,
    /// The accounts that may arm an issue whatever their role is.
    pub trusted: BTreeSet<Actor>,
    /// Whether the role `triage` may arm an issue.
    pub triage: bool,
    /// Whether a blocker that was closed as not planned still blocks.
    pub not_planned_blocks: bool,
    /// The journal's id, which marks this afk's comments.
    pub journal: String,
}

/// The tracker of all repositories on one GitHub.
#[derive(Debug)]
pub struct GitHubTracker {
    api: Arc<Api>,
    config: GitHubTrackerConfig,
    /// Histories by issue, each with the `updated_at` that it was read at: read again only after a
    /// change.
    histories: Mutex<BTreeMap<IssueKey, (String, ArmingHistory)>>,
    rights: Mutex<BTreeMap<(Repo, Actor), (RepoRight, Instant)>>,
    /// The repositories that the names led to before, from the journal.
    known: Mutex<BTreeMap<Repo, RepoIdentity>>,
}

impl GitHubTracker {
    /// A tracker of the configured repositories; it sends nothing yet.
    #[must_use]
    pub fn new(api: Arc<Api>, config: GitHubTrackerConfig) -> Self {
        let (histories, rights, known) = (Mutex::default(), Mutex::default(), Mutex::default());
        Self { api, config, histories, rights, known }
    }

    fn path(issue: &IssueKey) -> String {
        format!("/repos/{}/issues/{}", issue.repo, issue.number)
    }

    /// Reads the ready issues of a repository, and those in `follow`.
    async fn repository(
        &self,
        repo: &Repo,
        follow: &BTreeSet<IssueKey>,
        us: &Actor,
        listing: &mut Listing,
    ) -> Result<(), TrackerError> {
        let (identity, archived) = self.repository_state(repo).await?;
        listing.identities.insert(repo.clone(), identity.clone());
        self.confirm(repo, &identity)?;
        if !identity.name.eq_ignore_ascii_case(repo.as_str()) {
            let name = &identity.name;
            listing.problems.push(format!("{repo} has another name now: {name}"));
        }
        if archived {
            return Err(TrackerError::Archived(repo.clone()));
        }
        let label = encoded(&self.config.labels.ready);
        let path = format!("/repos/{repo}/issues?labels={label}&state=open&per_page=100");
        let mut found: Vec<IssueDto> = self.api.list(&path, None).await?;
        for key in follow.iter().filter(|key| key.repo == *repo) {
            if !found.iter().any(|known| known.number == key.number) {
                match self.api.get::<IssueDto>(&Self::path(key)).await {
                    Ok(issue) => match repository::moved_to(key, &identity, &issue) {
                        Some(to) => {
                            listing.problems.push(format!("{key} was transferred to {to}"));
                        }
                        None => found.push(issue),
                    },
                    Err(error) if deleted(&error) => {}
                    Err(error) => return Err(error.into()),
                }
            }
        }
        let issues = found.into_iter().filter(|dto| dto.pull_request.is_none());
        let issues = issues.map(|dto| self.issue(repo, dto, us, HistoryUse::Cached));
        let issues = futures::stream::iter(issues).buffer_unordered(AT_ONCE);
        listing.issues.extend(issues.try_collect::<Vec<Issue>>().await?);
        Ok(())
    }

    /// Completes an issue with its arming and its blockers, which only an open one needs.
    async fn issue(
        &self,
        repo: &Repo,
        dto: IssueDto,
        us: &Actor,
        history: HistoryUse,
    ) -> Result<Issue, ApiError> {
        let key = IssueKey { repo: repo.clone(), number: dto.number };
        let open = dto.state == "open";
        let ready = dto.has(&self.config.labels.ready);
        let unknown = |error: &ApiError| Arming::Unknown { why: chain(error) };
        let mut arming = Arming::NotReady;
        let mut blockers = Vec::new();
        if ready && open {
            arming = match self.arming(&key, &dto, us, history).await {
                Ok(arming) => arming,
                // Reported once for the repository, and not for each of its issues.
                Err(error) if error.concerns_the_token() => return Err(error),
                Err(error) => unknown(&error),
            };
            match self.blockers(&key, &dto).await {
                Ok(found) => blockers = found,
                Err(error) if error.concerns_the_token() => return Err(error),
                Err(error) => arming = unknown(&error),
            }
        }
        Ok(Issue {
            key,
            title: dto.title.as_str().into(),
            link: dto.html_url.as_deref().map(Into::into),
            body: dto.body.as_deref().unwrap_or_default().into(),
            priority: dto.labels.iter().filter_map(|l| Priority::from_label(l.name())).min(),
            created: time(&dto.created_at),
            arming,
            blockers,
            open,
            class: ChangeClass::from_labels(dto.labels.iter().map(dto::LabelDto::name)),
            needs_human: dto.has(&self.config.labels.human),
            in_progress: dto.has(&self.config.labels.in_progress),
            labels: dto.labels.iter().take(LABELS).map(|l| l.name().into()).collect(),
        })
    }
}

/// Whether a refusal means that the issue is no longer in a repository which can be read.
fn deleted(error: &ApiError) -> bool {
    matches!(error.status(), Some(404 | 410 | 451))
}

/// Whether a refusal means that the issue is deleted, moved or hidden from the token.
fn gone(error: &ApiError) -> bool {
    matches!(error.status(), Some(403 | 404 | 410 | 301 | 451))
}

/// The name in the mark of a comment: its outbox entry, or the progress comment.
fn mark_of(entry: Option<OutboxId>) -> String {
    entry.map_or_else(|| "progress".into(), |entry| entry.to_string())
}

/// Encodes a name as a part of an address (RFC 3986: all but the unreserved characters).
fn encoded(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

impl Tracker for GitHubTracker {
    fn list<'a>(
        &'a self,
        follow: &'a BTreeSet<IssueKey>,
    ) -> BoxFuture<'a, Result<Listing, TrackerError>> {
        Box::pin(async move {
            let mut listing = Listing::default();
            let us = Actor(self.api.login().await?);
            for repo in &self.config.repos {
                match self.repository(repo, follow, &us, &mut listing).await {
                    Ok(()) => {}
                    Err(error) => {
                        let why = chain(&error);
                        listing.problems.push(clean_line(&format!("{repo}: {why}")));
                        listing.unread.insert(repo.clone(), why);
                    }
                }
            }
            let listed: BTreeSet<&IssueKey> = listing.issues.iter().map(|i| &i.key).collect();
            self.histories().retain(|key, _| listed.contains(key));
            listing.issues.sort_by(|a, b| a.key.cmp(&b.key));
            Ok(listing)
        })
    }

    fn read<'a>(
        &'a self,
        issue: &'a IssueKey,
    ) -> BoxFuture<'a, Result<Option<Issue>, TrackerError>> {
        Box::pin(async move {
            let us = Actor(self.api.login().await?);
            let dto = match self.confirmed(issue).await {
                Ok(dto) => dto,
                Err(TrackerError::GitHub(error)) if deleted(&error) => return Ok(None),
                Err(TrackerError::Transferred { .. }) => return Ok(None),
                Err(error) => return Err(error),
            };
            Ok(Some(self.issue(&issue.repo, dto, &us, HistoryUse::ReadAgain).await?))
        })
    }

    fn remember(&self, known: &BTreeMap<Repo, RepoIdentity>) {
        self.set_known(known);
    }

    fn identity<'a>(
        &'a self,
        repo: &'a Repo,
    ) -> BoxFuture<'a, Result<Option<RepoIdentity>, TrackerError>> {
        Box::pin(async move { Ok(Some(self.repository_now(repo).await?)) })
    }

    fn tidy<'a>(
        &'a self,
        issue: &'a IssueKey,
        of: Option<OutboxId>,
    ) -> BoxFuture<'a, Result<(), TrackerError>> {
        Box::pin(async move { self.remove_copies(issue, &mark_of(of)).await })
    }

    fn set_label<'a>(
        &'a self,
        issue: &'a IssueKey,
        label: Option<StandingLabel>,
    ) -> BoxFuture<'a, Result<(), TrackerError>> {
        Box::pin(async move { self.write_label(issue, label).await })
    }

    fn comment<'a>(
        &'a self,
        issue: &'a IssueKey,
        entry: OutboxId,
        text: &'a str,
    ) -> BoxFuture<'a, Result<(), TrackerError>> {
        Box::pin(async move { self.upsert_comment(issue, &mark_of(Some(entry)), text).await })
    }

    fn progress<'a>(
        &'a self,
        issue: &'a IssueKey,
        text: &'a str,
        claim: Option<Timestamp>,
    ) -> BoxFuture<'a, Result<(), TrackerError>> {
        Box::pin(async move {
            match claim {
                Some(armed) => self.claim(issue, &mark_of(None), text, armed).await,
                None => self.upsert_comment(issue, &mark_of(None), text).await,
            }
        })
    }

    fn close<'a>(&'a self, issue: &'a IssueKey) -> BoxFuture<'a, Result<(), TrackerError>> {
        Box::pin(async move {
            let now = self.confirmed(issue).await?;
            if now.state == "closed" {
                return Ok(());
            }
            let body = json!({"state": "closed", "state_reason": "completed"});
            self.api.write(Method::PATCH, &Self::path(issue), Some(&body)).await?;
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_is_encoded_in_an_address() {
        assert_eq!(encoded("ready for/agent é"), "ready%20for%2Fagent%20%C3%A9");
        assert_eq!(encoded("renovate[bot]"), "renovate%5Bbot%5D");
    }
}
