//! Sends each run as a trace of OpenTelemetry once it has ended, if `[traces]` names a collector.
//!
//! Subscribes to durable batches, so that no trace has an event that the journal lacks. One task folds
//! them and never waits for the collector; another one sends, tries again while the collector is away, and
//! reports a failure as a problem. Traces that find no room between both are counted and reported.
//!
//! ```text
//! batches ─▶ follow: TraceFold ─ RunTrace ─▶ queue (bounded) ─▶ Exporter ─▶ notify::otlp::push
//! ```

mod fold;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{broadcast, mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use self::fold::TraceFold;
use super::side_state::ProblemSource;
use super::{Batch, Context, Snapshot};
use crate::config::services::TracesConfig;
use crate::core::fleet::Fleet;
use crate::core::tables::sink::SinkOutcome;
use crate::network::NetworkError;
use crate::notify::otlp::{self, RunTrace};

/// The longest that one request may take, with the secrets that it needs.
const TIMEOUT: Duration = Duration::from_secs(15);
/// The longest that afk's end waits for the last traces.
const FLUSH: Duration = Duration::from_secs(5);
/// The traces that wait at most while the collector is away.
const WAITING: usize = 256;
/// The traces of one request at most: with the bounds of a trace, at most a few megabytes.
const AT_ONCE: usize = 8;
/// Until the next request after the collector refused for good.
const DISABLED_SECONDS: i64 = 300;
/// Until the next request after the collector could not be reached.
const RETRY_SECONDS: i64 = 10;

/// The tasks that send traces.
#[derive(Debug)]
pub(super) struct TraceTasks {
    follow: JoinHandle<()>,
    export: JoinHandle<()>,
    /// The traces that found no room, or that nobody took.
    lost: Arc<AtomicU64>,
    /// Nothing durable follows: take what has arrived, and send it once.
    end: CancellationToken,
}

/// Starts following the batches after `fleet`, which the first of them continues.
pub(super) fn start(
    context: &Arc<Context>,
    fleet: &Fleet,
    snapshots: watch::Receiver<Arc<Snapshot>>,
) -> TraceTasks {
    let end = CancellationToken::new();
    let (queue, traces) = mpsc::channel(WAITING);
    let lost = Arc::new(AtomicU64::new(0));
    let follower = TraceFollower {
        fold: TraceFold::new(&context.journal_id, fleet),
        // Subscribed before the event loop begins, so that no batch is missed.
        batches: context.batches.subscribe(),
        context: context.clone(),
        snapshots,
        queue,
        lost: lost.clone(),
        end: end.clone(),
    };
    let exporter =
        Exporter { context: context.clone(), client: None, lost: lost.clone(), end: end.clone() };
    let (follow, export) = (tokio::spawn(follower.run()), tokio::spawn(exporter.run(traces)));
    TraceTasks { follow, export, lost, end }
}

impl TraceTasks {
    /// Sends what has arrived, and ends. Call it once the event loop has ended.
    pub(super) async fn finish(self) {
        self.end.cancel();
        let aborts = [self.follow.abort_handle(), self.export.abort_handle()];
        let both = futures::future::join(self.follow, self.export);
        let Ok((follow, export)) = timeout(FLUSH, both).await else {
            let seconds = FLUSH.as_secs();
            tracing::warn!(seconds, "the last traces were not sent in time");
            aborts.iter().for_each(tokio::task::AbortHandle::abort);
            return;
        };
        let lost = self.lost.load(Ordering::Relaxed);
        if lost > 0 {
            tracing::warn!(lost, "some runs have no trace at the collector");
        }
        for error in [follow.err(), export.err()].into_iter().flatten() {
            tracing::error!(%error, "a task of traces panicked");
        }
    }
}

/// The task that folds batches.
struct TraceFollower {
    fold: TraceFold,
    context: Arc<Context>,
    batches: broadcast::Receiver<Batch>,
    snapshots: watch::Receiver<Arc<Snapshot>>,
    queue: mpsc::Sender<RunTrace>,
    lost: Arc<AtomicU64>,
    end: CancellationToken,
}

impl TraceFollower {
    async fn run(mut self) {
        loop {
            let received = tokio::select! {
                // What has arrived comes before the end.
                biased;
                received = self.batches.recv() => received,
                () = self.end.cancelled() => return,
            };
            let snapshot = self.snapshots.borrow().clone();
            match received {
                Ok(batch) => self.take(&batch, &snapshot.fleet),
                Err(broadcast::error::RecvError::Lagged(missed)) => {
                    tracing::warn!(
                        missed,
                        "batches were missed: the traces of live runs lack a part"
                    );
                    // The batches that still wait are older than the fleet that the fold begins from.
                    self.batches = self.batches.resubscribe();
                    let fleet = &self.snapshots.borrow().clone().fleet;
                    let next = TraceFold::new(&self.context.journal_id, fleet);
                    let ended = self.fold.missing_in(&next);
                    if self.context.config().traces.is_some() {
                        self.lost.fetch_add(ended, Ordering::Relaxed);
                    }
                    self.fold = next;
                }
                Err(broadcast::error::RecvError::Closed) => return,
            }
        }
    }

    fn take(&mut self, batch: &Batch, fleet: &Fleet) {
        for (at, event) in batch.events.iter() {
            // The fold goes on without a collector: a reload can name one while runs are live.
            let Some(trace) = self.fold.take(*at, event, fleet) else { continue };
            if self.context.config().traces.is_some() && self.queue.try_send(trace).is_err() {
                self.lost.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

/// The task that sends traces.
struct Exporter {
    context: Arc<Context>,
    /// None before the first trace: a client holds the certificates of the system in memory.
    client: Option<reqwest::Client>,
    /// The traces that found no room, or that nobody took.
    lost: Arc<AtomicU64>,
    end: CancellationToken,
}

impl Exporter {
    async fn run(mut self, mut traces: mpsc::Receiver<RunTrace>) {
        while let Some(first) = traces.recv().await {
            let mut next = vec![first];
            while next.len() < AT_ONCE
                && let Ok(trace) = traces.try_recv()
            {
                next.push(trace);
            }
            self.deliver(&next).await;
        }
    }

    /// Sends traces until the collector has taken or refused them, or nobody wants them any more.
    async fn deliver(&mut self, traces: &[RunTrace]) {
        let body = otlp::encode(traces, &self.context.journal_id);
        let count = u64::try_from(traces.len()).unwrap_or(u64::MAX);
        let mut changes = self.context.config_changes.subscribe();
        loop {
            let Some(config) = self.context.config().traces.clone() else {
                self.report(None).await;
                return;
            };
            let (seconds, is_over) = match self.push(&config, &body).await {
                Ok((SinkOutcome::Done, why)) => {
                    self.report(Some(why).filter(|why| !why.is_empty())).await;
                    return;
                }
                Ok((SinkOutcome::Drop, why)) => {
                    self.lost.fetch_add(count, Ordering::Relaxed);
                    self.report(Some(why)).await;
                    return;
                }
                Ok((SinkOutcome::DropAndDisable, why)) => {
                    self.lost.fetch_add(count, Ordering::Relaxed);
                    self.report(Some(why)).await;
                    (DISABLED_SECONDS, true)
                }
                Ok((SinkOutcome::Retry(seconds), why)) => {
                    self.report(Some(why)).await;
                    (seconds.clamp(1, DISABLED_SECONDS), false)
                }
                Err(why) => {
                    self.report(Some(why)).await;
                    (RETRY_SECONDS, false)
                }
            };
            if self.end.is_cancelled() {
                if !is_over {
                    self.lost.fetch_add(count, Ordering::Relaxed);
                }
                return;
            }
            let pause = Duration::from_secs(u64::try_from(seconds).unwrap_or_default());
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                _ = changes.changed() => {}
                () = self.end.cancelled() => {}
            }
            if is_over {
                return;
            }
        }
    }

    async fn push(
        &mut self,
        config: &TracesConfig,
        body: &[u8],
    ) -> Result<(SinkOutcome, String), String> {
        let client = if let Some(client) = &self.client {
            client
        } else {
            // A redirect would take the headers' secrets elsewhere, and a page that answers 200 takes no trace.
            let refused = reqwest::redirect::Policy::none();
            let built = reqwest::Client::builder().timeout(TIMEOUT).redirect(refused).build();
            let failed = |error| crate::error::chain(&error);
            self.client.insert(built.map_err(failed)?)
        };
        let secrets = self.context.services().secrets.clone();
        let push = otlp::push(client, &secrets, config, body.to_vec());
        timeout(TIMEOUT, push).await.unwrap_or_else(|_| {
            let address = config.address();
            Err(crate::error::chain(&NetworkError::timed_out(&address, TIMEOUT)))
        })
    }

    /// Shows the problem of traces, or that there is none; lost traces stay one.
    async fn report(&self, problem: Option<String>) {
        let problem = problem.map(|why| format!("traces: {why}"));
        let lost = match self.lost.load(Ordering::Relaxed) {
            0 => None,
            1 => Some("traces: 1 run has none, because the collector did not take it".to_owned()),
            n => {
                Some(format!("traces: {n} runs have none, because the collector did not take them"))
            }
        };
        let problems = problem.into_iter().chain(lost).collect();
        self.context.report_problems(ProblemSource::Traces, problems).await;
    }
}
