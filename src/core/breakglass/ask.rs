//! What a person may ask of breakglass: authorised, checked against the state as it is now, and
//! recorded like every other command.

use serde::{Deserialize, Serialize};

use super::super::command::{Accepted, Refusal};
use super::super::digest::Digest;
use super::super::effect::Effect;
use super::super::event::Event;
use super::super::id::{Actor, Timestamp};
use super::super::notice::Notice;
use super::super::step::Stepper;
use super::super::untrusted::Untrusted;
use super::{Arming, Happened, Rules, Shell, Task, Verb, VerbRun, WINDOW};

/// A question to breakglass.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "ask")]
pub enum Ask {
    /// To be allowed to use it for a while; asked again it lasts longer.
    Arm {
        /// Why.
        reason: Untrusted,
        /// Also where somebody else is armed: they are not any more.
        #[serde(default)]
        take_over: bool,
    },
    /// To be allowed no longer.
    Disarm,
    /// A verb.
    Verb {
        /// Which.
        verb: Verb,
        /// For those that change something.
        #[serde(default)]
        confirm: Option<Confirm>,
    },
    /// A shell.
    Shell {
        /// On which host.
        host: String,
    },
    /// The key of a host that was built anew is to be trusted.
    Trust {
        /// Which host's.
        host: String,
        /// The key, as in a `known_hosts` file.
        key: String,
        /// The fingerprint that was shown as the old one.
        old: Option<String>,
        /// The fingerprint that was shown as the new one.
        new: String,
    },
    /// An agent's opinion.
    Diagnose,
}

/// A fresh confirmation of a mutating verb.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Confirm {
    /// The VM's name as it was typed.
    pub name: String,
    /// Of what was on the screen: [`super::Breakglass::seen`].
    pub seen: Digest,
    /// The VM's name, typed a second time: where the rate would refuse.
    #[serde(default)]
    pub again: Option<String>,
}

impl Ask {
    /// Its name in the record.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Arm { .. } => "arm breakglass",
            Self::Disarm => "disarm breakglass",
            Self::Verb { verb, .. } => verb.word(),
            Self::Shell { .. } => "shell",
            Self::Trust { .. } => "trust host key",
            Self::Diagnose => "diagnose",
        }
    }
}

/// Why breakglass refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case", tag = "no")]
pub enum No {
    /// No hypervisor and no VM.
    #[error("breakglass is not configured; see [breakglass] in docs/breakglass.md")]
    NotConfigured,
    /// Nobody armed it.
    #[error("breakglass is off: arm it first, with a reason")]
    NotArmed,
    /// Somebody else is armed.
    #[error("{by} is armed for {minutes} more min; take over to act yourself")]
    ArmedBy {
        /// Who.
        by: Actor,
        /// How long still.
        minutes: i64,
    },
    /// No reason.
    #[error("say why, in a few words")]
    NoReason,
    /// Not the VM's name.
    #[error("that is not the VM's name: type {vm} to confirm")]
    WrongName {
        /// What it is.
        vm: String,
    },
    /// No confirmation came with it.
    #[error("{} must be confirmed with the VM's name", verb.word())]
    Unconfirmed {
        /// What was asked.
        verb: Verb,
    },
    /// What was confirmed isn't what there is.
    #[error("what you confirmed has changed since; look again")]
    Stale,
    /// One at a time.
    #[error("{} by {by} is under way; one at a time", verb.word())]
    UnderWay {
        /// What is.
        verb: Verb,
        /// Whose.
        by: Actor,
    },
    /// Too many in ten minutes.
    #[error("{count} mutations in ten minutes; wait {minutes} min, or type {vm} a second time")]
    TooMany {
        /// How many there were.
        count: usize,
        /// Until the oldest counts no more.
        minutes: i64,
        /// What is to be typed.
        vm: String,
    },
    /// No such host.
    #[error("there is no host {host:?}")]
    NoHost {
        /// What was asked for.
        host: String,
    },
    /// The hypervisor's key is changed by hand only.
    #[error(
        "the hypervisor's key is pinned: `afk breakglass pin` changes it, after you compared it"
    )]
    Pinned,
    /// No agent is configured for it.
    #[error("no agent is configured for diagnosis: `agent` under [breakglass]")]
    NoAgent,
    /// It is being asked.
    #[error("a diagnosis is under way")]
    Diagnosing,
}

fn known_host(rules: &Rules, host: &str) -> Result<(), No> {
    if rules.hosts.contains(host) { Ok(()) } else { Err(No::NoHost { host: host.to_owned() }) }
}

const MINUTE: i64 = super::super::policy::MINUTE;

const fn minutes(ms: i64) -> i64 {
    (ms + MINUTE - 1) / MINUTE
}

impl Stepper<'_> {
    fn rules(&self) -> Result<&Rules, No> {
        self.fleet.policy.breakglass.as_ref().ok_or(No::NotConfigured)
    }

    /// The arming of somebody, if it is theirs and not over.
    fn armed(&self, by: &Actor) -> Result<&Arming, No> {
        match &self.fleet.breakglass.armed {
            Some(arming) if arming.until > self.at => {
                if arming.by == *by {
                    Ok(arming)
                } else {
                    let minutes = minutes(arming.until.since(self.at));
                    Err(No::ArmedBy { by: arming.by.clone(), minutes })
                }
            }
            _ => Err(No::NotArmed),
        }
    }

    pub(in super::super) fn check_breakglass(&self, by: &Actor, ask: &Ask) -> Result<(), Refusal> {
        self.checked(by, ask).map_err(|no| Refusal::Breakglass { no })
    }

    fn checked(&self, by: &Actor, ask: &Ask) -> Result<(), No> {
        let rules = self.rules()?;
        match ask {
            Ask::Arm { reason, take_over } => {
                if reason.as_received().trim().is_empty() {
                    return Err(No::NoReason);
                }
                match self.armed(by) {
                    Err(no @ No::ArmedBy { .. }) if !take_over => Err(no),
                    _ => Ok(()),
                }
            }
            Ask::Disarm => self.armed(by).map(|_| ()),
            Ask::Verb { verb, confirm } => {
                self.armed(by)?;
                if verb.mutates() { self.confirmed(rules, *verb, confirm.as_ref()) } else { Ok(()) }
            }
            Ask::Shell { host } => {
                self.armed(by)?;
                known_host(rules, host)
            }
            Ask::Trust { host, .. } => {
                self.armed(by)?;
                if *host == rules.hypervisor {
                    return Err(No::Pinned);
                }
                known_host(rules, host)
            }
            Ask::Diagnose => {
                self.armed(by)?;
                if !rules.diagnoses {
                    Err(No::NoAgent)
                } else if self.fleet.breakglass.diagnosing.is_some() {
                    Err(No::Diagnosing)
                } else {
                    Ok(())
                }
            }
        }
    }

    fn confirmed(&self, rules: &Rules, verb: Verb, confirm: Option<&Confirm>) -> Result<(), No> {
        let state = &self.fleet.breakglass;
        if let Some(run) = state.mutation() {
            return Err(No::UnderWay { verb: run.verb, by: run.by.clone() });
        }
        let confirm = confirm.ok_or(No::Unconfirmed { verb })?;
        if confirm.name != rules.vm {
            return Err(No::WrongName { vm: rules.vm.clone() });
        }
        if confirm.seen != state.seen(verb, &rules.vm) {
            return Err(No::Stale);
        }
        let count = state.recent(self.at);
        if count >= rules.mutations && confirm.again.as_ref() != Some(&rules.vm) {
            let oldest = state.mutations.front().copied().unwrap_or(self.at);
            let minutes = minutes(WINDOW - self.at.since(oldest)).max(1);
            return Err(No::TooMany { count, minutes, vm: rules.vm.clone() });
        }
        Ok(())
    }

    pub(in super::super) fn act_breakglass(
        &mut self,
        by: Actor,
        origin: String,
        ask: Ask,
    ) -> Accepted {
        match ask {
            Ask::Arm { reason, .. } => {
                let other = self.fleet.breakglass.armed.as_ref().is_some_and(|a| a.by != by);
                if other {
                    let why = format!("{by} took over");
                    self.effect(Effect::Breakglass(Task::CloseShells { why }));
                }
                let until = self.at.plus(self.rules().map_or(0, |rules| rules.arm_ms));
                let text = format!("armed by {by}: {}", reason.clean_line());
                let arming = Arming { by, reason, since: self.at, until };
                self.happened(Happened::Armed { arming });
                self.tell_breakglass(text);
            }
            Ask::Disarm => self.disarm(format!("{by} disarmed it")),
            Ask::Verb { verb, .. } => {
                self.tell_breakglass(format!("{} by {by}", verb.word()));
                let verb = self.begin_verb(verb, by, origin, false);
                return Accepted::Verb { verb };
            }
            Ask::Shell { host } => {
                self.tell_breakglass(format!("{by} opens a shell on {host}"));
                let shell = self.fleet.breakglass.next_shell();
                let of = Shell { host: host.clone(), by: by.clone(), since: self.at };
                self.happened(Happened::Opened { shell, of });
                self.effect(Effect::Breakglass(Task::Shell { id: shell, host, by }));
                return Accepted::Shell { shell };
            }
            Ask::Trust { host, key, old, new } => {
                self.tell_breakglass(format!("{by} trusts a new key of {host}"));
                let told = Happened::KeyTrusted { host: host.clone(), by, old, new };
                self.happened(told);
                self.effect(Effect::Breakglass(Task::Trust { host, key }));
            }
            Ask::Diagnose => {
                self.happened(Happened::Diagnosing { by });
                self.effect(Effect::Breakglass(Task::Diagnose));
            }
        }
        Accepted::Ok
    }

    pub(super) fn disarm(&mut self, why: String) {
        self.effect(Effect::Breakglass(Task::CloseShells { why: why.clone() }));
        self.happened(Happened::Disarmed { why });
    }

    pub(super) fn begin_verb(
        &mut self,
        verb: Verb,
        by: Actor,
        origin: String,
        drill: bool,
    ) -> super::VerbId {
        let id = self.fleet.breakglass.next_verb();
        let run = VerbRun { id, verb, by, origin, began: self.at, drill, end: None };
        self.happened(Happened::Begun { run });
        let known = self.fleet.breakglass.request.clone();
        self.effect(Effect::Breakglass(Task::Verb { id, verb, known }));
        id
    }

    pub(super) fn happened(&mut self, what: Happened) {
        self.emit(Event::Breakglass { what: Box::new(what) });
    }

    pub(super) fn tell_breakglass(&mut self, text: String) {
        self.tell(None, &Notice::Breakglass { text });
    }
}

impl super::Breakglass {
    /// The earliest time at which it changes by itself.
    #[must_use]
    pub fn next_deadline(&self, rules: Option<&Rules>) -> Option<Timestamp> {
        let expiry = self.armed.as_ref().map(|arming| arming.until);
        let drill = rules.and_then(|rules| self.next_drill(rules));
        expiry.into_iter().chain(drill).min()
    }
}
