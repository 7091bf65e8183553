//! `[breakglass]`: the hypervisor, the hosts that an operator can open a shell on, and the keys to them.
//! Addresses are numeric, since an incident may take the name server down too.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::ConfigError;
use crate::core::model::breakglass::BreakglassRules;
use crate::core::model::time::MINUTE;

/// `[breakglass]`: the recovery of a wedged VM through its hypervisor.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BreakglassConfig {
    /// The VM's name, which an operator types to confirm a mutating verb.
    pub vm: String,
    /// The machine that the VM runs on.
    pub hypervisor: HostConfig,
    /// The machines that an operator can open a shell on, by name.
    #[serde(default)]
    pub hosts: BTreeMap<String, HostConfig>,
    /// The file of pinned host keys, relative to the configuration.
    #[serde(default = "pins")]
    pub pins: PathBuf,
    /// Minutes that breakglass stays armed.
    #[serde(default = "arm_minutes")]
    pub arm_minutes: u32,
    /// The number of mutating verbs in ten minutes that need no second confirmation.
    #[serde(default = "mutations")]
    pub mutations: usize,
    /// Days between two drills of the connection to the hypervisor; 0 turns drills off.
    #[serde(default = "drill_days")]
    pub drill_days: u32,
    /// The age of the last good drill, in days, that raises an alarm.
    #[serde(default = "drill_red_days")]
    pub drill_red_days: u32,
    /// Seconds after which the outcome of a mutating verb becomes UNKNOWN.
    #[serde(default = "mutation_seconds")]
    pub mutation_seconds: u64,
    /// Seconds that a reading verb may take.
    #[serde(default = "read_seconds")]
    pub read_seconds: u64,
    /// Seconds that connecting and logging in may take.
    #[serde(default = "connect_seconds")]
    pub connect_seconds: u64,
    /// Seconds of silence before a keepalive; three unanswered keepalives end the connection.
    #[serde(default = "keepalive_seconds")]
    pub keepalive_seconds: u64,
    /// Days that afk keeps captures and recordings.
    #[serde(default = "keep_days")]
    pub keep_days: u32,
    /// The size limit of the recording of one shell, in MiB.
    #[serde(default = "recording_mib")]
    pub recording_mib: u64,
    /// Hides keys, pins and sockets from agents, tests and deploy commands, and refuses to start them
    /// if hiding is impossible.
    #[serde(default = "yes")]
    pub hide_from_agents: bool,
    /// An agent that diagnoses the VM; off by default.
    #[serde(default)]
    pub diagnosis: Option<DiagnosisConfig>,
}

/// `[breakglass.hypervisor]` and `[breakglass.hosts.NAME]`: a machine and the login to it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostConfig {
    /// The address and port of its sshd, numeric.
    pub address: SocketAddr,
    /// The account to log in as.
    pub user: String,
    /// A private key that only its owner can read, relative to the configuration.
    #[serde(default)]
    pub key: Option<PathBuf>,
    /// An OpenSSH certificate for `key`.
    #[serde(default)]
    pub certificate: Option<PathBuf>,
    /// The socket of an ssh-agent, or `env` for `SSH_AUTH_SOCK`.
    #[serde(default)]
    pub agent: Option<PathBuf>,
    /// The fingerprint of the only key to use of that ssh-agent; all its keys by default.
    #[serde(default)]
    pub agent_key: Option<String>,
}

/// `[breakglass.diagnosis]`: the agent that diagnoses, and its evidence beside `status` and
/// `forensics`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DiagnosisConfig {
    /// The agent, one of `[agents]`.
    pub agent: String,
    /// A host of `[breakglass.hosts]` whose account can only read.
    #[serde(default)]
    pub host: Option<String>,
    /// The commands whose output from that host becomes evidence.
    #[serde(default)]
    pub commands: Vec<String>,
}

/// The reserved host name of the hypervisor, also in the file of pins.
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

impl BreakglassConfig {
    /// Resolves each relative path with `resolve`.
    pub(super) fn resolve_paths(&mut self, resolve: &dyn Fn(&Path) -> PathBuf) {
        self.pins = resolve(&self.pins);
        for host in self.hosts.values_mut().chain([&mut self.hypervisor]) {
            for path in [&mut host.key, &mut host.certificate, &mut host.agent] {
                let keep = |path: &PathBuf| path == Path::new("env");
                *path = path.take().map(|path| if keep(&path) { path } else { resolve(&path) });
            }
        }
    }

    /// Checks whether the values fit together; `is_agent` recognises the names of `[agents]`.
    pub(super) fn check(&self, is_agent: &dyn Fn(&str) -> bool) -> Result<(), ConfigError> {
        let wrong = |key: &str, message: String| Err(ConfigError::meaning(key, message));
        let is_name = |text: &str| {
            !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
        };
        if !is_name(&self.vm) {
            return wrong("vm", "should be a name of letters, digits, - _ and .".into());
        }
        let all =
            self.hosts.iter().map(|(name, host)| (format!("hosts.{name}"), name.as_str(), host));
        let hypervisor = ("hypervisor".to_owned(), HYPERVISOR, &self.hypervisor);
        for (key, name, host) in all.chain([hypervisor]) {
            if !is_name(name) || (name == HYPERVISOR && key != "hypervisor") {
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
            if !is_agent(&diagnosis.agent) {
                let message = format!("there is no [agents.{}]", diagnosis.agent);
                return wrong("diagnosis.agent", message);
            }
            if diagnosis.host.as_ref().is_some_and(|host| !self.hosts.contains_key(host)) {
                return wrong("diagnosis.host", "is not one of [breakglass.hosts]".into());
            }
        }
        Ok(())
    }

    /// The core's rules of breakglass.
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

    /// A machine by its name; [`HYPERVISOR`] is a name too.
    #[must_use]
    pub fn host(&self, name: &str) -> Option<&HostConfig> {
        if name == HYPERVISOR { Some(&self.hypervisor) } else { self.hosts.get(name) }
    }

    /// The paths that no agent may reach: keys, certificates, pins and sockets of ssh-agents.
    #[must_use]
    pub fn secret_paths(&self) -> Vec<PathBuf> {
        let hosts = self.hosts.values().chain([&self.hypervisor]);
        let of = |host: &HostConfig| {
            [host.key.clone(), host.certificate.clone(), host.agent_socket()].into_iter().flatten()
        };
        hosts.flat_map(of).chain([self.pins.clone()]).collect()
    }

    /// The ssh command that works without any afk, for a printed runbook.
    #[must_use]
    pub fn cold_command(&self) -> String {
        let host = &self.hypervisor;
        let key = host.key.as_ref().map(|key| format!("-i {} ", key.display())).unwrap_or_default();
        format!("ssh -p {} {key}{}@{} status", host.address.port(), host.user, host.address.ip())
    }
}

impl HostConfig {
    /// The socket of its ssh-agent, with `env` resolved.
    #[must_use]
    pub fn agent_socket(&self) -> Option<PathBuf> {
        match self.agent.as_deref() {
            Some(path) if path == Path::new("env") => {
                std::env::var_os("SSH_AUTH_SOCK").map(PathBuf::from)
            }
            other => other.map(Path::to_owned),
        }
    }
}
