//! One that follows a leader: the same handle for clients, whose fleet is read from the journal that
//! the leader writes. It changes nothing and begins nothing.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::{MissedTickBehavior, interval};

use super::{Batch, Message, Shell, Snapshot};
use crate::core::fleet::Fleet;
use crate::core::model::command::Refusal;
use crate::core::model::event::Event;
use crate::core::model::time::Timestamp;
use crate::journal::{Journal, JournalError};

/// Between two looks at the journal.
const LOOK: Duration = Duration::from_millis(500);
/// Records that are taken in at once.
const PART: usize = 10_000;

/// See the module.
pub(super) struct Follower {
    pub shell: Arc<Shell>,
    pub publish: watch::Sender<Arc<Snapshot>>,
    /// What clients ask.
    pub queue: mpsc::Receiver<Message>,
    pub urgent: mpsc::Receiver<Message>,
    /// Who leads, in words.
    pub leader: watch::Receiver<String>,
    pub fleet: Fleet,
    pub seq: i64,
}

impl Follower {
    /// Follows until it is ended.
    pub(super) async fn run(mut self) {
        let mut every = interval(LOOK);
        every.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let message = tokio::select! {
                _ = every.tick() => {
                    self.look().await;
                    continue;
                }
                Some(message) = self.queue.recv() => message,
                Some(message) = self.urgent.recv() => message,
                () = self.shell.cancel.cancelled() => return,
            };
            if let Message::Command(_, reply) = message {
                let leader = self.leader.borrow().clone();
                // Who asked may have gone.
                let _ = reply.send(Err(Refusal::Follower { leader }));
            }
        }
    }

    /// Takes in what the leader wrote since.
    async fn look(&mut self) {
        let (state, from) = (self.shell.state.clone(), self.seq + 1);
        let read = tokio::task::spawn_blocking(move || read(&state, from)).await;
        let (last, events) = match read {
            Ok(Ok(read)) => read,
            Ok(Err(error)) => return self.complain(&error.to_string()),
            Err(error) => return self.complain(&error.to_string()),
        };
        if events.is_empty() {
            return;
        }
        for (at, event) in &events {
            self.fleet.apply(*at, event);
        }
        self.seq = last;
        // Nobody may be looking.
        let _ = self.shell.batches.send(Batch { last, events: events.into() });
        self.shell.transcripts.send_modify(|count| *count += 1);
        let (fleet, seq) = (self.fleet.clone(), self.seq);
        let _ = self.publish.send(Arc::new(Snapshot { fleet, seq, ..Snapshot::default() }));
    }

    /// Shows why the fleet is no newer.
    fn complain(&self, line: &str) {
        self.publish.send_if_modified(|known| {
            let problems = vec![format!("the leader's journal can't be read: {line}")];
            let new = known.problems != problems;
            *known = Arc::new(Snapshot { problems, ..known.as_ref().clone() });
            new
        });
    }
}

/// The events from a record on, and the number of the last.
fn read(state: &Path, from: i64) -> Result<(i64, Vec<(Timestamp, Event)>), JournalError> {
    let journal = Journal::open_read_only(state)?;
    let (mut last, mut events) = (from - 1, Vec::new());
    journal.read(from, |record| {
        last = record.seq;
        events.push((record.at, record.event()?));
        Ok(events.len() < PART)
    })?;
    Ok((last, events))
}
