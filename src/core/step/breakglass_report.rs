//! What the host reports about breakglass, what a restart leaves of it, and what a change of its
//! rules ends. `take` and `restart` call it.
//!
//! A mutating verb whose result is unknown is never retried: a `status` reads the VM back instead.

use crate::model::approval::{EscalationDraft, EscalationKind};
use crate::model::breakglass::{
    BreakglassEvent, BreakglassReport, Verb, VerbEnd, VerbId, VerbOrigin, VerbResult,
};
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
            let end = VerbEnd::of(VerbResult::Unknown { why });
            self.emit_breakglass(BreakglassEvent::Ended { verb: *verb, end });
        }
        let shells: Vec<_> = self.fleet().breakglass.shells.keys().copied().collect();
        for shell in shells {
            let why = "afk was restarted".into();
            self.emit_breakglass(BreakglassEvent::Closed { shell, why, recording: None });
        }
        if self.fleet().breakglass.agent.is_some() {
            self.agent_ended("afk was restarted".into());
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
            BreakglassReport::Ended { verb, end } => self.verb_ended(verb, &end),
            BreakglassReport::Closed { shell, why, recording } => {
                if self.fleet().breakglass.shells.contains_key(&shell) {
                    self.emit_breakglass(BreakglassEvent::Closed { shell, why, recording });
                }
            }
            BreakglassReport::Revoked { actor } => self.revoke(&actor),
            BreakglassReport::AgentCalled { session, call, tool } => {
                self.agent_called(session, call, tool);
            }
            BreakglassReport::AgentWithdrew { session, call } => {
                self.agent_withdrew(session, call);
            }
            BreakglassReport::AgentCommandEnded { session, call, ok, said } => {
                self.agent_command_ended(session, call, ok, said);
            }
            BreakglassReport::AgentEnded { session, why, recording } => {
                let now = self.fleet().breakglass.agent.as_ref();
                if now.is_some_and(|now| now.terms.id == session) {
                    self.agent_ended(why.clone());
                }
                if recording.is_some() {
                    self.emit_breakglass(BreakglassEvent::Closed {
                        shell: session,
                        why,
                        recording,
                    });
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

    /// Ends the arming of somebody who is no operator any more. A verb that has begun goes on at the
    /// host.
    fn revoke(&mut self, actor: &Actor) {
        let arming = self.fleet().breakglass.armed.as_ref();
        if arming.is_none_or(|arming| arming.by != *actor) {
            return;
        }
        let why = format!("{actor} is not an operator any more");
        self.notify_breakglass(format!("disarmed: {why}"));
        self.disarm(why);
    }

    fn verb_ended(&mut self, id: VerbId, end: &VerbEnd) {
        let Some(run) = self.fleet().breakglass.under_way.get(&id).cloned() else { return };
        let drill = self.fleet().breakglass.drill.verb == Some(id);
        let (result, summary) = (end.result.clone(), end.summary());
        self.emit_breakglass(BreakglassEvent::Ended { verb: id, end: end.clone() });
        self.agent_verb_ended(id, run.verb, end);
        if run.verb.mutates() {
            self.notify_breakglass(format!("{} by {}: {summary}", run.verb.as_str(), run.by));
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
            self.disarm("breakglass is no longer configured".into());
        }
    }
}
