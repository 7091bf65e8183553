//! The fleet's one loop: inputs in, one journal batch, then effects, replies and a snapshot.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep, sleep_until};

use super::clock::Clock;
use super::lanes::Lanes;
use super::{Batch, Message, Shell, Snapshot};
use crate::core::command::{Action, Reply};
use crate::core::effect::Effect;
use crate::core::event::Event;
use crate::core::id::Timestamp;
use crate::core::input::Input;
use crate::core::state::Fleet;
use crate::core::step::step;
use crate::journal::JournalError;
use crate::journal::writer::Writer;

/// Messages taken into one batch: they share a sync.
const BATCH: usize = 512;
/// Time between two snapshots.
const PUBLISH: Duration = Duration::from_millis(16);
/// Time between two tries to write the journal.
const JOURNAL_RETRY: Duration = Duration::from_secs(2);
/// How long the disk may be silent before breakglass goes on without it. Longer than SQLite waits
/// for a lock.
const JOURNAL_SILENT: Duration = Duration::from_secs(8);

pub(super) struct EventLoop {
    shell: Arc<Shell>,
    fleet: Fleet,
    seq: i64,
    writer: Arc<Writer>,
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
    follows: Follows,
}

/// What follows from a batch, once it is on the disk.
#[derive(Default)]
struct Follows {
    effects: Vec<Effect>,
    replies: Vec<Answer>,
}

/// The answer to a command.
struct Answer {
    to: oneshot::Sender<Reply>,
    reply: Reply,
    /// Not held up by a journal that can't be written.
    breakglass: bool,
}

impl Answer {
    fn give(self) {
        // A client that went away needs no answer.
        let _ = self.to.send(self.reply);
    }
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
            writer: Arc::new(writer),
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
        let mut follows = Follows::default();
        for message in messages {
            self.step(message, &mut events, &mut follows);
        }
        loop {
            if !events.is_empty() {
                self.seq += i64::try_from(events.len()).unwrap_or(i64::MAX);
                let events: Arc<[(Timestamp, Event)]> = std::mem::take(&mut events).into();
                self.write(&events, &mut follows).await;
                // Nobody may be following.
                let _ = self.shell.batches.send(Batch { last: self.seq, events });
                self.dirty = true;
            }
            if self.held.events.is_empty() || self.shell.cancel.is_cancelled() {
                break;
            }
            let held = std::mem::take(&mut self.held);
            events = held.events;
            follows.effects.extend(held.follows.effects);
            follows.replies.extend(held.follows.replies);
        }
        follows.replies.into_iter().for_each(Answer::give);
        for effect in follows.effects {
            self.lanes.execute(effect, &self.fleet);
        }
        if self.published.elapsed() >= PUBLISH && self.dirty {
            self.publish();
        }
    }

    /// One message: what happened, and what is to follow.
    fn step(
        &mut self,
        message: Message,
        events: &mut Vec<(Timestamp, Event)>,
        follows: &mut Follows,
    ) {
        let (input, reply_to) = match message {
            Message::Input(input) => (*input, None),
            Message::Command(command, reply) => {
                let breakglass = matches!(command.action, Action::Breakglass { .. });
                (Input::Command(command), Some((reply, breakglass)))
            }
            Message::Aside => {
                self.dirty = true;
                return;
            }
        };
        let out = step(&mut self.fleet, self.clock.now(), input);
        let at = self.fleet.now;
        events.extend(out.events.into_iter().map(|event| (at, event)));
        follows.effects.extend(out.effects);
        if let (Some((to, breakglass)), Some((_, reply))) = (reply_to, out.reply) {
            follows.replies.push(Answer { to, reply, breakglass });
        }
    }

    /// Nothing goes on before the batch is on the disk: a full disk holds everything up, visibly,
    /// and nothing is lost or done twice once there is room again. Breakglass alone goes on.
    async fn write(&mut self, events: &Arc<[(Timestamp, Event)]>, follows: &mut Follows) {
        let cancel = self.shell.cancel.clone();
        loop {
            let writer = self.writer.clone();
            let batch = events.clone();
            let append = async move { writer.append(batch).await };
            tokio::pin!(append);
            let silent = sleep(JOURNAL_SILENT);
            tokio::pin!(silent);
            let mut told = false;
            let error = loop {
                tokio::select! {
                    done = &mut append => match done {
                        Ok(()) => {
                            let mut problems =
                                self.shell.problems.lock().unwrap_or_else(PoisonError::into_inner);
                            if problems.remove("journal").is_some() {
                                self.dirty = true;
                            }
                            return;
                        }
                        Err(error) => break error,
                    },
                    () = &mut silent, if !told => {
                        told = true;
                        let seconds = JOURNAL_SILENT.as_secs();
                        self.degrade(&format!("the journal's disk has not answered in {seconds} s"), follows);
                    }
                    () = self.meanwhile(), if told => {}
                    () = cancel.cancelled(), if told => {
                        *follows = Follows::default();
                        return;
                    }
                }
            };
            if let JournalError::Fenced { .. } = error {
                // Nothing of it may be done: another afk leads.
                tracing::error!(%error, "ends");
                *follows = Follows::default();
                self.shell.stop.cancel();
                self.shell.cancel.cancel();
                return;
            }
            self.degrade(&error.to_string(), follows);
            let again = sleep(JOURNAL_RETRY);
            tokio::pin!(again);
            loop {
                tokio::select! {
                    () = &mut again => break,
                    () = cancel.cancelled() => {
                        *follows = Follows::default();
                        return;
                    }
                    () = self.meanwhile() => {}
                }
            }
        }
    }

    /// The journal can't be written: all of them are told, and breakglass goes on.
    fn degrade(&mut self, why: &str, follows: &mut Follows) {
        tracing::error!(why, "the journal can't be written");
        let mut line = format!("{why}; nothing goes on until it can be written");
        if self.fleet.policy.breakglass.is_some() {
            line.push_str(", but breakglass: AUDIT DEGRADED (kept here and at the host)");
        }
        self.complain(line);
        self.let_breakglass_go(follows);
    }

    /// Gives the answers of breakglass and begins its effects; those of others stay.
    fn let_breakglass_go(&mut self, follows: &mut Follows) {
        for answer in follows.replies.extract_if(.., |answer| answer.breakglass) {
            answer.give();
        }
        for effect in follows.effects.extract_if(.., |effect| effect.is_breakglass()) {
            self.lanes.execute(effect, &self.fleet);
        }
    }

    /// Breakglass while the journal can't be written: waits for its next message or deadline. Its
    /// effects and answers are not held up, and what it led to is kept until it can be written.
    async fn meanwhile(&mut self) {
        let rules = self.fleet.policy.breakglass.as_ref();
        let due = self.fleet.breakglass.next_deadline(rules).filter(|_| rules.is_some());
        let due = due.map(|at| self.clock.until(at));
        let message = tokio::select! {
            () = sleep(due.unwrap_or_default()), if due.is_some() => {
                Message::Input(Box::new(Input::Tick))
            }
            Some(message) = self.urgent.recv(), if self.held.events.len() < HELD => message,
            else => return std::future::pending().await,
        };
        let mut held = std::mem::take(&mut self.held);
        self.step(message, &mut held.events, &mut held.follows);
        self.let_breakglass_go(&mut held.follows);
        self.held = held;
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
