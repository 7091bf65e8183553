//! What a change of an issue means for the run that works on it. `admission` calls it after each
//! change that a tracker reports.
//!
//! ```text
//! change                              before the push          from the push on
//! closed, label taken off, gone       the run ends             it finishes, and says so
//! edited by a person who may arm      the next turn gets it    it finishes, and says so
//! edited by anybody else              the run ends and asks    it finishes, and says so
//! nobody knows by whom                nothing: the run keeps its version
//! ```

use crate::model::approval::EscalationKind;
use crate::model::brief::Brief;
use crate::model::effect::Effect;
use crate::model::event::Event;
use crate::model::id::{IssueKey, RunId};
use crate::model::issue::{Arming, Issue};
use crate::model::notice::Notice;
use crate::model::outbox::OutboxStep;
use crate::model::run::{Activity, Outcome, Run, TurnPrompt};
use crate::model::untrusted::Untrusted;
use crate::step::stepper::Stepper;

/// Whether the run has pushed, or pushes now: what it pushed can't be taken back by ending it.
fn is_past_push(run: &Run) -> bool {
    let next = match &run.progress.activity {
        Activity::Backoff { then, .. } => then.as_ref(),
        activity => activity,
    };
    run.workspace.pushed.is_some() || matches!(next, Activity::Push)
}

/// Why the tracker no longer asks for the work on an issue; none if it does, or did not before.
fn withdrawal(before: &Issue, now: Option<&Issue>) -> Option<String> {
    let Some(now) = now else { return Some("its issue is no longer in the tracker".into()) };
    if before.open && !now.open {
        return Some("its issue was closed".into());
    }
    let asked = matches!(
        before.arming,
        Arming::Trusted { .. } | Arming::Unknown { .. } | Arming::Hold { .. }
    );
    match &now.arming {
        Arming::NotReady if asked => Some("the ready label was taken off its issue".into()),
        Arming::Untrusted { by } if asked => {
            Some(format!("its issue is armed by {by} now, who may not arm issues"))
        }
        _ => None,
    }
}

impl Stepper<'_> {
    /// Reacts to a change of an issue on which a run is live. `before` is the version that the fleet
    /// knew until now.
    pub(super) fn issue_changed(&mut self, key: &IssueKey, before: &Issue) {
        let live = self.fleet().last_run.get(key).and_then(|id| self.run(*id));
        let Some(run) = live.filter(|run| run.live()) else { return };
        let (id, detached) = (run.id, run.issue.detached);
        let now = self.fleet().issues.get(key).cloned();
        if let Some(why) = withdrawal(before, now.as_deref()) {
            // An operator wanted the run although the issue was closed or not armed.
            if !detached || now.is_none() {
                self.withdrawn(id, &why);
            }
            return;
        }
        match now.as_deref() {
            Some(issue @ Issue { arming: Arming::Trusted { .. }, .. }) => self.take_edit(id, issue),
            Some(issue @ Issue { arming: Arming::Hold { why }, .. }) => {
                self.decline_edit(id, issue, why);
            }
            _ => {}
        }
    }

    fn withdrawn(&mut self, id: RunId, why: &str) {
        let Some(run) = self.run(id) else { return };
        let past = is_past_push(run);
        self.emit(Event::IssueWithdrawn { run: id, why: why.into() });
        if past {
            self.note(id, format!("{why}; afk finishes what it has pushed"));
            self.update_progress_of(id);
        } else {
            self.take_back(id);
        }
    }

    /// Ends a run that has pushed nothing and that its tracker no longer asks for.
    pub(super) fn take_back(&mut self, id: RunId) {
        let Some(run) = self.run(id) else { return };
        let Some(why) = run.issue.withdrawn.clone() else { return };
        let (issue, title) = (run.work.issue().cloned(), run.work.title().clean_line());
        self.withdraw_requests(id, "the run was taken back");
        self.effect(Effect::Stop { run: id });
        let (outcome, line) = (Outcome::Cancelled, format!("taken back: {why}"));
        self.emit(Event::Ended { run: id, outcome, why: line.clone().into() });
        self.note(id, format!("{line}; nothing was pushed"));
        let (there, gone): (Vec<IssueKey>, Vec<IssueKey>) =
            issue.into_iter().partition(|issue| self.fleet().issues.contains_key(issue));
        for issue in &gone {
            self.drop_steps_of(issue);
        }
        for issue in there {
            self.post(OutboxStep::Label { issue: issue.clone(), label: None });
            if self.fleet().policy.remote.contains(&issue.repo) {
                self.update_progress(&issue);
            } else {
                let text = format!("{id} was **taken back**: {why}.");
                self.post(OutboxStep::Comment { issue, run: id, text });
            }
        }
        let text = format!("{title}: {line}");
        self.notify(Some(id), &Notice::Ended { outcome, text, asked: None });
        self.effect(Effect::GiveBack { run: id });
    }

    /// Takes an edit by a person who may arm issues. A turn that is under way keeps its prompt; the
    /// one after it gets the edit.
    fn take_edit(&mut self, id: RunId, issue: &Issue) {
        let Some(run) = self.run(id) else { return };
        let digest = Brief::of(issue).digest();
        let known = run.issue.brief.as_ref().map(|brief| brief.digest());
        if known.is_none_or(|known| known == digest) || run.issue.declined == Some(digest) {
            return;
        }
        if is_past_push(run) {
            self.emit(Event::EditDeclined { run: id, digest });
            self.note(id, "the issue was edited after the push: arm it again for more work");
            return;
        }
        let next = match &run.progress.activity {
            Activity::Backoff { then, .. } => then.as_ref(),
            activity => activity,
        };
        let turn = matches!(next, Activity::Gate | Activity::Rebase);
        self.emit(Event::Briefed { run: id, digest });
        self.note(id, "a person who may arm issues edited the issue: the next turn gets the edit");
        if turn {
            self.begin(id, Activity::Turn { prompt: TurnPrompt::Edited });
        }
    }

    /// Keeps the version that was armed, and asks a human about another one.
    fn decline_edit(&mut self, id: RunId, issue: &Issue, why: &str) {
        let Some(run) = self.run(id) else { return };
        let Some(brief) = run.issue.brief.clone() else { return };
        let (edited, past) = (Brief::of(issue), is_past_push(run));
        let digest = edited.digest();
        if brief.digest() == digest || run.issue.declined == Some(digest) {
            return;
        }
        self.emit(Event::EditDeclined { run: id, digest });
        if past {
            self.note(id, format!("{why}, after the push: the run keeps the text that was armed"));
            return;
        }
        let detail = format!(
            "{why}. The run works on the text that was armed, and stopped before its push. To take \
             the edit, take the label for a human off, and arm the issue again.\n\n{}",
            brief.difference(&edited)
        );
        self.end_for_human(id, EscalationKind::Edited, why, &Untrusted::new(detail));
    }

    /// Gives a reopened run the version of its issue that is armed now.
    pub(super) fn brief_again(&mut self, id: RunId) {
        let Some(run) = self.run(id) else { return };
        let Some(issue) = run.work.issue().and_then(|key| self.fleet().issues.get(key)) else {
            return;
        };
        let digest = Brief::of(issue).digest();
        let known = run.issue.brief.as_ref().map(|brief| brief.digest());
        if matches!(issue.arming, Arming::Trusted { .. }) && known != Some(digest) {
            self.emit(Event::Briefed { run: id, digest });
        }
    }

    /// Marks a run that an operator reopens although its issue is closed, not armed, or about to be.
    pub(super) fn detach_if_withdrawn(&mut self, id: RunId) {
        let Some(run) = self.run(id) else { return };
        let Some(key) = run.work.issue() else { return };
        let fleet = self.fleet();
        let armed = fleet.issues.get(key).is_some_and(|issue| {
            issue.open && !matches!(issue.arming, Arming::NotReady | Arming::Untrusted { .. })
        });
        let pending = fleet.outbox.values().any(|entry| entry.step.disarms(key));
        if (!armed || pending) && !run.issue.detached {
            self.emit(Event::Detached { run: id });
        }
    }
}
