//! The loop of an afk that follows a leader. It stands in for the [event loop](super::event_loop)
//! behind the same handle: it folds the journal that the leader writes, publishes the fleet,
//! refuses every command, and carries out no effect.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::{MissedTickBehavior, interval};

use super::loop_message::LoopState;
use super::{Batch, Context, LoopMessage, Snapshot};
use crate::core::fleet::Fleet;
use crate::core::model::command::Refusal;
use crate::core::model::event::Event;
use crate::core::model::time::Timestamp;
use crate::journal::{Journal, JournalError};

/// The time between two reads of the journal.
const READ_INTERVAL: Duration = Duration::from_millis(500);
/// The largest number of records in one read.
const RECORDS: usize = 10_000;

/// The state of a follower; see the module.
pub(super) struct Follower {
    pub context: Arc<Context>,
    pub publish: watch::Sender<Arc<Snapshot>>,
    /// The queues of commands, all of which it refuses.
    pub inputs: mpsc::Receiver<LoopMessage>,
    pub urgent: mpsc::Receiver<LoopMessage>,
    /// A description of the leader.
    pub leader: watch::Receiver<String>,
    pub fleet: Fleet,
    pub seq: i64,
}

impl Follower {
    /// Follows until the context is cancelled.
    pub(super) async fn run(mut self) {
        let mut every = interval(READ_INTERVAL);
        every.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let message = tokio::select! {
                _ = every.tick() => {
                    self.read_on().await;
                    continue;
                }
                Some(message) = self.inputs.recv() => message,
                Some(message) = self.urgent.recv() => message,
                () = self.context.cancel.cancelled() => return,
            };
            match message {
                LoopMessage::Command(_, _, reply) => {
                    let leader = self.leader.borrow().clone();
                    // The client may have gone away.
                    let _ = reply.send(Err(Refusal::Follower { leader }));
                }
                LoopMessage::Probe(reply) => {
                    let _ = reply.send(LoopState { writes_journal: true });
                }
                LoopMessage::Input(_) | LoopMessage::SideStateChanged => {}
            }
        }
    }

    /// Applies and publishes the records since the last read.
    async fn read_on(&mut self) {
        let (state, from) = (self.context.state.clone(), self.seq + 1);
        let read = tokio::task::spawn_blocking(move || read(&state, from)).await;
        let (last, events) = match read {
            Ok(Ok(read)) => read,
            Ok(Err(error)) => return self.report(&error.to_string()),
            Err(error) => return self.report(&error.to_string()),
        };
        if events.is_empty() {
            return;
        }
        for (at, event) in &events {
            self.fleet.apply(*at, event);
        }
        self.seq = last;
        // Sending fails only without a subscriber.
        let _ = self.context.batches.send(Batch { last, events: events.into() });
        self.context.transcripts.send_modify(|count| *count += 1);
        let (fleet, seq) = (self.fleet.clone(), self.seq);
        let _ = self.publish.send(Arc::new(Snapshot { fleet, seq, ..Snapshot::default() }));
    }

    /// Reports to every client why the fleet is not current.
    fn report(&self, error: &str) {
        self.publish.send_if_modified(|known| {
            let problems = vec![format!("the leader's journal can't be read: {error}")];
            let new = known.problems != problems;
            *known = Arc::new(Snapshot { problems, ..known.as_ref().clone() });
            new
        });
    }
}

/// The events from a record on, and the number of the last one.
fn read(state: &Path, from: i64) -> Result<(i64, Vec<(Timestamp, Event)>), JournalError> {
    let journal = Journal::open_read_only(state)?;
    let (mut last, mut events) = (from - 1, Vec::new());
    journal.read(from, |record| {
        last = record.seq;
        events.push((record.at, record.event()?));
        Ok(events.len() < RECORDS)
    })?;
    Ok((last, events))
}
