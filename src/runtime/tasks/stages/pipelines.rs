//! Woodpecker's pipelines as a [`VerdictSource`] of verdicts: table T5. CI watches those of the push,
//! deploy those that were started by hand.

use std::time::Duration;

use super::poll::{Poll, VerdictSource, fetch_head, lengthened, poll_until_decided};
use super::{TaskContext, TaskError, age, branch, deploy_age};
use crate::ci::CiStatus;
use crate::ci::woodpecker::{WatchedPipeline, WoodpeckerClient, WoodpeckerError};
use crate::core::model::id::Sha;
use crate::core::model::verdict::{Judgement, Verdict};
use crate::core::tables::commit::Deadlines;
use crate::error::chain;
use crate::runtime::outages;
use crate::workspace::pool::Pool;

/// The kind of pipeline that decides.
#[derive(Clone, Copy)]
pub(super) enum Trigger {
    /// The push of the commit.
    Push,
    /// A person or a program starts the pipeline, such as a deployment.
    Manual,
}

impl Trigger {
    /// Woodpecker's name of the event.
    const fn event(self) -> &'static str {
        match self {
            Self::Push => "push",
            Self::Manual => "manual",
        }
    }
}

/// The pipelines of one repository on a Woodpecker server.
struct Pipelines<'a> {
    server: WoodpeckerClient,
    /// The server's address.
    address: &'a str,
    repo: &'a str,
    branch: String,
    trigger: Trigger,
    deadlines: Deadlines,
    task: &'a TaskContext,
    pool: &'a Pool,
}

/// Polls the newest pipeline of the commit until it decides.
///
/// # Errors
/// Woodpecker is not configured, or its token can't be read.
pub(super) async fn follow(
    task: &TaskContext,
    (repo, trigger): (&str, Trigger),
    sha: &Sha,
    pool: &Pool,
    (deadlines, interval): (Deadlines, Duration),
) -> Result<Judgement, TaskError> {
    let section = task.config.woodpecker.as_ref();
    let section =
        section.ok_or("the repository names woodpecker, and [woodpecker] is not configured")?;
    let token = outages::secret(&task.runtime, &section.token).await?;
    let server = WoodpeckerClient::new(&section.address, token).map_err(|error| chain(&error))?;
    let (branch, address) = (branch(task), &section.address);
    let pipelines = Pipelines { server, address, repo, branch, trigger, deadlines, task, pool };
    poll_until_decided(task, &pipelines, sha, deadlines, interval).await
}

impl VerdictSource for Pipelines<'_> {
    fn name(&self) -> &'static str {
        "the pipeline"
    }

    fn age(&self) -> i64 {
        match self.trigger {
            Trigger::Push => age(self.task),
            Trigger::Manual => deploy_age(self.task),
        }
    }

    async fn poll(&self, sha: &Sha, unseen_ms: i64) -> Result<Poll, TaskError> {
        let watched = WatchedPipeline {
            repo: self.repo,
            branch: &self.branch,
            event: self.trigger.event(),
            sha,
            age: self.age(),
            back: age(self.task),
            deadlines: lengthened(self.deadlines, unseen_ms),
        };
        let status = self.server.poll(&watched).await;
        let status = status.map_err(|error| {
            let why = chain(&error);
            match error {
                WoodpeckerError::Network(_)
                | WoodpeckerError::Refused { status: 500.. | 429 | 408, .. } => {
                    TaskError::outage(outages::of_ci(self.address), why, 0)
                }
                _ => why.into(),
            }
        });
        Ok(match status? {
            CiStatus::Pending(what) => Poll::Pending(what),
            CiStatus::Decided(judgement) => Poll::Decided(judgement),
            CiStatus::Superseded => match fetch_head(self.pool, sha).await?.0 {
                // Somebody cancelled the pipeline, and no newer commit contains this one.
                head if head == *sha => {
                    Poll::Decided(Judgement::new(Verdict::Stuck, "its pipeline was cancelled"))
                }
                head => Poll::Superseded { head },
            },
        })
    }
}
