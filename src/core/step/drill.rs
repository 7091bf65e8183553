//! What breakglass does by itself: arming ends, the drill proves the access, and what a verb led to
//! is taken up.

use crate::model::approval::{Escalation, EscalationDraft, EscalationKind};
use crate::model::breakglass::VerbOrigin;
use crate::model::breakglass::{
    BreakglassEvent, BreakglassReport, BreakglassTask, Verb, VerbEnd, VerbId, VerbResult,
};
use crate::model::effect::Effect;
use crate::model::event::Event;
use crate::model::id::Actor;
use crate::model::notice::Notice;
use crate::model::time::MINUTE;
use crate::step::stepper::Stepper;

/// Between two tries of a drill that fails.
const AGAIN: i64 = 60 * MINUTE;

fn afk() -> Actor {
    Actor("afk".into())
}

impl Stepper<'_> {
    /// Time passed.
    pub(super) fn tick_breakglass(&mut self) {
        if self.fleet().breakglass.armed.as_ref().is_some_and(|arming| arming.until <= self.at) {
            self.disarm("its time was over".into());
        }
        let Some(rules) = self.fleet().policy.breakglass.clone() else { return };
        let due = self.fleet().breakglass.next_drill(&rules).is_some_and(|due| due <= self.at);
        // One that is about to end, or is here for one verb, drills nothing.
        if due && !self.fleet().draining {
            self.begin_verb(Verb::Status, afk(), VerbOrigin::Drill, true);
        }
        let known = self
            .fleet()
            .escalations
            .values()
            .any(|e| e.open() && e.kind == EscalationKind::DrillDue);
        if !known && self.fleet().breakglass.drill_red(self.at, &rules).is_some() {
            let title = "the way to the hypervisor was not proved for too long";
            let last = self.fleet().breakglass.past.iter().rev().find(|run| run.drill);
            let last = last.and_then(|run| run.end.as_ref()).map(|(_, end)| end.result.summary());
            let detail = format!(
                "{title}\n\nThe drill (status, then forensics) runs by itself. The last one: {}.\n\n\
                 Arm breakglass and try `status`; see docs/breakglass.md.",
                last.unwrap_or_else(|| "none".into())
            );
            self.ask_about_breakglass(EscalationDraft::new(
                EscalationKind::DrillDue,
                title,
                detail,
            ));
        }
    }

    fn ask_about_breakglass(&mut self, question: EscalationDraft) {
        let id = self.fleet().next_escalation();
        let kind = question.kind;
        let escalation = Escalation::raise(id, question, self.at);
        let text = format!("{}: {}", kind.as_str(), escalation.title.clean_line());
        self.emit(Event::Escalated { escalation: Box::new(escalation) });
        self.tell(None, &Notice::Asked { escalation: id, text, kind });
    }

    /// A new runtime: what was under way is under way at the host alone.
    pub(super) fn restart_breakglass(&mut self) {
        let cut: Vec<(VerbId, Verb)> =
            self.fleet().breakglass.under_way.values().map(|run| (run.id, run.verb)).collect();
        for (verb, _) in &cut {
            let why = "afk was restarted; at the host it goes on".into();
            let result = VerbResult::Unknown { why };
            let end = VerbEnd { result, reads: None, request: None, capture: None };
            self.happened(BreakglassEvent::Ended { verb: *verb, end });
        }
        let shells: Vec<_> = self.fleet().breakglass.shells.keys().copied().collect();
        for shell in shells {
            let why = "afk was restarted".into();
            self.happened(BreakglassEvent::Closed { shell, why, recording: None });
        }
        if self.fleet().breakglass.diagnosing.is_some() {
            self.happened(BreakglassEvent::Diagnosed { said: "afk was restarted".into() });
        }
        if cut.iter().any(|(_, verb)| verb.mutates()) && self.fleet().policy.breakglass.is_some() {
            self.begin_verb(Verb::Status, afk(), VerbOrigin::ReadBack, false);
        }
    }

    /// What the runtime tells of breakglass.
    pub(super) fn breakglass(&mut self, fact: BreakglassReport) {
        match fact {
            BreakglassReport::Ended { verb, end } => self.verb_ended(verb, end),
            BreakglassReport::Closed { shell, why, recording } => {
                if self.fleet().breakglass.shells.contains_key(&shell) {
                    self.happened(BreakglassEvent::Closed { shell, why, recording });
                }
            }
            BreakglassReport::Diagnosed { text, proposes } => {
                self.happened(BreakglassEvent::Diagnosed { said: text.clone() });
                if let Some(verb) = proposes {
                    let title = format!("the diagnosis proposes {}", verb.as_str());
                    let detail = format!(
                        "{title}\n\nAn agent read the output of status and forensics, which may hold \
                         text that somebody else wrote. It runs nothing; {} is yours to press in the \
                         breakglass pane, or not.\n\n{}",
                        verb.as_str(),
                        text.as_received()
                    );
                    self.ask_about_breakglass(EscalationDraft::new(
                        EscalationKind::Proposal,
                        title,
                        detail,
                    ));
                }
            }
        }
    }

    fn verb_ended(&mut self, id: VerbId, end: VerbEnd) {
        let Some(run) = self.fleet().breakglass.under_way.get(&id).cloned() else { return };
        let drill = self.fleet().breakglass.drill.verb == Some(id);
        let result = end.result.clone();
        self.happened(BreakglassEvent::Ended { verb: id, end });
        if run.verb.mutates() {
            self.tell_breakglass(format!(
                "{} by {}: {}",
                run.verb.as_str(),
                run.by,
                result.summary()
            ));
            if matches!(result, VerbResult::Unknown { .. }) {
                // Read, and never tried again by itself.
                self.begin_verb(Verb::Status, afk(), VerbOrigin::ReadBack, false);
            }
        }
        if !drill || !result.good() {
            return;
        }
        if run.verb == Verb::Status {
            self.begin_verb(Verb::Forensics, afk(), VerbOrigin::Drill, true);
        } else {
            self.happened(BreakglassEvent::Drilled);
            let due = self
                .fleet()
                .escalations
                .values()
                .filter(|e| e.open() && e.kind == EscalationKind::DrillDue);
            for escalation in due.map(|e| e.id).collect::<Vec<_>>() {
                let why = "the drill was good".into();
                self.emit(Event::Withdrawn { escalation, why });
            }
        }
    }

    /// The drill of an escalation that a person approved: now.
    pub(super) fn drill_now(&mut self) {
        if self.fleet().breakglass.drill.verb.is_none() && self.fleet().policy.breakglass.is_some()
        {
            self.begin_verb(Verb::Status, afk(), VerbOrigin::Drill, true);
        }
    }

    /// The rules changed: what isn't configured any more is off.
    pub(super) fn breakglass_rules(&mut self) {
        if self.fleet().policy.breakglass.is_none() && self.fleet().breakglass.armed.is_some() {
            self.effect(Effect::Breakglass(BreakglassTask::CloseShells {
                why: "not configured".into(),
            }));
            self.happened(BreakglassEvent::Disarmed {
                why: "it is not configured any more".into(),
            });
        }
    }
}
