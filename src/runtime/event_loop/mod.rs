//! The loop that owns the fleet. Nothing else steps it, and nothing is acted on or shown before it
//! is durable.
//!
//! ```text
//!   inputs, urgent, time
//!        │ step                        core::step changes the fleet at once, in memory
//!        ▼
//!   NextBatch (events, effects, replies)         grows while the batch before it is written
//!        │ write
//!        ▼
//!   BatchInFlight ──▶ journal::Writer ──▶ JournalEvent::Written
//!        │ written
//!        ├──▶ replies to clients
//!        ├──▶ effects to the lanes
//!        └──▶ Batch to followers, Snapshot to screens (at most 60 a second)
//! ```
//!
//! A journal that fails or stays silent holds everything up except breakglass: see [`degraded`].

mod batch;
mod degraded;
mod journal_state;

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until};

use self::batch::{BatchInFlight, NextBatch, PendingReply};
use self::journal_state::{JOURNAL_RETRY, JOURNAL_SILENCE, JournalEvent, JournalState};
use super::clock::{Clock, LOOK_INTERVAL};
use super::event_log;
use super::first_clones;
use super::lanes::Lanes;
use super::loop_message::LoopState;
use super::prepared_effect::PreparedEffect;
use super::side_state::ProblemSource;
use super::{Batch, Context, LoopMessage, Snapshot};
use crate::core::fleet::Fleet;
use crate::core::fleet::volatile::Volatile;
use crate::core::model::command::{Command, Role};
use crate::core::model::effect::Effect;
use crate::core::model::input::Input;
use crate::core::model::time::Timestamp;
use crate::core::query::explain;
use crate::core::step::{Step, step};
use crate::journal::JournalError;
use crate::journal::writer::Writer;

/// Messages that the loop takes from its queue at once.
const MESSAGES: usize = 512;
/// Events that may wait for the batch before them; beyond them messages stay in their queue.
const NEXT_EVENTS: usize = 4096;
/// The same for events of breakglass while the journal can't be written.
const DEGRADED_EVENTS: usize = 20_000;
/// The shortest time between two snapshots.
const PUBLISH_INTERVAL: Duration = Duration::from_millis(16);

/// The state of the loop; see the module.
pub(super) struct EventLoop {
    context: Arc<Context>,
    /// The stepped fleet, which may be ahead of the journal.
    fleet: Fleet,
    volatile: Volatile,
    seq: i64,
    writer: Arc<Writer>,
    publish: watch::Sender<Arc<Snapshot>>,
    clock: Clock,
    lanes: Lanes,
    published: Instant,
    /// The fleet or the side state changed since the last snapshot.
    dirty: bool,
    urgent: mpsc::Receiver<LoopMessage>,
    /// The batch that the journal is writing.
    in_flight: Option<BatchInFlight>,
    /// Everything stepped since, so that all of it shares the next sync.
    next: NextBatch,
    journal: JournalState,
    /// Only breakglass is carried out; runs continue at the next whole start.
    breakglass_only: bool,
}

impl EventLoop {
    pub(super) fn new(
        context: Arc<Context>,
        fleet: Fleet,
        seq: i64,
        writer: Writer,
        publish: watch::Sender<Arc<Snapshot>>,
        urgent: mpsc::Receiver<LoopMessage>,
        breakglass_only: bool,
    ) -> Self {
        let clock = Clock::start(fleet.last_event);
        let lanes = Lanes::new(context.clone());
        Self {
            context,
            fleet,
            volatile: Volatile::default(),
            seq,
            writer: Arc::new(writer),
            publish,
            clock,
            lanes,
            published: Instant::now(),
            dirty: true,
            urgent,
            in_flight: None,
            next: NextBatch::default(),
            journal: JournalState::Idle,
            breakglass_only,
        }
    }

    /// Runs until the context is cancelled, then writes the batch in flight and ends every lane.
    pub(super) async fn run(mut self, mut inputs: mpsc::Receiver<LoopMessage>) {
        let policy = Box::new(self.context.config().policy());
        let first = if self.breakglass_only {
            Input::BreakglassOnly { policy }
        } else {
            Input::Started { policy }
        };
        let uncloned = Input::Uncloned(first_clones::missing(&self.context));
        for input in [uncloned, first] {
            self.step(LoopMessage::Input(Box::new(input)));
        }
        let cancel = self.context.cancel.clone();
        let mut messages = Vec::with_capacity(MESSAGES);
        loop {
            self.write();
            let degraded = self.journal.degraded();
            let most = if degraded { DEGRADED_EVENTS } else { NEXT_EVENTS };
            let room = self.next.events.len() < most;
            let due = self.deadline(degraded).map(|at| self.clock.until(at));
            let publish_at = self.published + PUBLISH_INTERVAL;
            tokio::select! {
                event = self.journal.next_event() => self.take(event),
                count = inputs.recv_many(&mut messages, MESSAGES), if room && !degraded => {
                    if count == 0 {
                        break;
                    }
                    messages.drain(..).for_each(|message| self.step(message));
                }
                Some(message) = self.urgent.recv(), if room => {
                    self.step(message);
                    self.pass_breakglass(degraded);
                }
                () = sleep(due.unwrap_or_default()), if due.is_some() && room => {
                    self.step(LoopMessage::Input(Box::new(Input::Tick)));
                    self.pass_breakglass(degraded);
                }
                // Never publish a fleet that is not durable yet.
                () = sleep_until(publish_at), if self.dirty && self.in_flight.is_none() => {
                    self.publish();
                }
                () = sleep(LOOK_INTERVAL), if room => self.look_at_clock(),
                () = cancel.cancelled() => break,
            }
        }
        inputs.close();
        while self.in_flight.is_some() && !self.journal.degraded() {
            let event = self.journal.next_event().await;
            self.take(event);
            self.write();
        }
        self.lanes.stop_all().await;
        if self.in_flight.is_none() {
            self.publish();
        }
    }

    /// When the core wants a tick. While the journal can't be written, only breakglass gets one.
    fn deadline(&self, degraded: bool) -> Option<Timestamp> {
        if !degraded {
            return self.fleet.next_deadline(&self.volatile);
        }
        let rules = self.fleet.policy.breakglass.as_ref();
        self.fleet.breakglass.next_deadline(rules).filter(|_| rules.is_some())
    }

    /// Steps the fleet with one message and adds the result to the next batch.
    fn step(&mut self, message: LoopMessage) {
        let (input, reply_to) = match message {
            LoopMessage::Input(input) => (*input, None),
            LoopMessage::Command(mut command, rights, reply) => {
                // The rights may have shrunk while the command waited in its queue.
                if rights.role() == Role::Viewer {
                    command.role = Role::Viewer;
                }
                let is_breakglass = matches!(command.command, Command::Breakglass { .. });
                (Input::Command(command), Some((reply, is_breakglass)))
            }
            LoopMessage::Probe(reply) => {
                let writes_journal = !self.journal.degraded();
                // The probe may have given up.
                let _ = reply.send(LoopState { writes_journal });
                return;
            }
            LoopMessage::SideStateChanged => {
                self.dirty = true;
                return;
            }
        };
        self.look_at_clock();
        let out = self.step_input(input);
        if let (Some((to, is_breakglass)), Some((_, reply))) = (reply_to, out.reply) {
            self.next.replies.push(PendingReply { to, reply, is_breakglass });
        }
    }

    /// Has the core learn of time in which afk was stopped, and of a clock that was set.
    fn look_at_clock(&mut self) {
        if let Some(ms) = self.clock.look() {
            tracing::warn!(ms, "time passed without afk, or the clock was set");
            self.step_input(Input::TimeSkipped { ms });
        }
    }

    fn step_input(&mut self, input: Input) -> Step {
        let mut out = step(&mut self.fleet, &mut self.volatile, self.clock.now(), input);
        let at = out.at;
        self.next.events.extend(out.events.drain(..).map(|event| (at, event)));
        self.next.effects.append(&mut out.effects);
        out
    }

    /// Hands the next batch to the journal, unless it is still writing one.
    fn write(&mut self) {
        if self.in_flight.is_some() || self.next.is_empty() {
            return;
        }
        let NextBatch { events, effects, replies } = std::mem::take(&mut self.next);
        let effects = effects.into_iter().filter_map(|effect| self.prepare(effect)).collect();
        if events.is_empty() {
            self.follow(effects, replies);
            return;
        }
        self.seq += i64::try_from(events.len()).unwrap_or(i64::MAX);
        self.dirty = true;
        let snapshot = (self.published.elapsed() >= PUBLISH_INTERVAL).then(|| self.snapshot());
        let batch = Batch { last: self.seq, events: events.into() };
        self.in_flight = Some(BatchInFlight { batch, effects, replies, snapshot });
        self.append();
    }

    fn append(&mut self) {
        let Some(in_flight) = &self.in_flight else { return };
        let (writer, events) = (self.writer.clone(), in_flight.batch.events.clone());
        let append = async move { writer.append(events).await }.boxed();
        self.journal =
            JournalState::Writing { append, silence_ends: Some(Instant::now() + JOURNAL_SILENCE) };
    }

    /// Handles a report of the journal. A full disk holds everything but breakglass up, visibly;
    /// once the disk has room again, nothing is lost and nothing happens twice.
    fn take(&mut self, event: JournalEvent) {
        match event {
            JournalEvent::Written(Ok(())) => self.written(),
            JournalEvent::Written(Err(error @ JournalError::Fenced { .. })) => {
                // Another afk leads, so nothing of this batch may take effect.
                tracing::error!(%error, "another afk leads: this one ends");
                self.journal = JournalState::Failed { retry_at: Instant::now() };
                self.next = NextBatch::default();
                self.context.stop.cancel();
                self.context.cancel.cancel();
            }
            JournalEvent::Written(Err(error)) => {
                self.journal = JournalState::Failed { retry_at: Instant::now() + JOURNAL_RETRY };
                self.degrade(&error.to_string());
            }
            JournalEvent::Silent => {
                if let JournalState::Writing { silence_ends, .. } = &mut self.journal {
                    *silence_ends = None;
                }
                let seconds = JOURNAL_SILENCE.as_secs();
                self.degrade(&format!("the journal's disk has not answered in {seconds} s"));
            }
            JournalEvent::RetryDue => self.append(),
        }
    }

    /// Publishes a durable batch and lets everything that depends on it happen.
    fn written(&mut self) {
        self.journal = JournalState::Idle;
        let Some(BatchInFlight { batch, effects, replies, mut snapshot }) = self.in_flight.take()
        else {
            return;
        };
        if self.context.side_state.set_problems(ProblemSource::Journal, Vec::new()) {
            // Breakglass went on meanwhile, so the prepared snapshot would show an older state.
            snapshot = None;
            self.dirty = true;
        }
        event_log::write(&batch.events, &self.fleet);
        self.context.metrics.count(&batch.events, &self.fleet);
        // Sending fails only without a subscriber.
        let _ = self.context.batches.send(batch);
        if let Some(snapshot) = snapshot {
            let _ = self.publish.send(snapshot);
        }
        self.follow(effects, replies);
    }

    /// Sends the replies and begins the effects.
    fn follow(&mut self, effects: Vec<PreparedEffect>, replies: Vec<PendingReply>) {
        replies.into_iter().for_each(PendingReply::send);
        for effect in effects {
            self.lanes.begin(effect);
        }
    }

    fn prepare(&self, effect: Effect) -> Option<PreparedEffect> {
        PreparedEffect::new(&self.context, self.breakglass_only, effect, &self.fleet)
    }

    fn publish(&mut self) {
        let snapshot = self.snapshot();
        // Sending fails only without a client.
        let _ = self.publish.send(snapshot);
    }

    fn snapshot(&mut self) -> Arc<Snapshot> {
        self.dirty = false;
        self.published = Instant::now();
        let (fleet, seq) = (self.fleet.clone(), self.seq);
        let mut snapshot = Snapshot { fleet, seq, ..Snapshot::default() };
        self.context.side_state.fill(&mut snapshot);
        snapshot.problems.extend(explain::outages(&snapshot.fleet));
        Arc::new(snapshot)
    }
}
