//! State beside the fleet: problems, measurements, attached clients, watchers and verb output.
//!
//! None of it is journalled and the core never reads it; snapshots carry it to clients. Tasks and
//! watchers write here and then send [`LoopMessage::SideStateChanged`](super::LoopMessage); the
//! event loop copies it into the next snapshot.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use super::breakglass::verb_output::LiveVerbs;
use super::client::Attached;
use super::snapshot::{Snapshot, WatcherHealth, WorktreeStats};
use crate::core::model::id::RunId;
use crate::lock::LockExt;

/// The part of afk that a problem is about. Clients list problems in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum ProblemSource {
    /// The journal differs from its anchor.
    Anchor,
    /// A token of `[http.tokens]` can't be used.
    Tokens,
    /// The file of admitted SSH keys can't be used.
    AuthorizedKeys,
    /// Breakglass runs without a durable journal.
    Audit,
    /// A capture of a breakglass verb could not be stored.
    Captures,
    /// `afk.toml` can't be watched or parsed.
    Configuration,
    /// A changed key of `afk.toml` needs a restart.
    Restart,
    /// The control folder or `ConfigMap` can't be read.
    Control,
    /// The journal can't be written, or the leader's can't be read.
    Journal,
    /// Loki does not accept lines.
    Loki,
    /// The collector does not accept traces.
    #[cfg(feature = "traces")]
    Traces,
    /// Programs run without a wall, or can't run at all.
    Sandbox,
    /// A service can't be built from the new configuration.
    Services,
    /// A host key could not be pinned.
    Pins,
    /// Claims can't be published.
    Presence,
    /// Notification sinks are disabled.
    Sinks,
    /// A base clone was damaged, and is made anew.
    BaseClones,
    /// The tests of a repository fail on its newest commit.
    Baselines,
    /// The tracker can't be read, or has issues that can't be parsed.
    Tracker,
}

/// State that several tasks write and every snapshot includes. Each field has a lock of its own.
#[derive(Debug, Default)]
pub(crate) struct SideState {
    problems: Mutex<BTreeMap<ProblemSource, Vec<String>>>,
    worktrees: Mutex<BTreeMap<RunId, WorktreeStats>>,
    progress: Mutex<BTreeMap<RunId, String>>,
    clients: Mutex<BTreeMap<u64, Attached>>,
    watchers: Mutex<BTreeMap<String, WatcherHealth>>,
    verbs: Mutex<LiveVerbs>,
    tracker_read: Mutex<Option<Instant>>,
}

impl SideState {
    /// Replaces the problems of a source; an empty list clears them. Returns whether they changed.
    pub(super) fn set_problems(&self, source: ProblemSource, lines: Vec<String>) -> bool {
        let mut all = self.problems.locked();
        if lines.is_empty() {
            return all.remove(&source).is_some();
        }
        let changed = all.get(&source) != Some(&lines);
        all.insert(source, lines);
        changed
    }

    /// Every problem, one line each, in the order of [`ProblemSource`].
    pub(super) fn problem_lines(&self) -> Vec<String> {
        self.problems.locked().values().flatten().cloned().collect()
    }

    /// Records that the trackers were read now.
    pub(super) fn tracker_was_read(&self) {
        *self.tracker_read.locked() = Some(Instant::now());
    }

    /// How long ago the trackers were read; none if they were not yet.
    pub(super) fn tracker_age(&self) -> Option<Duration> {
        self.tracker_read.locked().map(|at| at.elapsed())
    }

    /// Measurements by run.
    pub(super) fn worktrees(&self) -> MutexGuard<'_, BTreeMap<RunId, WorktreeStats>> {
        self.worktrees.locked()
    }

    /// Replaces the progress of a run's task; none clears it. Returns whether it changed.
    pub(super) fn set_progress(&self, run: RunId, text: Option<&str>) -> bool {
        let mut all = self.progress.locked();
        let before = match text {
            Some(text) => all.insert(run, text.to_owned()),
            None => all.remove(&run),
        };
        before.as_deref() != text
    }

    /// Attached clients by the number of their [`Attachment`](super::Attachment).
    pub(super) fn clients(&self) -> MutexGuard<'_, BTreeMap<u64, Attached>> {
        self.clients.locked()
    }

    /// Watchers of clusters, by the kind and name that they watch.
    pub(super) fn watchers(&self) -> MutexGuard<'_, BTreeMap<String, WatcherHealth>> {
        self.watchers.locked()
    }

    /// Recent breakglass verbs and their output.
    pub(super) fn verbs(&self) -> MutexGuard<'_, LiveVerbs> {
        self.verbs.locked()
    }

    /// Copies everything into a snapshot and leaves its other fields as they are.
    pub(super) fn fill(&self, snapshot: &mut Snapshot) {
        snapshot.problems = self.problem_lines();
        snapshot.worktrees = self.worktrees().clone();
        snapshot.progress = self.progress.locked().clone();
        snapshot.clients = self.clients().values().cloned().collect();
        snapshot.watchers = self.watchers().clone();
        snapshot.verb_output = self.verbs().copy();
    }
}
