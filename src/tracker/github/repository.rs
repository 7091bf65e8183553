//! Which repository, and which issue, a name leads to. A renamed repository keeps its number, and
//! GitHub leads requests on; but another repository can take the old name, and a transferred issue
//! leads into another repository. afk writes to neither.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::GitHubTracker;
use super::dto::IssueDto;
use crate::core::model::id::{IssueKey, Repo};
use crate::core::model::issue::RepoIdentity;
use crate::core::model::untrusted::clean_line;
use crate::github::ApiError;
use crate::lock::LockExt;
use crate::tracker::TrackerError;

/// A repository as GitHub sends it, as far as the tracker reads it.
#[derive(Debug, Clone, Deserialize)]
struct RepositoryDto {
    id: u64,
    full_name: String,
    /// Whether the repository is read-only.
    #[serde(default)]
    archived: bool,
}

impl GitHubTracker {
    /// Takes the identities that the journal has. A name that leads to another number is refused.
    pub(super) fn set_known(&self, known: &BTreeMap<Repo, RepoIdentity>) {
        known.clone_into(&mut self.known.locked());
    }

    /// The repository that a name leads to now.
    pub(super) async fn repository_now(&self, repo: &Repo) -> Result<RepoIdentity, ApiError> {
        self.repository_state(repo).await.map(|(identity, _)| identity)
    }

    /// The repository that a name leads to now, and whether it is archived.
    pub(super) async fn repository_state(
        &self,
        repo: &Repo,
    ) -> Result<(RepoIdentity, bool), ApiError> {
        let now: RepositoryDto = self.api.get(&format!("/repos/{repo}")).await?;
        Ok((RepoIdentity { id: now.id, name: clean_line(&now.full_name) }, now.archived))
    }

    /// Refuses an identity that differs from the known one.
    pub(super) fn confirm(&self, repo: &Repo, now: &RepoIdentity) -> Result<(), TrackerError> {
        match self.known.locked().get(repo) {
            Some(known) if known.id != now.id => {
                Err(TrackerError::Replaced { repo: repo.clone(), known: known.id, now: now.id })
            }
            _ => Ok(()),
        }
    }

    /// The issue as it is now, for a write to it.
    ///
    /// # Errors
    /// [`TrackerError::Replaced`] and [`TrackerError::Transferred`], beside those of the requests.
    pub(super) async fn confirmed(&self, key: &IssueKey) -> Result<IssueDto, TrackerError> {
        let now = self.repository_now(&key.repo).await?;
        self.confirm(&key.repo, &now)?;
        let issue: IssueDto = self.api.get(&Self::path(key)).await?;
        match moved_to(key, &now, &issue) {
            Some(to) => Err(TrackerError::Transferred { issue: key.clone(), to: to.to_string() }),
            None => Ok(issue),
        }
    }
}

/// The issue that an address led to, where that is not the issue `key` of the repository.
pub(super) fn moved_to(key: &IssueKey, now: &RepoIdentity, issue: &IssueDto) -> Option<IssueKey> {
    let found = issue.key(&key.repo)?;
    let same = |name: &str| found.repo.as_str().eq_ignore_ascii_case(name);
    let here = found.number == key.number && (same(key.repo.as_str()) || same(&now.name));
    (!here).then_some(found)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn renamed_repository_keeps_its_issues_and_a_transferred_issue_is_another_one() {
        let key = IssueKey::parse("acme/web#3").unwrap();
        let now = RepoIdentity { id: 1, name: "acme/site".into() };
        let issue = |number: u64, repo: &str| -> IssueDto {
            serde_json::from_value(json!({
                "number": number, "title": "t", "state": "open", "created_at": "x",
                "updated_at": "x", "repository_url": format!("https://api.github.com/repos/{repo}"),
            }))
            .unwrap()
        };
        for (number, repo, moved) in [
            (3, "acme/web", None),
            (3, "Acme/Web", None),
            (3, "acme/site", None),
            (9, "acme/other", Some("acme/other#9")),
            (3, "acme/other", Some("acme/other#3")),
            (9, "acme/web", Some("acme/web#9")),
        ] {
            let found = moved_to(&key, &now, &issue(number, repo)).map(|key| key.to_string());
            assert_eq!(found.as_deref(), moved, "{repo}#{number}");
        }
    }
}
