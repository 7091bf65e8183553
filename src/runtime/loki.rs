//! What happens in runs, pushed to Loki where one is configured.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{broadcast, watch};
use tokio::time::{Instant, sleep_until};

use super::{Shell, Snapshot};
use crate::core::fleet::Fleet;
use crate::core::model::event::Event;
use crate::core::model::id::RunId;
use crate::core::model::run::Work;
use crate::core::model::time::Timestamp;
use crate::core::tables::sink::SinkOutcome;
use crate::notify::loki::{Buffer, Line, push};

/// Longest time of one push.
const CALL: Duration = Duration::from_secs(15);
/// Lines that come within this time go together.
const GATHER: Duration = Duration::from_secs(1);

pub(super) fn start(shell: &Arc<Shell>, snapshots: watch::Receiver<Arc<Snapshot>>) {
    tokio::spawn(follow(shell.clone(), snapshots));
}

async fn follow(shell: Arc<Shell>, snapshots: watch::Receiver<Arc<Snapshot>>) {
    let mut batches = shell.batches.subscribe();
    let mut buffer = Buffer::default();
    let mut due: Option<Instant> = None;
    let mut claimed = Claimed::new();
    let mut client: Option<reqwest::Client> = None;
    loop {
        let told = tokio::select! {
            batch = batches.recv() => Some(batch),
            () = at(due), if due.is_some() => None,
            () = shell.cancel.cancelled() => return,
        };
        let Some(config) = shell.config().loki.clone() else {
            (buffer, due) = (Buffer::default(), None);
            continue;
        };
        match told {
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
                let build = || reqwest::Client::builder().timeout(CALL).build();
                let client = match &client {
                    Some(client) => client,
                    None => match build() {
                        Ok(made) => client.insert(made),
                        Err(error) => {
                            tracing::error!(%error, "no client for Loki");
                            return;
                        }
                    },
                };
                let (count, body) = buffer.next();
                let secrets = shell.outside().secrets.clone();
                let done = push(client, &secrets, &config, &body).await;
                let (wait, problem) = match done {
                    Ok((SinkOutcome::Done, _)) => {
                        buffer.done(count);
                        (0, None)
                    }
                    // The good lines of it were kept.
                    Ok((SinkOutcome::Drop, why)) => {
                        buffer.done(count);
                        (0, Some(why))
                    }
                    Ok((SinkOutcome::DropAndDisable, why)) => {
                        buffer.done(count);
                        (300, Some(why))
                    }
                    Ok((SinkOutcome::Retry(seconds), why)) => (seconds, Some(why)),
                    Err(why) => (10, Some(why)),
                };
                let dropped = (buffer.dropped > 0)
                    .then(|| format!("Loki: {} lines found no room and are lost", buffer.dropped));
                shell.problem("loki", problem.into_iter().chain(dropped).collect()).await;
                let seconds = u64::try_from(wait).unwrap_or(10);
                due = (!buffer.is_empty())
                    .then(|| Instant::now() + Duration::from_secs(seconds).max(GATHER));
            }
        }
    }
}

async fn at(due: Option<Instant>) {
    if let Some(due) = due {
        sleep_until(due).await;
    }
}

/// The repository and the issue's number of each run that was claimed: the snapshot may not have
/// it yet.
type Claimed = BTreeMap<RunId, (String, String)>;

fn labels(work: &Work) -> (String, String) {
    let issue = work.issue().map(|key| key.number.to_string());
    (work.repo().to_string(), issue.unwrap_or_default())
}

/// An event about a run as a line: the event's JSON, cleaned by being JSON.
fn line(at: Timestamp, event: &Event, fleet: &Fleet, claimed: &mut Claimed) -> Option<Line> {
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
    Some(Line { at: at.0, repo, issue, run: run.to_string(), text: value.to_string() })
}
