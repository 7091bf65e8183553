//! The shell around the core: one loop that owns the fleet, and supervised tasks that carry its
//! effects out and report back.

pub mod breakglass;
pub mod client;
pub mod clock;
mod control;
mod effects;
mod event_loop;
mod facts;
mod folders;
mod follower;
mod jobs;
mod lanes;
pub mod leader;
mod loki;
mod made;
mod outside;
pub mod presence;
pub mod prompt;
mod ready;
mod tasks;
mod tracking;
mod workspaces;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::{broadcast, mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::core::fleet::Fleet;
use crate::core::fleet::breakglass::BreakglassState;
use crate::core::model::agent_event::AgentEvent;
use crate::core::model::breakglass::{ShellId, VerbId};
use crate::core::model::command::{Command, CommandEnvelope, Refusal, Reply};
use crate::core::model::event::Event;
use crate::core::model::id::{Actor, Repo, RunId};
use crate::core::model::input::Input;
use crate::core::model::job::JobId;
use crate::core::model::time::Timestamp;
use crate::journal::transcript::Store;
use crate::journal::writer::Writer;
use crate::journal::{Journal, JournalError};
use crate::notify::terminal::TerminalNotice;
use crate::process::Supervisor;
use crate::tracker::Tracker;
use crate::workspace::git::Git;
use client::Attached;
use made::Made;
use outside::Outside;

/// Batches that a slow client may be behind before it is brought to a fresh snapshot.
const BATCHES: usize = 256;
/// Inputs that may wait; a sender over it waits as well.
const INPUTS: usize = 4096;
/// The same of breakglass.
const URGENT: usize = 256;

/// Why a runtime could not be started.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// The journal.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// A folder of the state.
    #[error("{}: {source}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// There is nowhere to take issues from.
    #[error("no tracker is configured: set `folder` under [tracker], or a token under [github]")]
    NoTracker,
    /// Something outside is configured so that it can't be used.
    #[error("{0}")]
    Outside(String),
}

/// What is known of a run's worktree beside the fleet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct WorktreeFacts {
    /// Files that differ from the last commit.
    pub dirty: usize,
    /// Commits that the upstream has not.
    pub ahead: usize,
    /// Disk used, in bytes; counted now and then.
    pub disk: Option<u64>,
    /// The first process of its tree.
    pub pid: Option<i32>,
    /// Processes in its tree.
    pub processes: usize,
    /// Of one core, in tenths of a percent.
    pub cpu_permille: u32,
    /// Resident memory of the tree, in bytes.
    pub memory: u64,
}

/// How a watcher of a cluster fares.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WatcherFacts {
    /// When something was last heard.
    pub heard: Timestamp,
    /// What went wrong last, until something is heard again.
    pub error: Option<String>,
}

/// What a client sees: an immutable copy of all that can be shown.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Snapshot {
    /// The fleet, as far as the journal has it on the disk.
    pub fleet: Fleet,
    /// Runs' worktrees.
    pub worktrees: BTreeMap<RunId, WorktreeFacts>,
    /// What is wrong outside of runs, a line each.
    pub problems: Vec<String>,
    /// Who looks at it.
    pub clients: Vec<Attached>,
    /// The watchers of clusters, by what they watch.
    #[serde(default)]
    pub watchers: BTreeMap<String, WatcherFacts>,
    /// What breakglass verbs write while they run.
    #[serde(default)]
    pub live: BTreeMap<VerbId, breakglass::live::Seen>,
    /// Breakglass as it is now, where the journal can't be written and the fleet is behind.
    #[serde(default)]
    pub unwritten: Option<Box<BreakglassState>>,
    /// The journal's last record.
    pub seq: i64,
}

impl Snapshot {
    /// Breakglass as it is now, also where the journal can't be written.
    #[must_use]
    pub fn breakglass(&self) -> &BreakglassState {
        self.unwritten.as_deref().unwrap_or(&self.fleet.breakglass)
    }
}

/// Events that became durable together.
#[derive(Debug, Clone)]
pub struct Batch {
    /// The journal's number of the last of them.
    pub last: i64,
    /// In order.
    pub events: Arc<[(Timestamp, Event)]>,
}

/// What the loop takes.
#[derive(Debug)]
pub(crate) enum Message {
    Input(Box<Input>),
    Command(CommandEnvelope, oneshot::Sender<Reply>),
    /// Something beside the fleet changed: the problems or the worktrees.
    Aside,
}

/// What every task has.
#[derive(Debug)]
pub(crate) struct Shell {
    pub config: RwLock<Arc<Config>>,
    pub state: PathBuf,
    pub journal_id: String,
    pub supervisor: Supervisor,
    pub store: Arc<Store>,
    /// Replaced when the configuration is read again.
    pub outside: Arc<RwLock<Arc<Outside>>>,
    /// How the watchers of clusters fare, by what they watch.
    pub watchers: Mutex<BTreeMap<String, WatcherFacts>>,
    pub workspaces: workspaces::Workspaces,
    /// Of what works without a worktree.
    pub folders: folders::Folders,
    pub inputs: mpsc::Sender<Message>,
    /// What breakglass tells: taken also while the journal can't be written.
    pub urgent: mpsc::Sender<Message>,
    pub live: Mutex<breakglass::live::Live>,
    pub shells: Mutex<breakglass::console::Shells>,
    pub shells_changed: tokio::sync::Notify,
    pub transcripts: watch::Sender<u64>,
    pub notices: broadcast::Sender<TerminalNotice>,
    pub problems: Mutex<BTreeMap<&'static str, Vec<String>>>,
    pub worktrees: Mutex<BTreeMap<RunId, WorktreeFacts>>,
    pub clients: Mutex<BTreeMap<u64, Attached>>,
    /// Who hears the agents of jobs.
    pub listeners: Mutex<BTreeMap<JobId, mpsc::Sender<AgentEvent>>>,
    /// Each batch as it became durable, for clients that follow.
    pub batches: broadcast::Sender<Batch>,
    pub cancel: CancellationToken,
    /// Somebody asked for the end; the one who runs the runtime brings it about.
    pub stop: CancellationToken,
}

impl Shell {
    pub fn clients(&self) -> std::sync::MutexGuard<'_, BTreeMap<u64, Attached>> {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn config(&self) -> Arc<Config> {
        self.config.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn outside(&self) -> Arc<Outside> {
        self.outside.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn tracker(&self) -> Arc<dyn Tracker> {
        self.outside().tracker.clone()
    }

    pub async fn send(&self, input: Input) {
        // The loop is gone only when everything ends.
        let _ = self.inputs.send(Message::Input(Box::new(input))).await;
    }

    pub async fn urgent(&self, input: Input) {
        // The loop is gone only when everything ends.
        let _ = self.urgent.send(Message::Input(Box::new(input))).await;
    }

    /// Says what is wrong with one thing outside of runs; nothing takes it back.
    pub async fn problem(&self, about: &'static str, lines: Vec<String>) {
        let changed = {
            let mut all = self.problems.lock().unwrap_or_else(PoisonError::into_inner);
            if lines.is_empty() {
                all.remove(about).is_some()
            } else {
                all.insert(about, lines.clone()).is_none_or(|known| known != lines)
            }
        };
        if changed {
            for line in &lines {
                tracing::warn!(about, line, "problem");
            }
            // Also shown while the journal can't be written.
            let _ = self.urgent.send(Message::Aside).await;
        }
    }

    /// Appends to a run's transcript and tells those that look at it.
    pub fn transcribe(&self, run: RunId, entries: &[crate::journal::transcript::Entry]) {
        if let Err(error) = self.store.append(run, entries) {
            tracing::error!(%run, %error, "the transcript can't be written");
        }
        self.transcripts.send_modify(|count| *count += 1);
    }
}

/// A client's way to the runtime. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Handle {
    inputs: mpsc::Sender<Message>,
    /// The newest snapshot.
    pub snapshots: watch::Receiver<Arc<Snapshot>>,
    /// Counts the additions to transcripts.
    pub transcripts: watch::Receiver<u64>,
    /// The transcripts.
    pub store: Arc<Store>,
    /// The configuration when the runtime was started.
    pub config: Arc<Config>,
    notices: broadcast::Sender<TerminalNotice>,
    supervisor: Supervisor,
    /// Who leads, where this one follows.
    follows: Option<watch::Receiver<String>>,
    shell: Arc<Shell>,
}

/// A client's place in the list of those who are attached.
#[derive(Debug)]
pub struct Entry {
    shell: Arc<Shell>,
    id: u64,
}

impl Entry {
    /// Its terminal has another size.
    pub async fn size(&mut self, columns: u16, rows: u16) {
        if let Some(known) = self.shell.clients().get_mut(&self.id) {
            known.size = (columns, rows);
        }
        let _ = self.shell.inputs.send(Message::Aside).await;
    }

    /// It is gone.
    pub async fn leave(self) {
        self.shell.clients().remove(&self.id);
        let _ = self.shell.inputs.send(Message::Aside).await;
    }
}

impl Handle {
    /// Lists a client as attached until it leaves.
    pub async fn enter(&self, attached: Attached) -> Entry {
        let id = {
            let mut all = self.shell.clients();
            let id = all.keys().next_back().map_or(1, |last| last + 1);
            all.insert(id, attached);
            id
        };
        let _ = self.inputs.send(Message::Aside).await;
        Entry { shell: self.shell.clone(), id }
    }

    /// Every batch from now on; one that falls behind is told how many it missed.
    #[must_use]
    pub fn batches(&self) -> broadcast::Receiver<Batch> {
        self.shell.batches.subscribe()
    }

    /// Who leads, in words, where this one follows.
    #[must_use]
    pub fn follows(&self) -> Option<String> {
        self.follows.as_ref().map(|leader| leader.borrow().clone())
    }

    /// Resolves when the runtime has ended.
    pub async fn ended(&self) {
        self.shell.cancel.cancelled().await;
    }

    /// The runtime is asked to end; answered by everything ending.
    pub fn shut_down(&self) {
        self.shell.stop.cancel();
    }

    /// Resolves when the runtime was asked to end.
    pub async fn asked_to_end(&self) {
        self.shell.stop.cancelled().await;
    }

    /// Sends a command; answered once it is durable.
    ///
    /// # Errors
    /// [`Refusal`].
    pub async fn command(&self, command: CommandEnvelope) -> Reply {
        let (reply, answer) = oneshot::channel();
        let urgent = matches!(command.action, Command::Breakglass { .. });
        let way = if urgent { &self.shell.urgent } else { &self.inputs };
        let sent = way.send(Message::Command(command, reply)).await;
        match sent {
            Ok(()) => answer.await.unwrap_or(Err(Refusal::ShuttingDown)),
            Err(_) => Err(Refusal::ShuttingDown),
        }
    }

    /// A run's changes since it began, committed or not, as a unified diff.
    ///
    /// # Errors
    /// Why there is none, in a line.
    pub async fn diff(&self, run: RunId) -> Result<String, String> {
        let (worktree, base) = {
            let snapshot = self.snapshots.borrow();
            let known = snapshot.fleet.runs.get(&run).ok_or(format!("there is no run {run}"))?;
            let none = || format!("{run} has no worktree");
            (known.worktree.clone().ok_or_else(none)?, known.base.clone().ok_or_else(none)?)
        };
        let deadline = Duration::from_secs(self.config.limits.git_seconds);
        let git = Git::new(Path::new(&worktree), &self.supervisor, "afk", deadline);
        let args = ["diff", "--no-color", "--no-ext-diff", "--no-textconv", &base.0];
        git.call(&args).await.map_err(|error| error.to_string())
    }

    /// A secret by its reference.
    ///
    /// # Errors
    /// Why it can't be had, in a line.
    pub async fn secret(&self, reference: &str) -> Result<secrecy::SecretString, String> {
        self.shell
            .outside()
            .secrets
            .get(reference)
            .await
            .map_err(|error| crate::error::chain(&error))
    }

    /// Whether a process is something that this runtime started, or below it.
    #[must_use]
    pub fn is_below(&self, pid: i32) -> bool {
        self.supervisor.is_below(pid)
    }

    /// A shell that was allowed to somebody.
    ///
    /// # Errors
    /// Why there is none, in a line.
    pub async fn console(
        &self,
        shell: ShellId,
        by: &Actor,
    ) -> Result<breakglass::console::Console, String> {
        breakglass::console::claim(&self.shell, shell, by).await
    }

    /// Notices from now on.
    #[must_use]
    pub fn notices(&self) -> broadcast::Receiver<TerminalNotice> {
        self.notices.subscribe()
    }
}

/// Makes a worktree ready in each repository that may be touched, one after the other; a run that
/// goes on in one has its own.
async fn warm(shell: Arc<Shell>, busy: BTreeSet<Repo>) {
    let config = shell.config();
    if config.kill_switch {
        return;
    }
    for repo in config.allowlist.difference(&busy) {
        tokio::select! {
            () = tasks::worktree::warm(&shell, repo) => {}
            () = shell.cancel.cancelled() => return,
        }
    }
}

/// A running runtime.
#[derive(Debug)]
pub struct Runtime {
    /// For clients.
    pub handle: Handle,
    cancel: CancellationToken,
    task: JoinHandle<()>,
    /// Whose children end with it; a follower has none.
    supervisor: Option<Supervisor>,
}

impl Runtime {
    /// Opens the state folder, ends what an earlier life left, and begins to serve. `launcher` is
    /// the afk program.
    ///
    /// # Errors
    /// [`RuntimeError`].
    pub async fn start(
        config: Config,
        state: &Path,
        launcher: PathBuf,
        config_file: Option<PathBuf>,
    ) -> Result<Self, RuntimeError> {
        let journal = match config.term {
            Some(term) => Journal::open_led(state, term)?,
            None => Journal::open(state)?,
        };
        Self::begin(config, state, launcher, config_file, journal, None).await
    }

    /// Carries breakglass and nothing else: no tracker is asked, no run goes on. Where the journal
    /// can't be had, what is done is kept in memory, and at the host; every client is told.
    ///
    /// # Errors
    /// [`RuntimeError`].
    pub async fn alone(
        config: Config,
        state: &Path,
        launcher: PathBuf,
    ) -> Result<Self, RuntimeError> {
        let opened = Journal::open(state);
        let (journal, why) = match opened {
            Ok(journal) => (journal, String::new()),
            Err(error) => (Journal::in_memory()?, error.to_string()),
        };
        if why.is_empty() {
            return Self::begin(config, state, launcher, None, journal, Some(why)).await;
        }
        // The folder of a journal that can't be had may not be writable either.
        let place = std::env::temp_dir().join(format!("afk-breakglass-{}", std::process::id()));
        std::fs::create_dir_all(&place)
            .and_then(|()| {
                let mode = std::os::unix::fs::PermissionsExt::from_mode(0o700);
                std::fs::set_permissions(&place, mode)
            })
            .map_err(|source| RuntimeError::Io { path: place.clone(), source })?;
        Self::begin(config, &place, launcher, None, journal, Some(why)).await
    }

    /// Follows another afk, which writes the journal: shows what it does, and changes nothing.
    /// `leader` says who it is.
    ///
    /// # Errors
    /// [`RuntimeError`].
    pub fn follow(
        config: &Config,
        state: &Path,
        launcher: PathBuf,
        leader: watch::Receiver<String>,
    ) -> Result<Self, RuntimeError> {
        let (config, _) = control::over(config, &control::first(config));
        let supervisor = Supervisor::new(launcher, String::new(), Duration::ZERO);
        supervisor.hide(breakglass::hidden(&config, state));
        let (fleet, follows) = (Fleet::default(), Some(leader.clone()));
        let made = Made::new(&config, state, "", &fleet, 0, supervisor, follows)?;
        let Made { shell, handle, publish, queue, urgent } = made;
        let cancel = shell.cancel.clone();
        let follower = follower::Follower { shell, publish, queue, urgent, leader, fleet, seq: 0 };
        let task = tokio::spawn(follower.run());
        Ok(Self { handle, cancel, task, supervisor: None })
    }

    async fn begin(
        config: Config,
        state: &Path,
        launcher: PathBuf,
        config_file: Option<PathBuf>,
        journal: Journal,
        alone: Option<String>,
    ) -> Result<Self, RuntimeError> {
        let io = |source| RuntimeError::Io { path: state.to_owned(), source };
        let fleet = journal.fold()?;
        let journal_id = journal.id()?;
        let seq = journal.last();
        let grace = Duration::from_secs(config.limits.grace_seconds);
        let supervisor = Supervisor::new(launcher, journal_id.clone(), grace);
        supervisor.hide(breakglass::hidden(&config, state));
        let orphans = supervisor.end_orphans().await;
        if orphans > 0 {
            tracing::warn!(orphans, "ended what an earlier life left behind");
        }
        let tracked = config.tracker.folder.is_some() || config.github.is_some();
        let other = config.service.is_some() || config.breakglass.is_some();
        if alone.is_none() && !tracked && !other {
            return Err(RuntimeError::NoTracker);
        }
        let base = config;
        let values = control::first(&base);
        let (config, _) = control::over(&base, &values);
        let made = Made::new(&config, state, &journal_id, &fleet, seq, supervisor.clone(), None)?;
        let Made { shell, handle, publish, queue, urgent: urgent_queue } = made;
        let (cancel, snapshots) = (shell.cancel.clone(), handle.snapshots.clone());
        let writer = Writer::start(journal).map_err(io)?;
        let busy = fleet.locks.iter().filter(|(_, run)| fleet.live.contains(*run));
        let busy = busy.map(|(repo, _)| repo.clone()).collect();
        breakglass::start(&shell);
        if let Some(why) = &alone {
            if !why.is_empty() {
                let line = format!("{why}; AUDIT DEGRADED (kept in memory and at the host)");
                shell.problem("audit", vec![line]).await;
            }
        } else {
            tokio::spawn(warm(shell.clone(), busy));
            let control = tracking::Control { base, file: config_file, values };
            tracking::start(&shell, control, snapshots.clone());
            loki::start(&shell, snapshots.clone());
            presence::start(&shell, snapshots.clone());
            facts::start(&shell, snapshots);
        }
        let alone = alone.is_some();
        let event_loop =
            event_loop::EventLoop::new(shell, fleet, seq, writer, publish, urgent_queue, alone);
        let task = tokio::spawn(event_loop.run(queue));
        Ok(Self { handle, cancel, task, supervisor: Some(supervisor) })
    }

    /// Stops intake, ends what is under way and closes the journal. Runs go on from there at the
    /// next start.
    pub async fn stop(self) {
        self.cancel.cancel();
        if let Err(error) = self.task.await {
            tracing::error!(%error, "the loop ended badly");
        }
        if let Some(supervisor) = self.supervisor {
            supervisor.end_orphans().await;
        }
    }
}
