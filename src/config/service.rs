//! `[service]`: jobs and questions of callers over HTTP; off by default.
//!
//! The environment variables have the names of the agent service that afk replaces, so that an
//! existing deployment stays as it is.

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};

use super::agent::AgentConfig;
use super::answer::{AnswerConfig, AnswerSettings};
use super::control::{switch, value_of};
use super::http::SHORTEST_TOKEN;
use super::repos::RepositoryConfig;
use super::{Config, ConfigError, Env};
use crate::core::model::id::Repo;

/// The number of permits if the service is on and `capacity` isn't set.
pub const PERMITS: u32 = 10;

/// The place of the git-crypt key in the replaced service's container.
const GIT_CRYPT_KEY: &str = "/secrets/git-crypt/key";

/// `[service]`: where jobs work, which models answer, and for how long.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ServiceConfig {
    /// The repository that jobs work in and that questions are booked to; on the allowlist.
    #[schemars(with = "Option<super::schema::RepositoryName>")]
    pub repository: Option<Repo>,
    /// The agent of jobs and questions; the repository's by default.
    pub agent: Option<String>,
    /// The models that a question may name.
    pub models: Vec<String>,
    /// The model of questions that name none.
    pub model: String,
    /// Seconds that a job stays known after its end.
    pub job_ttl_seconds: u32,
    /// Jobs that start within this many seconds share one fetch.
    pub fetch_debounce_seconds: u64,
    /// Gives each job a clone to work in; without it a job gets an empty folder.
    pub workspace: bool,
    /// The folder of the jobs' clones; in the state folder by default.
    pub jobs_dir: Option<PathBuf>,
    /// The git-crypt key that unlocks clones: a reference to a secret in base64, or a path.
    pub git_crypt_key: Option<String>,
    /// Pushes the commits of a completed job to the repository's branch.
    pub push: bool,
    /// The settings of chats.
    pub chat: AnswerConfig,
    /// The settings of chats that are streamed; those of `chat` by default.
    pub stream: Option<AnswerConfig>,
    /// The settings of sessions.
    pub converse: AnswerConfig,
    /// The longest time of an answer to a chat.
    pub chat_seconds: u32,
    /// The longest time of an answer in a session.
    pub converse_seconds: u32,
    /// The value of `API_BEARER_TOKEN`, a token with the role of an operator.
    #[serde(skip)]
    pub bearer: Option<SecretString>,
}

impl Default for ServiceConfig {
    fn default() -> Self {
        let models =
            ["haiku", "sonnet", "opus", "claude-haiku-4-5", "claude-sonnet-4-6", "claude-opus-4-7"];
        Self {
            repository: None,
            agent: None,
            models: models.map(str::to_owned).to_vec(),
            model: "sonnet".into(),
            job_ttl_seconds: 3600,
            fetch_debounce_seconds: 15,
            workspace: true,
            jobs_dir: None,
            git_crypt_key: None,
            push: false,
            chat: AnswerConfig::default(),
            stream: None,
            converse: AnswerConfig::default(),
            chat_seconds: 900,
            converse_seconds: 120,
            bearer: None,
        }
    }
}

// A secret can't be compared, so the token is left out: a new token needs a restart.
impl PartialEq for ServiceConfig {
    fn eq(&self, other: &Self) -> bool {
        let key = |of: &Self| {
            let (seconds, jobs) = (of.fetch_debounce_seconds, of.jobs_dir.clone());
            let times =
                (of.workspace, of.job_ttl_seconds, of.chat_seconds, of.converse_seconds, seconds);
            (of.repository.clone(), of.agent.clone(), of.model.clone(), times, jobs)
        };
        key(self) == key(other)
            && self.models == other.models
            && self.git_crypt_key == other.git_crypt_key
            && self.push == other.push
            && self.chat == other.chat
            && self.stream == other.stream
            && self.converse == other.converse
    }
}

/// Whether the environment alone describes a service: it names the repository of its jobs.
pub(super) fn is_in_environment(env: Env<'_>) -> bool {
    ["WORKSPACE_DIR", "AFK_REPOSITORY"].iter().any(|name| value_of(env, name).is_some())
}

/// Overwrites the configuration with the environment variables of the replaced service, and with those
/// that stand for the keys that a service without a file needs.
///
/// # Errors
/// Returns [`ConfigError::Environment`] with the name and the values that are allowed, and
/// [`ConfigError::Meaning`] for a token that is too short.
pub(super) fn apply_environment(config: &mut Config, env: Env<'_>) -> Result<(), ConfigError> {
    let set = |name: &str| value_of(env, name);
    if let Some(permits) = number(env, "MAX_CONCURRENCY")? {
        config.capacity = Some(permits);
    }
    if let Some(depth) = number(env, "MAX_QUEUE_DEPTH")? {
        config.max_queue_depth = depth;
    }
    if let Some(value) = set("AFK_HTTP_LISTEN") {
        let address =
            if value.starts_with(':') { format!("0.0.0.0{value}") } else { value.clone() };
        let message = "should be an address and a port, such as 0.0.0.0:8080";
        config.http.listen = address.parse().map_err(|_| ConfigError::Environment {
            name: "AFK_HTTP_LISTEN",
            value,
            message,
        })?;
        config.http.enabled = true;
    }
    if let Some(preset) = set("AFK_AGENT_PRESET") {
        let agent = AgentConfig { preset: Some(preset.clone()), ..AgentConfig::default() };
        config.agents.entry(preset.clone()).or_insert(agent);
        config.agent.get_or_insert(preset);
    }
    let named = match (set("AFK_REPOSITORY"), set("WORKSPACE_DIR")) {
        (Some(remote), _) => {
            let branch = set("AFK_BRANCH").unwrap_or_else(|| "master".into());
            Some(repository_at("AFK_REPOSITORY", &remote, branch)?)
        }
        (None, Some(folder)) => Some(repository_of_clone(Path::new(&folder))?),
        (None, None) => None,
    };
    if let Some((repo, repository)) = named {
        config.allowlist.insert(repo.clone());
        config.repos.entry(repo.clone()).or_insert(repository);
        config.service.get_or_insert_default().repository = Some(repo);
    }
    let Some(service) = &mut config.service else { return Ok(()) };
    if let Some(seconds) = number(env, "JOB_TTL_SECONDS")? {
        service.job_ttl_seconds = seconds;
    }
    if let Some(seconds) = number(env, "FETCH_DEBOUNCE_SECONDS")? {
        service.fetch_debounce_seconds = seconds.into();
    }
    if let Some(seconds) = number(env, "CONVERSATIONAL_TIMEOUT_SECONDS")? {
        // In the replaced service it was also the limit of a streamed chat.
        service.converse_seconds = seconds;
        service.converse.seconds = None;
        service.stream.get_or_insert_with(|| service.chat.clone()).seconds = Some(seconds);
    }
    if let Some(folder) = set("JOBS_DIR") {
        service.jobs_dir = Some(folder.into());
    }
    if let Some(push) = set("AFK_SERVICE_PUSH") {
        let message = "should be true or false";
        service.push = switch(&push).ok_or(ConfigError::Environment {
            name: "AFK_SERVICE_PUSH",
            value: push,
            message,
        })?;
    }
    if set("GIT_CRYPT_KEY").is_some() {
        service.git_crypt_key = Some("env:GIT_CRYPT_KEY".into());
    } else if env("GIT_CRYPT_KEY").is_none() && set("WORKSPACE_DIR").is_some() {
        service.use_mounted_key(Path::new(GIT_CRYPT_KEY));
    }
    let bearer = set("API_BEARER_TOKEN");
    if bearer.as_ref().is_some_and(|token| token.chars().count() < SHORTEST_TOKEN) {
        let message = format!("has fewer than {SHORTEST_TOKEN} characters");
        return Err(ConfigError::meaning("API_BEARER_TOKEN", message));
    }
    service.bearer = bearer.map(SecretString::from);
    Ok(())
}

fn number(env: Env<'_>, name: &'static str) -> Result<Option<u32>, ConfigError> {
    let Some(value) = value_of(env, name) else { return Ok(None) };
    value.parse().map(Some).map_err(|_| {
        let message = "should be a whole number";
        ConfigError::Environment { name, value, message }
    })
}

/// Derives a repository from a clone: its origin and its branch.
fn repository_of_clone(folder: &Path) -> Result<(Repo, RepositoryConfig), ConfigError> {
    let wrong = |message| ConfigError::Environment {
        name: "WORKSPACE_DIR",
        value: folder.display().to_string(),
        message,
    };
    let clone = git2::Repository::open(folder).map_err(|_| wrong("should be a git clone"))?;
    let origin = clone.find_remote("origin").ok();
    let remote = match origin.as_ref().and_then(|origin| origin.url().ok()) {
        Some(url) if url.starts_with("./") || url.starts_with("../") => {
            folder.join(url).display().to_string()
        }
        Some(url) => url.to_owned(),
        None => folder.display().to_string(),
    };
    let head = std::fs::read_to_string(clone.path().join("HEAD")).unwrap_or_default();
    let branch = head.trim().strip_prefix("ref: refs/heads/");
    let branch = branch.ok_or_else(|| wrong("should be on a branch"))?.to_owned();
    repository_at("WORKSPACE_DIR", &remote, branch)
}

/// Derives the name of a repository from its address.
fn repository_at(
    variable: &'static str,
    remote: &str,
    branch: String,
) -> Result<(Repo, RepositoryConfig), ConfigError> {
    // A token may stand behind the name too.
    let address = remote.split(['?', '#']).next().unwrap_or_default();
    let name = address.trim_end_matches('/').trim_end_matches(".git");
    let mut parts = name.rsplit(['/', ':']).filter(|part| !part.is_empty());
    let (name, owner) = (parts.next().unwrap_or_default(), parts.next().unwrap_or("workspace"));
    let repo = Repo::parse(&format!("{owner}/{name}"))
        .or_else(|_| Repo::parse(&format!("workspace/{name}")))
        .map_err(|_| ConfigError::Environment {
            name: variable,
            // A token may stand in the rest of it.
            value: name.to_owned(),
            message: "should end with a repository's name in plain letters",
        })?;
    let remote = remote.to_owned();
    Ok((repo, RepositoryConfig { remote, branch, ..RepositoryConfig::default() }))
}

impl ServiceConfig {
    /// Unlocks clones with a key that lies where the replaced service expected it.
    fn use_mounted_key(&mut self, key: &Path) {
        if self.git_crypt_key.is_none() && key.is_file() {
            self.git_crypt_key = Some(key.display().to_string());
        }
    }

    /// The settings of a chat by a model.
    pub(crate) fn chat_settings(&self, model: &str, streams: bool) -> AnswerSettings {
        self.chat_route(streams).settings(model, self.chat_seconds)
    }

    /// The settings of a session's answer by a model.
    pub(crate) fn converse_settings(&self, model: &str) -> AnswerSettings {
        self.converse.settings(model, self.converse_seconds)
    }

    const fn chat_route(&self, streams: bool) -> &AnswerConfig {
        match &self.stream {
            Some(stream) if streams => stream,
            _ => &self.chat,
        }
    }

    /// The models that a caller may ask for: those of `models`, and those that a route defines.
    pub(crate) fn known_models(&self) -> Vec<&String> {
        let routes = [Some(&self.chat), self.stream.as_ref(), Some(&self.converse)];
        let defined = routes.into_iter().flatten().flat_map(|route| route.models.keys());
        let mut known: Vec<&String> = self.models.iter().collect();
        for name in defined {
            if !known.contains(&name) {
                known.push(name);
            }
        }
        known
    }

    pub(super) fn check(&self, config: &Config) -> Result<(), ConfigError> {
        let wrong = |key: &str, message: String| Err(ConfigError::meaning(key, message));
        let Some(repo) = &self.repository else {
            return wrong("repository", "is missing: jobs need a repository to work in".into());
        };
        if !config.allowlist.contains(repo) {
            return wrong("repository", format!("{repo} is not on the allowlist"));
        }
        if let Some(agent) = &self.agent
            && !config.agents.contains_key(agent)
        {
            return wrong("agent", format!("there is no [agents.{agent}]"));
        }
        if !self.known_models().contains(&&self.model) {
            return wrong("model", format!("{:?} is not one of `models`", self.model));
        }
        self.chat.check(config).map_err(|error| error.within("chat"))?;
        if let Some(stream) = &self.stream {
            stream.check(config).map_err(|error| error.within("stream"))?;
        }
        self.converse.check(config).map_err(|error| error.within("converse"))
    }
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    fn load(text: &str, env: &[(&str, &str)]) -> Result<Config, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("afk.toml");
        std::fs::write(&path, text).unwrap();
        let env = |name: &str| {
            env.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        };
        // The place differs from run to run.
        let key = |line: String| {
            line.rsplit_once("afk.toml:").map_or(line.clone(), |(_, rest)| {
                rest.trim_start_matches(|c: char| c.is_ascii_digit() || c == ':').trim().to_owned()
            })
        };
        Config::load(&path, &env).map_err(|error| key(error.to_string()))
    }

    #[test]
    fn environment_of_the_replaced_service_suffices() {
        let folder = tempfile::tempdir().unwrap();
        let clone = git2::Repository::init_opts(
            folder.path(),
            git2::RepositoryInitOptions::new().initial_head("main"),
        )
        .unwrap();
        clone.remote("origin", "ssh://git@example.invalid/acme/infra.git").unwrap();
        let here = folder.path().display().to_string();
        let config = load(
            "",
            &[
                ("API_BEARER_TOKEN", "long-enough-token\n"),
                ("WORKSPACE_DIR", &here),
                ("JOBS_DIR", "/jobs"),
                ("MAX_QUEUE_DEPTH", "7"),
                ("JOB_TTL_SECONDS", "60"),
                ("FETCH_DEBOUNCE_SECONDS", "5"),
                ("GIT_CRYPT_KEY", "AAAA"),
            ],
        )
        .unwrap();
        let service = config.service.as_ref().unwrap();
        let repo = Repo::parse("acme/infra").unwrap();
        assert_eq!(service.repository.as_ref(), Some(&repo));
        assert_eq!(config.repos[&repo].branch, "main");
        assert_eq!(config.repos[&repo].remote, "ssh://git@example.invalid/acme/infra.git");
        assert_eq!(service.bearer.as_ref().unwrap().expose_secret(), "long-enough-token");
        assert_eq!((service.job_ttl_seconds, service.fetch_debounce_seconds), (60, 5));
        assert_eq!(service.jobs_dir.as_deref(), Some(Path::new("/jobs")));
        let policy = config.policy();
        assert_eq!((policy.capacity, policy.max_queue_depth), (10, 7));
        assert_eq!(policy.job_ttl_ms, 60_000);
        // No variable of the service lifts the kill switch.
        assert!(policy.kill_switch);
        let config = load("", &[("WORKSPACE_DIR", &here), ("MAX_CONCURRENCY", "2")]).unwrap();
        assert_eq!(config.policy().capacity, 2);
    }

    #[test]
    fn environment_without_a_file_describes_a_whole_service() {
        let names = [
            ("AFK_HTTP_LISTEN", ":8080"),
            ("AFK_AGENT_PRESET", "claude"),
            ("AFK_REPOSITORY", "https://bot:t0ken-t0ken@git.acme.com/acme/infra.git"),
            ("AFK_BRANCH", "main"),
            ("AFK_KILL_SWITCH", "False"),
            ("AFK_ALLOWLIST", "infra"),
            ("AFK_READY_LABEL", "broken"),
            ("AFK_BUDGET_USD", "5"),
            ("AFK_SERVICE_PUSH", "yes"),
            ("CONVERSATIONAL_TIMEOUT_SECONDS", "60"),
            ("JOB_TTL_SECONDS", " "),
        ];
        let env = |name: &str| {
            names.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        };
        assert!(is_in_environment(&env) && !is_in_environment(&|_| None));
        let config = Config::of_environment(&env).unwrap();
        let repo = Repo::parse("acme/infra").unwrap();
        assert_eq!(config.http.listen.to_string(), "0.0.0.0:8080");
        assert!(config.http.enabled && !config.kill_switch);
        assert_eq!(config.allowlist.iter().collect::<Vec<_>>(), [&repo]);
        assert_eq!(
            (config.repos[&repo].branch.as_str(), config.labels.ready.as_str()),
            ("main", "broken")
        );
        assert_eq!(config.agent_of(&repo).unwrap().0, "claude");
        assert_eq!((config.budget.run_usd, config.budget.day_usd), (Some(5.0), None));
        let service = config.service.as_ref().unwrap();
        assert!(service.push && service.git_crypt_key.is_none());
        assert_eq!((service.job_ttl_seconds, service.converse_seconds), (3600, 60));
        assert_eq!(service.chat_settings("opus", true).seconds, 60);
        assert_eq!(service.chat_settings("opus", false).seconds, 900);
        assert_eq!(service.converse_settings("opus").seconds, 60);
        // Nothing that afk prints of it has the token.
        let shown = load("", &[("AFK_REPOSITORY", "https://bot:t0ken-t0ken@host/é")]).unwrap_err();
        assert!(shown.contains("\"é\"") && !shown.contains("t0ken"), "{shown}");
    }

    #[test]
    fn key_of_the_replaced_services_container_is_used_where_it_lies() {
        let folder = tempfile::tempdir().unwrap();
        let key = folder.path().join("key");
        let mut service = ServiceConfig::default();
        service.use_mounted_key(&key);
        assert_eq!(service.git_crypt_key, None);
        std::fs::write(&key, "x").unwrap();
        service.use_mounted_key(&key);
        assert_eq!(service.git_crypt_key.as_deref(), key.to_str());
        service.git_crypt_key = Some("env:OTHER".into());
        service.use_mounted_key(&key);
        assert_eq!(service.git_crypt_key.as_deref(), Some("env:OTHER"));
    }

    #[test]
    fn models_of_a_route_are_known_models() {
        let base =
            "allowlist = ['a/b']\n[repos.'a/b']\nremote = 'x'\n[service]\nrepository = 'a/b'\n";
        let config =
            load(&format!("{base}model = 'r'\n[service.chat.models.r]\ntools = true"), &[]);
        let config = config.unwrap();
        let service = config.service.as_ref().unwrap();
        assert_eq!(service.known_models().last().unwrap().as_str(), "r");
        assert!(service.chat_settings("r", true).tools, "without [service.stream] those of chat");
        for (text, message) in [
            ("[service.chat]\nagent = 'x'", "service.chat.agent: there is no [agents.x]"),
            ("[service.stream]\nrole = '--x'", "service.stream.role: \"--x\" is neither"),
            ("[service.converse]\nmax_usd = 0", "service.converse.max_usd: should be"),
            ("[service.chat.models.x]\nseconds = 0", "service.chat.models.x.seconds: should be"),
        ] {
            let error = load(&format!("{base}{text}"), &[]).unwrap_err();
            assert!(error.starts_with(message), "{error}");
        }
    }

    #[test]
    fn load_reports_unusable_values() {
        for (text, env, message) in [
            ("", ("MAX_CONCURRENCY", "many"), "MAX_CONCURRENCY=\"many\": should be a whole number"),
            ("", ("WORKSPACE_DIR", "/nonexistent"), "WORKSPACE_DIR=\"/nonexistent\": should be"),
            (
                "[service]",
                ("API_BEARER_TOKEN", "0123456789abcde"),
                "API_BEARER_TOKEN: has fewer than 16 characters",
            ),
            ("", ("AFK_HTTP_LISTEN", "8080"), "AFK_HTTP_LISTEN=\"8080\": should be an address"),
            ("[service]", ("AFK_SERVICE_PUSH", "maybe"), "AFK_SERVICE_PUSH=\"maybe\": should be"),
            ("", ("AFK_AGENT_PRESET", "nobody"), "agents.nobody."),
            ("[service]", ("X", ""), "service.repository: is missing"),
            ("[service]\nrepository = 'a/b'", ("X", ""), "service.repository: a/b is not on"),
        ] {
            let error = load(text, &[env]).unwrap_err();
            assert!(error.starts_with(message), "{error}");
        }
    }
}
