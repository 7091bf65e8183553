//! Issues, events and comments as GitHub sends them, as far as the tracker reads them.

use serde::Deserialize;
use serde_json::Value;

use crate::core::model::id::{IssueKey, Repo};
use crate::core::tables::blocking::BlockerStanding;

#[derive(Debug, Clone, Deserialize)]
pub(super) struct IssueDto {
    pub number: u64,
    pub title: String,
    #[serde(default)]
    pub body: Option<String>,
    pub state: String,
    #[serde(default)]
    pub state_reason: Option<String>,
    #[serde(default)]
    pub labels: Vec<LabelDto>,
    pub created_at: String,
    pub updated_at: String,
    #[serde(default)]
    pub html_url: Option<String>,
    #[serde(default)]
    pub repository_url: Option<String>,
    #[serde(default)]
    pub pull_request: Option<Value>,
    #[serde(default)]
    pub issue_dependencies_summary: Option<DependenciesDto>,
}

/// A label; an older server sends its name alone.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub(super) enum LabelDto {
    Named { name: String },
    Name(String),
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct DependenciesDto {
    #[serde(default)]
    pub total_blocked_by: u64,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct UserDto {
    pub login: String,
    #[serde(default, rename = "type")]
    pub kind: String,
}

/// One event of an issue's timeline.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct TimelineEventDto {
    #[serde(default)]
    pub event: String,
    #[serde(default)]
    pub actor: Option<UserDto>,
    #[serde(default)]
    pub performed_via_github_app: Option<Value>,
    #[serde(default)]
    pub label: Option<LabelDto>,
    #[serde(default)]
    pub created_at: Option<String>,
    /// When a comment was edited last.
    #[serde(default)]
    pub updated_at: Option<String>,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct CommentDto {
    pub id: u64,
    #[serde(default)]
    pub body: Option<String>,
    #[serde(default)]
    pub user: Option<UserDto>,
}

impl CommentDto {
    /// Whether the account with this login wrote it.
    pub(super) fn is_of(&self, login: &str) -> bool {
        self.user.as_ref().is_some_and(|user| user.login == login)
    }

    pub(super) fn text(&self) -> &str {
        self.body.as_deref().unwrap_or_default()
    }
}

impl LabelDto {
    pub(super) fn name(&self) -> &str {
        match self {
            Self::Named { name } | Self::Name(name) => name,
        }
    }
}

impl IssueDto {
    pub(super) fn found(&self) -> BlockerStanding {
        match (self.state.as_str(), self.state_reason.as_deref()) {
            ("closed", Some("not_planned")) => BlockerStanding::NotPlanned,
            ("closed", _) => BlockerStanding::Completed,
            _ => BlockerStanding::Open,
        }
    }

    pub(super) fn has(&self, label: &str) -> bool {
        self.labels.iter().any(|known| known.name() == label)
    }

    /// The key of the issue, which may lie in another repository than the one that was asked.
    pub(super) fn key(&self, fallback: &Repo) -> Option<IssueKey> {
        let repo = match &self.repository_url {
            Some(url) => {
                let mut parts = url.rsplit('/');
                let (name, owner) = (parts.next()?, parts.next()?);
                Repo::parse(&format!("{owner}/{name}")).ok()?
            }
            None => fallback.clone(),
        };
        Some(IssueKey { repo, number: self.number })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn blocker_in_another_repository_is_named_by_its_address() {
        let dto = |url: &str| -> IssueDto {
            serde_json::from_value(json!({
                "number": 3, "title": "t", "state": "closed", "state_reason": "not_planned",
                "created_at": "2026-01-01T00:00:00Z", "updated_at": "x", "repository_url": url,
                "labels": ["a", {"name": "b", "more": 1}],
            }))
            .unwrap()
        };
        let here = Repo::parse("acme/web").unwrap();
        let there = dto("https://api.github.com/repos/acme/lib");
        assert_eq!(there.key(&here).unwrap().to_string(), "acme/lib#3");
        assert_eq!(there.found(), BlockerStanding::NotPlanned);
        assert!(there.has("a") && there.has("b") && !there.has("B"));
        assert_eq!(crate::github::time("2026-01-01T00:00:01Z").0, 1_767_225_601_000);
    }
}
