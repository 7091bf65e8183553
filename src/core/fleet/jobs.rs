//! The jobs that are known: by their ids, by the time at which they are forgotten, and the
//! conversations that callers can continue.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};

use crate::model::id::RunId;
use crate::model::job::{Job, JobId, JobKind, SavedConversation};
use crate::model::run::Run;
use crate::model::time::Timestamp;

/// Conversations that are remembered; the one that rested longest goes first.
pub const CONVERSATIONS: usize = 1000;

/// The jobs that are known.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Jobs {
    by_id: BTreeMap<JobId, RunId>,
    /// Those that ended, in order: they are forgotten in order.
    ended: VecDeque<(Timestamp, RunId)>,
    conversations: BTreeMap<String, SavedConversation>,
}

impl Jobs {
    /// The run of a job.
    #[must_use]
    pub fn run(&self, id: JobId) -> Option<RunId> {
        self.by_id.get(&id).copied()
    }

    /// The conversation in a caller's session.
    #[must_use]
    pub fn conversation(&self, session: &str) -> Option<&SavedConversation> {
        self.conversations.get(session)
    }

    /// The job that is forgotten next: when it ended, and its run.
    pub(crate) fn oldest_ended(&self) -> Option<(Timestamp, RunId)> {
        self.ended.front().copied()
    }

    /// When the first of those that ended is to be forgotten.
    #[must_use]
    pub fn next_deadline(&self, ttl_ms: i64) -> Option<Timestamp> {
        self.ended.front().map(|(ended, _)| ended.plus(ttl_ms))
    }

    pub(super) fn claimed(&mut self, job: &Job, run: RunId) {
        self.by_id.insert(job.id, run);
    }

    pub(super) fn ended(&mut self, at: Timestamp, run: &Run, job: &Job) {
        self.ended.push_back((at, run.id));
        let (JobKind::Converse { session: name }, Some(session)) = (&job.kind, &run.session) else {
            return;
        };
        let (session, cost) = (session.clone(), run.session_cost);
        self.conversations.insert(name.clone(), SavedConversation { session, cost, at });
        while self.conversations.len() > CONVERSATIONS {
            let oldest = self.conversations.iter().min_by_key(|(_, known)| known.at);
            let Some(oldest) = oldest.map(|(name, _)| name.clone()) else { break };
            self.conversations.remove(&oldest);
        }
    }

    pub(super) fn reopened(&mut self, run: RunId) {
        self.ended.retain(|(_, ended)| *ended != run);
    }

    pub(super) fn forgotten(&mut self, run: RunId, job: Option<&Job>) {
        self.reopened(run);
        if let Some(job) = job {
            self.by_id.remove(&job.id);
        }
    }
}
