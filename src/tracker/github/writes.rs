//! Comments and labels that afk writes to an issue. Every write can be repeated: a comment carries a
//! hidden mark, and a label is compared first.

use http::Method;
use serde_json::json;

use super::dto::{CommentDto, IssueDto};
use super::{GitHubTracker, encoded};
use crate::core::model::id::IssueKey;
use crate::core::model::outbox::StandingLabel;
use crate::github::ApiError;

/// The longest comment, in characters; GitHub's limit is 65,536.
const COMMENT: usize = 60_000;

impl GitHubTracker {
    /// Our own comment with a mark; a comment of another account never is, whatever it copied.
    async fn find_own(&self, issue: &IssueKey, mark: &str) -> Result<Option<CommentDto>, ApiError> {
        let us = self.api.login().await?;
        let path = format!("{}/comments?per_page=100", Self::path(issue));
        let all: Vec<CommentDto> = self.api.list(&path, None).await?;
        let is_ours = |comment: &CommentDto| {
            comment.user.as_ref().is_some_and(|user| user.login == us)
                && comment.body.as_deref().is_some_and(|body| body.contains(mark))
        };
        Ok(all.into_iter().find(is_ours))
    }

    /// Writes a comment, or edits ours with the same mark. After a lost answer it reads back whether
    /// the comment arrived.
    pub(super) async fn upsert_comment(
        &self,
        issue: &IssueKey,
        mark: &str,
        text: &str,
    ) -> Result<(), ApiError> {
        let mark = format!("<!-- afk:{}:{mark} -->", self.config.journal);
        let text: String = text.chars().take(COMMENT).collect();
        let body = format!("{text}\n\n{mark}");
        let same = |comment: &CommentDto| comment.body.as_deref() == Some(body.as_str());
        let wrote = match self.find_own(issue, &mark).await? {
            Some(known) if same(&known) => return Ok(()),
            Some(known) => {
                let path = format!("/repos/{}/issues/comments/{}", issue.repo, known.id);
                self.api.write(Method::PATCH, &path, Some(&json!({"body": body}))).await
            }
            None => {
                let path = format!("{}/comments", Self::path(issue));
                self.api.write(Method::POST, &path, Some(&json!({"body": body}))).await
            }
        };
        match wrote {
            Ok(_) => Ok(()),
            Err(error @ ApiError::Unknown { .. }) => match self.find_own(issue, &mark).await? {
                Some(known) if same(&known) => Ok(()),
                _ => Err(error),
            },
            Err(error) => Err(error),
        }
    }

    /// Sets the one label of ours that the issue should carry, and removes the others.
    pub(super) async fn write_label(
        &self,
        issue: &IssueKey,
        label: Option<StandingLabel>,
    ) -> Result<(), ApiError> {
        let names = &self.config.labels;
        let wanted = label.map(|label| match label {
            StandingLabel::InProgress => &names.in_progress,
            StandingLabel::ReadyForHuman => &names.human,
        });
        let now: IssueDto = self.api.get(&Self::path(issue)).await?;
        let mut off = vec![&names.in_progress, &names.human];
        if wanted.is_none() {
            off.push(&names.ready);
        }
        if let Some(name) = wanted.filter(|name| !now.has(name)) {
            let path = format!("{}/labels", Self::path(issue));
            let body = json!({"labels": [name]});
            self.api.write(Method::POST, &path, Some(&body)).await?;
        }
        for name in off.into_iter().filter(|name| Some(*name) != wanted && now.has(name)) {
            let path = format!("{}/labels/{}", Self::path(issue), encoded(name));
            self.api.write(Method::DELETE, &path, None).await?;
        }
        Ok(())
    }
}
