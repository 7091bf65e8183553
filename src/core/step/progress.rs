//! When the progress comment of an issue is written again: `admission`, `lifecycle`, `verdict`,
//! `ending` and `operator` call this at each change that the comment shows. Its text comes from
//! `query::progress` at the time of delivery.

use crate::model::id::{IssueKey, RunId};
use crate::model::outbox::{OutboxEntry, OutboxStep};
use crate::step::stepper::Stepper;

impl Stepper<'_> {
    /// Updates the comment of the run's issue, if the run has one.
    pub(super) fn update_progress_of(&mut self, run: RunId) {
        if let Some(issue) = self.run(run).and_then(|run| run.work.issue().cloned()) {
            self.update_progress(&issue);
        }
    }

    /// Posts an update where the tracker is remote. An update that is not yet in flight will carry
    /// the latest state, so at most one waits for each issue.
    pub(super) fn update_progress(&mut self, issue: &IssueKey) {
        if !self.fleet().policy.remote.contains(&issue.repo) {
            return;
        }
        let step = OutboxStep::Progress { issue: issue.clone() };
        let waits =
            |entry: &&OutboxEntry| entry.step == step && !entry.held && !self.in_flight(entry.id);
        if self.fleet().outbox.values().find(waits).is_none() {
            self.post(step);
        }
    }
}
