//! The fleet's one loop: inputs in, one journal batch, then effects, replies and a snapshot.

use crate::core::fleet::volatile::Volatile;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep, sleep_until};

use super::clock::Clock;
use super::lanes::Lanes;
use super::ready::Ready;
use super::{Batch, Message, Shell, Snapshot};
use crate::core::fleet::Fleet;
use crate::core::model::command::{Command, Reply};
use crate::core::model::effect::Effect;
use crate::core::model::event::Event;
use crate::core::model::input::Input;
use crate::core::model::time::Timestamp;
use crate::core::step::step;
use crate::journal::JournalError;
use crate::journal::writer::Writer;

/// Messages taken at once.
const BATCH: usize = 512;
/// Events that may wait for the batch before them; then messages wait.
const NEXT: usize = 4096;
/// Time between two snapshots.
const PUBLISH: Duration = Duration::from_millis(16);
/// Time between two tries to write the journal.
const JOURNAL_RETRY: Duration = Duration::from_secs(2);
/// How long the disk may be silent before breakglass goes on without it. Longer than SQLite waits
/// for a lock.
const JOURNAL_SILENT: Duration = Duration::from_secs(8);
/// Events of breakglass that are held while the journal can't be written; then it, too, waits.
const HELD: usize = 20_000;

pub(super) struct EventLoop {
    shell: Arc<Shell>,
    /// As far as it was stepped, which may be ahead of the disk.
    fleet: Fleet,
    volatile: Volatile,
    seq: i64,
    writer: Arc<Writer>,
    publish: watch::Sender<Arc<Snapshot>>,
    clock: Clock,
    lanes: Lanes,
    published: Instant,
    dirty: bool,
    urgent: mpsc::Receiver<Message>,
    /// What is being written.
    batch: Option<Batched>,
    /// What happened meanwhile: the next batch, so that all that waits shares one sync.
    next: Stepped,
    disk: Disk,
    alone: bool,
}

/// What was stepped through, and what is to follow once it is on the disk.
#[derive(Default)]
struct Stepped {
    events: Vec<(Timestamp, Event)>,
    effects: Vec<Effect>,
    replies: Vec<Answer>,
}

impl Stepped {
    const fn is_empty(&self) -> bool {
        self.events.is_empty() && self.effects.is_empty() && self.replies.is_empty()
    }
}

/// A batch on its way to the disk, with what the fleet told when it was complete.
struct Batched {
    batch: Batch,
    effects: Vec<Ready>,
    replies: Vec<Answer>,
    /// The fleet as it is then, where one is due to be shown.
    snapshot: Option<Arc<Snapshot>>,
}

/// How the journal's disk does.
enum Disk {
    /// It has nothing to do.
    Idle,
    /// It is asked to write.
    Writing {
        append: BoxFuture<'static, Result<(), JournalError>>,
        /// When it has been silent for too long; none once that was told.
        silent: Option<Instant>,
    },
    /// It could not.
    Failed { again: Instant },
}

impl Disk {
    /// It was told that the journal can't be written: nothing but breakglass goes on.
    const fn degraded(&self) -> bool {
        matches!(self, Self::Writing { silent: None, .. } | Self::Failed { .. })
    }

    /// What comes of it: an end of writing, or a silence that is too long.
    async fn news(&mut self) -> News {
        match self {
            Self::Idle => std::future::pending().await,
            Self::Writing { append, silent: None } => News::Written(append.await),
            Self::Writing { append, silent: Some(silent) } => tokio::select! {
                done = append => News::Written(done),
                () = sleep_until(*silent) => News::Silent,
            },
            Self::Failed { again } => {
                sleep_until(*again).await;
                News::Again
            }
        }
    }
}

enum News {
    Written(Result<(), JournalError>),
    Silent,
    Again,
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
        let clock = Clock::start(fleet.last_event);
        let lanes = Lanes::new(shell.clone());
        Self {
            shell,
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
            batch: None,
            next: Stepped::default(),
            disk: Disk::Idle,
            alone,
        }
    }

    pub(super) async fn run(mut self, mut queue: mpsc::Receiver<Message>) {
        let policy = Box::new(self.shell.config().policy());
        let first =
            if self.alone { Input::BreakglassOnly { policy } } else { Input::Started { policy } };
        self.step(Message::Input(Box::new(first)));
        let cancel = self.shell.cancel.clone();
        let mut messages = Vec::with_capacity(BATCH);
        loop {
            self.write();
            let degraded = self.disk.degraded();
            let most = if degraded { HELD } else { NEXT };
            let room = self.next.events.len() < most;
            let due = self.deadline(degraded).map(|at| self.clock.until(at));
            let publish_at = self.published + PUBLISH;
            tokio::select! {
                news = self.disk.news() => self.hear(news),
                count = queue.recv_many(&mut messages, BATCH), if room && !degraded => {
                    if count == 0 {
                        break;
                    }
                    messages.drain(..).for_each(|message| self.step(message));
                }
                Some(message) = self.urgent.recv(), if room => {
                    self.step(message);
                    self.go_on(degraded);
                }
                () = sleep(due.unwrap_or_default()), if due.is_some() && room => {
                    self.step(Message::Input(Box::new(Input::Tick)));
                    self.go_on(degraded);
                }
                // What is stepped and not on the disk is not shown.
                () = sleep_until(publish_at), if self.dirty && self.batch.is_none() => {
                    self.publish();
                }
                () = cancel.cancelled() => break,
            }
        }
        queue.close();
        while self.batch.is_some() && !self.disk.degraded() {
            let news = self.disk.news().await;
            self.hear(news);
            self.write();
        }
        self.lanes.stop_all().await;
        if self.batch.is_none() {
            self.publish();
        }
    }

    /// When time itself is an input.
    fn deadline(&self, degraded: bool) -> Option<Timestamp> {
        if !degraded {
            return self.fleet.next_deadline(&self.volatile);
        }
        let rules = self.fleet.policy.breakglass.as_ref();
        self.fleet.breakglass.next_deadline(rules).filter(|_| rules.is_some())
    }

    /// One message: what happened, and what is to follow.
    fn step(&mut self, message: Message) {
        let (input, reply_to) = match message {
            Message::Input(input) => (*input, None),
            Message::Command(command, reply) => {
                let breakglass = matches!(command.command, Command::Breakglass { .. });
                (Input::Command(command), Some((reply, breakglass)))
            }
            Message::Aside => {
                self.dirty = true;
                return;
            }
        };
        let out = step(&mut self.fleet, &mut self.volatile, self.clock.now(), input);
        let at = out.at;
        self.next.events.extend(out.events.into_iter().map(|event| (at, event)));
        self.next.effects.extend(out.effects);
        if let (Some((to, breakglass)), Some((_, reply))) = (reply_to, out.reply) {
            self.next.replies.push(Answer { to, reply, breakglass });
        }
    }

    /// Begins the next batch, where none is under way.
    fn write(&mut self) {
        if self.batch.is_some() || self.next.is_empty() {
            return;
        }
        let Stepped { events, effects, replies } = std::mem::take(&mut self.next);
        let effects = effects.into_iter().filter_map(|effect| self.ready(effect)).collect();
        if events.is_empty() {
            self.follow(effects, replies);
            return;
        }
        self.seq += i64::try_from(events.len()).unwrap_or(i64::MAX);
        self.dirty = true;
        let snapshot = (self.published.elapsed() >= PUBLISH).then(|| self.snapshot());
        let batch = Batch { last: self.seq, events: events.into() };
        self.batch = Some(Batched { batch, effects, replies, snapshot });
        self.append();
    }

    fn append(&mut self) {
        let Some(batched) = &self.batch else { return };
        let (writer, events) = (self.writer.clone(), batched.batch.events.clone());
        let append = async move { writer.append(events).await }.boxed();
        self.disk = Disk::Writing { append, silent: Some(Instant::now() + JOURNAL_SILENT) };
    }

    /// Nothing goes on before the batch is on the disk: a full disk holds everything up, visibly,
    /// and nothing is lost or done twice once there is room again. Breakglass alone goes on.
    fn hear(&mut self, news: News) {
        match news {
            News::Written(Ok(())) => self.written(),
            News::Written(Err(error @ JournalError::Fenced { .. })) => {
                // Nothing of it may be done: another afk leads.
                tracing::error!(%error, "ends");
                (self.disk, self.next) =
                    (Disk::Failed { again: Instant::now() }, Stepped::default());
                self.shell.stop.cancel();
                self.shell.cancel.cancel();
            }
            News::Written(Err(error)) => {
                self.disk = Disk::Failed { again: Instant::now() + JOURNAL_RETRY };
                self.degrade(&error.to_string());
            }
            News::Silent => {
                if let Disk::Writing { silent, .. } = &mut self.disk {
                    *silent = None;
                }
                let seconds = JOURNAL_SILENT.as_secs();
                self.degrade(&format!("the journal's disk has not answered in {seconds} s"));
            }
            News::Again => self.append(),
        }
    }

    /// The batch is on the disk: only now anything of it is seen or done.
    fn written(&mut self) {
        self.disk = Disk::Idle;
        let Some(Batched { batch, effects, replies, mut snapshot }) = self.batch.take() else {
            return;
        };
        let mut problems = self.shell.problems.lock().unwrap_or_else(PoisonError::into_inner);
        if problems.remove("journal").is_some() {
            // Breakglass went on, and was shown as it is.
            snapshot = None;
            self.dirty = true;
        }
        drop(problems);
        // Nobody may be following, or looking.
        let _ = self.shell.batches.send(batch);
        if let Some(snapshot) = snapshot {
            let _ = self.publish.send(snapshot);
        }
        self.follow(effects, replies);
    }

    fn follow(&mut self, effects: Vec<Ready>, replies: Vec<Answer>) {
        replies.into_iter().for_each(Answer::give);
        for effect in effects {
            self.lanes.begin(effect);
        }
    }

    /// The journal can't be written: all of them are told, and breakglass goes on.
    fn degrade(&mut self, why: &str) {
        tracing::error!(why, "the journal can't be written");
        let mut line = format!("{why}; nothing goes on until it can be written");
        if self.fleet.policy.breakglass.is_some() {
            line.push_str(", but breakglass: AUDIT DEGRADED (kept here and at the host)");
        }
        self.complain(line);
        if let Some(batched) = &mut self.batch {
            let replies = batched.replies.extract_if(.., |answer| answer.breakglass).collect();
            let effects = batched.effects.extract_if(.., |effect| effect.is_breakglass()).collect();
            self.follow(effects, replies);
        }
        self.let_breakglass_go();
    }

    /// After something of breakglass was stepped: while the journal can't be written, its effects and
    /// answers are not held up, and what it led to is kept until it can be.
    fn go_on(&mut self, degraded: bool) {
        if degraded {
            self.let_breakglass_go();
            self.publish_breakglass();
        }
    }

    fn let_breakglass_go(&mut self) {
        let replies = self.next.replies.extract_if(.., |answer| answer.breakglass).collect();
        let effects = self.next.effects.extract_if(.., |effect| effect.is_breakglass());
        let effects: Vec<Effect> = effects.collect();
        let effects = effects.into_iter().filter_map(|effect| self.ready(effect)).collect();
        self.follow(effects, replies);
    }

    fn ready(&self, effect: Effect) -> Option<Ready> {
        Ready::new(&self.shell, self.alone, effect, &self.fleet)
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
        let snapshot = self.snapshot();
        // Nobody may be looking.
        let _ = self.publish.send(snapshot);
    }

    fn snapshot(&mut self) -> Arc<Snapshot> {
        self.dirty = false;
        self.published = Instant::now();
        let problems = self.shell.problems.lock().unwrap_or_else(PoisonError::into_inner);
        let worktrees = self.shell.worktrees.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::new(Snapshot {
            fleet: self.fleet.clone(),
            worktrees: worktrees.clone(),
            problems: problems.values().flatten().cloned().collect(),
            clients: self.shell.clients().values().cloned().collect(),
            watchers: self.shell.watchers.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            live: self.shell.live().copy(),
            unwritten: None,
            seq: self.seq,
        })
    }
}
