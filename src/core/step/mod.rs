//! One step of the fleet: an input goes in, events and effects come out.
//!
//! ```text
//! Input ─▶ step ─▶ take: command ─▶ operator      (authorised, checked, recorded)
//!                        report  ─▶ lifecycle, turn, job
//!                        tick    ─▶ expiries, backoffs, reminders, breakglass
//!              ─▶ settle: ledger, dispatch, permits, outbox
//!                        │
//!                        └─▶ Stepper::emit ─▶ Fleet::apply, and the event for the journal
//!                            Stepper::effect ─▶ what the runtime must do
//! ```

mod breakglass;
#[cfg(test)]
mod breakglass_tests;
mod drill;
mod job;
pub mod lifecycle;
mod notice;
mod operator;
mod progress;
mod stepper;
#[cfg(test)]
mod tests;
pub mod turn;
#[cfg(test)]
mod turn_tests;

use crate::model::approval::DecidedBy;
use std::collections::BTreeSet;

use self::stepper::Stepper;
use crate::fleet::Fleet;
use crate::fleet::volatile::Volatile;
use crate::model::effect::Effect;
use crate::model::event::Event;
use crate::model::id::{Actor, IssueKey, OutboxId, RunId};
use crate::model::input::Input;
use crate::model::issue::{Arming, Issue};
use crate::model::ledger::Reason;
use crate::model::outbox::{OutboxStep, StandingLabel};
use crate::model::policy::Policy;
use crate::model::run::{Activity, Work};
use crate::model::time::Timestamp;
use crate::query::dispatch;

pub use self::stepper::Step;

/// Takes one input at a time. Reads a clock that was set back as one that stands still.
#[must_use]
pub fn step(fleet: &mut Fleet, volatile: &mut Volatile, at: Timestamp, input: Input) -> Step {
    let mut stepper = Stepper::new(fleet, volatile, at);
    stepper.take(input);
    stepper.settle();
    let out = stepper.into_step();
    #[cfg(debug_assertions)]
    if let Err(broken) = crate::query::invariant::check(fleet) {
        // tests/simulation.rs proves that none breaks; a debug build must not go on if one does.
        panic!("invariant broken: {broken}");
    }
    out
}

impl Stepper<'_> {
    fn take(&mut self, input: Input) {
        match input {
            Input::Tick => self.tick(),
            Input::Started { policy } => self.started(policy),
            Input::BreakglassOnly { policy } => {
                let by = Actor("afk".into());
                self.emit(Event::Draining { by });
                self.set_policy(policy);
                self.restart_breakglass();
            }
            Input::Policy(policy) => self.set_policy(policy),
            Input::Issues(issues) => self.issues(issues),
            Input::PartialIssues { mut issues, unread } => {
                let kept = self.fleet().issues.values().filter_map(|issue| {
                    let why = unread.get(&issue.key.repo)?;
                    let mut issue = issue.as_ref().clone();
                    if let Arming::Trusted { .. } = issue.arming {
                        issue.arming = Arming::Unknown { why: why.clone() };
                    }
                    Some(issue)
                });
                issues.extend(kept.collect::<Vec<_>>());
                self.issues(issues);
            }
            Input::Command(command) => self.command(command),
            Input::Run { run, epoch, fact } => {
                if self.run(run).is_some_and(|r| r.live() && r.epoch == epoch) {
                    self.fact(run, fact);
                }
            }
            Input::Breakglass(fact) => self.breakglass(fact),
            Input::Probe { repo, sample } => self.emit(Event::Probed { repo, sample }),
            Input::Capsule { run, path } => {
                if self.run(run).is_some_and(|r| r.capsule.as_ref() != Some(&path)) {
                    self.emit(Event::CapsuleKept { run, path });
                }
            }
            Input::GivenUp { entry, why } => {
                self.volatile().answered(entry);
                if self.fleet().outbox.contains_key(&entry) {
                    self.emit(Event::GivenUp { entry, why });
                }
            }
            Input::Delivered { entry } => {
                self.volatile().answered(entry);
                if self.fleet().outbox.contains_key(&entry) {
                    self.emit(Event::Delivered { entry });
                }
            }
            Input::NotDelivered { entry, error, wait } => {
                self.volatile().answered(entry);
                if self.fleet().outbox.contains_key(&entry) {
                    self.emit(Event::NotDelivered { entry, error, wait });
                }
            }
        }
    }

    /// A new runtime: nothing is under way, so everything that should be is begun again.
    fn started(&mut self, policy: Box<Policy>) {
        self.volatile().restarted();
        self.emit(Event::Started);
        self.set_policy(policy);
        let live: Vec<RunId> = self.fleet().live.iter().copied().collect();
        // An agent elsewhere still waits for what it asked.
        let ended = live.iter().copied().filter(|id| !self.goes_on_elsewhere(*id));
        for id in ended.collect::<Vec<_>>() {
            self.withdraw_requests(id, "afk was restarted");
        }
        self.forget_attempts();
        self.restart_breakglass();
        for id in live {
            let Some(run) = self.run(id) else { continue };
            if !run.busy() {
                continue;
            }
            if self.goes_on_elsewhere(id) {
                self.follow(id);
                continue;
            }
            let activity = match &run.activity {
                Activity::Turn { prompt } => {
                    Activity::Turn { prompt: prompt.clone().again("afk was restarted".into()) }
                }
                same => same.clone(),
            };
            self.note(id, "afk was restarted");
            self.begin(id, activity);
        }
    }

    /// A turn of it is carried out elsewhere, where no restart of ours ends it.
    fn goes_on_elsewhere(&self, id: RunId) -> bool {
        self.run(id).is_some_and(|run| {
            matches!(run.activity, Activity::Turn { .. })
                && self.fleet().remote_executor(&run.work).is_some()
        })
    }

    /// What is said once and was handed over when the last life ended may have arrived: it is not
    /// said again. An escalation that nobody saw is told again later.
    fn forget_attempts(&mut self) {
        let lost: Vec<OutboxId> =
            self.fleet().outbox.values().filter(|e| e.attempted).map(|e| e.id).collect();
        for entry in lost {
            let why = "afk ended while it was handed over; it may have arrived".into();
            self.emit(Event::GivenUp { entry, why });
        }
    }

    fn set_policy(&mut self, policy: Box<Policy>) {
        if self.fleet().policy != *policy {
            self.emit(Event::PolicySet { policy });
            self.breakglass_rules();
        }
    }

    fn issues(&mut self, issues: Vec<Issue>) {
        let listed: BTreeSet<IssueKey> = issues.iter().map(|issue| issue.key.clone()).collect();
        for issue in issues {
            if self.fleet().issues.get(&issue.key).is_none_or(|known| **known != issue) {
                self.emit(Event::IssueSeen { issue: Box::new(issue) });
            }
        }
        let gone: Vec<IssueKey> =
            self.fleet().issues.keys().filter(|key| !listed.contains(key)).cloned().collect();
        for key in gone {
            self.emit(Event::IssueGone { key });
        }
    }

    fn tick(&mut self) {
        let over: Vec<_> = self
            .fleet()
            .escalations
            .values()
            .filter(|e| e.open() && e.expires.is_some_and(|t| t <= self.at))
            .map(|e| (e.id, e.run, e.request_id.clone()))
            .collect();
        for (escalation, run, request) in over {
            self.emit(Event::Expired { escalation });
            if let (Some(run), Some(request)) = (run, request) {
                let answer = crate::step::turn::expired();
                self.effect(Effect::Answer { run, request, answer, by: DecidedBy::Afk });
            }
        }
        let due: Vec<(RunId, Activity)> = self
            .fleet()
            .live_runs()
            .filter_map(|run| match &run.activity {
                Activity::Backoff { until, then } if *until <= self.at => {
                    Some((run.id, then.as_ref().clone()))
                }
                _ => None,
            })
            .collect();
        for (run, then) in due {
            self.begin(run, then);
        }
        self.remind();
        self.forget_jobs();
        self.tick_breakglass();
    }

    /// After every input: the ledger, dispatch, admission and the outbox follow from the state.
    fn settle(&mut self) {
        let probes = self.fleet().breaker.open().is_some() && !self.fleet().paused(self.at);
        if matters(self.events()) || probes {
            self.dispatch();
            self.admit();
        }
        self.deliver();
    }

    fn dispatch(&mut self) {
        let mut issues: Vec<_> = self.fleet().issues.values().cloned().collect();
        issues.sort_by(|a, b| dispatch::order(a).cmp(&dispatch::order(b)));
        for issue in issues {
            let mut reason = dispatch::consider(self.fleet(), self.at, &issue);
            if reason == Reason::Eligible {
                reason = self.claim(&issue);
            }
            if self.fleet().ledger.get(&issue.key).is_none_or(|entry| entry.reason != reason) {
                let blocked = matches!(reason, Reason::Blocked { .. });
                self.emit(Event::Considered { key: issue.key.clone(), reason });
                if blocked {
                    self.progress(&issue.key);
                }
            }
        }
    }

    fn claim(&mut self, issue: &Issue) -> Reason {
        let run = self.fleet().next_run();
        let work = Work::Issue { key: issue.key.clone(), title: issue.title.clone() };
        let (priority, term) = (issue.priority, self.fleet().policy.term);
        self.emit(Event::Claimed { run, work, priority, term });
        let label = Some(StandingLabel::InProgress);
        self.post(OutboxStep::Label { issue: issue.key.clone(), label });
        self.progress(&issue.key);
        Reason::Running { run }
    }

    /// Gives permits to those that wait, in order. Nothing starts while the kill switch is on or
    /// for a repository that was taken off the allowlist meanwhile.
    fn admit(&mut self) {
        if self.fleet().kill_switch() {
            return;
        }
        let free = (self.fleet().capacity() as usize).saturating_sub(self.fleet().permits_used());
        if free == 0 {
            return;
        }
        let mut on_issues = self.fleet().on_issues();
        // While the breaker is open, one run shows whether all is well again.
        let (paused, open) = (self.fleet().paused(self.at), self.fleet().breaker.open().is_some());
        let admitted: Vec<RunId> = self
            .fleet()
            .waiting(self.at)
            .filter(|run| self.fleet().policy.allowlist.contains(run.work.repo()))
            .filter(|run| {
                // The breaker is about issues: a caller of the service decides by itself.
                if run.work.job().is_some() {
                    return true;
                }
                let goes = !(paused || open && on_issues > 0);
                on_issues += usize::from(goes);
                goes
            })
            .take(free)
            .map(|run| run.id)
            .collect();
        for run in admitted {
            self.emit(Event::Admitted { run });
            self.go_on(run);
        }
    }

    /// Hands the first entry of each subject to its adapter.
    fn deliver(&mut self) {
        let mut busy = BTreeSet::new();
        let mut due: Vec<(OutboxId, OutboxStep)> = Vec::new();
        for entry in self.fleet().outbox.values() {
            let first = busy.insert(entry.step.subject());
            if first && !self.in_flight(entry.id) && entry.not_before <= self.at {
                due.push((entry.id, entry.step.clone()));
            }
        }
        for (entry, step) in due {
            self.volatile().handed_over(entry);
            if step.once() {
                self.emit(Event::Attempted { entry });
            }
            self.effect(Effect::Deliver { entry, step });
        }
    }
}

/// Whether any of the events can change what the ledger says or who gets a permit.
fn matters(events: &[Event]) -> bool {
    events.iter().any(|event| {
        matches!(
            event,
            Event::Started
                | Event::PolicySet { .. }
                | Event::KillSwitch { .. }
                | Event::Capacity { .. }
                | Event::IssueSeen { .. }
                | Event::IssueGone { .. }
                | Event::Claimed { .. }
                | Event::Ended { .. }
                | Event::Reopened { .. }
                | Event::LockReleased { .. }
                | Event::Spent { .. }
                | Event::Draining { .. }
                | Event::Tripped { .. }
                | Event::Reset
        )
    })
}
