//! Live agent events of jobs, for callers that stream a job's output.
//!
//! ```text
//!   serve::http: Handle::listen(job) ──▶ receiver        (before the job is submitted)
//!   tasks::turn_events ── AgentEvent ──▶ the job's sender (while its turns run)
//!   tasks::worktree, Handle::stop_listening ──▶ closes the channel
//! ```

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Mutex;

use tokio::sync::mpsc;

use super::Handle;
use crate::core::model::agent_event::AgentEvent;
use crate::core::model::job::JobId;
use crate::lock::LockExt;

/// Events that may wait for a listener; beyond them the agent's own pipe fills up and it waits.
const EVENT_QUEUE: usize = 256;

/// The sender of each job that a caller listens to.
#[derive(Debug, Default)]
pub(crate) struct JobListeners(Mutex<BTreeMap<JobId, mpsc::Sender<AgentEvent>>>);

impl JobListeners {
    /// The sender of a job's listener, if it has one.
    pub(super) fn of(&self, job: JobId) -> Option<mpsc::Sender<AgentEvent>> {
        self.0.locked().get(&job).cloned()
    }

    /// Closes the channel of a job.
    pub(super) fn close(&self, job: JobId) {
        self.0.locked().remove(&job);
    }
}

impl Handle {
    /// The events of a job's agent from the first one on, so call it before you submit the job. The
    /// channel closes when the job ends. None if another caller listens to the job.
    pub(crate) fn listen(&self, job: JobId) -> Option<mpsc::Receiver<AgentEvent>> {
        let mut listeners = self.context.job_listeners.0.locked();
        let Entry::Vacant(free) = listeners.entry(job) else { return None };
        let (sender, events) = mpsc::channel(EVENT_QUEUE);
        free.insert(sender);
        Some(events)
    }

    /// Closes the channel of a job that its caller has left.
    pub(crate) fn stop_listening(&self, job: JobId) {
        self.context.job_listeners.close(job);
    }
}
