//! `[breakglass]`: the hypervisor, the hosts that an operator can open a shell on, and the keys to them.
//! Addresses are numeric, since an incident may take the name server down too.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::ConfigError;
use crate::core::model::breakglass::{AgentLevel, AgentRules, BreakglassRules};
use crate::core::model::time::MINUTE;

/// `[breakglass]`: the recovery of a wedged VM through its hypervisor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
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
    /// Seconds that an ssh-agent may take for a signature: somebody may have to touch a hardware key.
    #[serde(default = "touch_seconds")]
    pub touch_seconds: u64,
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
    /// An agent that diagnoses the VM, or repairs it; off by default.
    #[serde(default, alias = "diagnosis")]
    pub agent: Option<BreakglassAgentConfig>,
}

/// `[breakglass.hypervisor]` and `[breakglass.hosts.NAME]`: a machine and the login to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
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
    /// The fingerprint or the comment of the only key to use of that ssh-agent; all its keys by default.
    #[serde(default)]
    pub agent_key: Option<String>,
    /// The host of `[breakglass.hosts]` to connect through, if this one can't be reached directly.
    #[serde(default)]
    pub via: Option<String>,
}

/// `[breakglass.agent]`, formerly `[breakglass.diagnosis]`: the agent, and what it may do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BreakglassAgentConfig {
    /// The agent, one of `[agents]`.
    pub agent: String,
    /// What it may do by itself.
    #[serde(default)]
    pub level: ConfiguredLevel,
    /// A host of `[breakglass.hosts]`: of the evidence at the level `read`, of its commands at the
    /// others.
    #[serde(default)]
    pub host: Option<String>,
    /// The commands whose output from that host becomes evidence at the level `read`.
    #[serde(default)]
    pub commands: Vec<String>,
    /// The most mutating verbs that a person can allow for a session at the level `act`.
    #[serde(default = "agent_mutations")]
    pub mutations: usize,
    /// The most calls of its tools within a minute.
    #[serde(default = "calls_a_minute")]
    pub calls_a_minute: usize,
    /// Seconds that one of its commands may take.
    #[serde(default = "command_seconds")]
    pub command_seconds: u64,
}

/// What the breakglass agent may do by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ConfiguredLevel {
    /// Nothing: no agent is started.
    Off,
    /// Read evidence that afk collects, and propose a verb.
    #[default]
    Read,
    /// Ask a person for each command and each verb.
    Ask,
    /// Act by itself, within an arming and a number of mutating verbs.
    Act,
}

impl ConfiguredLevel {
    /// The level; none for `off`.
    #[must_use]
    pub const fn level(self) -> Option<AgentLevel> {
        match self {
            Self::Off => None,
            Self::Read => Some(AgentLevel::Read),
            Self::Ask => Some(AgentLevel::Ask),
            Self::Act => Some(AgentLevel::Act),
        }
    }

    /// Whether an agent of this level gets tools that reach a host.
    pub(super) const fn has_tools(self) -> bool {
        matches!(self, Self::Ask | Self::Act)
    }
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
const fn touch_seconds() -> u64 {
    30
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
const fn agent_mutations() -> usize {
    1
}
const fn calls_a_minute() -> usize {
    20
}
const fn command_seconds() -> u64 {
    120
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
        for (name, host) in self.hosts.iter().chain([(&HYPERVISOR.to_owned(), &self.hypervisor)]) {
            self.check_jumps(name, host)?;
        }
        if self.arm_minutes == 0 {
            return wrong("arm_minutes", "should be 1 or more".into());
        }
        if let Some(agent) = &self.agent {
            if !is_agent(&agent.agent) {
                return wrong("agent.agent", format!("there is no [agents.{}]", agent.agent));
            }
            if agent.host.as_ref().is_some_and(|host| !self.hosts.contains_key(host)) {
                return wrong("agent.host", "is not one of [breakglass.hosts]".into());
            }
            if agent.level.has_tools() {
                if agent.host.is_none() {
                    let message = "should name the host of its commands, at the levels ask and act";
                    return wrong("agent.host", message.into());
                }
                if !self.hide_from_agents {
                    let message = "should be true, at the levels ask and act of [breakglass.agent]";
                    return wrong("hide_from_agents", message.into());
                }
                if agent.calls_a_minute == 0 || agent.command_seconds == 0 {
                    let message = "calls_a_minute and command_seconds should be 1 or more";
                    return wrong("agent", message.into());
                }
            }
        }
        Ok(())
    }

    /// Checks the jump hosts on the way to a host: each must be configured, and none may come twice.
    fn check_jumps(&self, name: &str, host: &HostConfig) -> Result<(), ConfigError> {
        let key = if name == HYPERVISOR { name.to_owned() } else { format!("hosts.{name}") };
        let wrong = |message: String| Err(ConfigError::meaning(format!("{key}.via"), message));
        let (mut seen, mut at) = (vec![name], host);
        while let Some(via) = &at.via {
            let Some(next) = self.hosts.get(via) else {
                return wrong(format!("{via:?} is not one of [breakglass.hosts]"));
            };
            if seen.contains(&via.as_str()) {
                return wrong(format!("leads through {via} twice"));
            }
            seen.push(via);
            at = next;
        }
        Ok(())
    }

    /// The hypervisor and the hosts.
    pub(crate) fn all_hosts(&self) -> impl Iterator<Item = &HostConfig> {
        self.hosts.values().chain([&self.hypervisor])
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
            diagnoses: self.agent.as_ref().is_some_and(|agent| agent.level.level().is_some()),
            agent: self.agent.as_ref().and_then(|agent| {
                Some(AgentRules {
                    agent: agent.agent.clone(),
                    level: agent.level.level()?,
                    host: agent.host.clone(),
                    mutations: agent.mutations,
                    calls_a_minute: agent.calls_a_minute,
                })
            }),
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
        let hosts = self.all_hosts();
        let of = |host: &HostConfig| {
            [host.key.clone(), host.certificate.clone(), host.agent_socket()].into_iter().flatten()
        };
        hosts.flat_map(of).chain([self.pins.clone()]).collect()
    }

    /// The ssh command that works without any afk.
    #[must_use]
    pub fn cold_command(&self) -> String {
        self.cold_words("status").join(" ")
    }

    /// The words of the ssh command that sends a verb to the hypervisor, quoted for a shell.
    #[must_use]
    pub(crate) fn cold_words(&self, verb: &str) -> Vec<String> {
        let host = &self.hypervisor;
        let mut words = vec!["ssh".into(), "-p".into(), host.address.port().to_string()];
        let (mut jumps, mut at) = (Vec::new(), host);
        // `check` allows no host twice.
        while let Some(next) = at.via.as_ref().and_then(|via| self.hosts.get(via)) {
            jumps.insert(0, format!("{}@{}", next.user, next.address));
            at = next;
        }
        if !jumps.is_empty() {
            words.extend(["-J".into(), quoted(&jumps.join(","))]);
        }
        if let Some(key) = &host.key {
            words.extend(["-i".into(), quoted(&key.display().to_string())]);
        }
        words.extend([quoted(&format!("{}@{}", host.user, host.address.ip())), verb.to_owned()]);
        words
    }
}

/// A word as a shell reads it back.
fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_alphanumeric() || "-_./:@,[]+=".contains(c);
    if word.chars().all(is_plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
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

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(hosts: &str) -> Result<BreakglassConfig, String> {
        let text = format!(
            "vm = 'devvm'\n[hypervisor]\naddress = '192.0.2.10:52222'\nuser = 'root'\nkey = 'k'\nvia = 'a'\n\
             {hosts}"
        );
        let config: BreakglassConfig = toml::from_str(&text).map_err(|error| error.to_string())?;
        config.check(&|_| true).map_err(|error| error.to_string())?;
        Ok(config)
    }

    fn host(name: &str, port: u16, via: &str) -> String {
        format!(
            "[hosts.{name}]\naddress = '192.0.2.1:{port}'\nuser = 'ana'\nagent = 'env'\n{via}\n"
        )
    }

    #[test]
    fn jump_hosts_exist_and_come_once() {
        let both = host("a", 1, "via = 'b'") + &host("b", 2, "");
        let command = checked(&both).unwrap().cold_command();
        let jumps = "-J ana@192.0.2.1:2,ana@192.0.2.1:1";
        assert_eq!(command, format!("ssh -p 52222 {jumps} -i k root@192.0.2.10 status"));
        let error = checked(&host("a", 1, "via = 'c'")).unwrap_err();
        assert!(error.contains("via") && error.contains("\"c\" is not one of"), "{error}");
        let circle = host("a", 1, "via = 'b'") + &host("b", 2, "via = 'a'");
        let error = checked(&circle).unwrap_err();
        assert!(error.contains("twice"), "{error}");
    }
}
