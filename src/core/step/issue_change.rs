//! What a change of an issue means for the run that works on it. `admission` calls it after each
//! change that a tracker reports.
//!
//! ```text
//! change                              before the push             from the push on
//! closed, label taken off, gone       the run ends                it finishes, and says so
//! edited by a person who may arm      the next turn gets it       it finishes, and says so
//! edited by anybody else              the run ends and asks       it finishes, and says so
//! edited by an unknown account        the push waits, then asks   nothing
//! ```

use crate::model::activity::{Activity, TurnPrompt};
use crate::model::approval::EscalationKind;
use crate::model::brief::Brief;
use crate::model::digest::Digest;
use crate::model::effect::Effect;
use crate::model::event::Event;
use crate::model::id::{IssueKey, OutboxId, RunId};
use crate::model::issue::{Arming, Issue};
use crate::model::notice::Notice;
use crate::model::outbox::OutboxStep;
use crate::model::run::{Outcome, Run};
use crate::model::untrusted::Untrusted;
use crate::step::stepper::Stepper;

/// The longest that a push waits for the editor of its issue, in milliseconds. A tracker's events lag
/// behind an edit by seconds.
const EDITOR_WAIT: i64 = 30_000;

/// Whether the run has pushed, or pushes now: what it pushed can't be taken back by ending it.
fn is_past_push(run: &Run) -> bool {
    let next = match &run.progress.activity {
        Activity::Backoff { .. } if run.issue.unjudged.is_some() => return false,
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
            Some(format!("its issue is labelled by {by} now, who may not arm issues"))
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
        // A run that was ended and queued again while it waited begins anew, and pushes nothing yet.
        let waits = self.run(id).is_some_and(|run| {
            let pushes = matches!(&run.progress.activity, Activity::Backoff { then, .. }
                if **then == Activity::Push);
            pushes && run.issue.unjudged.is_some()
        });
        if waits && self.unjudged_edit(id).is_none() {
            self.begin(id, Activity::Push);
        }
    }

    /// The edit of a run's issue that the run does not have, and whose editor the tracker does not name.
    fn unjudged_edit(&self, id: RunId) -> Option<(Digest, &str)> {
        let run = self.run(id)?;
        let issue = self.fleet().issues.get(run.work.issue()?)?;
        let Arming::Unknown { why } = &issue.arming else { return None };
        let digest = Brief::of(issue).digest();
        let known = run.issue.brief.as_ref().map(|brief| brief.digest());
        let is_news = known.is_some_and(|known| known != digest);
        (is_news && run.issue.declined != Some(digest)).then_some((digest, why))
    }

    /// Begins the first push of a change that passed the gate. While the tracker does not name the
    /// editor of the issue's latest text, the push waits: the editor may be somebody who may not arm
    /// issues. An edit that stays unexplained is treated as one of theirs.
    pub(super) fn begin_push(&mut self, id: RunId) {
        let Some(run) = self.run(id) else { return };
        let unjudged = self.unjudged_edit(id).filter(|_| run.workspace.pushed.is_none());
        let Some((digest, why)) = unjudged.map(|(digest, why)| (digest, why.to_owned())) else {
            return self.begin(id, Activity::Push);
        };
        let repo = run.work.repo().clone();
        let since =
            run.issue.unjudged.filter(|known| known.digest == digest).map(|known| known.since);
        let waited = since.map_or(0, |since| self.at.since(since));
        if since.is_some() && waited >= EDITOR_WAIT && self.fleet().outage_of(&repo).is_none() {
            let issue = run.work.issue().and_then(|key| self.fleet().issues.get(key)).cloned();
            if let Some(issue) = issue {
                let why = format!("the issue was edited, and its editor is unknown ({why})");
                self.decline_edit(id, &issue, &why);
            }
            return;
        }
        if since.is_none() {
            self.emit(Event::EditUnjudged { run: id, digest });
            self.note(id, "the issue was edited, and nobody knows yet by whom: the push waits");
        }
        let left = if waited >= EDITOR_WAIT { EDITOR_WAIT } else { EDITOR_WAIT - waited };
        let (until, then) = (self.at.plus(left), Box::new(Activity::Push));
        self.begin(id, Activity::Backoff { until, then });
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

    /// Leaves an issue to another afk, which claimed it for the same arming and came first. Its labels
    /// are the other one's now.
    pub(super) fn claim_lost(&mut self, entry: OutboxId) {
        let issue = self.fleet().outbox.get(&entry).and_then(|e| e.step.issue()).cloned();
        self.outbox_answered(entry, Event::Delivered { entry });
        let Some(issue) = issue else { return };
        let run = self.fleet().last_run.get(&issue).and_then(|id| self.run(*id));
        let Some(run) = run.filter(|run| run.live()) else { return };
        let (id, past, title) = (run.id, is_past_push(run), run.work.title().clean_line());
        if past {
            return self
                .note(id, "another afk has claimed the issue; afk finishes what it has pushed");
        }
        self.withdraw_requests(id, "another afk works on the issue");
        self.effect(Effect::Stop { run: id });
        let (outcome, line) = (Outcome::Cancelled, "another afk claimed the issue first");
        self.emit(Event::Ended { run: id, outcome, why: line.into() });
        self.note(id, format!("{line}; nothing was pushed"));
        self.drop_steps_of(&issue);
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
        // A push here is one that waits for the editor of an earlier edit.
        let turn = matches!(next, Activity::Gate | Activity::Rebase | Activity::Push);
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

    /// Whether the end of the run took the label off its issue, and nobody has armed the issue since.
    /// The fleet may still know the issue as armed, until the next look at its tracker.
    pub(super) fn was_disarmed_by_its_end(&self, id: RunId) -> bool {
        let Some(run) = self.run(id) else { return false };
        let disarms = matches!(run.progress.outcome, Some(Outcome::Cancelled | Outcome::Done));
        let issue = run.work.issue().and_then(|key| self.fleet().issues.get(key));
        let Some(Arming::Trusted { at, .. }) = issue.map(|issue| &issue.arming) else {
            return false;
        };
        disarms && run.progress.armed.is_some_and(|used| used >= *at)
    }

    /// Marks a run that an operator reopens although its issue is closed, not armed, or about to be.
    pub(super) fn detach_if_withdrawn(&mut self, id: RunId, disarmed: bool) {
        let Some(run) = self.run(id) else { return };
        let Some(key) = run.work.issue() else { return };
        let fleet = self.fleet();
        let armed = fleet.issues.get(key).is_some_and(|issue| {
            issue.open && !matches!(issue.arming, Arming::NotReady | Arming::Untrusted { .. })
        });
        let pending = fleet.outbox.values().any(|entry| entry.step.disarms(key));
        if (!armed || pending || disarmed) && !run.issue.detached {
            self.emit(Event::Detached { run: id });
        }
    }
}
