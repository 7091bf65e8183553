//! Breakglass: the hypervisor, the hosts that a shell can be opened on, and the keys to them.
//! Addresses are numbers: no name server is asked in an incident.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::core::model::breakglass::BreakglassRules;
use crate::core::model::time::MINUTE;

/// `[breakglass]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Breakglass {
    /// The VM's name: what is typed to confirm.
    pub vm: String,
    /// The machine that the VM runs on.
    pub hypervisor: Host,
    /// Machines that a shell can be opened on, by name.
    #[serde(default)]
    pub hosts: BTreeMap<String, Host>,
    /// The keys that these machines have; relative to the configuration.
    #[serde(default = "pins")]
    pub pins: PathBuf,
    /// How long an arming lasts.
    #[serde(default = "arm_minutes")]
    pub arm_minutes: u32,
    /// Mutating verbs in ten minutes that need no second word.
    #[serde(default = "mutations")]
    pub mutations: usize,
    /// How often the way to the hypervisor is proved; 0 is never.
    #[serde(default = "drill_days")]
    pub drill_days: u32,
    /// The age of the last good drill that is an alarm.
    #[serde(default = "drill_red_days")]
    pub drill_red_days: u32,
    /// How long a mutating verb may take before its outcome is UNKNOWN.
    #[serde(default = "mutation_seconds")]
    pub mutation_seconds: u64,
    /// How long a reading verb may take.
    #[serde(default = "read_seconds")]
    pub read_seconds: u64,
    /// How long connecting and logging in may take.
    #[serde(default = "connect_seconds")]
    pub connect_seconds: u64,
    /// Silence after which a connection is asked whether it is there; three times no is lost.
    #[serde(default = "keepalive_seconds")]
    pub keepalive_seconds: u64,
    /// How long captures and recordings are kept.
    #[serde(default = "keep_days")]
    pub keep_days: u32,
    /// The most that is kept of one shell, in MiB.
    #[serde(default = "recording_mib")]
    pub recording_mib: u64,
    /// Keys, pins and sockets are hidden from agents, tests and deploy commands; where that can't
    /// be done they are not started.
    #[serde(default = "yes")]
    pub hide_from_agents: bool,
    /// An agent that may say what is wrong; off by default.
    #[serde(default)]
    pub diagnosis: Option<Diagnosis>,
}

/// A machine.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Host {
    /// Its address and port, in numbers.
    pub address: SocketAddr,
    /// Who logs in.
    pub user: String,
    /// A private key, readable by its owner alone; relative to the configuration.
    #[serde(default)]
    pub key: Option<PathBuf>,
    /// A certificate for it.
    #[serde(default)]
    pub certificate: Option<PathBuf>,
    /// The socket of an ssh-agent, or `env` for `SSH_AUTH_SOCK`.
    #[serde(default)]
    pub agent: Option<PathBuf>,
    /// The fingerprint of the one key of that agent that is used; all of them otherwise.
    #[serde(default)]
    pub agent_key: Option<String>,
}

/// Who diagnoses, and what it is shown beside `status` and `forensics`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Diagnosis {
    /// One of the agents.
    pub agent: String,
    /// A host with a user that can only read.
    #[serde(default)]
    pub host: Option<String>,
    /// What is run there.
    #[serde(default)]
    pub commands: Vec<String>,
}

/// The name of the hypervisor among the pins.
pub const HYPERVISOR: &str = "hypervisor";

fn pins() -> PathBuf {
    "breakglass-pins".into()
}
const fn arm_minutes() -> u32 {
    30
}
const fn mutations() -> usize {
    3
}
const fn drill_days() -> u32 {
    7
}
const fn drill_red_days() -> u32 {
    8
}
const fn mutation_seconds() -> u64 {
    300
}
const fn read_seconds() -> u64 {
    60
}
const fn connect_seconds() -> u64 {
    10
}
const fn keepalive_seconds() -> u64 {
    15
}
const fn keep_days() -> u32 {
    90
}
const fn recording_mib() -> u64 {
    64
}
const fn yes() -> bool {
    true
}

impl Breakglass {
    /// Relative paths are the configuration's folder's.
    pub(super) fn place(&mut self, at: &dyn Fn(&Path) -> PathBuf) {
        self.pins = at(&self.pins);
        for host in self.hosts.values_mut().chain([&mut self.hypervisor]) {
            for path in [&mut host.key, &mut host.certificate, &mut host.agent] {
                *path =
                    path.take().map(|path| if path == Path::new("env") { path } else { at(&path) });
            }
        }
    }

    /// Whether its values fit together.
    pub(super) fn check(&self, agents: &dyn Fn(&str) -> bool) -> Result<(), (String, String)> {
        let wrong = |key: &str, message: String| Err((key.to_owned(), message));
        let word = |text: &str| {
            !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
        };
        if !word(&self.vm) {
            return wrong("vm", "should be a name of letters, digits, - _ and .".into());
        }
        let all =
            self.hosts.iter().map(|(name, host)| (format!("hosts.{name}"), name.as_str(), host));
        let hypervisor = ("hypervisor".to_owned(), HYPERVISOR, &self.hypervisor);
        for (key, name, host) in all.chain([hypervisor]) {
            if !word(name) || (name == HYPERVISOR && key != "hypervisor") {
                return wrong(&key, format!("{name:?} can't be the name of a host"));
            }
            if host.user.is_empty() {
                return wrong(&format!("{key}.user"), "is empty".into());
            }
            if host.key.is_none() && host.agent.is_none() {
                return wrong(&key, "has neither `key` nor `agent`".into());
            }
            if host.certificate.is_some() && host.key.is_none() {
                return wrong(&format!("{key}.certificate"), "needs its `key`".into());
            }
        }
        if self.arm_minutes == 0 {
            return wrong("arm_minutes", "should be 1 or more".into());
        }
        if let Some(diagnosis) = &self.diagnosis {
            if !agents(&diagnosis.agent) {
                let message = format!("there is no [agents.{}]", diagnosis.agent);
                return wrong("diagnosis.agent", message);
            }
            if diagnosis.host.as_ref().is_some_and(|host| !self.hosts.contains_key(host)) {
                return wrong("diagnosis.host", "is none of [breakglass.hosts]".into());
            }
        }
        Ok(())
    }

    /// The core's rules.
    #[must_use]
    pub fn rules(&self) -> BreakglassRules {
        const DAY: i64 = 24 * 60 * MINUTE;
        BreakglassRules {
            vm: self.vm.clone(),
            hypervisor: HYPERVISOR.into(),
            hosts: self.hosts.keys().cloned().collect(),
            arm_ms: i64::from(self.arm_minutes) * MINUTE,
            mutations: self.mutations,
            drill_ms: (self.drill_days > 0).then_some(i64::from(self.drill_days) * DAY),
            drill_red_ms: i64::from(self.drill_red_days) * DAY,
            diagnoses: self.diagnosis.is_some(),
        }
    }

    /// A machine by its name among the pins.
    #[must_use]
    pub fn host(&self, name: &str) -> Option<&Host> {
        if name == HYPERVISOR { Some(&self.hypervisor) } else { self.hosts.get(name) }
    }

    /// What no agent should reach: keys, certificates, the pins and the sockets of ssh-agents.
    #[must_use]
    pub fn secrets(&self) -> Vec<PathBuf> {
        let hosts = self.hosts.values().chain([&self.hypervisor]);
        let of = |host: &Host| {
            [host.key.clone(), host.certificate.clone(), host.socket()].into_iter().flatten()
        };
        hosts.flat_map(of).chain([self.pins.clone()]).collect()
    }

    /// The cold path, as it is typed where no cockpit is at hand.
    #[must_use]
    pub fn cold(&self) -> String {
        let host = &self.hypervisor;
        let key = host.key.as_ref().map(|key| format!("-i {} ", key.display())).unwrap_or_default();
        format!("ssh -p {} {key}{}@{} status", host.address.port(), host.user, host.address.ip())
    }
}

impl Host {
    /// The socket of its ssh-agent.
    #[must_use]
    pub fn socket(&self) -> Option<PathBuf> {
        match self.agent.as_deref() {
            Some(path) if path == Path::new("env") => {
                std::env::var_os("SSH_AUTH_SOCK").map(PathBuf::from)
            }
            other => other.map(Path::to_owned),
        }
    }
}
