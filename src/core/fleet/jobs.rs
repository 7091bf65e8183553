//! Jobs of the service: by id, by the time at which they are forgotten, and the conversations that
//! callers can continue. `Fleet::apply` changes them; the operator step and the HTTP API read them.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};

use crate::model::id::RunId;
use crate::model::job::{Job, JobId, JobKind, SavedConversation};
use crate::model::run::Run;
use crate::model::time::Timestamp;

/// How many conversations are remembered; the longest unused one is forgotten first.
pub const CONVERSATIONS: usize = 1000;

/// How many runs of a session are remembered.
const SESSION_RUNS: usize = 4;

/// The jobs that are not forgotten yet.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Jobs {
    by_id: BTreeMap<JobId, RunId>,
    /// The ended jobs with their times, in the order in which they will be forgotten.
    ended: VecDeque<(Timestamp, RunId)>,
    conversations: BTreeMap<String, SavedConversation>,
}

impl Jobs {
    /// The run that carries out a job.
    #[must_use]
    pub fn run(&self, id: JobId) -> Option<RunId> {
        self.by_id.get(&id).copied()
    }

    /// The saved conversation of a caller's session.
    #[must_use]
    pub fn conversation(&self, session: &str) -> Option<&SavedConversation> {
        self.conversations.get(session)
    }

    /// When the job that is forgotten next ended, and its run.
    pub(crate) fn oldest_ended(&self) -> Option<(Timestamp, RunId)> {
        self.ended.front().copied()
    }

    /// When the next job is forgotten, if jobs are kept for `ttl_ms`.
    #[must_use]
    pub fn next_deadline(&self, ttl_ms: i64) -> Option<Timestamp> {
        self.ended.front().map(|(ended, _)| ended.plus(ttl_ms))
    }

    /// Applies `back` to every time, because the clock was set back.
    pub(super) fn set_back(&mut self, back: &dyn Fn(&mut Timestamp)) {
        self.ended.iter_mut().for_each(|(at, _)| back(at));
        self.conversations.values_mut().for_each(|known| back(&mut known.at));
    }

    pub(super) fn claimed(&mut self, job: &Job, run: RunId) {
        self.by_id.insert(job.id, run);
    }

    pub(super) fn ended(&mut self, at: Timestamp, run: &Run, job: &Job) {
        self.ended.push_back((at, run.id));
        let (JobKind::Converse { session: name }, Some(session)) = (&job.kind, &run.agent.session)
        else {
            return;
        };
        let (session, cost) = (session.clone(), run.spend.session);
        let (instead, preferred) = (run.agent.instead.clone(), run.agent.preferred.clone());
        let mut runs = self.conversations.remove(name).map_or_else(Vec::new, |known| known.runs);
        runs.retain(|known| *known != run.id);
        runs.push(run.id);
        runs.drain(..runs.len().saturating_sub(SESSION_RUNS));
        let saved = SavedConversation { session, cost, at, instead, preferred, runs };
        self.conversations.insert(name.clone(), saved);
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
