//! Builds the parts that tasks and clients share, before anything runs.
//!
//! [`startup`](super::startup) calls it for a leader and for a follower, and then starts the loop
//! of either with the receiving ends.

use std::path::Path;
use std::sync::{Arc, RwLock};

use tokio::sync::{Notify, broadcast, mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::breakglass::agent::AgentDesk;
use super::breakglass::console::LiveShells;
use super::job_listeners::JobListeners;
use super::loop_message::{INPUT_QUEUE, URGENT_QUEUE};
use super::metrics::Metrics;
use super::operators::Operators;
use super::refusals::Refusals;
use super::scratch_dirs::ScratchDirs;
use super::services::{GitCredentials, Services};
use super::side_state::SideState;
use super::wall::Wall;
use super::workspaces::Workspaces;
use super::{Context, Handle, LoopMessage, RuntimeError, Snapshot, known_secrets};
use crate::config::Config;
use crate::core::fleet::Fleet;
use crate::journal::transcript::Store;
use crate::process::Supervisor;

/// Batches that a subscriber may lag behind before it needs a fresh snapshot.
const BATCH_QUEUE: usize = 256;
/// Notices that a terminal may lag behind before it misses the oldest.
const NOTICE_QUEUE: usize = 64;

/// The shared context, a handle, and the ends that the loop keeps.
pub(super) struct Setup {
    pub context: Arc<Context>,
    pub handle: Handle,
    pub publish: watch::Sender<Arc<Snapshot>>,
    pub inputs: mpsc::Receiver<LoopMessage>,
    pub urgent: mpsc::Receiver<LoopMessage>,
}

impl Setup {
    /// Builds everything for a configuration and the fleet that the journal holds up to `seq`.
    /// `leader` describes the leader, if this runtime follows one.
    ///
    /// # Errors
    /// A folder of the state can't be opened, or a service can't be built.
    pub(super) fn new(
        config: &Config,
        state: &Path,
        journal_id: &str,
        fleet: &Fleet,
        seq: i64,
        supervisor: Supervisor,
        leader: Option<watch::Receiver<String>>,
    ) -> Result<Self, RuntimeError> {
        known_secrets::remember(config);
        let io = |source| RuntimeError::Io { path: state.to_owned(), source };
        let services = Services::new(config, journal_id, None).map_err(RuntimeError::Services)?;
        let services = Arc::new(RwLock::new(Arc::new(services)));
        let store = Arc::new(Store::open(state).map_err(io)?);
        let (inputs_sender, inputs) = mpsc::channel(INPUT_QUEUE);
        let (urgent_sender, urgent) = mpsc::channel(URGENT_QUEUE);
        let (transcripts_sender, transcripts) = watch::channel(0);
        let (notices, _) = broadcast::channel(NOTICE_QUEUE);
        let (batches, _) = broadcast::channel(BATCH_QUEUE);
        let credentials = Arc::new(GitCredentials(services.clone()));
        let kept =
            fleet.live_runs().filter_map(|run| run.agent.equipment.as_ref()?.folder.as_deref());
        let scratch_dirs = ScratchDirs::new(state.join("questions"), &kept.collect::<Vec<_>>());
        let wall = Arc::new(Wall::new(supervisor.clone(), state.to_owned(), &config.sandbox));
        let context = Arc::new(Context {
            config: RwLock::new(Arc::new(config.clone())),
            config_changes: watch::channel(()).0,
            reload: Notify::new(),
            refusals: Refusals::default(),
            metrics: Metrics::new(fleet),
            state: state.to_owned(),
            journal_id: journal_id.to_owned(),
            supervisor: supervisor.clone(),
            store: store.clone(),
            services,
            workspaces: Workspaces::new(state.join("workspaces"), fleet, credentials, wall.clone()),
            scratch_dirs,
            wall,
            inputs: inputs_sender.clone(),
            urgent: urgent_sender,
            side_state: SideState::default(),
            operators: Operators::default(),
            shells: LiveShells::default(),
            agent_desk: AgentDesk::default(),
            transcripts: transcripts_sender,
            notices: notices.clone(),
            job_listeners: JobListeners::default(),
            batches,
            cancel: CancellationToken::new(),
            stop: CancellationToken::new(),
        });
        let first = Snapshot { fleet: fleet.clone(), seq, ..Snapshot::default() };
        let (publish, snapshots) = watch::channel(Arc::new(first));
        let handle = Handle {
            inputs: inputs_sender,
            snapshots,
            transcripts,
            store,
            config: Arc::new(config.clone()),
            notices,
            supervisor,
            leader,
            context: context.clone(),
        };
        Ok(Self { context, handle, publish, inputs, urgent })
    }
}
