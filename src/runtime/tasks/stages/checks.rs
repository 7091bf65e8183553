//! GitHub's checks as a [`VerdictSource`] of verdicts: tables T3 and T4.

use std::sync::Arc;

use super::TaskError;
use super::poll::{Poll, VerdictSource, fetch_head};
use crate::ci::github::{Look, Standing, Watched, look};
use crate::core::model::id::Sha;
use crate::core::model::verdict::Judgement;
use crate::github::Api;
use crate::runtime::clock;
use crate::workspace::pool::Pool;

/// The checks of one pushed commit.
pub(super) struct Checks<'a> {
    pub api: Arc<Api>,
    pub pool: &'a Pool,
    pub watched: Watched<'a>,
    /// The pushed commit, which a newer head may stand in for.
    pub pushed: &'a Sha,
}

impl VerdictSource for Checks<'_> {
    fn name(&self) -> &'static str {
        "CI"
    }

    async fn poll(&self, sha: &Sha) -> Result<Poll, TaskError> {
        let unreachable = |error: String| format!("can't be seen: {error}");
        let (head, ancestor) = fetch_head(self.pool, sha).await.map_err(unreachable)?;
        let standing = Standing { ancestor, head };
        let seen = look(&self.api, &self.watched, sha, &standing, clock::wall()).await;
        Ok(match seen.map_err(|error| unreachable(error.to_string()))? {
            Look::Pending(what) => Poll::Pending(what),
            Look::Superseded => Poll::Superseded { head: standing.head },
            Look::Decided(judgement) if sha == self.pushed => Poll::Decided(judgement),
            Look::Decided(judgement) => {
                let detail = judgement.detail.clean_line();
                let detail = format!("superseded by {}, which contains it: {detail}", sha.short());
                Poll::Decided(Judgement { detail: detail.into(), ..judgement })
            }
        })
    }
}
