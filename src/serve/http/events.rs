//! `GET /v1/events`: the journal as server-sent events, without a gap.
//!
//! An [`EventStream`] has two sources: batches of the runtime while the caller keeps up, and pages of
//! the journal whenever records are missing, at the start or after the caller fell behind.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::path::PathBuf;

use axum::extract::{Query, State};
use axum::http::HeaderMap;
use axum::response::Response;
use axum::response::sse::{Event as ServerSentEvent, KeepAlive, Sse};
use futures::{StreamExt, stream};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

use super::tokens::Caller;
use super::{ApiState, KEEP_ALIVE, unbuffered};
use crate::core::model::time::Timestamp;
use crate::journal::{Journal, JournalError};
use crate::runtime::Batch;

/// The number of records that are read from the journal at once.
const PAGE: usize = 500;

#[derive(Debug, Deserialize)]
pub(super) struct EventsQuery {
    /// The last record that the caller has; the stream begins with the next one.
    since: Option<i64>,
}

/// A record of the journal as the caller receives it.
struct EventRecord {
    seq: i64,
    body: Value,
}

impl EventRecord {
    fn new(seq: i64, at: Timestamp, event: &impl serde::Serialize) -> Self {
        Self { seq, body: json!({"seq": seq, "at": at, "event": event}) }
    }
}

struct EventStream {
    state: PathBuf,
    /// The last record that was sent.
    last: i64,
    /// The records to send next.
    ready: VecDeque<EventRecord>,
    batches: broadcast::Receiver<Batch>,
    /// Whether the journal has records between `last` and the next batch.
    behind: bool,
}

/// Streams every record after the one that the caller has, then each new one once it is durable.
/// Without a number the stream begins with the next record.
pub(super) async fn events(
    State(state): State<ApiState>,
    caller: Caller,
    Query(EventsQuery { since }): Query<EventsQuery>,
    headers: HeaderMap,
) -> Response {
    // Subscribes before it reads the current number, so that no record falls between the two.
    let batches = state.handle.batches();
    let reconnected = headers.get("last-event-id").and_then(|id| id.to_str().ok()?.parse().ok());
    let known = reconnected.or(since);
    let last = known.unwrap_or_else(|| state.snapshot().seq).max(0);
    let folder = state.handle.store.state().to_owned();
    let behind = known.is_some();
    let events = EventStream { state: folder, last, ready: VecDeque::new(), batches, behind };
    let sent = stream::unfold(events, |mut events| async move {
        let record = events.next().await?;
        let event = ServerSentEvent::default();
        let event = event.id(record.seq.to_string()).data(record.body.to_string());
        Some((Ok(event), events))
    });
    // A token that is removed meanwhile gets no further record.
    let sent = sent.take_until(async move { caller.rights.revoked().await });
    // The headers go out with it: otherwise they would wait for the first event.
    let begin = stream::once(async { Ok::<_, Infallible>(ServerSentEvent::default().comment("")) });
    unbuffered(Sse::new(begin.chain(sent)).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)))
}

impl EventStream {
    /// The next record; `None` once the runtime ends or the journal can't be read.
    async fn next(&mut self) -> Option<EventRecord> {
        loop {
            if let Some(record) = self.ready.pop_front() {
                if record.seq <= self.last {
                    continue;
                }
                self.last = record.seq;
                return Some(record);
            }
            if self.behind {
                let (state, from) = (self.state.clone(), self.last + 1);
                let page =
                    tokio::task::spawn_blocking(move || read_page(&state, from)).await.ok()?;
                let failed = |error: &JournalError| {
                    tracing::warn!(%error, "a stream of events ends: the journal can't be read");
                };
                self.ready = page.inspect_err(failed).ok()?;
                self.behind = self.ready.len() == PAGE;
                continue;
            }
            match self.batches.recv().await {
                Ok(batch) => {
                    let first = batch.last + 1 - i64::try_from(batch.events.len()).ok()?;
                    self.behind = first > self.last + 1;
                    if !self.behind {
                        let records = (first..).zip(batch.events.iter());
                        self.ready = records
                            .map(|(seq, (at, event))| EventRecord::new(seq, *at, event))
                            .collect();
                    }
                }
                Err(RecvError::Lagged(_)) => self.behind = true,
                Err(RecvError::Closed) => return None,
            }
        }
    }
}

fn read_page(state: &std::path::Path, from: i64) -> Result<VecDeque<EventRecord>, JournalError> {
    let journal = Journal::open_read_only(state)?;
    let mut page = VecDeque::new();
    journal.read(from, |record| {
        page.push_back(EventRecord::new(record.seq, record.at, &record.event()?));
        Ok(page.len() < PAGE)
    })?;
    Ok(page)
}
