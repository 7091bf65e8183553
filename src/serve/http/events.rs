//! `GET /v1/events`: the journal as it is written, as server-sent events.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::path::PathBuf;

use axum::extract::{Query, State};
use axum::http::HeaderMap;
use axum::response::sse::{Event as Sent, KeepAlive, Sse};
use futures::{Stream, stream};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

use super::tokens::Caller;
use super::{KEEP_ALIVE, Shared};
use crate::journal::{Journal, JournalError};
use crate::runtime::Batch;

/// Records that are read from the disk at once.
const PAGE: usize = 500;

#[derive(Debug, Deserialize)]
pub(super) struct Since {
    /// The last record that is known; all that come after it are told.
    since: Option<i64>,
}

/// One record of the journal.
struct Told {
    seq: i64,
    body: Value,
}

/// Where a stream stands.
struct Following {
    state: PathBuf,
    /// The last record that was told.
    last: i64,
    /// What is to be told next.
    ready: VecDeque<Told>,
    /// What is new.
    batches: broadcast::Receiver<Batch>,
    /// Records that are on the disk and were not told come first.
    behind: bool,
}

/// Every record after the one that the caller knows, and then each as it becomes durable. Without
/// a number: from now on.
pub(super) async fn events(
    State(shared): State<Shared>,
    _: Caller,
    Query(Since { since }): Query<Since>,
    headers: HeaderMap,
) -> Sse<impl Stream<Item = Result<Sent, Infallible>>> {
    // Subscribed before the number is read, so that nothing falls between the two.
    let batches = shared.handle.batches();
    let again = headers.get("last-event-id").and_then(|id| id.to_str().ok()?.parse().ok());
    let known = again.or(since);
    let last = known.unwrap_or_else(|| shared.handle.snapshots.borrow().seq).max(0);
    let state = shared.handle.store.state().to_owned();
    let behind = known.is_some();
    let following = Following { state, last, ready: VecDeque::new(), batches, behind };
    let told = stream::unfold(following, |mut following| async move {
        let told = following.next().await?;
        let event = Sent::default().id(told.seq.to_string()).data(told.body.to_string());
        Some((Ok(event), following))
    });
    Sse::new(told).keep_alive(KeepAlive::new().interval(KEEP_ALIVE))
}

impl Following {
    /// None where the runtime ends, or the journal can't be read.
    async fn next(&mut self) -> Option<Told> {
        loop {
            if let Some(told) = self.ready.pop_front() {
                if told.seq <= self.last {
                    continue;
                }
                self.last = told.seq;
                return Some(told);
            }
            if self.behind {
                let (state, from) = (self.state.clone(), self.last + 1);
                let page = tokio::task::spawn_blocking(move || page(&state, from)).await.ok()?;
                self.ready = page.inspect_err(|error| tracing::warn!(%error, "events")).ok()?;
                self.behind = self.ready.len() == PAGE;
                continue;
            }
            match self.batches.recv().await {
                Ok(batch) => {
                    let first = batch.last + 1 - i64::try_from(batch.events.len()).ok()?;
                    // Something between was missed: it is on the disk.
                    self.behind = first > self.last + 1;
                    if !self.behind {
                        self.ready = (first..).zip(batch.events.iter()).map(told).collect();
                    }
                }
                Err(RecvError::Lagged(_)) => self.behind = true,
                Err(RecvError::Closed) => return None,
            }
        }
    }
}

fn told<T: serde::Serialize>(
    (seq, (at, event)): (i64, &(crate::core::model::time::Timestamp, T)),
) -> Told {
    Told { seq, body: json!({"seq": seq, "at": at, "event": event}) }
}

fn page(state: &std::path::Path, from: i64) -> Result<VecDeque<Told>, JournalError> {
    let journal = Journal::open_read_only(state)?;
    let mut page = VecDeque::new();
    journal.read(from, |record| {
        page.push_back(told((record.seq, &(record.at, record.event()?))));
        Ok(page.len() < PAGE)
    })?;
    Ok(page)
}
