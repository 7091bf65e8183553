//! The events of a turn on their way from the agent: to the core and the job's listener at once, to
//! the transcript in batches, so that a short turn is one write and one wake-up of its readers.
//!
//! ```text
//!   agent ── AgentEvent ──▶ take ──▶ listener of the job      every event
//!                            ├────▶ core (RunFact::Agent)     events that concern the core
//!                            └────▶ transcript                every 33 ms, or before a core event
//! ```

use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use super::TaskContext;
use crate::core::model::agent_event::{AgentEvent, TurnEnd};
use crate::core::model::budget::Spend;
use crate::core::model::capability::Equipment;
use crate::core::model::input::RunFact;
use crate::journal::transcript::TranscriptEntry;
use crate::redact::Redactor;
use crate::runtime::clock;

/// The largest number of events in one write.
pub(super) const BATCH: usize = 128;
/// The longest that an event waits for more before it is written: two frames of a screen.
const WRITE_INTERVAL: Duration = Duration::from_millis(33);

/// Passes the events of one turn on; see the module. Dropping it writes the entries that still
/// wait.
pub(super) struct TurnEvents<'a> {
    task: &'a TaskContext,
    turn: u32,
    listener: Option<mpsc::Sender<AgentEvent>>,
    /// The agent and its capabilities, which the core must receive before any event of the turn.
    equipment: Option<Box<Equipment>>,
    /// Entries that wait for the next write of the transcript.
    entries: Vec<TranscriptEntry>,
    /// When that write is due.
    due: Instant,
    /// The turn's usage so far.
    spent: Spend,
}

impl<'a> TurnEvents<'a> {
    /// Begins with the prompt as the first entry of the turn.
    pub(super) fn new(
        task: &'a TaskContext,
        turn: u32,
        equipment: Equipment,
        prompt: AgentEvent,
    ) -> Self {
        let job = task.run.work.job();
        let listener = job.and_then(|job| task.runtime.job_listeners.of(job.id));
        let (equipment, due) = (Some(Box::new(equipment)), Instant::now() + WRITE_INTERVAL);
        let entries = vec![TranscriptEntry { at: clock::wall(), turn, event: prompt }];
        Self { task, turn, listener, equipment, entries, due, spent: Spend::default() }
    }

    /// Passes events on until the agent's channel closes.
    pub(super) async fn pass(&mut self, mut events: mpsc::Receiver<AgentEvent>) {
        let mut batch = Vec::new();
        loop {
            let waits = !self.entries.is_empty() || self.equipment.is_some();
            tokio::select! {
                count = events.recv_many(&mut batch, BATCH) => {
                    if count == 0 {
                        return;
                    }
                    for event in batch.drain(..) {
                        self.take(event).await;
                    }
                }
                () = sleep_until(self.due), if waits => self.flush().await,
            }
        }
    }

    /// Writes the turn's usage and its end after everything else.
    pub(super) async fn end(mut self, end: TurnEnd) {
        if self.spent != Spend::default() {
            self.keep(AgentEvent::Usage(self.spent));
        }
        self.keep(AgentEvent::TurnEnd(end));
        self.flush().await;
    }

    async fn take(&mut self, mut event: AgentEvent) {
        if self.task.executor.is_some() {
            // Another machine removed the secrets that it knows; these are ours.
            Redactor::default().event(&mut event);
        }
        if let Some(listener) = &self.listener {
            // A listener that goes away also stops the job, so a failed send loses nothing.
            let _ = listener.send(event.clone()).await;
        }
        let for_core = event.concerns_core().then(|| event.clone());
        match event {
            // Some agents report tokens after each step; the transcript gets the sum.
            AgentEvent::Usage(spend) => self.spent.add(spend),
            AgentEvent::Piece { .. } => {}
            event => self.keep(event),
        }
        if let Some(event) = for_core {
            // The transcript must show the event before the remarks that the core adds about it.
            self.flush().await;
            self.task.report(RunFact::Agent(event)).await;
        } else if self.entries.len() >= BATCH {
            self.flush().await;
        }
    }

    fn keep(&mut self, event: AgentEvent) {
        if self.entries.is_empty() {
            self.due = Instant::now() + WRITE_INTERVAL;
        }
        self.entries.push(TranscriptEntry { at: clock::wall(), turn: self.turn, event });
    }

    async fn flush(&mut self) {
        if let Some(equipment) = self.equipment.take() {
            self.task.report(RunFact::Agent(AgentEvent::Equipped(equipment))).await;
        }
        self.write();
    }

    fn write(&mut self) {
        if !self.entries.is_empty() {
            self.task.runtime.append_transcript(self.task.run.id, &self.entries);
            self.entries.clear();
        }
    }
}

impl Drop for TurnEvents<'_> {
    /// Keeps the last events of a cancelled turn.
    fn drop(&mut self) {
        self.write();
    }
}
