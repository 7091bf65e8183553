//! Typed configuration: one TOML file, environment names over it, and a repository's `.afk.toml`.
//!
//! Unknown keys are errors with their path. The default dispatches nothing: the kill switch is on
//! and the allowlist is empty.

pub mod agent;
pub mod breakglass;
pub mod control;
pub mod executor;
pub mod http;
pub mod leader;
pub mod limits;
pub mod outside;
pub mod paths;
pub mod repository;
pub mod service;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use agent::Agent;
use breakglass::Breakglass;
use executor::Executor;
use limits::{Budget, FixForward, Limits};
use outside::{Control, GitHub, Kubernetes, Loki, Notify, Vault, Woodpecker};

use crate::core::model::budget::MicroUsd;
use crate::core::model::id::{Actor, Repo};
use crate::core::model::notice::Notices;
use crate::core::model::policy::{Policy, RemoteExecutor};
use crate::core::model::time::MINUTE;

/// What is wrong with a configuration: where, and how to mend it.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file can't be read.
    #[error("{}: can't be read: {source}", path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The text isn't TOML, or a value isn't what it should be.
    #[error("{file}:{line}: {key}{message}")]
    Invalid {
        /// Which file.
        file: String,
        /// From 1; 0 where it isn't known.
        line: usize,
        /// The path of the key with `: ` behind it, or nothing.
        key: String,
        /// What is wrong.
        message: String,
    },
    /// An environment name has a value that can't be read.
    #[error("{name}={value:?}: {message}")]
    Environment {
        /// Which.
        name: &'static str,
        /// What it holds.
        value: String,
        /// What it should hold.
        message: &'static str,
    },
    /// A value fits its type and not its meaning.
    #[error("{key}: {message}")]
    Meaning {
        /// The path of the key.
        key: String,
        /// What is wrong.
        message: String,
    },
}

/// The whole configuration; `assets/afk.toml` is the commented example.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Stops all pickup.
    pub kill_switch: bool,
    /// The only repositories that are ever touched.
    pub allowlist: BTreeSet<Repo>,
    /// Who may arm an issue.
    pub trusted: BTreeSet<Actor>,
    /// The name that your actions are recorded under; your login if it isn't set.
    pub operator: Option<String>,
    /// Permits of the semaphore: three, or ten where the service is on.
    pub capacity: Option<u32>,
    /// Runs that may wait for a permit.
    pub max_queue_depth: u32,
    /// The agent of repositories that name none.
    pub agent: Option<String>,
    /// Labels in the tracker.
    pub labels: Labels,
    /// Where issues come from.
    pub tracker: Tracker,
    /// Money.
    pub budget: Budget,
    /// Turns after a red verdict.
    pub fix_forward: FixForward,
    /// Time limits.
    pub limits: Limits,
    /// The agents by name.
    pub agents: BTreeMap<String, Agent>,
    /// The repositories by `owner/name`.
    pub repos: BTreeMap<Repo, Repository>,
    /// Where turns are carried out beside this machine, by name.
    pub executors: BTreeMap<String, Executor>,
    /// How the operator is told.
    pub notify: Notify,
    /// Issues and checks.
    pub github: Option<GitHub>,
    /// Pipelines.
    pub woodpecker: Option<Woodpecker>,
    /// Clusters.
    pub kubernetes: Kubernetes,
    /// Secrets.
    pub vault: Option<Vault>,
    /// Log lines.
    pub loki: Option<Loki>,
    /// Where the kill switch and the other names come from, beside the environment.
    pub control: Control,
    /// The cockpit's looks.
    pub ui: Ui,
    /// The cockpit over SSH.
    pub ssh: Ssh,
    /// The HTTP API.
    pub http: http::Http,
    /// Jobs and questions of callers.
    pub service: Option<service::Service>,
    /// Which of several afk leads.
    pub leader: Option<leader::Leader>,
    /// The term of this one, where it leads.
    #[serde(skip)]
    pub term: Option<u64>,
    /// The way to a wedged VM.
    pub breakglass: Option<Breakglass>,
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
            labels: Labels::default(),
            tracker: Tracker::default(),
            budget: Budget::default(),
            fix_forward: FixForward::default(),
            limits: Limits::default(),
            agents: BTreeMap::new(),
            repos: BTreeMap::new(),
            executors: BTreeMap::new(),
            notify: Notify::default(),
            github: None,
            woodpecker: None,
            kubernetes: Kubernetes::default(),
            vault: None,
            loki: None,
            control: Control::default(),
            ui: Ui::default(),
            ssh: Ssh::default(),
            http: http::Http::default(),
            service: None,
            leader: None,
            term: None,
            breakglass: None,
        }
    }
}

/// Label names; compared byte for byte.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Labels {
    /// Arms an issue.
    pub ready: String,
    /// A run has it.
    pub in_progress: String,
    /// A human is asked.
    pub human: String,
}

impl Default for Labels {
    fn default() -> Self {
        Self {
            ready: "ready-for-agent".into(),
            in_progress: "agent-in-progress".into(),
            human: "ready-for-human".into(),
        }
    }
}

/// Where issues come from.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Tracker {
    /// A folder of Markdown issues.
    pub folder: Option<PathBuf>,
    /// Seconds between looks, beside the watch for changes.
    pub poll_seconds: u64,
}

impl Default for Tracker {
    fn default() -> Self {
        Self { folder: None, poll_seconds: 30 }
    }
}

/// A repository.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Repository {
    /// A folder or an address that git can fetch from and push to; GitHub's where it isn't set.
    #[serde(default)]
    pub remote: String,
    /// Where its issues come from: GitHub where `[github]` is set, else the folder.
    #[serde(default)]
    pub tracker: Option<TrackerKind>,
    /// The key that git uses over ssh; the ssh agent and ssh's own configuration otherwise.
    #[serde(default)]
    pub ssh_key: Option<PathBuf>,
    /// The hosts that are known to ssh, beside that key; ssh's own list otherwise.
    #[serde(default)]
    pub ssh_known_hosts: Option<PathBuf>,
    /// The branch that is pushed to.
    #[serde(default = "master")]
    pub branch: String,
    /// Its agent, where it isn't the common one.
    #[serde(default)]
    pub agent: Option<String>,
    /// Where its turns are carried out: one of `[executors.…]`; here where it isn't set.
    #[serde(default)]
    pub executor: Option<String>,
    /// Environment names that point at folders shared by all its worktrees.
    #[serde(default)]
    pub caches: BTreeMap<String, String>,
}

/// Where a repository's issues come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TrackerKind {
    /// The folder of Markdown issues.
    Folder,
    /// GitHub.
    GitHub,
}

impl Default for Repository {
    fn default() -> Self {
        Self {
            remote: String::new(),
            tracker: None,
            ssh_key: None,
            ssh_known_hosts: None,
            branch: master(),
            agent: None,
            executor: None,
            caches: BTreeMap::new(),
        }
    }
}

fn master() -> String {
    "master".into()
}

/// The cockpit over SSH; off by default.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Ssh {
    /// Listen at all.
    pub enabled: bool,
    /// Where.
    pub listen: SocketAddr,
    /// Who may come in (docs/commands.md); relative to the configuration.
    pub authorized_keys: PathBuf,
}

impl Default for Ssh {
    fn default() -> Self {
        let listen = SocketAddr::from(([127, 0, 0, 1], 2222));
        Self { enabled: false, listen, authorized_keys: "authorized_keys".into() }
    }
}

/// The cockpit's looks.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Ui {
    /// `dark`, `light`, or a file.
    pub theme: String,
    /// `default`, `vim`, `emacs`, or a file.
    pub keymap: String,
    /// Take the mouse; it costs the terminal's own selection.
    pub mouse: bool,
    /// Marks in ASCII only.
    pub ascii: bool,
}

impl Default for Ui {
    fn default() -> Self {
        Self { theme: "dark".into(), keymap: "default".into(), mouse: false, ascii: false }
    }
}

impl Config {
    /// Reads a file and lays the environment over it. Relative paths are the file's folder's.
    ///
    /// # Errors
    /// [`ConfigError`], with the file, the line and the key.
    pub fn load(path: &Path, env: &dyn Fn(&str) -> Option<String>) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ConfigError::Unreadable { path: path.to_owned(), source })?;
        let mut config: Self = parse(&path.display().to_string(), &text)?;
        let home = path.parent().unwrap_or(Path::new("."));
        config.tracker.folder = config.tracker.folder.map(|folder| home.join(expand(&folder, env)));
        config.ssh.authorized_keys = home.join(expand(&config.ssh.authorized_keys, env));
        if let Some(breakglass) = &mut config.breakglass {
            breakglass.place(&|path| home.join(expand(path, env)));
        }
        for repository in config.repos.values_mut() {
            if repository.remote.starts_with("./") || repository.remote.starts_with("../") {
                repository.remote = home.join(&repository.remote).display().to_string();
            }
        }
        service::lay(&mut config, env)?;
        control::lay(&mut config, env)?;
        config.check()?;
        Ok(config)
    }

    /// Fills in where GitHub has the repositories that name no remote.
    fn complete(&mut self) {
        let Some(host) = self.github.as_ref().map(GitHub::host) else { return };
        for repo in &self.allowlist {
            self.repos.entry(repo.clone()).or_default();
        }
        for (repo, repository) in &mut self.repos {
            if repository.remote.is_empty() {
                repository.remote = format!("{host}/{repo}.git");
            }
        }
    }

    /// Whether a repository's issues are GitHub's.
    #[must_use]
    pub fn on_github(&self, repo: &Repo) -> bool {
        let kind = self.repos.get(repo).and_then(|repository| repository.tracker);
        self.github.is_some() && kind != Some(TrackerKind::Folder)
    }

    /// Whether its values fit together.
    ///
    /// # Errors
    /// [`ConfigError::Meaning`].
    pub fn check(&self) -> Result<(), ConfigError> {
        let wrong = |key: String, message: String| Err(ConfigError::Meaning { key, message });
        for repo in &self.allowlist {
            if !self.repos.contains_key(repo) {
                let message = format!("{repo} has no [repos.\"{repo}\"] with its remote");
                return wrong("allowlist".into(), message);
            }
        }
        if let Some(Err((key, message))) = self.github.as_ref().map(GitHub::check) {
            return wrong(format!("github.{key}"), message);
        }
        if let Some(breakglass) = &self.breakglass
            && let Err((key, message)) = breakglass.check(&|name| self.agents.contains_key(name))
        {
            return wrong(format!("breakglass.{key}"), message);
        }
        if let Some(Err((key, message))) = self.service.as_ref().map(|s| s.check(self)) {
            return wrong(format!("service.{key}"), message);
        }
        let named = self.agent.iter().map(|name| ("agent".to_owned(), name));
        let of_repos = self.repos.iter().filter_map(|(repo, r)| {
            r.agent.as_ref().map(|name| (format!("repos.\"{repo}\".agent"), name))
        });
        for (key, name) in named.chain(of_repos) {
            if !self.agents.contains_key(name) {
                return wrong(key, format!("there is no [agents.{name}]"));
            }
        }
        for (name, agent) in &self.agents {
            if let Err((key, message)) = agent.check() {
                return wrong(format!("agents.{name}.{key}"), message);
            }
        }
        if let Some(Err((key, message))) = self.leader.as_ref().map(leader::Leader::check) {
            return wrong(format!("leader.{key}"), message);
        }
        for (name, executor) in &self.executors {
            if let Err((key, message)) = executor.check(self.breakglass.is_some()) {
                return wrong(format!("executors.{name}.{key}"), message);
            }
        }
        for (repo, repository) in &self.repos {
            if let Some(name) = &repository.executor
                && !self.executors.contains_key(name)
            {
                let key = format!("repos.\"{repo}\".executor");
                return wrong(key, format!("there is no [executors.{name}]"));
            }
            let branch = &repository.branch;
            if branch.is_empty() || branch.starts_with('-') || branch.contains([' ', ':', '~', '^'])
            {
                return wrong(format!("repos.\"{repo}\".branch"), "is no branch name".into());
            }
            if repository.remote.is_empty() {
                return wrong(format!("repos.\"{repo}\".remote"), "is missing".into());
            }
            if repository.tracker == Some(TrackerKind::GitHub) && self.github.is_none() {
                let key = format!("repos.\"{repo}\".tracker");
                return wrong(key, "needs [github] with a token".into());
            }
            if repository.remote.starts_with('-') || repository.remote.starts_with("ext::") {
                return wrong(
                    format!("repos.\"{repo}\".remote"),
                    "is no remote that is allowed".into(),
                );
            }
            if let Some((key, _)) = repository.caches.iter().find(|(_, f)| f.contains("..")) {
                return wrong(
                    format!("repos.\"{repo}\".caches.{key}"),
                    "may not contain ..".into(),
                );
            }
        }
        Ok(())
    }

    /// Permits of the semaphore.
    #[must_use]
    pub fn permits(&self) -> u32 {
        let usual = if self.service.is_some() { service::PERMITS } else { 3 };
        self.capacity.unwrap_or(usual)
    }

    /// The core's rules in this configuration.
    #[must_use]
    pub fn policy(&self) -> Policy {
        Policy {
            kill_switch: self.kill_switch,
            allowlist: self.allowlist.clone(),
            capacity: self.permits(),
            max_queue_depth: self.max_queue_depth,
            job_ttl_ms: self.service.as_ref().map_or(Policy::default().job_ttl_ms, |service| {
                i64::from(service.job_ttl_seconds) * 1000
            }),
            day_limit: self.budget.day_usd.map(MicroUsd::from_usd),
            day_soft_limit: self.budget.day_soft_usd.map(MicroUsd::from_usd),
            run_limit: self.budget.run_usd.map(MicroUsd::from_usd),
            turn_reserve: MicroUsd::from_usd(self.budget.turn_reserve_usd),
            fix_forward_attempts: self.fix_forward.attempts,
            fix_forward_ms: match self.fix_forward.seconds {
                Some(seconds) => i64::from(seconds) * 1000,
                None => i64::from(self.fix_forward.minutes) * MINUTE,
            },
            remote: self.allowlist.iter().filter(|repo| self.on_github(repo)).cloned().collect(),
            remote_executors: self.remote_executors(),
            term: self.term.unwrap_or(0),
            notices: self.notices(),
            breakglass: self.breakglass.as_ref().map(Breakglass::rules),
            answer_ms: i64::from(self.limits.answer_hours) * 60 * MINUTE,
            ..Policy::default()
        }
    }

    fn remote_executors(&self) -> BTreeMap<Repo, RemoteExecutor> {
        let places = self.repos.iter().filter_map(|(repo, repository)| {
            let name = repository.executor.clone()?;
            let issues = !matches!(self.executors.get(&name)?, Executor::Service(_));
            Some((repo.clone(), RemoteExecutor { name, issues }))
        });
        places.collect()
    }

    fn notices(&self) -> Notices {
        let notify = &self.notify;
        let sinks = notify.sinks.iter();
        let offset = jiff::Zoned::now().offset().seconds() / 60;
        Notices {
            sinks: sinks.map(|(name, sink)| (name.clone(), sink.notices().cloned())).collect(),
            quiet: notify.quiet.map(|quiet| (quiet.from, quiet.to)),
            // Only what it is used for makes it part of the rules.
            offset: if notify.quiet.is_some() { offset } else { 0 },
            remind_ms: i64::from(notify.remind_minutes) * MINUTE,
        }
    }

    /// The agent of a repository: its own, the common one, or the only one there is.
    #[must_use]
    pub fn agent_of(&self, repo: &Repo) -> Option<(&String, &Agent)> {
        let own = self.repos.get(repo).and_then(|r| r.agent.as_ref());
        match own.or(self.agent.as_ref()) {
            Some(name) => self.agents.get_key_value(name),
            None if self.agents.len() == 1 => self.agents.iter().next(),
            None => None,
        }
    }

    /// The name that actions at this terminal are recorded under.
    #[must_use]
    pub fn operator(&self) -> Actor {
        let login = || std::env::var("USER").ok().filter(|name| !name.is_empty());
        Actor(self.operator.clone().or_else(login).unwrap_or_else(|| "operator".into()))
    }
}

fn expand(path: &Path, env: &dyn Fn(&str) -> Option<String>) -> PathBuf {
    match (path.strip_prefix("~"), env("HOME")) {
        (Ok(rest), Some(home)) => Path::new(&home).join(rest),
        _ => path.to_owned(),
    }
}

/// Reads TOML into a type, with the line and the path of the key in the error.
///
/// # Errors
/// [`ConfigError::Invalid`].
pub fn parse<T: serde::de::DeserializeOwned>(file: &str, text: &str) -> Result<T, ConfigError> {
    let line_of = |at: usize| text[..at.min(text.len())].matches('\n').count() + 1;
    let invalid = |key: String, error: &toml::de::Error| ConfigError::Invalid {
        file: file.to_owned(),
        line: error.span().map_or(0, |span| line_of(span.start)),
        key,
        message: crate::core::model::untrusted::clean_line(error.message()),
    };
    let value = toml::Deserializer::parse(text).map_err(|e| invalid(String::new(), &e))?;
    serde_path_to_error::deserialize(value).map_err(|error| {
        let path = error.path().to_string();
        let key = if path == "." { String::new() } else { format!("{path}: ") };
        invalid(key, error.inner())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn no_env(_: &str) -> Option<String> {
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
    fn nothing_configured_dispatches_nothing() {
        let config = load("", &no_env).unwrap();
        assert!(config.kill_switch && config.allowlist.is_empty());
        assert_eq!(config.policy(), Policy::default());
    }

    #[test]
    fn errors_name_the_file_the_line_and_the_key() {
        for (text, error) in [
            ("kill_switch = ", "/afk.toml:1: "),
            ("kill_swich = true", "/afk.toml:1: kill_swich: unknown field `kill_swich`"),
            ("\n[limits]\nturn = 3", "/afk.toml:3: limits.turn: unknown field `turn`"),
            ("capacity = -1", "/afk.toml:1: capacity: invalid value"),
            (
                "allowlist = ['acme']",
                "/afk.toml:1: allowlist[0]: \"acme\" is not a repository name",
            ),
            ("allowlist = ['a/b']", "allowlist: a/b has no [repos.\"a/b\"]"),
            ("agent = 'x'", "agent: there is no [agents.x]"),
            ("[agents.x]\ncommand = []", "agents.x.command: names no program"),
            ("[repos.'a/b']\nremote = 'ext::sh'", "repos.\"a/b\".remote: is no remote"),
            ("[repos.'a/b']\nremote = 'x'\nbranch = '-f'", "repos.\"a/b\".branch: is no branch"),
        ] {
            let said = load(text, &no_env).unwrap_err();
            assert!(said.starts_with(error), "{text:?} gave {said:?}");
            assert!(!said.contains('\n'), "{said:?} is more than a line");
        }
    }

    #[test]
    fn the_environment_comes_last() {
        let env = |name: &str| (name == "AFK_KILL_SWITCH").then(|| "off".to_owned());
        assert!(!load("kill_switch = true", &env).unwrap().kill_switch);
        let env = |name: &str| (name == "AFK_KILL_SWITCH").then(|| "maybe".to_owned());
        assert!(load("", &env).unwrap_err().starts_with("AFK_KILL_SWITCH=\"maybe\""));
    }

    #[test]
    fn a_repository_on_github_needs_no_more_than_its_name() {
        let text = "allowlist = ['acme/web']\n[github]\ntoken = 'env:T'";
        let config = load(text, &no_env).unwrap();
        let web = Repo::parse("acme/web").unwrap();
        assert_eq!(config.repos[&web].remote, "https://github.com/acme/web.git");
        assert!(config.on_github(&web) && config.policy().remote.contains(&web));
        let text = "[github]\napi = 'x'\ntoken = 'env:T'";
        assert_eq!(load(text, &no_env).unwrap_err(), "github.api: is no address");
        let text = "[repos.'a/b']\nremote = 'x'\ntracker = 'github'";
        assert!(
            load(text, &no_env).unwrap_err().starts_with("repos.\"a/b\".tracker: needs [github]")
        );
    }
}
