//! The polling loop of stages that another service decides: GitHub's checks, Woodpecker's
//! pipelines.
//!
//! A service that can't be reached is polled again until the deadline; then the verdict is unknown.
//! A service that drops the commit's run because the branch moved on is polled for the newer head.

use std::time::Duration;

use tokio::time::sleep;

use super::{TaskContext, TaskError};
use crate::core::model::id::Sha;
use crate::core::model::verdict::{Judgement, Verdict};
use crate::core::tables::commit::Deadlines;
use crate::workspace::pool::Pool;

/// Polls in a row that may fail before the transcript mentions it.
const SILENT_FAILURES: u32 = 3;
/// The shortest time from the push until a service that can't be reached makes the verdict unknown,
/// in milliseconds.
const SHORTEST_DEADLINE_MS: i64 = 60_000;

/// The result of one poll.
pub(super) enum Poll {
    /// Nothing is decided yet; names the part that the service has not finished.
    Pending(String),
    /// The service dropped its run because the branch moved on. The new head contains the commit
    /// and decides in its place.
    Superseded {
        head: Sha,
    },
    Decided(Judgement),
}

/// A service that decides about commits.
pub(super) trait VerdictSource: Sync {
    /// The subject of messages, such as "CI".
    fn name(&self) -> &'static str;

    /// The milliseconds by afk's clock from which the deadlines count.
    fn age(&self) -> i64;

    /// Asks the service about a commit: the pushed one, or a head that superseded it.
    fn poll(&self, sha: &Sha) -> impl Future<Output = Result<Poll, TaskError>> + Send;
}

/// Polls until the service decides or can't be reached at the deadline.
pub(super) async fn poll_until_decided(
    task: &TaskContext,
    source: &impl VerdictSource,
    sha: &Sha,
    deadlines: Deadlines,
    interval: Duration,
) -> Judgement {
    let name = source.name();
    let (mut polled, mut pending, mut failures) = (sha.clone(), String::new(), 0);
    loop {
        match source.poll(&polled).await {
            Ok(Poll::Decided(judgement)) => return judgement,
            Ok(Poll::Superseded { head }) => {
                let (old, new) = (polled.short(), head.short());
                task.note(format!("{name} of {old} was cancelled; {name} of {new} decides"));
                polled = head;
                continue;
            }
            Ok(Poll::Pending(what)) => {
                failures = 0;
                if what != pending {
                    task.note(format!("{name}: waiting for {what}"));
                    pending = what;
                }
            }
            Err(error) => {
                failures += 1;
                if failures == SILENT_FAILURES {
                    task.note(format!("{name}: {error}; trying again"));
                }
                let deadline = deadlines.run.max(SHORTEST_DEADLINE_MS);
                if source.age() >= deadline {
                    return Judgement::new(Verdict::Unknown, error);
                }
            }
        }
        sleep(interval).await;
    }
}

/// Fetches, and returns the branch's head and whether it contains the commit.
pub(super) async fn fetch_head(pool: &Pool, sha: &Sha) -> Result<(Sha, bool), TaskError> {
    let head = pool.base().fetch().await.map_err(|e| e.to_string())?;
    let contains = pool.base().contains(sha).await.map_err(|e| e.to_string())?;
    Ok((head, contains))
}
