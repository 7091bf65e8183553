//! GitHub's checks as a [`VerdictSource`] of verdicts: tables T3 and T4.

use std::sync::Arc;

use super::poll::{Poll, VerdictSource, fetch_head, lengthened};
use super::{TaskContext, TaskError, age};
use crate::ci::CiStatus;
use crate::ci::github::{BranchPosition, WatchedCommit, poll};
use crate::ci::quiet::QuietClock;
use crate::core::model::id::Sha;
use crate::core::model::verdict::Judgement;
use crate::error::chain;
use crate::github::Api;
use crate::runtime::outages;
use crate::workspace::pool::Pool;

/// The checks of one pushed commit.
pub(super) struct Checks<'a> {
    pub task: &'a TaskContext,
    pub api: Arc<Api>,
    pub pool: &'a Pool,
    pub watched: WatchedCommit<'a>,
    /// The pushed commit, which a newer head may stand in for.
    pub pushed: &'a Sha,
    /// What the earlier polls found.
    pub quiet: QuietClock,
}

impl VerdictSource for Checks<'_> {
    fn name(&self) -> &'static str {
        "CI"
    }

    fn age(&self) -> i64 {
        age(self.task)
    }

    async fn poll(&self, sha: &Sha, unseen_ms: i64) -> Result<Poll, TaskError> {
        let (head, ancestor) = fetch_head(self.pool, sha).await?;
        let position = BranchPosition { ancestor, head };
        let watched = WatchedCommit {
            deadlines: lengthened(self.watched.deadlines, unseen_ms),
            ..self.watched.clone()
        };
        let (age, quiet) = (self.age(), &self.quiet);
        let status = poll(&self.api, &watched, sha, &position, age, quiet).await;
        let status = status.map_err(|error| {
            let why = format!("can't be seen: {}", chain(&error));
            match outages::of_api(&self.task.config, &error) {
                Some((cause, wait_ms)) => TaskError::outage(cause, why, wait_ms),
                None => why.into(),
            }
        });
        Ok(match status? {
            CiStatus::Pending(what) => Poll::Pending(what),
            CiStatus::Superseded => Poll::Superseded { head: position.head },
            CiStatus::Decided(judgement) if sha == self.pushed => Poll::Decided(judgement),
            CiStatus::Decided(judgement) => {
                let detail = judgement.detail.clean_line();
                let detail = format!("superseded by {}, which contains it: {detail}", sha.short());
                Poll::Decided(Judgement { detail: detail.into(), ..judgement })
            }
        })
    }
}
