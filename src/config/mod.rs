//! Typed configuration: the owner's `afk.toml`, environment variables over it, and each
//! repository's own `.afk.toml`. One file per section.
//!
//! ```text
//! afk.toml ── parse ──▶ Config ◀── environment, control folder, ConfigMap (control.rs, service.rs)
//!                         │
//!                         ├── check (check.rs): do the sections fit together?
//!                         └── policy (policy.rs): the rules of the pure core
//! .afk.toml of a commit ── parse ──▶ RepositoryRules (repository.rs): gate, CI, deploy, probes
//! ```
//!
//! The command line loads it, the runtime loads it again after each change, and adapters receive
//! their own section. An unknown key is an error that names its path. The default dispatches
//! nothing: the kill switch is on and the allowlist is empty.

pub mod ability;
pub(crate) mod address;
pub mod agent;
pub mod answer;
pub mod breakglass;
mod check;
pub mod control;
mod error;
pub mod executor;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
pub mod http;
pub mod journal;
pub mod leader;
pub mod limits;
pub mod log;
pub mod network;
pub mod notify;
pub mod paths;
mod place;
mod policy;
pub mod presence;
mod ranges;
pub mod report;
pub mod repos;
pub mod repository;
pub(crate) mod restart;
pub mod sandbox;
pub mod schema;
pub mod service;
pub mod services;
pub mod setup;
mod test_secrets;
pub mod ui;
#[cfg(test)]
mod wrong_values;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use error::{ConfigError, parse};

use agent::AgentConfig;
use breakglass::BreakglassConfig;
use control::ControlConfig;
use executor::ExecutorConfig;
use http::HttpConfig;
use journal::JournalConfig;
use leader::LeaderConfig;
use limits::{BudgetConfig, FixForwardConfig, LimitsConfig, OutagesConfig};
use log::LogConfig;
use notify::NotifyConfig;
use presence::PresenceConfig;
use repos::{LabelsConfig, RepositoryConfig, TrackerConfig, TrackerKind};
use sandbox::SandboxConfig;
use service::ServiceConfig;
use services::{
    GitHubConfig, KubernetesConfig, LokiConfig, TracesConfig, VaultConfig, WoodpeckerConfig,
};
use ui::{SshConfig, UiConfig};

use crate::core::model::id::{Actor, Repo};

/// Looks up an environment variable; tests pass their own.
pub(crate) type Env<'a> = &'a dyn Fn(&str) -> Option<String>;

/// The whole configuration; `assets/afk.toml` is the commented example.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Stops all pickup of issues and jobs.
    pub kill_switch: bool,
    /// The only repositories that afk ever touches.
    #[schemars(with = "BTreeSet<schema::RepositoryName>")]
    pub allowlist: BTreeSet<Repo>,
    /// The accounts that may arm an issue.
    #[schemars(with = "BTreeSet<String>")]
    pub trusted: BTreeSet<Actor>,
    /// The name that your actions are recorded under; your login by default.
    pub operator: Option<String>,
    /// The number of permits; 3 by default, 10 if `[service]` is set.
    pub capacity: Option<u32>,
    /// The number of runs that may wait for a permit.
    pub max_queue_depth: u32,
    /// The agent of repositories that name none.
    pub agent: Option<String>,
    /// Label names in the tracker.
    pub labels: LabelsConfig,
    /// The folder of issues, and the poll interval.
    pub tracker: TrackerConfig,
    /// Limits of spending, per day and per run.
    pub budget: BudgetConfig,
    /// Limits of the turns that follow a red verdict.
    pub fix_forward: FixForwardConfig,
    /// The patience with a part of the environment that is away.
    pub outages: OutagesConfig,
    /// Limits of time, memory and disk.
    pub limits: LimitsConfig,
    /// The wall around agents and the commands of repositories.
    pub sandbox: SandboxConfig,
    /// The agents by their names.
    pub agents: BTreeMap<String, AgentConfig>,
    /// The repositories by `owner/name`.
    #[schemars(with = "BTreeMap<String, RepositoryConfig>")]
    pub repos: BTreeMap<Repo, RepositoryConfig>,
    /// The places beside this machine that can carry out turns, by name.
    pub executors: BTreeMap<String, ExecutorConfig>,
    /// Where claims on issues are published.
    pub presence: PresenceConfig,
    /// The ways to notify the operator.
    pub notify: NotifyConfig,
    /// GitHub's issues and checks.
    pub github: Option<GitHubConfig>,
    /// Woodpecker's pipelines, for CI and deploys.
    pub woodpecker: Option<WoodpeckerConfig>,
    /// The access to Kubernetes clusters.
    pub kubernetes: KubernetesConfig,
    /// The Vault server that secrets come from.
    pub vault: Option<VaultConfig>,
    /// The Loki server that receives log lines.
    pub loki: Option<LokiConfig>,
    /// The collector that receives each run as a trace.
    pub traces: Option<TracesConfig>,
    /// The sources of the kill switch and other controls, beside the environment.
    pub control: ControlConfig,
    /// The looks of the cockpit.
    pub ui: UiConfig,
    /// The cockpit over SSH.
    pub ssh: SshConfig,
    /// The HTTP API and its tokens.
    pub http: HttpConfig,
    /// The form of afk's own log.
    pub log: LogConfig,
    /// The anchor of the journal.
    pub journal: JournalConfig,
    /// The service for jobs and questions of callers.
    pub service: Option<ServiceConfig>,
    /// The election among several afk processes.
    pub leader: Option<LeaderConfig>,
    /// The term of this process while it leads; the runtime sets it.
    #[serde(skip)]
    pub term: Option<u64>,
    /// The recovery of a wedged VM.
    pub breakglass: Option<BreakglassConfig>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            kill_switch: true,
            allowlist: BTreeSet::new(),
            trusted: BTreeSet::new(),
            operator: None,
            capacity: None,
            max_queue_depth: 100,
            agent: None,
            labels: LabelsConfig::default(),
            tracker: TrackerConfig::default(),
            budget: BudgetConfig::default(),
            fix_forward: FixForwardConfig::default(),
            outages: OutagesConfig::default(),
            limits: LimitsConfig::default(),
            sandbox: SandboxConfig::default(),
            agents: BTreeMap::new(),
            repos: BTreeMap::new(),
            executors: BTreeMap::new(),
            presence: PresenceConfig::default(),
            notify: NotifyConfig::default(),
            github: None,
            woodpecker: None,
            kubernetes: KubernetesConfig::default(),
            vault: None,
            loki: None,
            traces: None,
            control: ControlConfig::default(),
            ui: UiConfig::default(),
            ssh: SshConfig::default(),
            http: HttpConfig::default(),
            log: LogConfig::default(),
            journal: JournalConfig::default(),
            service: None,
            leader: None,
            term: None,
            breakglass: None,
        }
    }
}

impl Config {
    /// Reads a file, applies the environment over it, and checks the result. Relative paths start
    /// from the file's folder.
    ///
    /// # Errors
    /// Returns a [`ConfigError`] that names the file, the line and the key.
    pub fn load(path: &Path, env: Env<'_>) -> Result<Self, ConfigError> {
        let text = crate::trusted_file::read(path)?;
        Self::from_text(path, &text, env)
    }

    /// [`Config::load`] with the file's text, which the caller has read.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub(crate) fn from_text(path: &Path, text: &str, env: Env<'_>) -> Result<Self, ConfigError> {
        let file = path.display().to_string();
        let mut config: Self = parse(&file, text)?;
        config.resolve_paths(path.parent().unwrap_or(Path::new(".")), env);
        let checked = config.overlay(env).and_then(|()| test_secrets::check(&config, text));
        checked.map_err(|error| error.located(&file, text))?;
        Ok(config)
    }

    /// Whether the environment alone describes a service, so that no file is needed.
    #[must_use]
    pub fn is_in_environment(env: Env<'_>) -> bool {
        service::is_in_environment(env)
    }

    /// The configuration of the environment alone.
    ///
    /// # Errors
    /// Returns a [`ConfigError`] that names the variable or the key.
    pub fn of_environment(env: Env<'_>) -> Result<Self, ConfigError> {
        let mut config = Self::default();
        config.resolve_paths(Path::new("/"), env);
        config.overlay(env)?;
        Ok(config)
    }

    /// Lays the environment over the file's values, and checks the result.
    fn overlay(&mut self, env: Env<'_>) -> Result<(), ConfigError> {
        service::apply_environment(self, env)?;
        control::apply(self, env)?;
        if control::value_of(env, "AFK_ALLOWLIST").is_none()
            && service::is_in_environment(env)
            && let Some(repo) = self.service.as_ref().and_then(|service| service.repository.clone())
        {
            // A blank allowlist takes no issue. The environment names the jobs' repository by itself.
            self.allowlist.insert(repo);
        }
        self.check()
    }

    fn resolve_paths(&mut self, home: &Path, env: Env<'_>) {
        let resolve = |path: &Path| home.join(expand_home(path, env));
        self.tracker.folder = self.tracker.folder.as_deref().map(resolve);
        self.ssh.authorized_keys = resolve(&self.ssh.authorized_keys);
        for path in self.sandbox.read.iter_mut().chain(&mut self.sandbox.write) {
            *path = resolve(path);
        }
        self.presence.file = self.presence.file.as_deref().map(resolve);
        self.journal.anchor_file = self.journal.anchor_file.as_deref().map(resolve);
        if let Some(breakglass) = &mut self.breakglass {
            breakglass.resolve_paths(&resolve);
        }
        for repository in self.repos.values_mut() {
            let deploy = &mut repository.deploy;
            for path in deploy.read.iter_mut().chain(&mut deploy.write) {
                *path = resolve(path);
            }
            if repository.remote.starts_with("./") || repository.remote.starts_with("../") {
                repository.remote = home.join(&repository.remote).display().to_string();
            }
        }
    }

    /// Adds GitHub's address to each repository that names no remote.
    fn add_github_remotes(&mut self) {
        let Some(host) = self.github.as_ref().map(GitHubConfig::host) else { return };
        for repo in &self.allowlist {
            self.repos.entry(repo.clone()).or_default();
        }
        for (repo, repository) in &mut self.repos {
            if repository.remote.is_empty() {
                repository.remote = format!("{host}/{repo}.git");
            }
        }
    }

    /// Whether a repository's issues come from GitHub.
    #[must_use]
    pub fn on_github(&self, repo: &Repo) -> bool {
        let kind = self.repos.get(repo).and_then(|repository| repository.tracker);
        self.github.is_some() && kind != Some(TrackerKind::Folder)
    }

    /// The agent of a repository: its own, else the top-level one, else the only one there is.
    #[must_use]
    pub fn agent_of(&self, repo: &Repo) -> Option<(&String, &AgentConfig)> {
        let own = self.repos.get(repo).and_then(|r| r.agent.as_ref());
        match own.or(self.agent.as_ref()) {
            Some(name) => self.agents.get_key_value(name),
            None if self.agents.len() == 1 => self.agents.iter().next(),
            None => None,
        }
    }

    /// Whether there is a tracker to read issues from.
    pub(crate) const fn has_tracker(&self) -> bool {
        self.tracker.folder.is_some() || self.github.is_some()
    }

    /// The name that actions at this terminal are recorded under.
    #[must_use]
    pub fn operator(&self) -> Actor {
        self.named_operator().unwrap_or_else(|| Actor("operator".into()))
    }

    /// The name of the operator at this machine, if the configuration or the environment has one.
    pub(crate) fn named_operator(&self) -> Option<Actor> {
        let login = || std::env::var("USER").ok().filter(|name| !name.is_empty());
        self.operator.clone().or_else(login).map(Actor)
    }
}

fn expand_home(path: &Path, env: Env<'_>) -> PathBuf {
    match (path.strip_prefix("~"), env("HOME")) {
        (Ok(rest), Some(home)) => Path::new(&home).join(rest),
        _ => path.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::model::policy::Policy;

    fn empty_environment(_: &str) -> Option<String> {
        None
    }

    fn load(text: &str, env: &dyn Fn(&str) -> Option<String>) -> Result<Config, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("afk.toml");
        std::fs::write(&path, text).unwrap();
        Config::load(&path, env)
            .map_err(|e| e.to_string().replace(&folder.path().display().to_string(), ""))
    }

    #[test]
    fn empty_file_dispatches_nothing() {
        let config = load("", &empty_environment).unwrap();
        assert!(config.kill_switch && config.allowlist.is_empty());
        assert_eq!(config.policy(), Policy::default());
    }

    #[test]
    fn error_names_file_line_and_key() {
        for (text, error) in [
            ("kill_switch = ", "/afk.toml:1:15: "),
            ("kill_swich = true", "/afk.toml:1:1: kill_swich: unknown field `kill_swich`"),
            ("\n[limits]\nturn = 3", "/afk.toml:3:1: limits.turn: unknown field `turn`"),
            ("capacity = -1", "/afk.toml:1:12: capacity: invalid value"),
            (
                "allowlist = ['acme']",
                "/afk.toml:1:14: allowlist[0]: \"acme\" is not a repository name",
            ),
            ("allowlist = ['a/b']", "/afk.toml:1:13: allowlist: a/b has no [repos.\"a/b\"]"),
            ("agent = 'x'", "/afk.toml:1:9: agent: there is no [agents.x]"),
            ("[agents.x]\ncommand = []", "/afk.toml:2:11: agents.x.command: names no program"),
            (
                "[repos.'a/b']\nremote = 'ext::sh'",
                "/afk.toml:2:10: repos.\"a/b\".remote: is not an allowed remote",
            ),
            (
                "[repos.'a/b']\nremote = 'x'\nbranch = '-f'",
                "/afk.toml:3:10: repos.\"a/b\".branch: is not a branch name",
            ),
        ] {
            let message = load(text, &empty_environment).unwrap_err();
            assert!(message.starts_with(error), "{text:?} gave {message:?}");
            assert!(!message.contains('\n'), "{message:?} has several lines");
        }
    }

    #[test]
    fn environment_overrides_file() {
        let env = |name: &str| (name == "AFK_KILL_SWITCH").then(|| "off".to_owned());
        assert!(!load("kill_switch = true", &env).unwrap().kill_switch);
        let env = |name: &str| (name == "AFK_KILL_SWITCH").then(|| "maybe".to_owned());
        assert!(load("", &env).unwrap_err().starts_with("AFK_KILL_SWITCH=\"maybe\""));
    }

    #[test]
    fn github_repository_needs_only_its_name() {
        let text = "allowlist = ['acme/web']\n[github]\ntoken = 'env:T'";
        let config = load(text, &empty_environment).unwrap();
        let web = Repo::parse("acme/web").unwrap();
        assert_eq!(config.repos[&web].remote, "https://github.com/acme/web.git");
        assert!(config.on_github(&web) && config.policy().remote.contains(&web));
        let text = "[github]\napi = 'x'\ntoken = 'env:T'";
        assert_eq!(
            load(text, &empty_environment).unwrap_err(),
            "/afk.toml:2:7: github.api: is not an http:// or https:// address"
        );
        let text = "[repos.'a/b']\nremote = 'x'\ntracker = 'github'";
        assert!(
            load(text, &empty_environment)
                .unwrap_err()
                .starts_with("/afk.toml:3:11: repos.\"a/b\".tracker: needs [github]")
        );
    }
}
