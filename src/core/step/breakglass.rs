//! What a person may ask of breakglass: authorised, checked against the state as it is now, and
//! recorded like every other command.

use crate::model::breakglass::VerbOrigin;
use crate::model::breakglass::{
    BreakglassArming, BreakglassEvent, BreakglassRefusal, BreakglassRequest, BreakglassRules,
    BreakglassTask, Confirmation, OpenShell, Verb, VerbId, VerbRun, WINDOW,
};
use crate::model::command::{Accepted, Refusal};
use crate::model::effect::Effect;
use crate::model::event::Event;
use crate::model::id::Actor;
use crate::model::notice::Notice;
use crate::step::stepper::Stepper;

fn known_host(rules: &BreakglassRules, host: &str) -> Result<(), BreakglassRefusal> {
    if rules.hosts.contains(host) {
        Ok(())
    } else {
        Err(BreakglassRefusal::NoHost { host: host.to_owned() })
    }
}

const MINUTE: i64 = crate::model::time::MINUTE;

const fn minutes(ms: i64) -> i64 {
    (ms + MINUTE - 1) / MINUTE
}

impl Stepper<'_> {
    fn rules(&self) -> Result<&BreakglassRules, BreakglassRefusal> {
        self.fleet().policy.breakglass.as_ref().ok_or(BreakglassRefusal::NotConfigured)
    }

    /// The arming of somebody, if it is theirs and not over.
    fn armed(&self, by: &Actor) -> Result<&BreakglassArming, BreakglassRefusal> {
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
        ask: &BreakglassRequest,
    ) -> Result<(), Refusal> {
        self.checked(by, ask).map_err(|reason| Refusal::Breakglass { reason })
    }

    fn checked(&self, by: &Actor, ask: &BreakglassRequest) -> Result<(), BreakglassRefusal> {
        let rules = self.rules()?;
        match ask {
            BreakglassRequest::Arm { reason, take_over } => {
                if reason.as_received().trim().is_empty() {
                    return Err(BreakglassRefusal::NoReason);
                }
                match self.armed(by) {
                    Err(no @ BreakglassRefusal::ArmedBy { .. }) if !take_over => Err(no),
                    _ => Ok(()),
                }
            }
            BreakglassRequest::Disarm => self.armed(by).map(|_| ()),
            BreakglassRequest::Verb { verb, confirm } => {
                self.armed(by)?;
                if verb.mutates() { self.confirmed(rules, *verb, confirm.as_ref()) } else { Ok(()) }
            }
            BreakglassRequest::Shell { host } => {
                self.armed(by)?;
                known_host(rules, host)
            }
            BreakglassRequest::Trust { host, .. } => {
                self.armed(by)?;
                if *host == rules.hypervisor {
                    return Err(BreakglassRefusal::Pinned);
                }
                known_host(rules, host)
            }
            BreakglassRequest::Diagnose => {
                self.armed(by)?;
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

    fn confirmed(
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

    pub(super) fn act_breakglass(
        &mut self,
        by: Actor,
        origin: String,
        ask: BreakglassRequest,
    ) -> Accepted {
        match ask {
            BreakglassRequest::Arm { reason, .. } => {
                let other = self.fleet().breakglass.armed.as_ref().is_some_and(|a| a.by != by);
                if other {
                    let why = format!("{by} took over");
                    self.effect(Effect::Breakglass(BreakglassTask::CloseShells { why }));
                }
                let until = self.at.plus(self.rules().map_or(0, |rules| rules.arm_ms));
                let text = format!("armed by {by}: {}", reason.clean_line());
                let arming = BreakglassArming { by, reason, since: self.at, until };
                self.happened(BreakglassEvent::Armed { arming });
                self.tell_breakglass(text);
            }
            BreakglassRequest::Disarm => self.disarm(format!("{by} disarmed it")),
            BreakglassRequest::Verb { verb, .. } => {
                self.tell_breakglass(format!("{} by {by}", verb.as_str()));
                let verb = self.begin_verb(verb, by, VerbOrigin::Client(origin), false);
                return Accepted::Verb { verb };
            }
            BreakglassRequest::Shell { host } => {
                self.tell_breakglass(format!("{by} opens a shell on {host}"));
                let shell = self.fleet().breakglass.next_shell();
                let of = OpenShell { host: host.clone(), by: by.clone(), since: self.at };
                self.happened(BreakglassEvent::Opened { shell, of });
                self.effect(Effect::Breakglass(BreakglassTask::Shell { id: shell, host, by }));
                return Accepted::Shell { shell };
            }
            BreakglassRequest::Trust { host, key, old, new } => {
                self.tell_breakglass(format!("{by} trusts a new key of {host}"));
                let told = BreakglassEvent::KeyTrusted { host: host.clone(), by, old, new };
                self.happened(told);
                self.effect(Effect::Breakglass(BreakglassTask::Trust { host, key }));
            }
            BreakglassRequest::Diagnose => {
                self.happened(BreakglassEvent::Diagnosing { by });
                self.effect(Effect::Breakglass(BreakglassTask::Diagnose));
            }
        }
        Accepted::Ok
    }

    pub(super) fn disarm(&mut self, why: String) {
        self.effect(Effect::Breakglass(BreakglassTask::CloseShells { why: why.clone() }));
        self.happened(BreakglassEvent::Disarmed { why });
    }

    pub(super) fn begin_verb(
        &mut self,
        verb: Verb,
        by: Actor,
        origin: VerbOrigin,
        drill: bool,
    ) -> VerbId {
        let id = self.fleet().breakglass.next_verb();
        let run = VerbRun { id, verb, by, origin, began: self.at, drill, end: None };
        self.happened(BreakglassEvent::Begun { run });
        let known = self.fleet().breakglass.request.clone();
        self.effect(Effect::Breakglass(BreakglassTask::Verb { id, verb, known }));
        id
    }

    pub(super) fn happened(&mut self, what: BreakglassEvent) {
        self.emit(Event::Breakglass { what: Box::new(what) });
    }

    pub(super) fn tell_breakglass(&mut self, text: String) {
        self.tell(None, &Notice::Breakglass { text });
    }
}
