//! `[service]`: jobs and questions of callers over HTTP; off by default.
//!
//! The environment variables have the names of the agent service that afk replaces, so that an
//! existing deployment stays as it is.

use std::path::{Path, PathBuf};

use secrecy::SecretString;
use serde::Deserialize;

use super::http::SHORTEST_TOKEN;
use super::repos::RepositoryConfig;
use super::{Config, ConfigError, Env};
use crate::core::model::id::Repo;

/// The number of permits if the service is on and `capacity` isn't set.
pub const PERMITS: u32 = 10;

/// `[service]`: where jobs work, which models answer, and for how long.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ServiceConfig {
    /// The repository that jobs work in and that questions are booked to; on the allowlist.
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
    }
}

/// Overwrites the configuration with the environment variables of the replaced service.
///
/// # Errors
/// Returns [`ConfigError::Environment`] with the name and the values that are allowed, and
/// [`ConfigError::Meaning`] for a token that is too short.
pub(super) fn apply_environment(config: &mut Config, env: Env<'_>) -> Result<(), ConfigError> {
    let set = |name: &str| env(name).filter(|value| !value.trim().is_empty());
    if let Some(permits) = number(env, "MAX_CONCURRENCY")? {
        config.capacity = Some(permits);
    }
    if let Some(depth) = number(env, "MAX_QUEUE_DEPTH")? {
        config.max_queue_depth = depth;
    }
    if let Some(folder) = set("WORKSPACE_DIR") {
        let (repo, repository) = repository_of_clone(Path::new(&folder))?;
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
    if let Some(folder) = set("JOBS_DIR") {
        service.jobs_dir = Some(folder.into());
    }
    if set("GIT_CRYPT_KEY").is_some() {
        service.git_crypt_key = Some("env:GIT_CRYPT_KEY".into());
    }
    let bearer = set("API_BEARER_TOKEN").map(|token| token.trim().to_owned());
    if bearer.as_ref().is_some_and(|token| token.chars().count() < SHORTEST_TOKEN) {
        let message = format!("has fewer than {SHORTEST_TOKEN} characters");
        return Err(ConfigError::meaning("API_BEARER_TOKEN", message));
    }
    service.bearer = bearer.map(SecretString::from);
    Ok(())
}

fn number(env: Env<'_>, name: &'static str) -> Result<Option<u32>, ConfigError> {
    let Some(value) = env(name).filter(|value| !value.trim().is_empty()) else { return Ok(None) };
    value.trim().parse().map(Some).map_err(|_| {
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
    let name = remote.trim_end_matches('/').trim_end_matches(".git");
    let mut parts = name.rsplit(['/', ':']).filter(|part| !part.is_empty());
    let (name, owner) = (parts.next().unwrap_or_default(), parts.next().unwrap_or("workspace"));
    let repo = Repo::parse(&format!("{owner}/{name}"))
        .or_else(|_| Repo::parse(&format!("workspace/{name}")))
        .map_err(|_| wrong("should have a folder's name in plain letters"))?;
    Ok((repo, RepositoryConfig { remote, branch, ..RepositoryConfig::default() }))
}

impl ServiceConfig {
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
        if !self.models.contains(&self.model) {
            return wrong("model", format!("{:?} is not one of `models`", self.model));
        }
        Ok(())
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
        Config::load(&path, &env).map_err(|error| error.to_string())
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
    fn load_reports_unusable_values() {
        for (text, env, message) in [
            ("", ("MAX_CONCURRENCY", "many"), "MAX_CONCURRENCY=\"many\": should be a whole number"),
            ("", ("WORKSPACE_DIR", "/nonexistent"), "WORKSPACE_DIR=\"/nonexistent\": should be"),
            (
                "[service]",
                ("API_BEARER_TOKEN", "0123456789abcde"),
                "API_BEARER_TOKEN: has fewer than 16 characters",
            ),
            ("[service]", ("X", ""), "service.repository: is missing"),
            ("[service]\nrepository = 'a/b'", ("X", ""), "service.repository: a/b is not on"),
        ] {
            let error = load(text, &[env]).unwrap_err();
            assert!(error.starts_with(message), "{error}");
        }
    }
}
