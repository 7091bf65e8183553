//! Jobs of the service: who hears what their agents say while they work.

use std::sync::PoisonError;

use tokio::sync::mpsc;

use super::{Handle, Shell};
use crate::core::model::agent_event::AgentEvent;
use crate::core::model::id::RunId;
use crate::core::model::job::JobId;

/// Events that may wait for who listens; an agent waits behind them in its own pipe.
const HEARD: usize = 256;

impl Handle {
    /// What the agent of a job says, from its first word on: asked for before the job is submitted.
    /// The channel is closed once the job is over.
    #[must_use]
    pub fn listen(&self, job: JobId) -> mpsc::Receiver<AgentEvent> {
        let (tell, heard) = mpsc::channel(HEARD);
        let mut all = self.shell.listeners.lock().unwrap_or_else(PoisonError::into_inner);
        all.insert(job, tell);
        heard
    }

    /// Nobody listens any more.
    pub fn stop_listening(&self, job: JobId) {
        self.shell.stop_telling(job);
    }
}

impl Shell {
    /// Who listens to a job, if anybody does.
    pub(super) fn listener(&self, job: JobId) -> Option<mpsc::Sender<AgentEvent>> {
        self.listeners.lock().unwrap_or_else(PoisonError::into_inner).get(&job).cloned()
    }

    /// Takes away what is kept of a job beside the journal. What can't be taken away stays.
    pub(super) fn forget(&self, run: RunId) {
        self.store.close(run);
        let raw = self.state.join("raw").join(format!("{run}.jsonl"));
        for path in [self.store.path(run), raw] {
            match std::fs::remove_file(&path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    tracing::warn!(path = %path.display(), %error, "could not be taken away");
                }
                _ => {}
            }
        }
    }

    /// What the turns of a run are called elsewhere: no other journal has such a name.
    pub(super) fn elsewhere_name(&self, run: RunId) -> String {
        format!("afk-{}-{run}", self.journal_id)
    }

    /// The folder of what belongs to turns elsewhere.
    pub(super) fn elsewhere_root(&self) -> std::path::PathBuf {
        self.state.join("elsewhere")
    }

    /// Ends what is under way elsewhere for a run.
    pub(super) async fn stop_elsewhere(&self, run: RunId, place: &str) {
        let executor = self.outside().executors.get(place).cloned();
        if let Some(executor) = executor {
            executor.stop(&self.elsewhere_name(run), &self.elsewhere_root()).await;
        }
    }

    /// A job is over.
    pub(super) fn stop_telling(&self, job: JobId) {
        self.listeners.lock().unwrap_or_else(PoisonError::into_inner).remove(&job);
    }
}
