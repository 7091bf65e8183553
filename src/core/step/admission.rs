//! From the tracker's list to a permit: which issues are known, which of them become runs, and
//! which waiting runs may start. `take` calls it with new lists, and `settle` after every input that
//! can change its answer.
//!
//! ```text
//! tracker's list ─▶ update_issues ─▶ dispatch (the ledger's reasons) ─▶ claim ─▶ admit ─▶ start_work
//!                                        │ remote tracker               ▲
//!                                        └▶ Effect::ReadIssue ─▶ issue_read
//! ```
//!
//! A run whose repository has no clone yet waits for [`Effect::Clone`] before its permit.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::activity::Activity;
use crate::model::approval::EscalationKind;
use crate::model::brief::Brief;
use crate::model::effect::Effect;
use crate::model::event::Event;
use crate::model::id::{IssueKey, Repo, RunId};
use crate::model::issue::{Arming, Issue};
use crate::model::job::Job;
use crate::model::ledger::Reason;
use crate::model::outbox::{OutboxStep, StandingLabel};
use crate::model::run::{Run, Work};
use crate::query::dispatch;
use crate::step::stepper::Stepper;

impl Stepper<'_> {
    /// Takes a tracker's whole list: an issue that it doesn't name is gone.
    pub(super) fn update_issues(&mut self, issues: Vec<Issue>) {
        let listed: BTreeSet<IssueKey> = issues.iter().map(|issue| issue.key.clone()).collect();
        for issue in issues {
            self.see_issue(issue);
        }
        let gone: Vec<IssueKey> =
            self.fleet().issues.keys().filter(|key| !listed.contains(key)).cloned().collect();
        for key in gone {
            self.lose_issue(&key);
        }
    }

    /// Takes the present version of an issue.
    fn see_issue(&mut self, issue: Issue) {
        let before = self.fleet().issues.get(&issue.key).cloned();
        if before.as_deref() == Some(&issue) {
            return;
        }
        let key = issue.key.clone();
        self.emit(Event::IssueSeen { issue: Box::new(issue) });
        if let Some(before) = before {
            self.issue_changed(&key, &before);
        }
    }

    fn lose_issue(&mut self, key: &IssueKey) {
        let Some(before) = self.fleet().issues.get(key).cloned() else { return };
        self.emit(Event::IssueGone { key: key.clone() });
        self.issue_changed(key, &before);
    }

    /// Takes an issue that was read right before its claim, and claims it if this version may start.
    /// After a failed reading it is considered again, and read again.
    pub(super) fn issue_read(&mut self, key: &IssueKey, read: Result<Option<Box<Issue>>, String>) {
        self.volatile().reading_ended(key);
        match read {
            Ok(Some(issue)) => {
                self.see_issue(*issue);
                let Some(issue) = self.fleet().issues.get(key).cloned() else { return };
                if dispatch::consider(self.fleet(), self.at, &issue) == Reason::Eligible {
                    self.claim(&issue);
                }
            }
            Ok(None) => self.lose_issue(key),
            Err(_) => {}
        }
    }

    /// Has an issue of a remote tracker read again before its claim: the list may be older than an
    /// edit. One issue of a repository is read at a time, since one run works on it.
    fn read_before_claim(&mut self, key: &IssueKey) {
        if self.volatile().reading_begun(key) {
            self.effect(Effect::ReadIssue { issue: key.clone() });
        }
    }

    /// Takes a list that lacks the `unread` repositories. Their issues stay as they are known, but
    /// none of them may start, because their arming may have changed.
    pub(super) fn update_some_issues(
        &mut self,
        mut issues: Vec<Issue>,
        unread: &BTreeMap<Repo, String>,
    ) {
        let kept = self.fleet().issues.values().filter_map(|issue| {
            let why = unread.get(&issue.key.repo)?;
            let mut issue = issue.as_ref().clone();
            if let Arming::Trusted { .. } = issue.arming {
                issue.arming = Arming::Unknown { why: why.clone() };
            }
            Some(issue)
        });
        issues.extend(kept.collect::<Vec<_>>());
        self.update_issues(issues);
    }

    /// Considers every issue in dispatch order, claims those that are eligible, and records each
    /// reason that changed.
    pub(super) fn dispatch(&mut self) {
        let mut issues: Vec<_> = self.fleet().issues.values().cloned().collect();
        issues.sort_by(|a, b| dispatch::order(a).cmp(&dispatch::order(b)));
        for issue in issues {
            let mut reason = dispatch::consider(self.fleet(), self.at, &issue);
            if reason == Reason::Eligible {
                if self.fleet().policy.remote.contains(&issue.key.repo) {
                    self.read_before_claim(&issue.key);
                } else {
                    reason = self.claim(&issue);
                }
            }
            if self.fleet().ledger.get(&issue.key).is_none_or(|entry| entry.reason != reason) {
                let blocked = matches!(reason, Reason::Blocked { .. });
                self.emit(Event::Considered { key: issue.key.clone(), reason });
                if blocked {
                    self.update_progress(&issue.key);
                }
            }
        }
    }

    fn claim(&mut self, issue: &Issue) -> Reason {
        let run = self.fleet().next_run();
        let work = Work::Issue { key: issue.key.clone(), title: issue.title.clone() };
        let (priority, term) = (issue.priority, self.fleet().policy.term);
        let again = "its issue was armed again";
        self.withdraw(
            |e| e.kind == EscalationKind::Edited && e.issue.as_ref() == Some(&issue.key),
            again,
        );
        self.emit(Event::Claimed { run, work, priority, term });
        self.emit(Event::Briefed { run, digest: Brief::of(issue).digest() });
        let label = Some(StandingLabel::InProgress);
        self.post(OutboxStep::Label { issue: issue.key.clone(), label });
        self.update_progress(&issue.key);
        Reason::Running { run }
    }

    /// Gives free permits to waiting runs in order. No run starts while the kill switch is on, or
    /// once its repository has left the allowlist.
    pub(super) fn admit(&mut self) {
        if self.fleet().kill_switch() {
            return;
        }
        self.clone_first();
        let free = (self.fleet().capacity() as usize).saturating_sub(self.fleet().permits_used());
        if free == 0 {
            return;
        }
        let mut on_issues = self.fleet().on_issues();
        // While the breaker is open, one run at a time probes whether the cause has gone.
        let (paused, open) = (self.fleet().paused(self.at), self.fleet().breaker.open().is_some());
        let admitted: Vec<RunId> = self
            .fleet()
            .waiting(self.at)
            .filter(|run| self.fleet().policy.allowlist.contains(run.work.repo()))
            .filter(|run| !self.waits_for_clone(run))
            .filter(|run| !self.waits_for_outage(run))
            .filter(|run| {
                // The breaker concerns issues only: a caller of the service decides for itself.
                if run.work.job().is_some() {
                    return true;
                }
                let starts = !(paused || open && on_issues > 0);
                on_issues += usize::from(starts);
                starts
            })
            .take(free)
            .map(|run| run.id)
            .collect();
        for run in admitted {
            if let Some(repo) = self.run(run).map(|run| run.work.repo().clone()) {
                self.volatile().admitted(&repo);
            }
            self.emit(Event::Admitted { run });
            self.start_work(run);
        }
    }
}

impl Stepper<'_> {
    /// Begins the first clone of each repository in which a run waits. The clone holds no permit, so
    /// a slow one delays only the runs of its own repository.
    fn clone_first(&mut self) {
        let waiting = self.fleet().waiting(self.at);
        let waiting = waiting.filter(|run| self.waits_for_clone(run));
        let waiting: Vec<_> = waiting.map(|run| (run.work.repo().clone(), run.id)).collect();
        for (repo, run) in waiting {
            if self.fleet().policy.allowlist.contains(&repo) && self.volatile().clone_begun(&repo) {
                self.effect(Effect::Clone { repo, run });
            }
        }
    }

    /// Whether a run without a permit waits for the first clone of its repository.
    fn waits_for_clone(&self, run: &Run) -> bool {
        let clones = run.work.job().is_none_or(Job::has_clone);
        clones && self.lacks_clone(run.work.repo())
    }

    /// Whether a run without a permit waits for the end of an outage.
    fn waits_for_outage(&self, run: &Run) -> bool {
        match &run.progress.activity {
            Activity::Held { .. } => self.is_held_back(run),
            // A job begins from the last good base, and may not need it at all.
            _ => run.work.job().is_none() && self.fleet().outage_of(run.work.repo()).is_some(),
        }
    }
}

/// Whether any of the events can change the ledger or who gets a permit.
pub(super) fn affected_by(events: &[Event]) -> bool {
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
                | Event::LookedAgain { .. }
                | Event::LockReleased { .. }
                | Event::Spent { .. }
                | Event::Draining { .. }
                | Event::Tripped { .. }
                | Event::Reset
                | Event::Unavailable { .. }
                | Event::PermitReturned { .. }
                | Event::Held { .. }
                | Event::Resumed { .. }
                | Event::OutageEnded { .. }
        )
    })
}
