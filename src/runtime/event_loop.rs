//! The fleet's one loop: inputs in, one journal batch, then effects, replies and a snapshot.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep, sleep_until};

use super::clock::Clock;
use super::lanes::Lanes;
use super::{Batch, Message, Shell, Snapshot};
use crate::core::command::Reply;
use crate::core::effect::Effect;
use crate::core::event::Event;
use crate::core::id::Timestamp;
use crate::core::input::Input;
use crate::core::state::Fleet;
use crate::core::step::step;
use crate::journal::writer::Writer;

/// Messages taken into one batch: they share a sync.
const BATCH: usize = 512;
/// Time between two snapshots.
const PUBLISH: Duration = Duration::from_millis(16);
/// Time between two tries to write the journal.
const JOURNAL_RETRY: Duration = Duration::from_secs(2);

pub(super) struct EventLoop {
    shell: Arc<Shell>,
    fleet: Fleet,
    seq: i64,
    writer: Writer,
    publish: watch::Sender<Arc<Snapshot>>,
    clock: Clock,
    lanes: Lanes,
    published: Instant,
    dirty: bool,
    urgent: mpsc::Receiver<Message>,
    /// What breakglass led to while the journal could not be written.
    held: Held,
    alone: bool,
}

/// Breakglass goes on without the journal: what it led to is written once it can be.
#[derive(Default)]
struct Held {
    events: Vec<(Timestamp, Event)>,
    /// Of others: they wait for the journal.
    effects: Vec<Effect>,
}

/// Events that are held at most; then breakglass, too, waits for the journal.
const HELD: usize = 20_000;

impl EventLoop {
    pub(super) fn new(
        shell: Arc<Shell>,
        fleet: Fleet,
        seq: i64,
        writer: Writer,
        publish: watch::Sender<Arc<Snapshot>>,
        urgent: mpsc::Receiver<Message>,
        alone: bool,
    ) -> Self {
        let clock = Clock::start(fleet.now);
        let lanes = Lanes::new(shell.clone(), alone);
        let published = Instant::now();
        let held = Held::default();
        Self {
            shell,
            fleet,
            seq,
            writer,
            publish,
            clock,
            lanes,
            published,
            dirty: true,
            urgent,
            held,
            alone,
        }
    }

    pub(super) async fn run(mut self, mut queue: mpsc::Receiver<Message>) {
        let policy = Box::new(self.shell.config().policy());
        let first = if self.alone { Input::Alone { policy } } else { Input::Started { policy } };
        self.take(vec![Message::Input(Box::new(first))]).await;
        let mut batch = Vec::with_capacity(BATCH);
        loop {
            let due = self.fleet.next_deadline().map(|at| self.clock.until(at));
            let publish_at = self.published + PUBLISH;
            tokio::select! {
                count = queue.recv_many(&mut batch, BATCH) => {
                    if count == 0 {
                        break;
                    }
                    let messages = std::mem::take(&mut batch);
                    self.take(messages).await;
                }
                Some(message) = self.urgent.recv() => self.take(vec![message]).await,
                () = sleep(due.unwrap_or_default()), if due.is_some() => {
                    self.take(vec![Message::Input(Box::new(Input::Tick))]).await;
                }
                () = sleep_until(publish_at), if self.dirty => self.publish(),
                () = self.shell.cancel.cancelled() => break,
            }
        }
        queue.close();
        self.lanes.stop_all().await;
        self.publish();
    }

    /// Steps through messages, makes their events durable, and only then lets anything be seen
    /// or done.
    async fn take(&mut self, messages: Vec<Message>) {
        let mut events: Vec<(Timestamp, Event)> = Vec::new();
        let mut effects = Vec::new();
        let mut replies: Vec<(oneshot::Sender<Reply>, Reply)> = Vec::new();
        for message in messages {
            let (input, reply_to) = match message {
                Message::Input(input) => (*input, None),
                Message::Command(command, reply) => (Input::Command(command), Some(reply)),
                Message::Aside => {
                    self.dirty = true;
                    continue;
                }
            };
            let out = step(&mut self.fleet, self.clock.now(), input);
            let at = self.fleet.now;
            events.extend(out.events.into_iter().map(|event| (at, event)));
            effects.extend(out.effects);
            if let (Some(to), Some((_, reply))) = (reply_to, out.reply) {
                replies.push((to, reply));
            }
        }
        if !events.is_empty() {
            self.seq += i64::try_from(events.len()).unwrap_or(i64::MAX);
            let events: Arc<[(Timestamp, Event)]> = events.into();
            self.write(&events).await;
            // Nobody may be following.
            let _ = self.shell.batches.send(Batch { last: self.seq, events });
            self.dirty = true;
        }
        while !self.held.events.is_empty() {
            let Held { events, effects: others } = std::mem::take(&mut self.held);
            self.seq += i64::try_from(events.len()).unwrap_or(i64::MAX);
            let events: Arc<[(Timestamp, Event)]> = events.into();
            self.write(&events).await;
            let _ = self.shell.batches.send(Batch { last: self.seq, events });
            effects.extend(others);
        }
        for (to, reply) in replies {
            // A client that went away needs no answer.
            let _ = to.send(reply);
        }
        for effect in effects {
            self.lanes.execute(effect, &self.fleet);
        }
        if self.published.elapsed() >= PUBLISH && self.dirty {
            self.publish();
        }
    }

    /// Nothing goes on before the batch is on the disk: a full disk holds everything up, visibly,
    /// and nothing is lost or done twice once there is room again.
    async fn write(&mut self, events: &[(Timestamp, Event)]) {
        loop {
            match self.writer.append(events.to_vec()).await {
                Ok(()) => {
                    let mut problems =
                        self.shell.problems.lock().unwrap_or_else(PoisonError::into_inner);
                    if problems.remove("journal").is_some() {
                        self.dirty = true;
                    }
                    return;
                }
                Err(error) => {
                    tracing::error!(%error, "the journal can't be written");
                    let mut line = format!("{error}; nothing goes on until it can be written");
                    if self.fleet.policy.breakglass.is_some() {
                        line.push_str(
                            ", but breakglass: AUDIT DEGRADED (kept here and at the host)",
                        );
                    }
                    self.complain(line);
                }
            }
            let again = sleep(JOURNAL_RETRY);
            tokio::pin!(again);
            loop {
                let rules = self.fleet.policy.breakglass.as_ref();
                let due = self.fleet.breakglass.next_deadline(rules).filter(|_| rules.is_some());
                let due = due.map(|at| self.clock.until(at));
                tokio::select! {
                    () = &mut again => break,
                    () = self.shell.cancel.cancelled() => return,
                    () = sleep(due.unwrap_or_default()), if due.is_some() => {
                        self.meanwhile(Message::Input(Box::new(Input::Tick)));
                    }
                    Some(message) = self.urgent.recv(), if self.held.events.len() < HELD => {
                        self.meanwhile(message);
                    }
                }
            }
        }
    }

    /// Breakglass while the journal can't be written: its effects and answers are not held up, and
    /// what it led to is kept until it can be written.
    fn meanwhile(&mut self, message: Message) {
        let (input, reply_to) = match message {
            Message::Input(input) => (*input, None),
            Message::Command(command, reply) => (Input::Command(command), Some(reply)),
            Message::Aside => return self.publish_breakglass(),
        };
        let out = step(&mut self.fleet, self.clock.now(), input);
        let at = self.fleet.now;
        self.held.events.extend(out.events.into_iter().map(|event| (at, event)));
        if let (Some(to), Some((_, reply))) = (reply_to, out.reply) {
            // A client that went away needs no answer.
            let _ = to.send(reply);
        }
        for effect in out.effects {
            if effect.is_breakglass() {
                self.lanes.execute(effect, &self.fleet);
            } else {
                self.held.effects.push(effect);
            }
        }
        self.publish_breakglass();
    }

    /// Shows breakglass as it is beside the last fleet that is durable.
    fn publish_breakglass(&self) {
        let problems = self.shell.problems.lock().unwrap_or_else(PoisonError::into_inner);
        let problems = problems.values().flatten().cloned().collect();
        let unwritten = Some(Box::new(self.fleet.breakglass.clone()));
        let live = self.shell.live().copy();
        self.publish.send_modify(|snapshot| {
            let known = snapshot.as_ref().clone();
            *snapshot = Arc::new(Snapshot { problems, live, unwritten, ..known });
        });
    }

    /// Shows a problem beside the last fleet that is durable.
    fn complain(&self, line: String) {
        let mut problems = self.shell.problems.lock().unwrap_or_else(PoisonError::into_inner);
        problems.insert("journal", vec![line]);
        let lines = problems.values().flatten().cloned().collect();
        drop(problems);
        self.publish.send_modify(|snapshot| {
            *snapshot = Arc::new(Snapshot { problems: lines, ..snapshot.as_ref().clone() });
        });
        if self.fleet.policy.breakglass.is_some() {
            self.publish_breakglass();
        }
    }

    fn publish(&mut self) {
        self.dirty = false;
        self.published = Instant::now();
        let problems = self.shell.problems.lock().unwrap_or_else(PoisonError::into_inner);
        let worktrees = self.shell.worktrees.lock().unwrap_or_else(PoisonError::into_inner);
        let snapshot = Snapshot {
            fleet: self.fleet.clone(),
            worktrees: worktrees.clone(),
            problems: problems.values().flatten().cloned().collect(),
            clients: self.shell.clients().values().cloned().collect(),
            watchers: self.shell.watchers.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            live: self.shell.live().copy(),
            unwritten: None,
            seq: self.seq,
        };
        // Nobody may be looking.
        let _ = self.publish.send(Arc::new(snapshot));
    }
}
