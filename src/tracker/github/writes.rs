//! Comments and labels that afk writes to an issue. Every write can be repeated: a comment carries a
//! hidden mark, and a label is compared first.

use http::Method;
use serde_json::json;

use super::dto::CommentDto;
use super::{GitHubTracker, encoded};
use crate::core::model::id::IssueKey;
use crate::core::model::outbox::StandingLabel;
use crate::core::model::time::Timestamp;
use crate::github::ApiError;
use crate::tracker::TrackerError;

/// The longest comment, in characters; GitHub's limit is 65,536.
const COMMENT: usize = 60_000;

/// The beginning of the line that claims an issue.
const CLAIM: &str = "<!-- afk-claim:";

/// The line with which the afk of a journal claims an issue that was armed at this time.
fn claim_mark(journal: &str, armed: Timestamp) -> String {
    format!("{CLAIM}{journal}:{} -->", armed.0)
}

impl GitHubTracker {
    /// Every comment of an issue, oldest first.
    async fn comments(&self, issue: &IssueKey) -> Result<Vec<CommentDto>, ApiError> {
        let path = format!("{}/comments?per_page=100", Self::path(issue));
        let mut all: Vec<CommentDto> = self.api.list(&path, None).await?;
        all.sort_by_key(|comment| comment.id);
        Ok(all)
    }

    /// Our own comments with a mark, oldest first; a comment of another account never is, whatever
    /// it copied.
    async fn find_own(&self, issue: &IssueKey, mark: &str) -> Result<Vec<CommentDto>, ApiError> {
        let us = self.api.login().await?;
        let mut all = self.comments(issue).await?;
        all.retain(|comment| comment.is_of(&us) && comment.text().contains(mark));
        Ok(all)
    }

    /// Writes the progress comment of a run, which claims the issue for the arming at `armed`. The
    /// comments' numbers are GitHub's own order, so two afks agree on who came first: each looks for
    /// an older claim after its own one is there.
    pub(super) async fn claim(
        &self,
        issue: &IssueKey,
        mark: &str,
        text: &str,
        armed: Timestamp,
    ) -> Result<(), TrackerError> {
        self.confirmed(issue).await?;
        let us = self.api.login().await?;
        let (mark, claim) = (self.whole_mark(mark), claim_mark(&self.config.journal, armed));
        let text: String = text.chars().take(COMMENT).collect();
        let body = format!("{text}\n\n{mark}\n{claim}");
        let all = self.comments(issue).await?;
        let ours: Vec<&CommentDto> =
            all.iter().filter(|c| c.is_of(&us) && c.text().contains(&mark)).collect();
        let known = ours.iter().copied().find(|comment| comment.text().contains(&claim));
        let newest = known.map_or(u64::MAX, |comment| comment.id);
        if self.is_claimed_before(issue, &us, &all, newest, armed).await? {
            return self.leave(issue, known).await;
        }
        match known {
            Some(known) if known.text() == body => {}
            Some(known) => self.write_comment(issue, Some(known), &mark, &body).await?,
            None => {
                self.write_comment(issue, None, &mark, &body).await?;
                let all = self.comments(issue).await?;
                let known = all.iter().find(|c| c.is_of(&us) && c.text().contains(&claim));
                let newest = known.map_or(u64::MAX, |comment| comment.id);
                if self.is_claimed_before(issue, &us, &all, newest, armed).await? {
                    return self.leave(issue, known).await;
                }
            }
        }
        for other in ours.iter().filter(|other| known.is_none_or(|known| known.id != other.id)) {
            self.remove(issue, other).await?;
        }
        Ok(())
    }

    /// Whether a comment before `id` claims the issue for another afk, by an account that may write to
    /// the repository.
    async fn is_claimed_before(
        &self,
        issue: &IssueKey,
        us: &str,
        all: &[CommentDto],
        id: u64,
        armed: Timestamp,
    ) -> Result<bool, ApiError> {
        let own = claim_mark(&self.config.journal, armed);
        let end = format!(":{} -->", armed.0);
        let claims = |comment: &&CommentDto| {
            let lines = comment.text().lines();
            let mut marks = lines.filter(|line| line.starts_with(CLAIM) && line.ends_with(&end));
            comment.id < id && marks.any(|mark| mark != own)
        };
        for comment in all.iter().filter(claims) {
            let Some(user) = &comment.user else { continue };
            if user.login == us || self.may_write(&issue.repo, &user.login).await {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Leaves the issue to the afk that came first.
    async fn leave(
        &self,
        issue: &IssueKey,
        claim: Option<&CommentDto>,
    ) -> Result<(), TrackerError> {
        if let Some(claim) = claim {
            self.remove(issue, claim).await?;
        }
        Err(TrackerError::ClaimedElsewhere(issue.clone()))
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
        let ours = self.find_own(issue, &mark).await?;
        for copy in ours.iter().skip(1) {
            self.remove(issue, copy).await?;
        }
        match ours.first() {
            Some(known) if known.text() == body => Ok(()),
            known => self.write_comment(issue, known, &mark, &body).await,
        }
    }

    /// Edits a comment of ours with a mark, or writes one if there is none. After a lost answer it reads
    /// back whether the comment arrived.
    async fn write_comment(
        &self,
        issue: &IssueKey,
        known: Option<&CommentDto>,
        mark: &str,
        body: &str,
    ) -> Result<(), TrackerError> {
        let (method, path) = match known {
            Some(known) => {
                (Method::PATCH, format!("/repos/{}/issues/comments/{}", issue.repo, known.id))
            }
            None => (Method::POST, format!("{}/comments", Self::path(issue))),
        };
        let wrote = self.api.write(method, &path, Some(&json!({"body": body}))).await;
        let Err(error) = wrote else { return Ok(()) };
        if matches!(error, ApiError::Unknown { .. }) {
            let found = self.find_own(issue, mark).await.unwrap_or_default();
            if found.iter().any(|comment| comment.text() == body) {
                return Ok(());
            }
        }
        // The doubt counts, also where the reading back failed.
        Err(error.into())
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
