//! An agent's part of the configuration, and the presets that it may begin from.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::LazyLock;

use serde::{Deserialize, Serialize};

/// The shipped presets.
const PRESETS: &str = include_str!("../../assets/agents.toml");

/// What an agent speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Speaks {
    /// JSON lines (docs/agents.md).
    #[default]
    Command,
    /// Text, and an exit code.
    Text,
    /// Claude Code's stream-json.
    Claude,
    /// Codex's app server.
    Codex,
    /// The Agent Client Protocol.
    Acp,
}

/// In what ACP agents differ.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Ways {
    /// A second prompt in the middle of a turn steers it; otherwise it would cancel or wait, and
    /// afk keeps it until the turn is over.
    pub steers: bool,
    /// Goes on with a conversation in a new process.
    pub resumes: bool,
    /// The model reads a refusal and goes on; otherwise it ends the turn.
    pub reads_refusals: bool,
    /// Tells money beside tokens.
    pub tells_cost: bool,
    /// The method to authenticate with before a session is made.
    pub authenticate: Option<String>,
    /// The mode in which it asks leave, where that isn't the one that it begins in.
    pub mode: Option<String>,
}

/// How money is reckoned, where the agent tells tokens only: US dollars per million of them.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Price {
    /// Read by the model.
    pub input: f64,
    /// Written by it.
    pub output: f64,
}

/// How the agent is paid for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Plan {
    /// By use.
    #[default]
    Metered,
    /// A flat rate: tokens are counted and money isn't.
    Flat,
}

/// How a person knows whether an agent can log in, without reading its credentials.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Login {
    /// Any of these names in its environment is enough.
    pub env: Vec<String>,
    /// Any of these files under its HOME is enough.
    pub files: Vec<String>,
    /// What to do where neither is there.
    pub how: String,
}

/// A preset; see assets/agents.toml.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Preset {
    /// What it is, in a line.
    pub about: String,
    /// What it speaks.
    pub speaks: Speaks,
    /// Program and arguments.
    pub command: Vec<String>,
    /// Names that are passed on from afk's environment where they are set.
    #[serde(default)]
    pub env: Vec<String>,
    /// Names with a value: no updates, no telemetry.
    #[serde(default)]
    pub set: BTreeMap<String, String>,
    /// Arguments that make the program tell its version.
    #[serde(default)]
    pub version: Vec<String>,
    /// Versions that were tried.
    pub tested: Vec<String>,
    /// How it logs in.
    #[serde(default)]
    pub login: Login,
    /// Its differences, where it speaks ACP.
    #[serde(default)]
    pub acp: Ways,
    /// Settings in a HOME of its own, by path: the switches that have no environment name.
    #[serde(default)]
    pub files: BTreeMap<String, String>,
    /// How it is installed.
    pub install: String,
    /// Where its npm package keeps the program itself, below `node_modules`.
    #[serde(default)]
    pub vendor: Option<String>,
}

/// The presets by name.
#[must_use]
pub fn presets() -> &'static BTreeMap<String, Preset> {
    static ALL: LazyLock<BTreeMap<String, Preset>> =
        // It is constant, and a test reads it.
        LazyLock::new(|| toml::from_str(PRESETS).unwrap_or_default());
    &ALL
}

/// An agent.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Agent {
    /// What it begins from; everything below goes over it.
    pub preset: Option<String>,
    /// What it speaks, where it has no preset.
    pub speaks: Option<Speaks>,
    /// Program and arguments.
    pub command: Vec<String>,
    /// Arguments after those of the command.
    pub args: Vec<String>,
    /// Names of the environment that it gets beside the few that every child gets.
    pub env: Vec<String>,
    /// Environment names with a value of their own.
    pub set: BTreeMap<String, String>,
    /// Environment names whose value is a secret: `env:NAME` or `file:/path` (mode 0600).
    pub secrets: BTreeMap<String, String>,
    /// A HOME of its own: its login, its settings and its conversations live there.
    pub home: Option<PathBuf>,
    /// The model, where it isn't the agent's own choice.
    pub model: Option<String>,
    /// Steps that a turn may take.
    pub max_steps: Option<u32>,
    /// How it is paid for.
    pub plan: Plan,
    /// What its tokens cost, where it does not tell.
    pub price: Option<Price>,
    /// Its differences, where it speaks ACP and has no preset.
    pub acp: Option<Ways>,
}

impl Agent {
    /// Its preset, where it has one that is known.
    #[must_use]
    pub fn known(&self) -> Option<&'static Preset> {
        presets().get(self.preset.as_ref()?)
    }

    /// What it speaks.
    #[must_use]
    pub fn speaks(&self) -> Speaks {
        self.speaks.or_else(|| Some(self.known()?.speaks)).unwrap_or_default()
    }

    /// Program and arguments. A preset's arguments stay where only the program is replaced.
    #[must_use]
    pub fn command(&self) -> Vec<String> {
        let preset = self.known().map(|preset| preset.command.as_slice()).unwrap_or_default();
        let own = match self.command.as_slice() {
            [] => preset.to_vec(),
            [program] if preset.len() > 1 => {
                std::iter::once(program).chain(&preset[1..]).cloned().collect()
            }
            whole => whole.to_vec(),
        };
        own.into_iter().chain(self.args.iter().cloned()).collect()
    }

    /// Names that are passed on.
    #[must_use]
    pub fn passed_on(&self) -> Vec<&String> {
        self.known().into_iter().flat_map(|preset| &preset.env).chain(&self.env).collect()
    }

    /// Names with a value.
    #[must_use]
    pub fn settings(&self) -> BTreeMap<String, String> {
        let mut all = self.known().map(|preset| preset.set.clone()).unwrap_or_default();
        all.extend(self.set.clone());
        if let Some(home) = &self.home {
            all.insert("HOME".into(), home.display().to_string());
        }
        all
    }

    /// Files that its own HOME should have, with their text; none where it shares the user's.
    #[must_use]
    pub fn files(&self) -> Vec<(PathBuf, &'static str)> {
        let (Some(home), Some(preset)) = (&self.home, self.known()) else { return Vec::new() };
        preset.files.iter().map(|(path, text)| (home.join(path), text.as_str())).collect()
    }

    /// Its ways, where it speaks ACP.
    #[must_use]
    pub fn ways(&self) -> Ways {
        self.acp.clone().or_else(|| Some(self.known()?.acp.clone())).unwrap_or_default()
    }

    /// What is wrong with it: the key below its own and the message.
    ///
    /// # Errors
    /// The first that is found.
    pub fn check(&self) -> Result<(), (&'static str, String)> {
        if let Some(name) = &self.preset
            && self.known().is_none()
        {
            let names: Vec<&str> = presets().keys().map(String::as_str).collect();
            return Err(("preset", format!("{name:?} is not one of {}", names.join(", "))));
        }
        if self.command().first().is_none_or(String::is_empty) {
            return Err(("command", "names no program, and there is no preset".into()));
        }
        if let Some(price) = self.price
            && !(price.input >= 0.0 && price.output >= 0.0)
        {
            return Err(("price", "should be amounts in US dollars".into()));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_preset_can_be_read_and_is_whole() {
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
    fn what_is_set_goes_over_the_preset() {
        let agent = Agent {
            preset: Some("codex".into()),
            command: vec!["/opt/codex".into()],
            ..Agent::default()
        };
        assert_eq!(agent.command()[..2], ["/opt/codex", "app-server"]);
        assert_eq!(agent.speaks(), Speaks::Codex);
        let agent =
            Agent { preset: Some("claude".into()), home: Some("/h".into()), ..Agent::default() };
        let set = agent.settings();
        assert_eq!((set["HOME"].as_str(), set["DISABLE_AUTOUPDATER"].as_str()), ("/h", "1"));
        let gemini =
            Agent { preset: Some("gemini".into()), home: Some("/h".into()), ..Agent::default() };
        assert_eq!(gemini.files()[0].0, PathBuf::from("/h/.gemini/settings.json"));
        assert!(Agent { home: None, ..gemini }.files().is_empty());
        assert!(Agent { preset: Some("clade".into()), ..Agent::default() }.check().is_err());
        assert!(Agent::default().check().is_err());
    }
}
