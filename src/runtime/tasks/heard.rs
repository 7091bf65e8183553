//! What an agent says in a turn, handed on: to the core and a listener at once, to the transcript in
//! strides, so that a turn of a few words is one write and one message.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use super::super::clock;
use super::Job;
use crate::core::model::agent_event::{AgentEvent, TurnEnd};
use crate::core::model::budget::Spend;
use crate::core::model::capability::Equipment;
use crate::core::model::input::RunFact;
use crate::journal::transcript::Entry;

/// Events that are handed on together at most.
pub(super) const BATCH: usize = 128;
/// How long what need not be handed on at once may wait for more: two frames of a screen.
const STRIDE: Duration = Duration::from_millis(33);

/// See the module.
pub(super) struct Heard<'a> {
    job: &'a Job,
    turn: u32,
    listener: Option<mpsc::Sender<AgentEvent>>,
    /// What the core has yet to be told: before anything else of this turn.
    equipment: Option<Box<Equipment>>,
    /// For the transcript, and when it is to be there.
    entries: Vec<Entry>,
    due: Instant,
    spent: Spend,
}

impl<'a> Heard<'a> {
    /// What is handed on of a turn that begins with this prompt.
    pub fn new(job: &'a Job, turn: u32, equipment: Equipment, prompt: AgentEvent) -> Self {
        let asked = job.run.work.job();
        let listener = asked.and_then(|asked| job.shell.listener(asked.id));
        let (equipment, due) = (Some(Box::new(equipment)), Instant::now() + STRIDE);
        let entries = vec![Entry { at: clock::wall(), turn, event: prompt }];
        Self { job, turn, listener, equipment, entries, due, spent: Spend::default() }
    }

    /// Hands events on until there are no more.
    pub async fn pass(&mut self, mut events: mpsc::Receiver<AgentEvent>) {
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

    /// The turn is over: what waited, what it spent, and its end.
    pub async fn end(mut self, end: TurnEnd) {
        if self.spent != Spend::default() {
            self.keep(AgentEvent::Usage(self.spent));
        }
        self.keep(AgentEvent::TurnEnd(end));
        self.flush().await;
    }

    async fn take(&mut self, event: AgentEvent) {
        if let Some(listener) = &self.listener {
            // One that goes away has the job stopped.
            let _ = listener.send(event.clone()).await;
        }
        let told = event.concerns_core().then(|| event.clone());
        match event {
            // Some agents tell their tokens after each step; a reader wants the sum.
            AgentEvent::Usage(spend) => self.spent.add(spend),
            AgentEvent::Piece { .. } => {}
            event => self.keep(event),
        }
        if let Some(event) = told {
            // What follows from it is noted after it.
            self.flush().await;
            self.job.tell(RunFact::Agent(event)).await;
        } else if self.entries.len() >= BATCH {
            self.flush().await;
        }
    }

    fn keep(&mut self, event: AgentEvent) {
        if self.entries.is_empty() {
            self.due = Instant::now() + STRIDE;
        }
        self.entries.push(Entry { at: clock::wall(), turn: self.turn, event });
    }

    async fn flush(&mut self) {
        if let Some(equipment) = self.equipment.take() {
            self.job.tell(RunFact::Agent(AgentEvent::Equipped(equipment))).await;
        }
        self.write();
    }

    fn write(&mut self) {
        if !self.entries.is_empty() {
            self.job.shell.transcribe(self.job.run.id, &self.entries);
            self.entries.clear();
        }
    }
}

impl Drop for Heard<'_> {
    /// What was said before its turn was cancelled is kept.
    fn drop(&mut self) {
        self.write();
    }
}
