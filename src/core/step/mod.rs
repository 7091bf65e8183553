//! The behaviour of the fleet: [`step`] takes one input and returns the events and effects that
//! follow from it. The runtime's event loop calls it for every input, journals the events, and
//! then carries out the effects; the simulation and the unit tests call it in the same way.
//!
//! ```text
//! Input ─▶ take     a command       ─▶ operator, breakglass
//!                   a run's report  ─▶ lifecycle ─▶ turn, request, gate, verdict, job
//!                   breakglass      ─▶ breakglass_report
//!                   a try, an error ─▶ outage
//!                   a tick          ─▶ expiries, backoffs, reminders, drill, outages
//!                   a start         ─▶ restart
//!                   a changed issue ─▶ admission ─▶ issue_change
//!       ─▶ settle   admission (ledger, claims, permits), then outbox (deliveries)
//!                     │
//!                     ├─▶ Stepper::emit    an event: applied to the fleet, then journalled
//!                     ├─▶ Stepper::effect  work for the runtime, begun once the events are durable
//!                     └─▶ Stepper::reply   the reply to a command
//! ```
//!
//! A run ends in `ending`; every question to a human leaves through `escalation` and every
//! notice through `notice`.

mod admission;
mod breaker;
mod breakglass;
mod breakglass_agent;
mod breakglass_report;
mod drill;
mod ending;
mod escalation;
mod fallback;
mod gate;
mod identity;
mod issue_change;
mod job;
pub mod lifecycle;
mod notice;
mod operator;
mod outage;
mod outbox;
mod progress;
mod request;
mod restart;
mod stepper;
#[cfg(test)]
mod tests;
pub mod turn;
mod verdict;

use self::stepper::Stepper;
use crate::fleet::Fleet;
use crate::fleet::volatile::Volatile;
use crate::model::activity::Activity;
use crate::model::event::Event;
use crate::model::id::{Actor, RunId};
use crate::model::input::Input;
use crate::model::policy::Policy;
use crate::model::time::Timestamp;

pub use self::stepper::Step;

/// Steps the fleet by one input. Where `at` lies before the time of an earlier input, because the
/// clock was set back, the earlier time is used: the time of steps runs backwards only with
/// [`Input::TimeSkipped`].
#[must_use]
pub fn step(fleet: &mut Fleet, volatile: &mut Volatile, at: Timestamp, input: Input) -> Step {
    if let Input::TimeSkipped { ms } = input
        && ms < 0
    {
        volatile.set_back(ms.saturating_neg());
    }
    let mut stepper = Stepper::new(fleet, volatile, at);
    stepper.take(input);
    stepper.settle();
    let out = stepper.into_step();
    #[cfg(debug_assertions)]
    if let Err(broken) = crate::query::invariant::check(fleet) {
        // tests/simulation shows that no schedule breaks an invariant. If one breaks all the
        // same, a debug build must not continue.
        panic!("invariant broken: {broken}");
    }
    out
}

impl Stepper<'_> {
    fn take(&mut self, input: Input) {
        match input {
            Input::Tick => self.tick(),
            Input::Started { policy } => self.restart(policy),
            Input::BreakglassOnly { policy } => {
                let by = Actor("afk".into());
                self.emit(Event::Draining { by });
                self.set_policy(policy);
                self.restart_breakglass();
            }
            Input::Policy(policy) => self.set_policy(policy),
            Input::Issues(issues) => self.update_issues(issues),
            Input::PartialIssues { issues, unread } => self.update_some_issues(issues, &unread),
            Input::IssueRead { key, read } => {
                self.issue_read(&key, read);
                self.reconsider = true;
            }
            Input::Uncloned(repos) => self.volatile().uncloned(repos),
            Input::Cloned { repo, end } => {
                self.volatile().clone_ended(repo, end);
                self.reconsider = true;
            }
            Input::Identified(identities) => self.identified(identities),
            Input::Command(command) => self.command(command),
            Input::Run { run, epoch, fact } => {
                if self.run(run).is_some_and(|r| r.live() && r.progress.epoch == epoch) {
                    self.run_fact(run, fact);
                }
            }
            Input::Breakglass(report) => self.breakglass_report(report),
            Input::Probe { repo, sample } => self.emit(Event::Probed { repo, sample }),
            Input::Capsule { run, path } => {
                if self.run(run).is_some_and(|r| r.progress.capsule.as_ref() != Some(&path)) {
                    self.emit(Event::CapsuleKept { run, path });
                }
            }
            Input::Unavailable { cause, repo, failure } => {
                self.outage_seen(&cause, failure, repo.as_ref());
            }
            Input::OutageTried { cause, failure } => self.outage_tried(cause, failure),
            Input::TimeSkipped { ms } => self.emit(Event::TimeSkipped { ms }),
            Input::GivenUp { entry, why } => self.delivery_impossible(entry, why),
            Input::Delivered { entry } => self.delivered(entry),
            Input::ClaimLost { entry } => self.claim_lost(entry),
            Input::NotDelivered(failure) => {
                self.outbox_answered(failure.entry, Event::NotDelivered(failure));
            }
        }
    }

    pub(super) fn set_policy(&mut self, policy: Box<Policy>) {
        if self.fleet().policy != *policy {
            self.emit(Event::PolicySet { policy });
            self.breakglass_rules_changed();
        }
    }

    /// Acts on every deadline that has passed; [`Fleet::next_deadline`] names the next one.
    fn tick(&mut self) {
        self.expire_requests();
        self.end_backoffs();
        self.send_reminders();
        self.forget_jobs();
        self.tick_outages();
        self.tick_breakglass();
    }

    fn end_backoffs(&mut self) {
        let due: Vec<(RunId, Activity)> = self
            .fleet()
            .live_runs()
            .filter_map(|run| match &run.progress.activity {
                Activity::Backoff { until, then } if *until <= self.at => {
                    Some((run.id, then.as_ref().clone()))
                }
                _ => None,
            })
            .collect();
        for (run, activity) in due {
            let is_unjudged = self.run(run).is_some_and(|run| run.issue.unjudged.is_some());
            if activity == Activity::Push && is_unjudged {
                self.begin_push(run);
            } else {
                self.begin(run, activity);
            }
        }
    }

    /// Brings the ledger, the permits and the outbox in line with the state, after every input.
    fn settle(&mut self) {
        let probes = self.fleet().breaker.open().is_some() && !self.fleet().paused(self.at);
        if admission::affected_by(self.events()) || probes || self.reconsider {
            self.dispatch();
            self.admit();
        }
        self.ask_about_held_steps();
        self.deliver();
    }
}
