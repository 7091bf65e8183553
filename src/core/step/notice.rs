//! Notices: to which terminals and sinks each one goes, when, and how often an escalation without
//! an answer is repeated. `escalation`, `ending`, `breakglass` and the tick send them.

use std::collections::BTreeSet;

use crate::model::event::Event;
use crate::model::id::RunId;
use crate::model::notice::{Notice, NoticeKind, Severity};
use crate::model::outbox::OutboxStep;
use crate::model::untrusted::Untrusted;
use crate::step::stepper::Stepper;

/// The most characters of an escalation's title in a notice; the inbox shows all of it.
const TITLE: usize = 300;

/// The title of an escalation for a notice, which every sink and every record of it repeats.
pub(super) fn notice_title(title: &Untrusted) -> String {
    title.clean_line().chars().take(TITLE).collect()
}

impl Stepper<'_> {
    /// Posts a notice to attached terminals and to every sink that takes its kind. Sinks receive
    /// one that isn't urgent only after the quiet hours.
    pub(super) fn notify(&mut self, run: Option<RunId>, what: &Notice) {
        let notices = &self.fleet().policy.notices;
        let after = match what.severity() {
            Severity::Urgent => None,
            _ => notices.quiet_until(self.at),
        };
        let kind = what.kind();
        let takes = |all: &Option<BTreeSet<NoticeKind>>| {
            all.as_ref().is_none_or(|kinds| kinds.contains(&kind))
        };
        let sinks = notices.sinks.iter().filter(|(_, kinds)| takes(kinds));
        // No sink stands for the attached terminals.
        let sinks: Vec<Option<String>> =
            std::iter::once(None).chain(sinks.map(|(name, _)| Some(name.clone()))).collect();
        for sink in sinks {
            let after = after.filter(|_| sink.is_some());
            let step = OutboxStep::Notify { run, what: what.clone(), sink };
            let entry = self.fleet().next_outbox();
            self.emit(Event::Posted { entry, step, after });
        }
    }

    /// Repeats the notice of each escalation whose reminder is due; those of one run share a notice.
    pub(super) fn send_reminders(&mut self) {
        let due: Vec<_> = self
            .fleet()
            .escalations
            .values()
            .filter(|e| self.fleet().policy.notices.next_reminder(e).is_some_and(|t| t <= self.at))
            .map(|e| (e.id, e.run, e.kind, notice_title(&e.title), e.reminded + 1))
            .collect();
        let mut reminded = BTreeSet::new();
        for (escalation, run, kind, title, times) in &due {
            let (escalation, run, kind, times) = (*escalation, *run, *kind, *times);
            self.emit(Event::Reminded { escalation });
            if run.is_some_and(|run| !reminded.insert(run)) {
                continue;
            }
            let more = due.iter().filter(|other| run.is_some() && other.1 == run);
            let more = more.count().saturating_sub(1);
            let more = match more {
                0 => String::new(),
                more => format!(" (and {more} more of the same run)"),
            };
            let text =
                format!("{escalation} still waits for an answer: {}: {title}{more}", kind.as_str());
            self.notify(run, &Notice::Reminder { escalation, text, kind, times });
        }
    }
}
