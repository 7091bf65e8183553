//! Steps on trackers, terminals and sinks, which the runtime delivers and retries. Any module of
//! the step posts them; `settle` hands the due ones over, and the adapters' answers come back as
//! inputs. A step on a tracker that can't be done is held for an operator, and the steps behind it
//! go on.
//!
//! ```text
//! post ─▶ Fleet::outbox ─▶ deliver ─▶ Effect::Deliver ─▶ adapter ─▶ Input::Delivered,
//!              ▲                                                    NotDelivered, GivenUp
//!              ├──────────── outbox_answered ◀────────────────────────────┘
//!              └──────────── retry, skip, edit ◀── an operator ◀── one question an issue
//! ```

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::model::approval::{Answer, Escalation, EscalationDraft, EscalationKind};
use crate::model::command::{Command, Refusal};
use crate::model::effect::Effect;
use crate::model::event::Event;
use crate::model::id::{Actor, IssueKey, OutboxId};
use crate::model::notice::Notice;
use crate::model::outbox::{OutboxEntry, OutboxStep};
use crate::model::plural::plural;
use crate::model::untrusted::clean_line;
use crate::step::stepper::Stepper;

impl Stepper<'_> {
    pub(super) fn post(&mut self, step: OutboxStep) {
        let entry = self.fleet().next_outbox();
        self.emit(Event::Posted { entry, step, after: None });
    }

    /// Hands the first entry of each subject to its adapter; the next one waits for its answer.
    pub(super) fn deliver(&mut self) {
        let mut subjects = BTreeSet::new();
        let mut due: Vec<(OutboxId, OutboxStep)> = Vec::new();
        let waits = |e: &&OutboxEntry| !e.held && !self.fleet().waits_for_tracker(&e.step);
        for entry in self.fleet().outbox.values().filter(waits) {
            let first = subjects.insert(entry.step.subject());
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

    /// Records an adapter's answer; a second answer about the same entry changes nothing.
    pub(super) fn outbox_answered(&mut self, entry: OutboxId, answer: Event) {
        self.volatile().answered(entry);
        if self.fleet().outbox.contains_key(&entry) {
            self.emit(answer);
        }
    }

    /// Records a delivery. A comment that an earlier attempt may still write is looked for again.
    pub(super) fn delivered(&mut self, entry: OutboxId) {
        let known = self.fleet().outbox.get(&entry).cloned();
        self.outbox_answered(entry, Event::Delivered { entry });
        let Some(known) = known else { return };
        let looks_again = known.doubtful || matches!(known.step, OutboxStep::Tidy { .. });
        if let Some((step, wait)) = known.step.tidy(entry).filter(|_| looks_again) {
            let (entry, after) = (self.fleet().next_outbox(), Some(self.at.plus(wait)));
            self.emit(Event::Posted { entry, step, after });
        }
        self.drop_replaced(entry, &known.step);
    }

    /// Drops the held steps that a later one replaces: an issue has one label and one progress.
    fn drop_replaced(&mut self, entry: OutboxId, step: &OutboxStep) {
        let replaces = |older: &&OutboxEntry| {
            older.held
                && older.id < entry
                && match (&older.step, step) {
                    (OutboxStep::Label { issue: a, .. }, OutboxStep::Label { issue: b, .. })
                    | (OutboxStep::Progress { issue: a }, OutboxStep::Progress { issue: b }) => {
                        a == b
                    }
                    _ => false,
                }
        };
        let older: Vec<OutboxId> =
            self.fleet().outbox.values().filter(replaces).map(|older| older.id).collect();
        for entry in older {
            self.emit(Event::GivenUp { entry, why: "a later step replaced it".into() });
        }
    }

    /// Takes the report that a delivery is impossible. A step on a tracker waits for an operator; a
    /// notice and a look for copies are given up.
    pub(super) fn delivery_impossible(&mut self, entry: OutboxId, why: String) {
        let known = self.fleet().outbox.get(&entry).map(|known| known.step.clone());
        let waits =
            |step: &OutboxStep| step.issue().is_some() && !matches!(step, OutboxStep::Tidy { .. });
        let Some(step) = known.filter(waits) else {
            return self.outbox_answered(entry, Event::GivenUp { entry, why });
        };
        self.outbox_answered(entry, Event::DeliveryHeld { entry, why });
        self.drop_replaced(entry, &step);
    }

    /// Asks one question for each issue with held steps, once every step behind them was tried, and
    /// withdraws the question once none is held.
    pub(super) fn ask_about_held_steps(&mut self) {
        let concerns = |event: &Event| {
            matches!(
                event,
                Event::DeliveryHeld { .. }
                    | Event::DeliveryRetried { .. }
                    | Event::DeliveryEdited { .. }
                    | Event::Delivered { .. }
                    | Event::NotDelivered(_)
                    | Event::GivenUp { .. }
                    | Event::Withdrawn { .. }
            )
        };
        if !self.events().iter().any(concerns) {
            return;
        }
        let held: BTreeSet<IssueKey> =
            self.held(None).filter_map(|e| e.step.issue().cloned()).collect();
        let done = |e: &Escalation| {
            e.kind == EscalationKind::Undelivered
                && e.issue.as_ref().is_none_or(|issue| !held.contains(issue))
        };
        self.withdraw(done, "no step is held any more");
        for issue in held {
            let untried = |e: &OutboxEntry| {
                !e.held
                    && e.failures == 0
                    && e.step.issue() == Some(&issue)
                    && !matches!(e.step, OutboxStep::Tidy { .. })
            };
            if !self.fleet().outbox.values().any(untried) {
                self.ask_about_steps_of(issue);
            }
        }
    }

    /// The steps that wait for an operator, of one issue or of all.
    fn held<'a>(&'a self, of: Option<&'a IssueKey>) -> impl Iterator<Item = &'a OutboxEntry> {
        let fits = move |e: &&OutboxEntry| e.held && of.is_none_or(|of| e.step.issue() == Some(of));
        self.fleet().outbox.values().filter(fits)
    }

    fn ask_about_steps_of(&mut self, issue: IssueKey) {
        let steps: BTreeSet<String> = self
            .held(Some(&issue))
            .map(|e| {
                let why = clean_line(e.error.as_deref().unwrap_or("the reason is unknown"));
                format!("{}: {why}", e.step.summary())
            })
            .collect();
        let first = self.held(Some(&issue)).find_map(|e| e.error.clone()).unwrap_or_default();
        let count = plural(steps.len(), "completion step");
        let title = format!("{count} of {issue} can't be done: {}", clean_line(&first));
        let detail = format!(
            "{}\n\nRetries won't help until the reason is gone. The steps behind them went on. \
             `afk outbox` retries, skips and edits single steps.",
            steps.into_iter().collect::<Vec<_>>().join("\n")
        );
        let open = |e: &&Arc<Escalation>| {
            e.open() && e.kind == EscalationKind::Undelivered && e.issue.as_ref() == Some(&issue)
        };
        let asked = self.fleet().escalations.values().find(open).cloned();
        if asked.as_ref().is_some_and(|asked| asked.detail.as_received() == detail) {
            return;
        }
        // An answer is about the steps that were shown, so further ones take another question. The
        // operators have a notice of the first.
        if let Some(asked) = &asked {
            self.withdraw(|e| e.id == asked.id, "more steps can't be done");
        }
        let id = self.fleet().next_escalation();
        let draft = EscalationDraft::new(EscalationKind::Undelivered, title.clone(), detail);
        let run = self.fleet().last_run.get(&issue).copied();
        let mut escalation =
            Escalation { run, issue: Some(issue), ..Escalation::raise(id, draft, self.at) };
        escalation.digest = escalation.digest_of();
        self.emit(Event::Escalated { escalation: Box::new(escalation) });
        if asked.is_none() {
            let (escalation, kind) = (id, EscalationKind::Undelivered);
            self.notify(run, &Notice::Asked { escalation, text: title, kind });
        }
    }

    /// Retries or skips every held step of the issue that a question was about.
    pub(super) fn decide_on_held_steps(&mut self, issue: &IssueKey, answer: &Answer, by: &Actor) {
        let held: Vec<OutboxId> = self.held(Some(issue)).map(|e| e.id).collect();
        for entry in held {
            match answer {
                Answer::Approve => self.emit(Event::DeliveryRetried { entry, by: by.clone() }),
                _ => self.skip_step(entry, by),
            }
        }
    }

    /// Whether a command about a step of the outbox is possible now.
    pub(super) fn check_step(&self, command: &Command) -> Result<(), Refusal> {
        let (Command::RetryStep { entry }
        | Command::SkipStep { entry }
        | Command::EditStep { entry, .. }) = command
        else {
            return Ok(());
        };
        let entry = *entry;
        let known = self.fleet().outbox.get(&entry).ok_or(Refusal::NoStep { entry })?;
        if self.in_flight(entry) {
            return Err(Refusal::StepUnderWay { entry });
        }
        match command {
            Command::EditStep { .. } if !matches!(known.step, OutboxStep::Comment { .. }) => {
                Err(Refusal::NoComment { entry })
            }
            Command::EditStep { text, .. } if text.as_received().trim().is_empty() => {
                Err(Refusal::Empty)
            }
            _ => Ok(()),
        }
    }

    /// Drops the steps on an issue that is gone or another afk's, whose run needs no human. The ones under way are
    /// left to their answers.
    pub(super) fn drop_steps_of(&mut self, issue: &IssueKey) {
        let entries = self.fleet().outbox.values();
        let entries = entries.filter(|e| e.step.issue() == Some(issue) && !self.in_flight(e.id));
        let entries: Vec<OutboxId> = entries.map(|e| e.id).collect();
        for entry in entries {
            self.emit(Event::GivenUp { entry, why: "its run has ended without them".into() });
        }
    }

    /// Drops a step that an operator doesn't want any more.
    pub(super) fn skip_step(&mut self, entry: OutboxId, by: &Actor) {
        self.emit(Event::GivenUp { entry, why: format!("skipped by {by}") });
    }

    /// Drops the notices that were being sent when the last life ended: they may have arrived, and
    /// a sink gets each at most once. A reminder follows if the escalation stays unanswered.
    pub(super) fn abandon_attempted_deliveries(&mut self) {
        let attempted: Vec<OutboxId> =
            self.fleet().outbox.values().filter(|e| e.attempted).map(|e| e.id).collect();
        for entry in attempted {
            let why = "afk ended while sending it; it may have arrived".into();
            self.emit(Event::GivenUp { entry, why });
        }
    }
}
