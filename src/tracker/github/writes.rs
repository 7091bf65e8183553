//! Comments and labels that afk writes to an issue. Every write can be repeated: a comment carries a
//! hidden mark, and a label is compared first.

use http::Method;
use serde_json::json;

use super::dto::CommentDto;
use super::{GitHubTracker, encoded};
use crate::core::model::id::IssueKey;
use crate::core::model::outbox::StandingLabel;
use crate::github::ApiError;
use crate::tracker::TrackerError;

/// The longest comment, in characters; GitHub's limit is 65,536.
const COMMENT: usize = 60_000;

impl GitHubTracker {
    /// Our own comments with a mark, oldest first; a comment of another account never is, whatever
    /// it copied.
    async fn find_own(&self, issue: &IssueKey, mark: &str) -> Result<Vec<CommentDto>, ApiError> {
        let us = self.api.login().await?;
        let path = format!("{}/comments?per_page=100", Self::path(issue));
        let all: Vec<CommentDto> = self.api.list(&path, None).await?;
        let is_ours = |comment: &CommentDto| {
            comment.user.as_ref().is_some_and(|user| user.login == us)
                && comment.body.as_deref().is_some_and(|body| body.contains(mark))
        };
        let mut ours: Vec<CommentDto> = all.into_iter().filter(is_ours).collect();
        ours.sort_by_key(|comment| comment.id);
        Ok(ours)
    }

    /// Removes every comment of ours with a mark but the first.
    pub(super) async fn remove_copies(
        &self,
        issue: &IssueKey,
        mark: &str,
    ) -> Result<(), TrackerError> {
        let now = self.repository_now(&issue.repo).await?;
        self.confirm(&issue.repo, &now)?;
        for copy in self.find_own(issue, &self.whole_mark(mark)).await?.iter().skip(1) {
            self.remove(issue, copy).await?;
        }
        Ok(())
    }

    async fn remove(&self, issue: &IssueKey, comment: &CommentDto) -> Result<(), ApiError> {
        let path = format!("/repos/{}/issues/comments/{}", issue.repo, comment.id);
        self.api.write(Method::DELETE, &path, None).await.map(|_| ())
    }

    fn whole_mark(&self, mark: &str) -> String {
        format!("<!-- afk:{}:{mark} -->", self.config.journal)
    }

    /// Writes a comment, or edits ours with the same mark and removes copies of it. After a lost
    /// answer it reads back whether the comment arrived.
    pub(super) async fn upsert_comment(
        &self,
        issue: &IssueKey,
        mark: &str,
        text: &str,
    ) -> Result<(), TrackerError> {
        self.confirmed(issue).await?;
        let mark = self.whole_mark(mark);
        let text: String = text.chars().take(COMMENT).collect();
        let body = format!("{text}\n\n{mark}");
        let same = |comment: &CommentDto| comment.body.as_deref() == Some(body.as_str());
        let ours = self.find_own(issue, &mark).await?;
        for copy in ours.iter().skip(1) {
            self.remove(issue, copy).await?;
        }
        let wrote = match ours.first() {
            Some(known) if same(known) => return Ok(()),
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
            Err(error @ ApiError::Unknown { .. }) => match self.find_own(issue, &mark).await {
                Ok(found) if found.first().is_some_and(same) => Ok(()),
                // The doubt counts, also where the reading back failed.
                _ => Err(error.into()),
            },
            Err(error) => Err(error.into()),
        }
    }

    /// Sets the one label of ours that the issue should carry, and removes the others.
    pub(super) async fn write_label(
        &self,
        issue: &IssueKey,
        label: Option<StandingLabel>,
    ) -> Result<(), TrackerError> {
        let names = &self.config.labels;
        let wanted = label.map(|label| match label {
            StandingLabel::InProgress => &names.in_progress,
            StandingLabel::ReadyForHuman => &names.human,
        });
        let now = self.confirmed(issue).await?;
        let mut off = vec![&names.in_progress, &names.human];
        if wanted.is_none() {
            // First, since another afk would claim a ready issue that is no longer in progress.
            off.insert(0, &names.ready);
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
