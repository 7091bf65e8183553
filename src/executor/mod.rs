//! Where the agent of a turn works, if not in a process of this machine.
//!
//! A turn elsewhere has a name that is the same each time it is begun, so that after a restart it
//! is found and followed, and not repeated.

pub mod folder;
pub mod kubernetes;
pub mod service;
pub mod t3;
pub mod worker;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use tokio::sync::mpsc;

use crate::agent::{Control, Events, TurnSpec};
use crate::config::executor as config;
use crate::config::services::KubernetesConfig;
use crate::core::model::agent_event::TurnEnd;
use crate::core::model::capability::Capabilities;
use crate::secrets::Secrets;

/// One turn that is carried out elsewhere.
#[derive(Debug, Clone)]
pub struct Turn {
    /// Its name: of letters, digits and `-`, at most 50 of them.
    pub name: String,
    /// The name of all turns of its run.
    pub run: String,
    /// What is to be done. It holds no secrets: they are where it is carried out.
    pub spec: TurnSpec,
    /// The agent, as its caller named it.
    pub agent: String,
    /// The folder in which what belongs to turns elsewhere is kept.
    pub root: PathBuf,
    /// How long it may take.
    pub limit: Duration,
}

/// Carries turns out; see the module.
pub trait Executor: std::fmt::Debug + Send + Sync {
    /// What an agent can do there, who can do this much here.
    fn capabilities(&self, here: Capabilities) -> Capabilities {
        here
    }

    /// Asks whether turns could be carried out there: a line of what was found, or of what is wrong.
    fn check(&self) -> BoxFuture<'_, Result<String, String>>;

    /// Carries a turn out to its end, or follows it where it is under way. Dropped, it goes on.
    fn turn<'a>(
        &'a self,
        turn: &'a Turn,
        events: &'a Events,
        controls: &'a mut mpsc::Receiver<Control>,
    ) -> BoxFuture<'a, TurnEnd>;

    /// Ends what is under way for a run, and takes away what is kept of it.
    fn stop<'a>(&'a self, run: &'a str, root: &'a Path) -> BoxFuture<'a, ()>;
}

/// As configured.
///
/// # Errors
/// A line for a person.
pub fn of(
    config: &config::ExecutorConfig,
    cluster: &KubernetesConfig,
    secrets: &Arc<Secrets>,
) -> Result<Arc<dyn Executor>, String> {
    Ok(match config.clone() {
        config::ExecutorConfig::Kubernetes(jobs) => kubernetes::Jobs::new(*jobs, cluster.clone()),
        config::ExecutorConfig::Service(other) => service::Service::new(other, secrets.clone())?,
        config::ExecutorConfig::T3(server) => t3::T3::new(server, secrets.clone())?,
    })
}

/// The folders of a run's turns.
fn folders(root: &Path, run: &str) -> Vec<PathBuf> {
    let Ok(all) = std::fs::read_dir(root) else { return Vec::new() };
    let of_run = |name: &str| name.strip_prefix(run).is_some_and(|rest| rest.starts_with("-t"));
    let all = all.flatten().filter(|entry| entry.file_name().to_str().is_some_and(of_run));
    all.map(|entry| entry.path()).collect()
}

/// Whether anything is kept of a run's turns.
fn kept(root: &Path, run: &str) -> bool {
    !folders(root, run).is_empty()
}

/// Takes away what is kept of a run's turns.
fn take_away(root: &Path, run: &str) {
    for folder in folders(root, run) {
        if let Err(error) = std::fs::remove_dir_all(&folder) {
            tracing::warn!(path = %folder.display(), %error, "could not be taken away");
        }
    }
}
