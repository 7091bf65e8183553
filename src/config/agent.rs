//! `[agents.NAME]`: an agent's program, protocol, environment and price, and the shipped presets that a
//! section may start from (assets/agents.toml). The runtime builds each turn's process from it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::LazyLock;

use serde::{Deserialize, Serialize};

use super::ConfigError;
use super::network::HostPattern;

const PRESETS: &str = include_str!("../../assets/agents.toml");

/// The protocol between afk and an agent's program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Protocol {
    /// JSON lines of afk's own (docs/agents.md).
    #[default]
    Command,
    /// Plain text and an exit code.
    Text,
    /// Claude Code's `stream-json` format.
    Claude,
    /// The protocol of Codex's app server.
    Codex,
    /// The Agent Client Protocol (ACP).
    Acp,
}

/// The differences between agents that use ACP; the protocol itself doesn't announce them.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AcpProfile {
    /// Whether a second prompt in the middle of a turn steers the turn. With other agents it would
    /// cancel the turn or wait, so that afk holds it back until the turn is over.
    pub steers: bool,
    /// Whether a new process can resume an earlier conversation.
    pub resumes: bool,
    /// Whether the model reads a refused permission and continues; otherwise a refusal ends the turn.
    pub reads_refusals: bool,
    /// Whether the agent reports money beside tokens.
    #[serde(rename = "tells_cost")]
    pub reports_cost: bool,
    /// The method to authenticate with before the first session.
    pub authenticate: Option<String>,
    /// The mode in which the agent asks for permission, unless it starts in that mode.
    pub mode: Option<String>,
}

/// The price of tokens, in US dollars per million, for agents that report no money.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Price {
    /// The price of tokens that the model reads.
    pub input: f64,
    /// The price of tokens that the model writes.
    pub output: f64,
}

/// How the use of an agent is billed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Plan {
    /// Per token, so that afk counts money.
    #[default]
    Metered,
    /// A flat rate, so that afk counts tokens but no money.
    Flat,
}

/// The traces of a login, by which `afk doctor` reports whether an agent can log in without reading
/// its credentials.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Login {
    /// Environment variables; any one of them suffices.
    pub env: Vec<String>,
    /// Files under the agent's HOME; any one of them suffices.
    pub files: Vec<String>,
    /// The advice to a user who has neither.
    pub how: String,
}

/// A shipped definition of an agent that afk was tested with (assets/agents.toml).
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Preset {
    /// A description in one line.
    pub about: String,
    /// The protocol of the agent's program.
    #[serde(rename = "speaks")]
    pub protocol: Protocol,
    /// The program and its arguments.
    pub command: Vec<String>,
    /// Environment variables that the agent inherits from afk if they are set.
    #[serde(default)]
    pub env: Vec<String>,
    /// Environment variables with fixed values, which turn off updates and telemetry.
    #[serde(default)]
    pub set: BTreeMap<String, String>,
    /// The arguments that make the program print its version.
    #[serde(default)]
    pub version: Vec<String>,
    /// The versions that afk was tested with.
    pub tested: Vec<String>,
    /// The traces of a login.
    #[serde(default)]
    pub login: Login,
    /// The profile, if the protocol is ACP.
    #[serde(default)]
    pub acp: AcpProfile,
    /// Settings files for a private HOME, by path, for switches without an environment variable.
    #[serde(default)]
    pub files: BTreeMap<String, String>,
    /// Files under the user's HOME with the agent's own settings, such as the choice of a model. Behind
    /// the wall the agent's home starts with copies of them, as of its login.
    #[serde(default)]
    pub settings: Vec<String>,
    /// Files and folders under the user's HOME that the agent may read there behind the wall.
    #[serde(default)]
    pub read: Vec<String>,
    /// Environment variables that move a folder of the agent, and the folder's usual path under HOME.
    #[serde(default)]
    pub folders: BTreeMap<String, String>,
    /// The hosts that the agent must reach: its model, and its login.
    #[serde(default)]
    pub hosts: Vec<HostPattern>,
    /// The command that installs the agent.
    pub install: String,
    /// The path of the native program below `node_modules`, for an npm package that wraps one.
    #[serde(default)]
    pub vendor: Option<String>,
}

/// The shipped presets by name.
#[must_use]
pub fn presets() -> &'static BTreeMap<String, Preset> {
    static ALL: LazyLock<BTreeMap<String, Preset>> =
        // The text is constant, and a test parses it.
        LazyLock::new(|| toml::from_str(PRESETS).unwrap_or_default());
    &ALL
}

/// `[agents.NAME]`: an agent, as an optional preset and the owner's settings over it.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AgentConfig {
    /// The preset that the keys below override.
    pub preset: Option<String>,
    /// The protocol; the preset's by default.
    #[serde(rename = "speaks")]
    pub protocol: Option<Protocol>,
    /// The program and its arguments; the preset's by default.
    pub command: Vec<String>,
    /// Arguments that afk appends to those of the command.
    pub args: Vec<String>,
    /// Environment variables that the agent inherits beside those that every child inherits.
    pub env: Vec<String>,
    /// Environment variables with fixed values.
    pub set: BTreeMap<String, String>,
    /// Environment variables whose value is a reference to a secret: `env:NAME`, `file:/path` (mode
    /// 0600) or `vault:…`.
    pub secrets: BTreeMap<String, String>,
    /// An own HOME for the agent's login, settings and conversations.
    pub home: Option<PathBuf>,
    /// The model; the agent's own choice by default.
    pub model: Option<String>,
    /// The number of steps that a turn may take.
    pub max_steps: Option<u32>,
    /// How the use of the agent is billed.
    pub plan: Plan,
    /// The price of tokens, for an agent that reports no money.
    pub price: Option<Price>,
    /// The profile, if the protocol is ACP; the preset's by default.
    pub acp: Option<AcpProfile>,
}

impl AgentConfig {
    /// The definition of its preset, if it names one that exists.
    #[must_use]
    pub fn preset_definition(&self) -> Option<&'static Preset> {
        presets().get(self.preset.as_ref()?)
    }

    /// The protocol of the agent's program.
    #[must_use]
    pub fn protocol(&self) -> Protocol {
        self.protocol.or_else(|| Some(self.preset_definition()?.protocol)).unwrap_or_default()
    }

    /// The program and its arguments. A `command` of a single word replaces only the preset's
    /// program and keeps the preset's arguments.
    #[must_use]
    pub fn command(&self) -> Vec<String> {
        let preset =
            self.preset_definition().map(|preset| preset.command.as_slice()).unwrap_or_default();
        let own = match self.command.as_slice() {
            [] => preset.to_vec(),
            [program] if preset.len() > 1 => {
                std::iter::once(program).chain(&preset[1..]).cloned().collect()
            }
            whole => whole.to_vec(),
        };
        own.into_iter().chain(self.args.iter().cloned()).collect()
    }

    /// The environment variables that the agent inherits.
    #[must_use]
    pub fn inherited_variables(&self) -> Vec<&String> {
        self.preset_definition()
            .into_iter()
            .flat_map(|preset| &preset.env)
            .chain(&self.env)
            .collect()
    }

    /// The environment variables with fixed values, `HOME` among them.
    #[must_use]
    pub fn fixed_variables(&self) -> BTreeMap<String, String> {
        let mut all = self.preset_definition().map(|preset| preset.set.clone()).unwrap_or_default();
        all.extend(self.set.clone());
        if let Some(home) = &self.home {
            all.insert("HOME".into(), home.display().to_string());
        }
        all
    }

    /// The settings files of an own HOME, with their text; empty if it shares the user's HOME.
    #[must_use]
    pub fn settings_files(&self) -> Vec<(PathBuf, &'static str)> {
        let (Some(home), Some(preset)) = (&self.home, self.preset_definition()) else {
            return Vec::new();
        };
        preset.files.iter().map(|(path, text)| (home.join(path), text.as_str())).collect()
    }

    /// The profile that applies if the protocol is ACP.
    #[must_use]
    pub fn acp_profile(&self) -> AcpProfile {
        self.acp.clone().or_else(|| Some(self.preset_definition()?.acp.clone())).unwrap_or_default()
    }

    pub(super) fn check(&self) -> Result<(), ConfigError> {
        if let Some(name) = &self.preset
            && self.preset_definition().is_none()
        {
            let names: Vec<&str> = presets().keys().map(String::as_str).collect();
            let message = format!("{name:?} is not one of {}", names.join(", "));
            return Err(ConfigError::meaning("preset", message));
        }
        if self.command().first().is_none_or(String::is_empty) {
            return Err(ConfigError::meaning(
                "command",
                "names no program, and there is no preset",
            ));
        }
        if let Some(price) = self.price
            && !(price.input >= 0.0 && price.output >= 0.0)
        {
            return Err(ConfigError::meaning("price", "should hold amounts in US dollars"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_preset_parses_and_is_complete() {
        let all: BTreeMap<String, Preset> = toml::from_str(PRESETS).unwrap();
        assert_eq!(all.len(), presets().len());
        for name in [
            "claude",
            "codex",
            "opencode",
            "claude-agent-acp",
            "codex-acp",
            "gemini",
            "qwen",
            "copilot",
        ] {
            let preset = &all[name];
            assert!(!preset.command.is_empty() && !preset.tested.is_empty(), "{name}");
            assert!(!preset.login.how.is_empty(), "{name}");
        }
    }

    #[test]
    fn own_keys_override_the_preset() {
        let agent = AgentConfig {
            preset: Some("codex".into()),
            command: vec!["/opt/codex".into()],
            ..AgentConfig::default()
        };
        assert_eq!(agent.command()[..2], ["/opt/codex", "app-server"]);
        assert_eq!(agent.protocol(), Protocol::Codex);
        let agent = AgentConfig {
            preset: Some("claude".into()),
            home: Some("/h".into()),
            ..AgentConfig::default()
        };
        let set = agent.fixed_variables();
        assert_eq!((set["HOME"].as_str(), set["DISABLE_AUTOUPDATER"].as_str()), ("/h", "1"));
        let gemini = AgentConfig {
            preset: Some("gemini".into()),
            home: Some("/h".into()),
            ..AgentConfig::default()
        };
        assert_eq!(gemini.settings_files()[0].0, PathBuf::from("/h/.gemini/settings.json"));
        assert!(AgentConfig { home: None, ..gemini }.settings_files().is_empty());
        assert!(
            AgentConfig { preset: Some("clade".into()), ..AgentConfig::default() }.check().is_err()
        );
        assert!(AgentConfig::default().check().is_err());
    }
}
