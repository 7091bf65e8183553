//! Pushes the durable events of runs to Loki, if one is configured.
//!
//! Subscribes to batches, so that Loki never has an event that the journal lacks. Lines wait in a
//! bounded buffer while Loki is unreachable; lines that find no room are counted and reported as a
//! problem.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{broadcast, watch};
use tokio::time::{Instant, sleep_until};

use super::side_state::ProblemSource;
use super::{Context, Snapshot};
use crate::core::fleet::Fleet;
use crate::core::model::event::Event;
use crate::core::model::id::RunId;
use crate::core::model::run::Work;
use crate::core::model::time::Timestamp;
use crate::core::tables::sink::SinkOutcome;
use crate::notify::loki::{LogLine, LokiBuffer, push};

/// The longest that one push may take.
const TIMEOUT: Duration = Duration::from_secs(15);
/// Lines within this time share a push.
const GATHER: Duration = Duration::from_secs(1);
/// Seconds until the next push after Loki refused for good.
const DISABLED_SECONDS: i64 = 300;
/// Seconds until the next push after Loki could not be reached.
const RETRY_SECONDS: i64 = 10;

/// Starts pushing until the context is cancelled.
pub(super) fn start(context: &Arc<Context>, snapshots: watch::Receiver<Arc<Snapshot>>) {
    tokio::spawn(follow(context.clone(), snapshots));
}

async fn follow(context: Arc<Context>, snapshots: watch::Receiver<Arc<Snapshot>>) {
    let mut batches = context.batches.subscribe();
    let mut buffer = LokiBuffer::default();
    let mut due: Option<Instant> = None;
    let mut claimed = Claimed::new();
    let mut client: Option<reqwest::Client> = None;
    loop {
        let received = tokio::select! {
            batch = batches.recv() => Some(batch),
            () = elapsed(due), if due.is_some() => None,
            () = context.cancel.cancelled() => return,
        };
        let Some(config) = context.config().loki.clone() else {
            (buffer, due) = (LokiBuffer::default(), None);
            continue;
        };
        match received {
            Some(Ok(batch)) => {
                let snapshot = snapshots.borrow().clone();
                for (at, event) in batch.events.iter() {
                    if let Some(line) = line(*at, event, &snapshot.fleet, &mut claimed) {
                        buffer.push(line);
                        due.get_or_insert_with(|| Instant::now() + GATHER);
                    }
                }
            }
            Some(Err(broadcast::error::RecvError::Lagged(missed))) => buffer.dropped += missed,
            Some(Err(broadcast::error::RecvError::Closed)) => return,
            None => {
                let build = || reqwest::Client::builder().timeout(TIMEOUT).build();
                let client = match &client {
                    Some(client) => client,
                    None => match build() {
                        Ok(built) => client.insert(built),
                        Err(error) => {
                            let why = crate::error::chain(&error);
                            tracing::error!(why, "the HTTP client for Loki can't be built");
                            return;
                        }
                    },
                };
                let (count, body) = buffer.next();
                let secrets = context.services().secrets.clone();
                let done = push(client, &secrets, &config, &body).await;
                let (wait, problem) = match done {
                    Ok((SinkOutcome::Done, _)) => {
                        buffer.done(count);
                        (0, None)
                    }
                    // Loki kept the lines that it could use.
                    Ok((SinkOutcome::Drop, why)) => {
                        buffer.done(count);
                        (0, Some(why))
                    }
                    Ok((SinkOutcome::DropAndDisable, why)) => {
                        buffer.done(count);
                        (DISABLED_SECONDS, Some(why))
                    }
                    Ok((SinkOutcome::Retry(seconds), why)) => (seconds, Some(why)),
                    Err(why) => (RETRY_SECONDS, Some(why)),
                };
                let dropped = (buffer.dropped > 0).then(|| {
                    format!("Loki: {} lost, because the buffer was full", lines(buffer.dropped))
                });
                context
                    .report_problems(
                        ProblemSource::Loki,
                        problem.into_iter().chain(dropped).collect(),
                    )
                    .await;
                let seconds = u64::try_from(wait).unwrap_or_default();
                due = (!buffer.is_empty())
                    .then(|| Instant::now() + Duration::from_secs(seconds).max(GATHER));
            }
        }
    }
}

fn lines(n: u64) -> String {
    if n == 1 { "1 line is".into() } else { format!("{n} lines are") }
}

async fn elapsed(due: Option<Instant>) {
    if let Some(due) = due {
        sleep_until(due).await;
    }
}

/// The labels of each claimed run, kept because the snapshot may lag behind the batch.
type Claimed = BTreeMap<RunId, (String, String)>;

/// The repository, and the number of the issue or nothing.
fn labels(work: &Work) -> (String, String) {
    let issue = work.issue().map(|key| key.number.to_string());
    (work.repo().to_string(), issue.unwrap_or_default())
}

/// An event about a run as a line of JSON, which escapes every control character.
fn line(at: Timestamp, event: &Event, fleet: &Fleet, claimed: &mut Claimed) -> Option<LogLine> {
    if let Event::Claimed { run, work, .. } = event {
        claimed.insert(*run, labels(work));
    }
    let mut value = serde_json::to_value(event).ok()?;
    let run: RunId = serde_json::from_value(value.get("run")?.clone()).ok()?;
    let known = claimed.get(&run).cloned();
    let (repo, issue) = known.or_else(|| Some(labels(&fleet.runs.get(&run)?.work)))?;
    if let Event::Ended { run, .. } = event {
        claimed.remove(run);
    }
    value.as_object_mut()?.remove("run");
    Some(LogLine { at: at.0, repo, issue, run: run.to_string(), text: value.to_string() })
}
