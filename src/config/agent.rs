//! `[agents.NAME]`: an agent's program, protocol, environment and price, and the shipped presets that a
//! section may start from (assets/agents.toml). The runtime builds each turn's process from it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::LazyLock;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::ConfigError;
use super::ability::{Abilities, Reported};
use super::network::HostPattern;
use crate::core::model::capability::{Capabilities, Steer};

const PRESETS: &str = include_str!("../../assets/agents.toml");

/// The protocol between afk and an agent's program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
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
    /// The lines of pi's `--mode rpc`.
    Pi,
}

/// The requests whose tokens an ACP agent reports with the answer to a prompt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ReportedTokens {
    /// Those of the prompt.
    #[default]
    Prompt,
    /// All of its process: they grow with each prompt.
    Process,
    /// Only the last one of the prompt.
    LastRequest,
}

/// The differences between agents that use ACP; the protocol itself doesn't announce them.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
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
    /// The requests whose tokens it reports with an answer.
    pub tokens: ReportedTokens,
    /// Names of its tools that change nothing but its own notes, or start a subagent whose tools ask on
    /// their own. Policies know them as `read`.
    pub harmless: Vec<String>,
    /// `_meta` of each session, as JSON.
    pub session_meta: Option<String>,
    /// The method to authenticate with before the first session.
    pub authenticate: Option<String>,
    /// The mode in which the agent asks for permission, unless it starts in that mode.
    pub mode: Option<String>,
}

/// The price of tokens, in US dollars per million, for agents that report no money.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Price {
    /// The price of tokens that the model reads.
    pub input: f64,
    /// The price of tokens that the model writes.
    pub output: f64,
}

/// How the use of an agent is billed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Plan {
    /// Per token, so that afk counts money.
    #[default]
    Metered,
    /// A flat rate, so that afk counts tokens but no money.
    Flat,
}

/// A kind of login: the traces by which afk recognizes it without reading a credential, and the settings
/// with which the agent uses it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Login {
    /// The word for it in the table: `key` or `account`.
    pub kind: String,
    /// Environment variables; any one of them suffices.
    pub env: Vec<String>,
    /// Files under the agent's HOME; any one of them suffices.
    pub files: Vec<String>,
    /// Arguments that make the agent use this login.
    pub args: Vec<String>,
    /// Environment variables that make the agent use this login.
    pub set: BTreeMap<String, String>,
    /// The method to authenticate with before the first session, if the protocol is ACP.
    pub authenticate: Option<String>,
}

/// What makes an agent ask for permission whatever its settings say: those of the user, of the
/// repository, and those that the agent wrote itself. `{enforced}` stands for the folder of `files`,
/// which the agent can read and not write.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Enforced {
    /// Arguments after all others.
    pub args: Vec<String>,
    /// Environment variables over all others.
    pub env: BTreeMap<String, String>,
    /// The text of each file by its name.
    pub files: BTreeMap<String, String>,
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
    /// The kinds of login. An agent uses the first one that is there.
    #[serde(default)]
    pub logins: Vec<Login>,
    /// The advice to a user without any login.
    pub log_in: String,
    /// What the agent can be made to do.
    #[serde(default)]
    pub can: Abilities,
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
    /// Shipped files that guard the agent, by path under HOME. afk writes them before each turn over
    /// whatever is there, since an agent can write to its own home.
    #[serde(default)]
    pub guards: BTreeMap<String, String>,
    /// What makes it ask, over every setting.
    #[serde(default)]
    pub enforced: Enforced,
    /// Files and folders of a repository that let it act unasked, and that nothing overrides.
    #[serde(default)]
    pub unasked: Vec<String>,
    /// Files and folders of its home behind the wall that decide what it asks for, and that it can write
    /// there. They are deleted before each turn, so that its settings are those of the user.
    #[serde(default)]
    pub forget: Vec<String>,
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

impl Preset {
    /// The files of all kinds of login, under HOME.
    pub fn login_files(&self) -> impl Iterator<Item = &String> {
        self.logins.iter().flat_map(|login| &login.files)
    }

    /// The profile with what the table of capabilities says.
    fn acp_profile(&self) -> AcpProfile {
        AcpProfile {
            steers: self.can.steers == Steer::MidTurn,
            resumes: self.can.resumes,
            reads_refusals: self.can.reads_refusals,
            reports_cost: self.can.money != Reported::No,
            tokens: match self.can.tokens {
                Reported::Sum => ReportedTokens::Process,
                Reported::LastRequest => ReportedTokens::LastRequest,
                Reported::No | Reported::Request | Reported::Turn => ReportedTokens::Prompt,
            },
            ..self.acp.clone()
        }
    }
}

/// The shipped presets by name.
#[must_use]
pub fn presets() -> &'static BTreeMap<String, Preset> {
    static ALL: LazyLock<BTreeMap<String, Preset>> =
        // The text is constant, and a test parses it.
        LazyLock::new(|| toml::from_str(PRESETS).unwrap_or_default());
    &ALL
}

/// The capabilities of the preset of this name, for the adapter of its protocol.
pub(crate) fn capabilities(preset: &str) -> Capabilities {
    presets().get(preset).map(|preset| preset.can.capabilities()).unwrap_or_default()
}

/// `[agents.NAME]`: an agent, as an optional preset and the owner's settings over it.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
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
    /// The agents that take a run's turns, the first that can, while this one is at its usage limit or its
    /// login is refused.
    pub fallback: Vec<String>,
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

    /// The kind of login that is there: the first one with a variable that is set, or with a file that
    /// `exists` tells of by its path under HOME.
    #[must_use]
    pub fn login(
        &self,
        our_env: &dyn Fn(&str) -> Option<String>,
        exists: &dyn Fn(&str) -> bool,
    ) -> Option<(&'static Login, &'static String)> {
        let has = |name: &String| {
            self.set.contains_key(name)
                || self.secrets.contains_key(name)
                || our_env(name).is_some_and(|value| !value.is_empty())
        };
        self.preset_definition()?.logins.iter().find_map(|login| {
            let variable = login.env.iter().find(|name| has(name));
            let file = || login.files.iter().find(|file| exists(file));
            Some((login, variable.or_else(file)?))
        })
    }

    /// This agent with the settings of a kind of login. The owner's own keys stay, and so does a
    /// command that replaces the preset's arguments.
    #[must_use]
    pub fn with_login(&self, login: &Login) -> Self {
        let mut agent = self.clone();
        if self.command.len() <= 1 {
            agent.args.splice(0..0, login.args.iter().cloned());
        }
        for (name, value) in &login.set {
            agent.set.entry(name.clone()).or_insert_with(|| value.clone());
        }
        if self.acp.is_none() && login.authenticate.is_some() {
            let profile =
                AcpProfile { authenticate: login.authenticate.clone(), ..self.acp_profile() };
            agent.acp = Some(profile);
        }
        agent
    }

    /// The row of its preset in the table of capabilities, unless it speaks another protocol.
    #[must_use]
    pub fn abilities(&self) -> Option<&'static Abilities> {
        let preset = self.preset_definition()?;
        // The chosen login has its own way to authenticate.
        let ways = |profile: &AcpProfile| AcpProfile { authenticate: None, ..profile.clone() };
        let own = self.acp.as_ref().is_none_or(|own| ways(own) == ways(&preset.acp_profile()));
        (self.protocol() == preset.protocol && own).then_some(&preset.can)
    }

    /// The settings files of an own HOME, with their text; empty if it shares the user's HOME.
    #[must_use]
    pub fn settings_files(&self) -> Vec<(PathBuf, &'static str)> {
        let (Some(home), Some(preset)) = (&self.home, self.preset_definition()) else {
            return Vec::new();
        };
        preset.files.iter().map(|(path, text)| (home.join(path), text.as_str())).collect()
    }

    /// The profile that applies if the protocol is ACP. That of a preset follows from the table of
    /// capabilities.
    #[must_use]
    pub fn acp_profile(&self) -> AcpProfile {
        if let Some(own) = &self.acp {
            return own.clone();
        }
        self.preset_definition().map(Preset::acp_profile).unwrap_or_default()
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
            "pi",
        ] {
            let preset = &all[name];
            assert!(!preset.command.is_empty() && !preset.tested.is_empty(), "{name}");
            assert!(!preset.log_in.is_empty() && !preset.logins.is_empty(), "{name}");
            // An adapter reads the row of the preset that has the name of its protocol.
            let rows = [Protocol::Claude, Protocol::Codex, Protocol::Pi];
            assert_eq!(rows.contains(&preset.protocol), ["claude", "codex", "pi"].contains(&name));
            let meta = preset.acp.session_meta.as_deref().unwrap_or("{}");
            assert!(serde_json::from_str::<serde_json::Value>(meta).is_ok(), "{name}");
            for (file, text) in &preset.enforced.files {
                let is_json = serde_json::from_str::<serde_json::Value>(text).is_ok();
                let is_toml = toml::from_str::<toml::Table>(text).is_ok();
                assert!(if text.starts_with('{') { is_json } else { is_toml }, "{name}: {file}");
            }
        }
    }

    #[test]
    fn login_that_is_there_is_used() {
        let agent =
            |preset: &str| AgentConfig { preset: Some(preset.into()), ..AgentConfig::default() };
        let nothing = |_: &str| None;
        let oauth = |file: &str| file.ends_with("oauth_creds.json");
        let (login, trace) = agent("gemini").login(&nothing, &oauth).unwrap();
        assert_eq!((login.kind.as_str(), trace.as_str()), ("account", ".gemini/oauth_creds.json"));
        let profile = agent("gemini").with_login(login).acp_profile();
        assert_eq!(profile.authenticate.as_deref(), Some("oauth-personal"));
        assert!(profile.reads_refusals);
        let can = &presets()["gemini"].can;
        assert_eq!(agent("gemini").with_login(login).abilities(), Some(can));
        let key = |name: &str| (name == "GEMINI_API_KEY").then(|| "k".to_owned());
        let (login, _) = agent("gemini").login(&key, &oauth).unwrap();
        assert_eq!(login.authenticate.as_deref(), Some("gemini-api-key"));
        let (login, _) = agent("qwen").login(&nothing, &oauth).unwrap();
        assert_eq!(agent("qwen").with_login(login).command()[2..], ["--auth-type", "qwen-oauth"]);
        // GitHub's login of copilot needs the network.
        let config = |file: &str| file == ".copilot/config.json";
        let (login, _) = agent("copilot").login(&nothing, &config).unwrap();
        assert!(
            !agent("copilot").with_login(login).fixed_variables().contains_key("COPILOT_OFFLINE")
        );
        let key = |name: &str| (name == "COPILOT_PROVIDER_API_KEY").then(|| "k".to_owned());
        let (login, _) = agent("copilot").login(&key, &config).unwrap();
        let copilot = agent("copilot").with_login(login);
        assert_eq!(copilot.fixed_variables()["COPILOT_OFFLINE"], "true");
        // An empty variable is no login.
        assert!(agent("claude").login(&|_| Some(String::new()), &|_| false).is_none());
    }

    #[test]
    fn acp_profile_of_a_preset_follows_from_its_row() {
        for (name, preset) in presets() {
            let agent = AgentConfig { preset: Some(name.clone()), ..AgentConfig::default() };
            let profile = agent.acp_profile();
            assert_eq!(profile.resumes, preset.can.resumes, "{name}");
            assert_eq!(profile.steers, preset.can.steers == Steer::MidTurn, "{name}");
            assert_eq!(agent.abilities(), Some(&preset.can), "{name}");
        }
        let own = AcpProfile { steers: true, ..AcpProfile::default() };
        let agent =
            AgentConfig { preset: Some("gemini".into()), acp: Some(own), ..AgentConfig::default() };
        assert!(agent.acp_profile().steers && !agent.acp_profile().reads_refusals);
        assert_eq!(agent.abilities(), None);
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
