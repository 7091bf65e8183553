//! What clients and tasks have, before anything is begun.

use std::path::Path;
use std::sync::{Arc, Mutex, RwLock};

use tokio::sync::{broadcast, mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::outside::{Outside, Remotes};
use super::{
    BATCHES, Handle, INPUTS, Message, RuntimeError, Shell, Snapshot, URGENT, folders, workspaces,
};
use crate::config::Config;
use crate::core::fleet::Fleet;
use crate::journal::transcript::Store;
use crate::process::Supervisor;

/// See the module.
pub(super) struct Made {
    pub shell: Arc<Shell>,
    pub handle: Handle,
    pub publish: watch::Sender<Arc<Snapshot>>,
    pub queue: mpsc::Receiver<Message>,
    pub urgent: mpsc::Receiver<Message>,
}

impl Made {
    /// As configured, with the fleet as the journal has it up to `seq`.
    ///
    /// # Errors
    /// [`RuntimeError`].
    pub fn new(
        config: &Config,
        state: &Path,
        journal_id: &str,
        fleet: &Fleet,
        seq: i64,
        supervisor: Supervisor,
        follows: Option<watch::Receiver<String>>,
    ) -> Result<Self, RuntimeError> {
        let io = |source| RuntimeError::Io { path: state.to_owned(), source };
        let outside = Outside::new(config, journal_id, None).map_err(RuntimeError::Outside)?;
        let outside = Arc::new(RwLock::new(Arc::new(outside)));
        let store = Arc::new(Store::open(state).map_err(io)?);
        let (inputs, queue) = mpsc::channel(INPUTS);
        let (urgent, urgent_seen) = mpsc::channel(URGENT);
        let (transcripts, transcripts_seen) = watch::channel(0);
        let (notices, _) = broadcast::channel(64);
        let (batches, _) = broadcast::channel(BATCHES);
        let remotes = Arc::new(Remotes(outside.clone()));
        let workspaces = workspaces::Workspaces::new(state.join("workspaces"), fleet, remotes);
        let kept = fleet.live_runs().filter_map(|run| run.equipment.as_ref()?.folder.as_deref());
        let folders = folders::Folders::new(state.join("questions"), &kept.collect::<Vec<_>>());
        let shell = Arc::new(Shell {
            config: RwLock::new(Arc::new(config.clone())),
            state: state.to_owned(),
            folders,
            journal_id: journal_id.to_owned(),
            supervisor: supervisor.clone(),
            store: store.clone(),
            outside,
            watchers: Mutex::default(),
            workspaces,
            inputs: inputs.clone(),
            urgent,
            live: Mutex::default(),
            shells: Mutex::default(),
            shells_changed: tokio::sync::Notify::new(),
            transcripts,
            notices: notices.clone(),
            problems: Mutex::default(),
            worktrees: Mutex::default(),
            clients: Mutex::default(),
            listeners: Mutex::default(),
            batches,
            cancel: CancellationToken::new(),
            stop: CancellationToken::new(),
        });
        let first = Snapshot { fleet: fleet.clone(), seq, ..Snapshot::default() };
        let (publish, snapshots) = watch::channel(Arc::new(first));
        let handle = Handle {
            inputs,
            snapshots: snapshots.clone(),
            transcripts: transcripts_seen,
            store,
            config: Arc::new(config.clone()),
            notices,
            supervisor,
            follows,
            shell: shell.clone(),
        };
        Ok(Self { shell, handle, publish, queue, urgent: urgent_seen })
    }
}
