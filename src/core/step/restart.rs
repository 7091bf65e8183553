//! The start of a runtime: no effect of the life before is under way, so each activity begins
//! again. Only a turn on a remote executor continues, and the new runtime follows it.

use crate::model::activity::Activity;
use crate::model::event::Event;
use crate::model::id::RunId;
use crate::model::policy::Policy;
use crate::model::time::MINUTE;
use crate::step::stepper::Stepper;

impl Stepper<'_> {
    pub(super) fn restart(&mut self, policy: Box<Policy>) {
        self.volatile().restarted();
        self.give_back_downtime();
        self.emit(Event::Started);
        self.set_policy(policy);
        let live: Vec<RunId> = self.fleet().live.iter().copied().collect();
        // A remote agent still waits for the answer to its request.
        let local = live.iter().copied().filter(|id| !self.continues_remotely(*id));
        for id in local.collect::<Vec<_>>() {
            self.withdraw_requests(id, "afk was restarted");
        }
        self.abandon_attempted_deliveries();
        self.restart_breakglass();
        for id in live {
            if self.run(id).is_some_and(|run| run.issue.brief.is_none()) {
                // Its claim is from before runs kept their issue's version.
                self.brief_again(id);
            }
            let Some(run) = self.run(id) else { continue };
            if let Activity::Held { then, .. } = &run.progress.activity
                && run.has_permit()
                && !self.is_held_back(run)
            {
                let then = then.as_ref().clone();
                self.begin(id, then);
                continue;
            }
            if !run.busy() {
                continue;
            }
            if self.continues_remotely(id) {
                self.follow_remote_turn(id);
                continue;
            }
            let activity = match &run.progress.activity {
                Activity::Turn { prompt } => {
                    Activity::Turn { prompt: prompt.clone().again("afk was restarted".into()) }
                }
                same => same.clone(),
            };
            self.note(id, "afk was restarted");
            self.begin(id, activity);
        }
    }

    /// Gives back the time in which no afk ran, so that the first thing after a start is a look at the
    /// world and not a deadline.
    fn give_back_downtime(&mut self) {
        let waits = !self.fleet().live.is_empty() || !self.fleet().outages.is_empty();
        let ms = self.at.since(self.fleet().last_event);
        if waits && ms >= MINUTE {
            self.emit(Event::TimeSkipped { ms });
        }
    }

    /// Whether the run is in a turn on a remote executor, which a restart of afk doesn't end.
    fn continues_remotely(&self, id: RunId) -> bool {
        self.run(id).is_some_and(|run| {
            matches!(run.progress.activity, Activity::Turn { .. })
                && self.fleet().remote_executor(&run.work).is_some()
        })
    }

    /// Keeps the turn's epoch, so that requests and reports from before the restart still fit.
    fn follow_remote_turn(&mut self, id: RunId) {
        self.note(id, "afk was restarted; the remote turn continues");
        self.emit(Event::Followed { run: id });
        self.begin_task(id);
    }
}
