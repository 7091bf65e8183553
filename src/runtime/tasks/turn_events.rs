//! The events of a turn on their way from the agent: to the core and the job's listener at once, to
//! the transcript in batches, so that a short turn is one write and one wake-up of its readers.
//!
//! ```text
//!   agent ── AgentEvent ──▶ take ──▶ listener of the job      every event
//!                            ├────▶ core (RunFact::Agent)     events that concern the core, at a pace
//!                            └────▶ transcript                every 33 ms, or before a core event
//! ```
//!
//! Events of every executor pass here, so this is where they are bounded: their size, their rate, and
//! the cost that they may name.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use super::TaskContext;
use super::pace::Pace;
use crate::agent::bounds::bound;
use crate::core::model::agent_event::{AgentEvent, ContextUse, TurnEnd};
use crate::core::model::budget::Spend;
use crate::core::model::capability::Equipment;
use crate::core::model::input::RunFact;
use crate::core::model::permission::Tool;
use crate::core::model::untrusted::Untrusted;
use crate::journal::transcript::TranscriptEntry;
use crate::redact::Redactor;
use crate::runtime::clock;

/// The largest number of events in one write.
pub(super) const BATCH: usize = 128;
/// The longest that an event waits for more before it is written: two frames of a screen.
const WRITE_INTERVAL: Duration = Duration::from_millis(33);

/// The least time between two reports of costs to the core; those between are added up. Some agents
/// report after each step and some after each token, and every report is a record of the journal.
const USAGE_INTERVAL: Duration = Duration::from_secs(1);

/// The most uses of a shell at the same time that are watched.
const SHELLS: usize = 256;

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
    /// The part of it that the core has not got.
    unreported: Spend,
    /// The use of the model's context that the core has, and a later one that it has not got.
    context: Option<ContextUse>,
    unreported_context: Option<ContextUse>,
    /// When the core may get both.
    usage_due: Instant,
    /// The agent has reported a cost that can't be, and the transcript says so.
    invented_cost: bool,
    pace: Pace,
    /// The uses of a shell that have begun and not ended.
    shells: BTreeSet<String>,
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
        let now = Instant::now();
        let entries = vec![TranscriptEntry { at: clock::wall(), turn, event: prompt }];
        Self {
            task,
            turn,
            listener,
            equipment: Some(Box::new(equipment)),
            entries,
            due: now + WRITE_INTERVAL,
            spent: Spend::default(),
            unreported: Spend::default(),
            context: None,
            unreported_context: None,
            usage_due: now,
            invented_cost: false,
            pace: Pace::new(),
            shells: BTreeSet::new(),
        }
    }

    /// Passes events on until the agent's channel closes.
    pub(super) async fn pass(&mut self, mut events: mpsc::Receiver<AgentEvent>) {
        let mut batch = Vec::new();
        loop {
            let waits = !self.entries.is_empty() || self.equipment.is_some();
            tokio::select! {
                count = events.recv_many(&mut batch, BATCH) => {
                    if count == 0 {
                        self.report_usage().await;
                        return;
                    }
                    for event in batch.drain(..) {
                        self.take(event).await;
                    }
                }
                () = sleep_until(self.due), if waits => self.flush().await,
                () = sleep_until(self.usage_due), if self.has_unreported_usage() => {
                    self.report_usage().await;
                }
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

    async fn take(&mut self, event: AgentEvent) {
        let mut event = bound(event);
        if matches!(&event, AgentEvent::Usage(spend) if !spend.is_plausible()) {
            return self.note_invented_cost();
        }
        if self.task.executor.is_some() {
            // Another machine removed the secrets that it knows; these are ours.
            Redactor::default().event(&mut event);
        }
        if let AgentEvent::Context(context) = event {
            if context.differs(self.context) {
                self.unreported_context = Some(context);
            }
            return;
        }
        if let Some(listener) = &self.listener {
            // A listener that goes away also stops the job, so a failed send loses nothing.
            let _ = listener.send(event.clone()).await;
        }
        if let AgentEvent::Usage(spend) = event {
            return self.take_spend(spend).await;
        }
        let ran = self.command_ran(&event);
        let for_core = event.concerns_core().then(|| event.clone());
        if !matches!(event, AgentEvent::Piece { .. } | AgentEvent::ToolRunning { .. }) {
            self.keep(event);
        }
        if let Some(event) = for_core {
            // The transcript must show the event before the remarks that the core adds about it.
            self.flush().await;
            self.report(event).await;
        } else if let Some(command) = ran {
            self.flush().await;
            self.pace.wait(command.as_received().len()).await;
            self.task.report(RunFact::CommandRan { command }).await;
        } else if self.entries.len() >= BATCH {
            self.flush().await;
        }
    }

    /// The command that an event shows as carried out: one of a shell that ended with an exit code or
    /// well. A refused one ends with neither.
    fn command_ran(&mut self, event: &AgentEvent) -> Option<Untrusted> {
        match event {
            AgentEvent::ToolStart { id, kind, .. }
                if kind.as_received() == Tool::Shell.as_str() && self.shells.len() < SHELLS =>
            {
                self.shells.insert(id.clone());
                None
            }
            AgentEvent::ToolEnd { id, title, ok, code, .. } => {
                let is_shell = self.shells.remove(id);
                (is_shell && (*ok || code.is_some())).then(|| title.clone())
            }
            _ => None,
        }
    }

    /// Writes one remark however often the agent reports a cost that can't be.
    fn note_invented_cost(&mut self) {
        if !self.invented_cost {
            self.invented_cost = true;
            let text = "the agent reported a cost that can't be: afk ignores such reports".into();
            self.keep(AgentEvent::Notice { text });
        }
    }

    /// Adds a report to the turn's usage; the transcript gets the sum at the end.
    async fn take_spend(&mut self, spend: Spend) {
        self.spent.add(spend);
        let mut sum = self.unreported;
        sum.add(spend);
        if !sum.is_plausible() {
            self.report_usage().await;
            sum = spend;
        }
        self.unreported = sum;
        if Instant::now() >= self.usage_due {
            self.report_usage().await;
        }
    }

    fn has_unreported_usage(&self) -> bool {
        self.unreported != Spend::default() || self.unreported_context.is_some()
    }

    async fn report_usage(&mut self) {
        if let Some(context) = self.unreported_context.take() {
            self.context = Some(context);
            self.usage_due = Instant::now() + USAGE_INTERVAL;
            self.report(AgentEvent::Context(context)).await;
        }
        let spend = std::mem::take(&mut self.unreported);
        if spend != Spend::default() {
            self.usage_due = Instant::now() + USAGE_INTERVAL;
            self.flush().await;
            self.report(AgentEvent::Usage(spend)).await;
        }
    }

    /// Reports an event to the core, at the pace of this turn.
    async fn report(&mut self, event: AgentEvent) {
        let mut bytes = 0;
        let mut sized = event;
        sized.texts(&mut |text| bytes += text.as_received().len());
        self.pace.wait(bytes).await;
        self.task.report(RunFact::Agent(sized)).await;
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
