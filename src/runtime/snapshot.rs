//! Snapshots of everything that clients can show, and batches of durable events.
//!
//! The event loop and the follower build both. Screens read snapshots; the attach protocol and the
//! HTTP event stream send batches and snapshots to other processes, so the serialized names of the
//! fields here are part of that protocol.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::breakglass::verb_output::VerbOutput;
use super::client::Attached;
use crate::core::fleet::Fleet;
use crate::core::fleet::breakglass::BreakglassState;
use crate::core::model::breakglass::VerbId;
use crate::core::model::event::Event;
use crate::core::model::id::RunId;
use crate::core::model::run::Run;
use crate::core::model::time::Timestamp;

/// The measured state of a run's worktree and of its processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct WorktreeStats {
    /// Files that differ from the last commit.
    pub dirty: usize,
    /// Commits that the upstream branch does not have yet.
    pub ahead: usize,
    /// Disk usage in bytes, measured once a minute; none before the first measurement.
    pub disk: Option<u64>,
    /// The root of the run's process tree.
    pub pid: Option<i32>,
    /// The number of processes in that tree.
    pub processes: usize,
    /// CPU usage of the tree, in thousandths of one core.
    pub cpu_permille: u32,
    /// Resident memory of the tree, in bytes.
    pub memory: u64,
}

/// The health of a watcher of a Kubernetes cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WatcherHealth {
    /// When the watcher last received an event or an answer.
    #[serde(rename = "heard")]
    pub last_seen: Timestamp,
    /// Its last error, until it receives something again.
    pub error: Option<String>,
}

/// An immutable copy of everything that a client can show.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Snapshot {
    /// The fleet, exactly as far as its events are durable.
    pub fleet: Fleet,
    /// Measurements of worktrees and processes by run.
    pub worktrees: BTreeMap<RunId, WorktreeStats>,
    /// How far the task of a run is, where it says so: "cloning 43 %".
    #[serde(default)]
    pub progress: BTreeMap<RunId, String>,
    /// Problems outside of runs, one line each, in a fixed order.
    pub problems: Vec<String>,
    /// The attached clients, oldest first.
    pub clients: Vec<Attached>,
    /// Watchers of clusters, by the kind and name that they watch.
    #[serde(default)]
    pub watchers: BTreeMap<String, WatcherHealth>,
    /// The output of recent breakglass verbs, also while they run.
    #[serde(default, rename = "live")]
    pub verb_output: BTreeMap<VerbId, VerbOutput>,
    /// The current breakglass state, set only while the journal can't be written and `fleet` is
    /// therefore behind it.
    #[serde(default, rename = "unwritten")]
    pub breakglass_ahead: Option<Box<BreakglassState>>,
    /// The number of the last journal record that `fleet` includes.
    pub seq: i64,
}

impl Snapshot {
    /// The current breakglass state, whether or not the journal has it yet.
    #[must_use]
    pub fn breakglass(&self) -> &BreakglassState {
        self.breakglass_ahead.as_deref().unwrap_or(&self.fleet.breakglass)
    }

    /// What a run is doing, and how far it is where its task says so. An agent's retry, long tool or
    /// silence comes first.
    #[must_use]
    pub fn doing(&self, run: &Run, now: Timestamp) -> String {
        let known = self.progress.get(&run.id);
        let agent = &run.agent;
        let known = known
            .filter(|_| agent.quiet.is_none() && agent.retry.is_none() && agent.tool.is_none());
        known.cloned().unwrap_or_else(|| run.doing(now))
    }

    /// A run's phase and what it is doing, as "worktree · cloning 43 %"; one word where both agree.
    #[must_use]
    pub fn standing(&self, run: &Run, now: Timestamp) -> String {
        let (phase, doing) = (run.progress.phase.as_str(), self.doing(run, now));
        if doing == phase { doing } else { format!("{phase} · {doing}") }
    }
}

/// Events that became durable together.
#[derive(Debug, Clone)]
pub(crate) struct Batch {
    /// The journal's number of the last event.
    pub last: i64,
    /// The events in journal order, with the time of each.
    pub events: Arc<[(Timestamp, Event)]>,
}
