//! The context that every task, watcher and handle of one runtime shares.
//!
//! [`setup`](super::setup) builds it once; after that it is only read, apart from the parts with a
//! lock of their own.

use std::path::PathBuf;
use std::sync::{Arc, RwLock};

use tokio::sync::{Notify, broadcast, mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::breakglass::agent::AgentDesk;
use super::breakglass::console::LiveShells;
use super::job_listeners::JobListeners;
use super::loop_message::LoopMessage;
use super::metrics::Metrics;
use super::operators::Operators;
use super::refusals::Refusals;
use super::scratch_dirs::ScratchDirs;
use super::services::Services;
use super::side_state::{ProblemSource, SideState};
use super::snapshot::Batch;
use super::wall::Wall;
use super::workspaces::Workspaces;
use crate::config::Config;
use crate::core::model::id::RunId;
use crate::core::model::input::Input;
use crate::journal::transcript::{Store, TranscriptEntry};
use crate::lock::RwLockExt;
use crate::notify::terminal::TerminalNotice;
use crate::process::Supervisor;
use crate::redact::Redactor;
use crate::tracker::Tracker;

/// The state that all parts of a runtime share.
#[derive(Debug)]
pub(crate) struct Context {
    /// The configuration in force; [`config_watch`](super::config_watch) replaces it.
    pub config: RwLock<Arc<Config>>,
    /// Changes whenever the configuration was read again.
    pub config_changes: watch::Sender<()>,
    /// An operator wants the configuration file read again.
    pub reload: Notify,
    /// Refused logins, requests and commands.
    pub refusals: Refusals,
    /// The counters of durable events.
    pub metrics: Metrics,
    /// The folder of the journal, transcripts, logs, workspaces and captures.
    pub state: PathBuf,
    /// Distinguishes this journal from every other one in names that leave this machine.
    pub journal_id: String,
    pub supervisor: Supervisor,
    /// The transcripts of runs.
    pub store: Arc<Store>,
    /// The adapters of the configuration in force, shared with git's credentials.
    pub services: Arc<RwLock<Arc<Services>>>,
    pub workspaces: Workspaces,
    pub scratch_dirs: ScratchDirs,
    /// What programs that aren't ours can reach.
    pub wall: Arc<Wall>,
    /// The ordinary queue of the event loop.
    pub inputs: mpsc::Sender<LoopMessage>,
    /// The queue of breakglass, which the loop also reads while the journal can't be written.
    pub urgent: mpsc::Sender<LoopMessage>,
    pub side_state: SideState,
    /// The names of operators, over every way in.
    pub operators: Operators,
    /// Breakglass shells that the core allowed.
    pub shells: LiveShells,
    /// The breakglass agent's session.
    pub agent_desk: AgentDesk,
    /// Grows with each write to a transcript, so that readers know when to read again.
    pub transcripts: watch::Sender<u64>,
    /// Notices for the terminals of attached clients.
    pub notices: broadcast::Sender<TerminalNotice>,
    /// Receivers of the agent events of jobs.
    pub job_listeners: JobListeners,
    /// Each batch once it is durable.
    pub batches: broadcast::Sender<Batch>,
    /// Ends every task and the loop.
    pub cancel: CancellationToken,
    /// A client asked for the end; the owner of the [`Runtime`](super::Runtime) then stops it.
    pub stop: CancellationToken,
}

impl Context {
    /// Shows on a run's row how far its work is; none shows the activity alone.
    pub(super) async fn show_progress(&self, run: RunId, progress: Option<&str>) {
        if self.side_state.set_progress(run, progress) {
            self.side_state_changed().await;
        }
    }

    pub(super) fn config(&self) -> Arc<Config> {
        self.config.read_locked().clone()
    }

    pub(super) fn services(&self) -> Arc<Services> {
        self.services.read_locked().clone()
    }

    pub(super) fn tracker(&self) -> Arc<dyn Tracker> {
        self.services().tracker.clone()
    }

    /// Sends an input to the loop, and waits while its queue is full.
    pub(super) async fn send(&self, input: Input) {
        // Sending fails only when the loop has ended, and then everything ends.
        let _ = self.inputs.send(LoopMessage::Input(Box::new(input))).await;
    }

    /// Sends an input of breakglass to the loop, which reads it even without a journal.
    pub(super) async fn send_urgent(&self, input: Input) {
        // Sending fails only when the loop has ended, and then everything ends.
        let _ = self.urgent.send(LoopMessage::Input(Box::new(input))).await;
    }

    /// Has the loop publish the side state, and waits while its queue is full.
    pub(super) async fn side_state_changed(&self) {
        // Sending fails only when the loop has ended, and then everything ends.
        let _ = self.inputs.send(LoopMessage::SideStateChanged).await;
    }

    /// Replaces the problems that clients see of one source, and logs new ones. An empty list
    /// clears them.
    pub(super) async fn report_problems(&self, source: ProblemSource, lines: Vec<String>) {
        let redactor = Redactor::default();
        let lines: Vec<String> =
            lines.iter().map(|line| redactor.clean(line).into_owned()).collect();
        if self.side_state.set_problems(source, lines.clone()) {
            for line in &lines {
                tracing::warn!(?source, line, "problem");
            }
            // The urgent queue, so that clients see it also while the journal can't be written.
            let _ = self.urgent.send(LoopMessage::SideStateChanged).await;
        }
    }

    /// Shows which base clones were damaged and made anew, after an opening.
    pub(super) async fn report_renewals(&self) {
        let lines = self.workspaces.renewals();
        if !lines.is_empty() {
            self.report_problems(ProblemSource::BaseClones, lines).await;
        }
    }

    /// Appends to a run's transcript and wakes its readers.
    pub(super) fn append_transcript(&self, run: RunId, entries: &[TranscriptEntry]) {
        if let Err(error) = self.store.append(run, entries) {
            tracing::error!(%run, %error, "the transcript can't be written");
        }
        self.transcripts.send_modify(|count| *count += 1);
    }

    /// Deletes the transcript and the raw record of a run. A file that can't be deleted stays.
    pub(super) fn forget(&self, run: RunId) {
        self.store.close(run);
        let raw = self.state.join("raw").join(format!("{run}.jsonl"));
        for path in [self.store.path(run), raw] {
            match std::fs::remove_file(&path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    tracing::warn!(path = %path.display(), %error, "the file can't be deleted");
                }
                _ => {}
            }
        }
    }
}
