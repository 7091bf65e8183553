//! What the host reports about breakglass, what a restart leaves of it, and what a change of its
//! rules ends. `take` and `restart` call it.
//!
//! A mutating verb whose result is unknown is never retried: a `status` reads the VM back instead.

use crate::model::approval::{EscalationDraft, EscalationKind};
use crate::model::breakglass::{
    BreakglassEvent, BreakglassReport, BreakglassTask, Verb, VerbEnd, VerbId, VerbOrigin,
    VerbResult,
};
use crate::model::effect::Effect;
use crate::model::id::Actor;
use crate::step::stepper::Stepper;

impl Stepper<'_> {
    /// Ends what the last life of afk had begun: its verbs continue on the host without it, so their
    /// results are unknown.
    pub(super) fn restart_breakglass(&mut self) {
        let interrupted: Vec<(VerbId, Verb)> =
            self.fleet().breakglass.under_way.values().map(|run| (run.id, run.verb)).collect();
        for (verb, _) in &interrupted {
            let why = "afk was restarted; the verb continues on the host".into();
            let result = VerbResult::Unknown { why };
            let end = VerbEnd { result, reads: None, request: None, capture: None };
            self.emit_breakglass(BreakglassEvent::Ended { verb: *verb, end });
        }
        let shells: Vec<_> = self.fleet().breakglass.shells.keys().copied().collect();
        for shell in shells {
            let why = "afk was restarted".into();
            self.emit_breakglass(BreakglassEvent::Closed { shell, why, recording: None });
        }
        if self.fleet().breakglass.diagnosing.is_some() {
            self.emit_breakglass(BreakglassEvent::Diagnosed { said: "afk was restarted".into() });
        }
        if interrupted.iter().any(|(_, verb)| verb.mutates())
            && self.fleet().policy.breakglass.is_some()
        {
            self.begin_verb(Verb::Status, Actor("afk".into()), VerbOrigin::ReadBack, false);
        }
    }

    /// Takes a report of the runtime about a verb, a shell or a diagnosis.
    pub(super) fn breakglass_report(&mut self, report: BreakglassReport) {
        match report {
            BreakglassReport::Ended { verb, end } => self.verb_ended(verb, end),
            BreakglassReport::Closed { shell, why, recording } => {
                if self.fleet().breakglass.shells.contains_key(&shell) {
                    self.emit_breakglass(BreakglassEvent::Closed { shell, why, recording });
                }
            }
            BreakglassReport::Diagnosed { text, proposes } => {
                self.emit_breakglass(BreakglassEvent::Diagnosed { said: text.clone() });
                if let Some(verb) = proposes {
                    let title = format!("the diagnosis proposes {}", verb.as_str());
                    let detail = format!(
                        "{title}\n\nAn agent read the output of status and forensics, which may contain \
                         text from a third party. afk runs nothing by itself: if you agree, run {} \
                         from the breakglass pane.\n\n{}",
                        verb.as_str(),
                        text.as_received()
                    );
                    self.escalate_without_run(EscalationDraft::new(
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
        self.emit_breakglass(BreakglassEvent::Ended { verb: id, end });
        if run.verb.mutates() {
            self.notify_breakglass(format!(
                "{} by {}: {}",
                run.verb.as_str(),
                run.by,
                result.summary()
            ));
            if matches!(result, VerbResult::Unknown { .. }) {
                self.begin_verb(Verb::Status, Actor("afk".into()), VerbOrigin::ReadBack, false);
            }
        }
        if drill && result.good() {
            self.drill_verb_succeeded(run.verb);
        }
    }

    /// Disarms breakglass once the configuration no longer has it.
    pub(super) fn breakglass_rules_changed(&mut self) {
        if self.fleet().policy.breakglass.is_none() && self.fleet().breakglass.armed.is_some() {
            self.effect(Effect::Breakglass(BreakglassTask::CloseShells {
                why: "breakglass is no longer configured".into(),
            }));
            self.emit_breakglass(BreakglassEvent::Disarmed {
                why: "breakglass is no longer configured".into(),
            });
        }
    }
}
