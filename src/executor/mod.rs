//! Executors: places other than a process of this machine where an agent works on a turn.
//!
//! The runtime calls `Executor::run_turn` instead of the agent driver when a run is configured
//! for another place. An `ExecutorTurn` keeps its name across restarts of afk, so that an executor
//! finds a running turn again and follows it instead of starting it twice.
//!
//! ```text
//!  runtime ── ExecutorTurn, TurnControl ──> Executor ──> Job in a cluster ─ worker ─ agent driver
//!     ^                                      │    ├──> thread of a T3 Code server
//!     └──────── AgentEvent, TurnEnd ─────────┘    └──> job of another service (HTTP)
//! ```

pub(crate) mod folder;
pub(crate) mod kubernetes;
pub(crate) mod service;
pub(crate) mod t3;
pub(crate) mod worker;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use tokio::sync::mpsc;

use crate::agent::{EventSender, TurnControl, TurnSpec};
use crate::config::executor as config;
use crate::config::services::KubernetesConfig;
use crate::core::model::agent_event::TurnEnd;
use crate::core::model::capability::Capabilities;
use crate::error::causes;
use crate::network::NetworkError;
use crate::secrets::Secrets;

/// An error whose causes are read as a chain ([`crate::error::chain`]).
pub(crate) type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// One turn that runs in another place.
#[derive(Debug, Clone)]
pub(crate) struct ExecutorTurn {
    /// Unique among all turns, of at most 50 letters, digits and `-`.
    pub(crate) name: String,
    /// The common prefix of the names of all turns of the run.
    pub(crate) run: String,
    /// The task. It contains no secrets; the other place has its own.
    pub(crate) spec: TurnSpec,
    /// The configured name of the agent.
    pub(crate) agent: String,
    /// The folder that holds a folder for each remote turn.
    pub(crate) root: PathBuf,
    /// The longest duration of the turn.
    pub(crate) limit: Duration,
}

pub(crate) trait Executor: std::fmt::Debug + Send + Sync {
    /// Returns the capabilities of an agent in this place, given those of the same agent on this
    /// machine.
    fn capabilities(&self, local: Capabilities) -> Capabilities {
        local
    }

    /// Tests whether the place is reachable and accepts the credentials, and returns a line for
    /// `afk doctor`.
    fn check(&self) -> BoxFuture<'_, Result<String, BoxError>>;

    /// Starts a turn, or finds it running, and follows it to its end. Dropping the future leaves
    /// the turn running.
    fn run_turn<'a>(
        &'a self,
        turn: &'a ExecutorTurn,
        events: &'a EventSender,
        controls: &'a mut mpsc::Receiver<TurnControl>,
    ) -> BoxFuture<'a, TurnEnd>;

    /// Stops the turns of a run and removes their folders.
    fn stop<'a>(&'a self, run: &'a str, root: &'a Path) -> BoxFuture<'a, ()>;
}

/// Creates the executor of a configuration section, or returns why that is impossible.
pub(crate) fn from_config(
    config: &config::ExecutorConfig,
    cluster: &KubernetesConfig,
    secrets: &Arc<Secrets>,
) -> Result<Arc<dyn Executor>, String> {
    Ok(match config.clone() {
        config::ExecutorConfig::Kubernetes(jobs) => {
            kubernetes::KubernetesExecutor::new(*jobs, cluster.clone())?
        }
        config::ExecutorConfig::Service(other) => {
            service::ServiceExecutor::new(other, secrets.clone())?
        }
        config::ExecutorConfig::T3(server) => t3::T3Executor::new(server, secrets.clone())?,
    })
}

/// Whether an error of [`Executor::check`] means that the place can't be reached, and not that it
/// refuses us.
pub(crate) fn is_away(error: &(dyn std::error::Error + 'static)) -> bool {
    causes(error).any(|cause| {
        let of_cluster = cause.downcast_ref::<kube::Error>();
        cause.is::<NetworkError>()
            || matches!(of_cluster, Some(kube::Error::Api(status)) if status.code >= 500)
    })
}

/// Lists the folders of a run's turns.
fn turn_folders(root: &Path, run: &str) -> Vec<PathBuf> {
    let Ok(all) = std::fs::read_dir(root) else { return Vec::new() };
    let of_run = |name: &str| name.strip_prefix(run).is_some_and(|rest| rest.starts_with("-t"));
    let all = all.flatten().filter(|entry| entry.file_name().to_str().is_some_and(of_run));
    all.map(|entry| entry.path()).collect()
}

/// Whether a run has a folder of any turn.
fn has_turn_folders(root: &Path, run: &str) -> bool {
    !turn_folders(root, run).is_empty()
}

/// Removes the folders of a run's turns.
fn remove_turn_folders(root: &Path, run: &str) {
    for folder in turn_folders(root, run) {
        if let Err(error) = std::fs::remove_dir_all(&folder) {
            tracing::warn!(path = %folder.display(), %error, "a turn's folder can't be removed");
        }
    }
}
