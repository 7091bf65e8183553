//! The polling loop of stages that another service decides: GitHub's checks, Woodpecker's
//! pipelines.
//!
//! A service that can't be reached is an outage, which the core waits for. One that answers with
//! something unusable is polled again until the deadline; then the verdict is unknown. Deadlines
//! count only time in which afk could look: after a gap, one look comes first. A service that drops
//! the commit's run because the branch moved on is polled for the newer head.

use std::time::{Duration, Instant};

use tokio::time::sleep;

use super::{TaskContext, TaskError};
use crate::core::model::id::Sha;
use crate::core::model::verdict::{Judgement, Verdict};
use crate::core::tables::commit::Deadlines;
use crate::workspace::pool::Pool;

/// Polls in a row that may fail before the transcript mentions it, or before an outage holds the run.
const SILENT_FAILURES: u32 = 3;
/// The part of a pause beyond what was intended that counts as a gap: afk was stopped.
const GAP: Duration = Duration::from_secs(60);
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

    /// Asks the service about a commit: the pushed one, or a head that superseded it. Its deadlines
    /// are longer by the time in which nobody could look.
    fn poll(
        &self,
        sha: &Sha,
        unseen_ms: i64,
    ) -> impl Future<Output = Result<Poll, TaskError>> + Send;
}

/// Polls until the service decides, or gives nothing usable at the deadline.
///
/// # Errors
/// The service is away: the core holds the run and has it polled again.
pub(super) async fn poll_until_decided(
    task: &TaskContext,
    source: &impl VerdictSource,
    sha: &Sha,
    deadlines: Deadlines,
    interval: Duration,
) -> Result<Judgement, TaskError> {
    let name = source.name();
    let (mut unseen_ms, mut looked) = (task.run.progress.unseen_ms, Instant::now());
    let (mut polled, mut pending, mut failures) = (sha.clone(), String::new(), 0);
    loop {
        // The ages come from the same clock, so a wall clock that is set changes neither.
        let passed = looked.elapsed();
        if passed.saturating_sub(interval) >= GAP {
            let passed = i64::try_from(passed.as_millis()).unwrap_or(i64::MAX);
            unseen_ms = unseen_ms.saturating_add(passed);
        }
        let polled_now = source.poll(&polled, unseen_ms).await;
        looked = Instant::now();
        match polled_now {
            Ok(Poll::Decided(judgement)) => return Ok(judgement),
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
                if failures >= SILENT_FAILURES && error.is_outage() {
                    return Err(error);
                }
                if failures == SILENT_FAILURES {
                    task.note(format!("{name}: {error}; trying again"));
                }
                let deadline = deadlines.run.max(SHORTEST_DEADLINE_MS).saturating_add(unseen_ms);
                if !error.is_outage() && source.age() >= deadline {
                    return Ok(Judgement::new(Verdict::Unknown, error.to_string()));
                }
            }
        }
        sleep(interval).await;
    }
}

/// Deadlines that don't count the time in which nobody could look.
pub(super) const fn lengthened(deadlines: Deadlines, unseen_ms: i64) -> Deadlines {
    let Deadlines { appear, run } = deadlines;
    Deadlines { appear: appear.saturating_add(unseen_ms), run: run.saturating_add(unseen_ms) }
}

/// Fetches, and returns the branch's head and whether it contains the commit.
pub(super) async fn fetch_head(pool: &Pool, sha: &Sha) -> Result<(Sha, bool), TaskError> {
    let head = pool.base().fetch().await?;
    let contains = pool.base().contains(sha).await?;
    Ok((head, contains))
}
