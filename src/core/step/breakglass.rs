//! Breakglass commands: the rules for arming, verbs, shells and keys, and what an accepted command
//! begins. `operator` checks and carries them out like every other command; `breakglass_report`
//! takes what the host answers.

use crate::model::breakglass::{
    BreakglassArming, BreakglassEvent, BreakglassRefusal, BreakglassRequest, BreakglassRules,
    BreakglassTask, Confirmation, OpenShell, ShellId, Verb, VerbId, VerbOrigin, VerbRun, WINDOW,
};
use crate::model::command::{Accepted, Refusal};
use crate::model::effect::Effect;
use crate::model::event::Event;
use crate::model::id::Actor;
use crate::model::notice::Notice;
use crate::model::time::MINUTE;
use crate::step::stepper::Stepper;

fn known_host(rules: &BreakglassRules, host: &str) -> Result<(), BreakglassRefusal> {
    if rules.hosts.contains(host) {
        Ok(())
    } else {
        Err(BreakglassRefusal::NoHost { host: host.to_owned() })
    }
}

/// Milliseconds in whole minutes, rounded up.
const fn minutes(ms: i64) -> i64 {
    (ms + MINUTE - 1) / MINUTE
}

impl Stepper<'_> {
    fn rules(&self) -> Result<&BreakglassRules, BreakglassRefusal> {
        self.fleet().policy.breakglass.as_ref().ok_or(BreakglassRefusal::NotConfigured)
    }

    /// The arming of `by`; an error if breakglass is not armed, or another person armed it.
    pub(super) fn armed_by(&self, by: &Actor) -> Result<&BreakglassArming, BreakglassRefusal> {
        match &self.fleet().breakglass.armed {
            Some(arming) if arming.until > self.at => {
                if arming.by == *by {
                    Ok(arming)
                } else {
                    let minutes = minutes(arming.until.since(self.at));
                    Err(BreakglassRefusal::ArmedBy { by: arming.by.clone(), minutes })
                }
            }
            _ => Err(BreakglassRefusal::NotArmed),
        }
    }

    pub(super) fn check_breakglass(
        &self,
        by: &Actor,
        request: &BreakglassRequest,
    ) -> Result<(), Refusal> {
        self.check_request(by, request).map_err(|reason| Refusal::Breakglass { reason })
    }

    fn check_request(
        &self,
        by: &Actor,
        request: &BreakglassRequest,
    ) -> Result<(), BreakglassRefusal> {
        let rules = self.rules()?;
        match request {
            BreakglassRequest::Arm { reason, take_over } => {
                if reason.as_received().trim().is_empty() {
                    return Err(BreakglassRefusal::NoReason);
                }
                match self.armed_by(by) {
                    Err(armed @ BreakglassRefusal::ArmedBy { .. }) if !take_over => Err(armed),
                    _ => Ok(()),
                }
            }
            BreakglassRequest::Disarm => self.armed_by(by).map(|_| ()),
            BreakglassRequest::Verb { verb, confirm } => {
                self.armed_by(by)?;
                if verb.mutates() {
                    self.check_confirmation(rules, *verb, confirm.as_ref())
                } else {
                    Ok(())
                }
            }
            BreakglassRequest::Shell { host } => {
                self.armed_by(by)?;
                known_host(rules, host)
            }
            BreakglassRequest::Trust { host, .. } => {
                self.armed_by(by)?;
                if *host == rules.hypervisor {
                    return Err(BreakglassRefusal::Pinned);
                }
                known_host(rules, host)
            }
            BreakglassRequest::StartAgent { mutations, .. } => {
                self.armed_by(by)?;
                self.check_agent_start(rules, *mutations)
            }
            BreakglassRequest::StopAgent => self.check_agent_stop(),
            BreakglassRequest::Diagnose => {
                self.armed_by(by)?;
                if !rules.diagnoses {
                    Err(BreakglassRefusal::NoAgent)
                } else if self.fleet().breakglass.diagnosing.is_some() {
                    Err(BreakglassRefusal::Diagnosing)
                } else {
                    Ok(())
                }
            }
        }
    }

    fn check_confirmation(
        &self,
        rules: &BreakglassRules,
        verb: Verb,
        confirm: Option<&Confirmation>,
    ) -> Result<(), BreakglassRefusal> {
        let state = &self.fleet().breakglass;
        if let Some(run) = state.mutation() {
            return Err(BreakglassRefusal::UnderWay { verb: run.verb, by: run.by.clone() });
        }
        let confirm = confirm.ok_or(BreakglassRefusal::Unconfirmed { verb })?;
        if confirm.name != rules.vm {
            return Err(BreakglassRefusal::WrongName { vm: rules.vm.clone() });
        }
        if confirm.seen != state.seen(verb, &rules.vm) {
            return Err(BreakglassRefusal::Stale);
        }
        let count = state.recent(self.at);
        if count >= rules.mutations && confirm.again.as_ref() != Some(&rules.vm) {
            let oldest = state.mutations.front().copied().unwrap_or(self.at);
            let minutes = minutes(WINDOW - self.at.since(oldest)).max(1);
            return Err(BreakglassRefusal::TooMany { count, minutes, vm: rules.vm.clone() });
        }
        Ok(())
    }

    pub(super) fn carry_out_breakglass(
        &mut self,
        by: Actor,
        origin: String,
        request: BreakglassRequest,
    ) -> Accepted {
        match request {
            BreakglassRequest::Arm { reason, .. } => {
                let other = self.fleet().breakglass.armed.as_ref().is_some_and(|a| a.by != by);
                if other {
                    let why = format!("{by} took over");
                    self.end_agent(&why);
                    self.effect(Effect::Breakglass(BreakglassTask::CloseShells { why }));
                }
                let until = self.at.plus(self.rules().map_or(0, |rules| rules.arm_ms));
                let text = format!("armed by {by}: {}", reason.clean_line());
                let arming = BreakglassArming { by, reason, since: self.at, until };
                self.emit_breakglass(BreakglassEvent::Armed { arming });
                self.notify_breakglass(text);
            }
            BreakglassRequest::Disarm => self.disarm(format!("{by} disarmed breakglass")),
            BreakglassRequest::Verb { verb, .. } => {
                self.notify_breakglass(format!("{} by {by}", verb.as_str()));
                let verb = self.begin_verb(verb, by, VerbOrigin::Client(origin), false);
                return Accepted::Verb { verb };
            }
            BreakglassRequest::Shell { host } => {
                self.notify_breakglass(format!("{by} opens a shell on {host}"));
                let shell = self.fleet().breakglass.next_shell();
                let of = OpenShell { host: host.clone(), by: by.clone(), since: self.at };
                self.emit_breakglass(BreakglassEvent::Opened { shell, of });
                self.effect(Effect::Breakglass(BreakglassTask::Shell { id: shell, host, by }));
                return Accepted::Shell { shell };
            }
            BreakglassRequest::Trust { host, key, old, new } => {
                self.notify_breakglass(format!("{by} trusts a new key of {host}"));
                let event = BreakglassEvent::KeyTrusted { host: host.clone(), by, old, new };
                self.emit_breakglass(event);
                self.effect(Effect::Breakglass(BreakglassTask::Trust { host, key }));
            }
            BreakglassRequest::StartAgent { task, mutations } => {
                self.start_agent(by, task, mutations);
            }
            BreakglassRequest::StopAgent => self.end_agent(&format!("{by} stopped it")),
            BreakglassRequest::Diagnose => {
                self.emit_breakglass(BreakglassEvent::Diagnosing { by });
                self.effect(Effect::Breakglass(BreakglassTask::Diagnose));
            }
        }
        Accepted::Ok
    }

    /// Disarms breakglass, closes its shells and ends its agent.
    pub(super) fn disarm(&mut self, why: String) {
        self.end_agent(&why);
        self.effect(Effect::Breakglass(BreakglassTask::CloseShells { why: why.clone() }));
        self.emit_breakglass(BreakglassEvent::Disarmed { why });
    }

    /// Begins a verb at the host; `drill` marks one that proves the access.
    pub(super) fn begin_verb(
        &mut self,
        verb: Verb,
        by: Actor,
        origin: VerbOrigin,
        drill: bool,
    ) -> VerbId {
        self.begin_verb_for(verb, by, origin, drill, None)
    }

    /// Begins a verb, for the session of the agent that calls it if there is one.
    pub(super) fn begin_verb_for(
        &mut self,
        verb: Verb,
        by: Actor,
        origin: VerbOrigin,
        drill: bool,
        agent: Option<ShellId>,
    ) -> VerbId {
        let id = self.fleet().breakglass.next_verb();
        let run = VerbRun { id, verb, by, origin, began: self.at, drill, end: None };
        self.emit_breakglass(BreakglassEvent::Begun { run });
        let known = self.fleet().breakglass.request.clone();
        self.effect(Effect::Breakglass(BreakglassTask::Verb { id, verb, known, agent }));
        id
    }

    pub(super) fn emit_breakglass(&mut self, what: BreakglassEvent) {
        self.emit(Event::Breakglass { what: Box::new(what) });
    }

    pub(super) fn notify_breakglass(&mut self, text: String) {
        self.notify(None, &Notice::Breakglass { text });
    }
}
