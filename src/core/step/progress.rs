//! The progress comment in a step: posts an update where the tracker is remote.

use crate::model::id::{IssueKey, RunId};
use crate::model::outbox::{OutboxEntry, OutboxStep};
use crate::step::stepper::Stepper;

impl Stepper<'_> {
    /// The same for the issue of a run.
    pub(super) fn progress_of(&mut self, run: RunId) {
        if let Some(issue) = self.run(run).and_then(|run| run.work.issue().cloned()) {
            self.progress(&issue);
        }
    }

    /// Has the comment written anew where the tracker is remote. One that waits to be written will
    /// tell the newest, so there is never more than one waiting.
    pub(super) fn progress(&mut self, issue: &IssueKey) {
        if !self.fleet().policy.remote.contains(&issue.repo) {
            return;
        }
        let step = OutboxStep::Progress { issue: issue.clone() };
        let waits = |entry: &&OutboxEntry| entry.step == step && !self.in_flight(entry.id);
        if self.fleet().outbox.values().find(waits).is_none() {
            self.post(step);
        }
    }
}
