//! Starting and stopping a runtime. `cli` decides in which of three roles:
//!
//! ```text
//!   start    journal → fleet → end orphans → Setup → watchers + EventLoop   (the leader, or the only afk)
//!   alone    the same without tracker and runs, in memory if need be        (breakglass only)
//!   follow   Setup → Follower                                               (read-only)
//! ```

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use secrecy::ExposeSecret;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::event_loop::EventLoop;
use super::follower::Follower;
use super::setup::Setup;
use super::side_state::ProblemSource;
use super::temporary_state::TemporaryState;
#[cfg(feature = "traces")]
use super::traces;
use super::{
    Context, Handle, baseline_watch, breakglass, claims, config_watch, control, loki, presence,
    tasks, tracker_watch, wall, worktree_stats,
};
use crate::config::Config;
use crate::core::fleet::Fleet;
use crate::core::model::id::Repo;
use crate::error::chain;
use crate::journal::anchor::Anchor;
use crate::journal::writer::Writer;
use crate::journal::{Journal, JournalError, completeness};
use crate::process::Supervisor;

/// The most repositories in which worktrees are prepared at the same time.
const WARMED_AT_ONCE: usize = 4;

/// Why a runtime could not start.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// The journal can't be opened, read or locked.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// A folder of the state can't be created or opened.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder that the error is about.
        path: PathBuf,
        /// The error of the operating system.
        source: std::io::Error,
    },
    /// The configuration names no source of issues, no service and no breakglass.
    #[error("no tracker is configured: set `folder` under [tracker], or a token under [github]")]
    NoTracker,
    /// The configuration of a tracker, sink, executor or secret store is not usable.
    #[error("{0}")]
    Services(String),
}

/// A running event loop or follower, and the handle to it. Stop it with [`Runtime::stop`], which
/// also ends its children.
#[derive(Debug)]
pub struct Runtime {
    /// The handle from which clients are cloned.
    pub handle: Handle,
    cancel: CancellationToken,
    task: JoinHandle<()>,
    /// Ends the children at the stop; a follower has none.
    supervisor: Option<Supervisor>,
    /// The state folder of breakglass whose journal is in memory; removed at the end.
    temporary: Option<TemporaryState>,
    /// Sends the traces of runs until the stop; a follower and breakglass alone have none.
    #[cfg(feature = "traces")]
    traces: Option<traces::TraceTasks>,
}

impl Runtime {
    /// Opens the state folder, ends processes that an earlier afk left behind, and starts the loop.
    /// `launcher` is the path of the afk program, which starts children through itself.
    ///
    /// # Errors
    /// [`RuntimeError`], whose variant names the part that failed.
    pub async fn start(
        config: Config,
        state: &Path,
        launcher: PathBuf,
        config_file: Option<PathBuf>,
    ) -> Result<Self, RuntimeError> {
        let journal = match config.term {
            Some(term) => Journal::open_as_leader(state, term)?,
            None => Journal::open(state)?,
        };
        let fleet = journal.fold()?;
        completeness::check_runs(state, &fleet)?;
        let opened = (journal, fleet);
        Box::pin(Self::begin(config, state, launcher, config_file, opened, Mode::Whole)).await
    }

    /// Starts breakglass and nothing else: no tracker is read and no run continues. If the journal
    /// can't be opened or read, events stay in memory and at the host, and every client sees that.
    ///
    /// # Errors
    /// [`RuntimeError`], if not even a temporary folder can be used.
    pub(crate) async fn alone(
        config: Config,
        state: &Path,
        launcher: PathBuf,
    ) -> Result<Self, RuntimeError> {
        let error = match open_whole(state) {
            Ok(opened) => {
                let mode = Mode::BreakglassOnly { journal_error: None };
                return Box::pin(Self::begin(config, state, launcher, None, opened, mode)).await;
            }
            Err(error) => error.to_string(),
        };
        let opened = (Journal::in_memory()?, Fleet::default());
        let mode = Mode::BreakglassOnly { journal_error: Some(error) };
        // If the journal can't be opened, its folder may not be writable either.
        let folder = TemporaryState::create(&std::env::temp_dir())
            .map_err(|(path, source)| RuntimeError::Io { path, source })?;
        let began =
            Box::pin(Self::begin(config, folder.path(), launcher, None, opened, mode)).await?;
        Ok(Self { temporary: Some(folder), ..began })
    }

    /// Follows the afk that writes the journal: shows its fleet and refuses every command. `leader`
    /// describes it.
    ///
    /// # Errors
    /// A folder of the state can't be opened, or a service can't be built.
    pub(crate) fn follow(
        config: &Config,
        state: &Path,
        launcher: PathBuf,
        config_file: Option<PathBuf>,
        leader: watch::Receiver<String>,
    ) -> Result<Self, RuntimeError> {
        let (base, values) = (config.clone(), control::first(config));
        let (config, _) = control::overlay(config, &values);
        let supervisor = Supervisor::new(launcher, String::new(), Duration::ZERO);
        supervisor.hide(breakglass::hidden(&config, state));
        let (fleet, follows) = (Fleet::default(), Some(leader.clone()));
        let Setup { context, handle, publish, inputs, urgent } =
            Setup::new(&config, state, "", &fleet, 0, supervisor, follows)?;
        let cancel = context.cancel.clone();
        // A token that is removed loses its rights also while this afk follows. There is no tracker to
        // read again, so nobody receives the changes.
        let source = config_watch::ConfigSource { base, file: config_file, values };
        config_watch::start(&context, source, tokio::sync::mpsc::channel(1).0);
        let follower = Follower { context, publish, inputs, urgent, leader, fleet, seq: 0 };
        let task = tokio::spawn(follower.run());
        Ok(Self {
            handle,
            cancel,
            task,
            supervisor: None,
            temporary: None,
            #[cfg(feature = "traces")]
            traces: None,
        })
    }

    async fn begin(
        config: Config,
        state: &Path,
        launcher: PathBuf,
        config_file: Option<PathBuf>,
        (journal, fleet): (Journal, Fleet),
        mode: Mode,
    ) -> Result<Self, RuntimeError> {
        let io = |source| RuntimeError::Io { path: state.to_owned(), source };
        let journal_id = journal.id()?;
        let seq = journal.last();
        let grace = Duration::from_secs(config.limits.grace_seconds);
        let supervisor = Supervisor::new(launcher, journal_id.clone(), grace);
        supervisor.hide(breakglass::hidden(&config, state));
        if mode == Mode::Whole {
            wall::use_groups(&supervisor, &config, &journal_id).map_err(RuntimeError::Services)?;
            // Breakglass alone continues no run, and must not wait for a walk through all processes: on a
            // wedged machine, reading about one of them may hang.
            let orphans = supervisor.end_orphans().await;
            if orphans > 0 {
                tracing::warn!(orphans, "ended processes that an earlier afk left behind");
            }
        }
        let other = config.service.is_some() || config.breakglass.is_some();
        if mode == Mode::Whole && !config.has_tracker() && !other {
            return Err(RuntimeError::NoTracker);
        }
        let base = config;
        let values = control::first(&base);
        let (config, _) = control::overlay(&base, &values);
        let Setup { context, handle, publish, inputs, urgent } =
            Setup::new(&config, state, &journal_id, &fleet, seq, supervisor.clone(), None)?;
        let (cancel, snapshots) = (context.cancel.clone(), handle.snapshots.clone());
        let anchor = match &mode {
            Mode::Whole => anchor(&context, &journal).await?,
            // The anchor is another journal's.
            Mode::BreakglassOnly { journal_error: Some(_) } => None,
            Mode::BreakglassOnly { journal_error: None } => {
                match anchor(&context, &journal).await {
                    Ok(anchor) => anchor,
                    Err(error) => {
                        let line = format!("{}; the journal is not anchored", chain(&error));
                        context.report_problems(ProblemSource::Anchor, vec![line]).await;
                        None
                    }
                }
            }
        };
        let writer = Writer::start_anchored(journal, anchor).map_err(io)?;
        breakglass::start(&context);
        #[cfg(feature = "traces")]
        let traces =
            (mode == Mode::Whole).then(|| traces::start(&context, &fleet, snapshots.clone()));
        let breakglass_only = match mode {
            Mode::BreakglassOnly { journal_error } => {
                if let Some(error) = journal_error {
                    let line = format!("{error}; AUDIT DEGRADED (kept in memory and at the host)");
                    context.report_problems(ProblemSource::Audit, vec![line]).await;
                }
                true
            }
            Mode::Whole => {
                let busy = fleet.locks.iter().filter(|(_, run)| fleet.live.contains(*run));
                let busy = busy.map(|(repo, _)| repo.clone()).collect();
                tokio::spawn(warm_worktrees(context.clone(), busy));
                let source = config_watch::ConfigSource { base, file: config_file, values };
                let changed = tracker_watch::start(&context, snapshots.clone());
                config_watch::start(&context, source, changed);
                loki::start(&context, snapshots.clone());
                presence::start(&context, snapshots.clone());
                baseline_watch::start(&context, snapshots.clone());
                claims::start(&context, snapshots.clone());
                worktree_stats::start(&context, snapshots);
                false
            }
        };
        let event_loop =
            EventLoop::new(context, fleet, seq, writer, publish, urgent, breakglass_only);
        let task = tokio::spawn(event_loop.run(inputs));
        Ok(Self {
            handle,
            cancel,
            task,
            supervisor: Some(supervisor),
            temporary: None,
            #[cfg(feature = "traces")]
            traces,
        })
    }

    /// What ends the children at the stop; a follower has none.
    pub(crate) fn supervisor(&self) -> Option<Supervisor> {
        self.supervisor.clone()
    }

    /// Stops intake, ends what is running and closes the journal. The next start continues the runs
    /// from there.
    pub async fn stop(self) {
        self.cancel.cancel();
        if let Err(error) = self.task.await {
            tracing::error!(%error, "the event loop panicked");
        }
        if let Some(supervisor) = self.supervisor {
            supervisor.end_orphans().await;
        }
        // Runs can end in the loop's last batch.
        #[cfg(feature = "traces")]
        if let Some(traces) = self.traces {
            traces.finish().await;
        }
        drop(self.temporary);
    }
}

/// The journal and its fleet. A record that can't be read is an error.
fn open_whole(state: &Path) -> Result<(Journal, Fleet), JournalError> {
    let journal = Journal::open(state)?;
    let fleet = journal.fold()?;
    journal.id()?;
    Ok((journal, fleet))
}

/// How much of afk a start brings up.
#[derive(Debug, PartialEq, Eq)]
enum Mode {
    Whole,
    BreakglassOnly {
        /// Why the journal is in memory, if it is.
        journal_error: Option<String>,
    },
}

/// The anchor of the journal, if one is configured and agrees with it. A journal that differs is shown as
/// a problem and not anchored, since a new head would hide what happened.
async fn anchor(context: &Context, journal: &Journal) -> Result<Option<Anchor>, RuntimeError> {
    let config = context.config();
    let Some((path, reference)) = config.journal.anchor() else { return Ok(None) };
    let key = context.services().secrets.get(reference).await;
    let key =
        key.map_err(|e| RuntimeError::Services(format!("journal.anchor_key: {}", chain(&e))))?;
    match Anchor::open(path, key.expose_secret(), &context.state, journal) {
        Ok(anchor) => Ok(Some(anchor)),
        Err(error) => {
            let line = format!("{}; the journal is not anchored: see `afk verify`", chain(&error));
            context.report_problems(ProblemSource::Anchor, vec![line]).await;
            Ok(None)
        }
    }
}

/// Prepares a clean worktree in each allowed repository, a few at a time, so that a slow one delays
/// no other. Skips `busy` repositories, in which a run continues and has its own.
async fn warm_worktrees(context: Arc<Context>, busy: BTreeSet<Repo>) {
    let config = context.config();
    if config.kill_switch {
        return;
    }
    let repos = futures::stream::iter(config.allowlist.difference(&busy));
    let warmed =
        repos.for_each_concurrent(WARMED_AT_ONCE, |repo| tasks::worktree::warm(&context, repo));
    tokio::select! {
        () = warmed => {}
        () = context.cancel.cancelled() => {}
    }
}
