//! The service: jobs and questions of callers over HTTP. Off by default.
//!
//! The environment has the names of the service that this one takes the place of, so that its
//! deployment stays as it is.

use std::path::{Path, PathBuf};

use secrecy::SecretString;
use serde::Deserialize;

use super::{Config, ConfigError, Repository};
use crate::core::model::id::Repo;

/// Permits where the service is on and nobody says how many.
pub const PERMITS: u32 = 10;

/// `[service]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Service {
    /// Where jobs work, and what questions are booked to; on the allowlist.
    pub repository: Option<Repo>,
    /// The agent, where it isn't the repository's.
    pub agent: Option<String>,
    /// The models that questions may name.
    pub models: Vec<String>,
    /// The one of those that name none.
    pub model: String,
    /// How long a job that ended is known.
    pub job_ttl_seconds: u32,
    /// Jobs that begin within this time share one fetch.
    pub fetch_debounce_seconds: u64,
    /// Jobs have a clone to work in; without one they have an empty folder.
    pub workspace: bool,
    /// Where jobs have their clones; in the state folder where it isn't set.
    pub jobs_dir: Option<PathBuf>,
    /// Unlocks clones with git-crypt: `env:`, `file:` or `vault:`, of a key in base64, or a path.
    pub git_crypt_key: Option<String>,
    /// Longest time of a chat's answer.
    pub chat_seconds: u32,
    /// Longest time of an answer in a conversation.
    pub converse_seconds: u32,
    /// The token of the environment; it has the role of an operator.
    #[serde(skip)]
    pub bearer: Option<SecretString>,
}

impl Default for Service {
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

// A secret is equal to nothing; a token that changes needs a restart.
impl PartialEq for Service {
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

type Env<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Lays the environment's names over a configuration.
///
/// # Errors
/// [`ConfigError`] with the name and what it should hold.
pub(super) fn lay(config: &mut Config, env: Env<'_>) -> Result<(), ConfigError> {
    let set = |name: &str| env(name).filter(|value| !value.trim().is_empty());
    if let Some(permits) = number(env, "MAX_CONCURRENCY")? {
        config.capacity = Some(permits);
    }
    if let Some(depth) = number(env, "MAX_QUEUE_DEPTH")? {
        config.max_queue_depth = depth;
    }
    if let Some(folder) = set("WORKSPACE_DIR") {
        let (repo, repository) = workspace(Path::new(&folder))?;
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
    service.bearer = set("API_BEARER_TOKEN").map(|token| token.trim().to_owned().into());
    Ok(())
}

fn number(env: Env<'_>, name: &'static str) -> Result<Option<u32>, ConfigError> {
    let Some(value) = env(name).filter(|value| !value.trim().is_empty()) else { return Ok(None) };
    value.trim().parse().map(Some).map_err(|_| {
        let message = "should be a whole number";
        ConfigError::Environment { name, value, message }
    })
}

/// The repository that a clone is of: its origin and its branch.
fn workspace(folder: &Path) -> Result<(Repo, Repository), ConfigError> {
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
    Ok((repo, Repository { remote, branch, ..Repository::default() }))
}

impl Service {
    /// What is wrong with it: the key below its own and the message.
    ///
    /// # Errors
    /// The first that is found.
    pub(super) fn check(&self, config: &Config) -> Result<(), (&'static str, String)> {
        let Some(repo) = &self.repository else {
            return Err(("repository", "is missing: where jobs work".into()));
        };
        if !config.allowlist.contains(repo) {
            return Err(("repository", format!("{repo} is not on the allowlist")));
        }
        if let Some(agent) = &self.agent
            && !config.agents.contains_key(agent)
        {
            return Err(("agent", format!("there is no [agents.{agent}]")));
        }
        if !self.models.contains(&self.model) {
            return Err(("model", format!("{:?} is not one of `models`", self.model)));
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
    fn the_environment_of_the_earlier_service_is_enough() {
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
                ("API_BEARER_TOKEN", "short\n"),
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
        assert_eq!(service.bearer.as_ref().unwrap().expose_secret(), "short");
        assert_eq!((service.job_ttl_seconds, service.fetch_debounce_seconds), (60, 5));
        assert_eq!(service.jobs_dir.as_deref(), Some(Path::new("/jobs")));
        let policy = config.policy();
        assert_eq!((policy.capacity, policy.max_queue_depth), (10, 7));
        assert_eq!(policy.job_ttl_ms, 60_000);
        // Nothing but the kill switch's own key lets anything begin.
        assert!(policy.kill_switch);
        let config = load("", &[("WORKSPACE_DIR", &here), ("MAX_CONCURRENCY", "2")]).unwrap();
        assert_eq!(config.policy().capacity, 2);
    }

    #[test]
    fn what_does_not_fit_is_told() {
        for (text, env, said) in [
            ("", ("MAX_CONCURRENCY", "many"), "MAX_CONCURRENCY=\"many\": should be a whole number"),
            ("", ("WORKSPACE_DIR", "/nonexistent"), "WORKSPACE_DIR=\"/nonexistent\": should be"),
            ("[service]", ("X", ""), "service.repository: is missing"),
            ("[service]\nrepository = 'a/b'", ("X", ""), "service.repository: a/b is not on"),
        ] {
            let error = load(text, &[env]).unwrap_err();
            assert!(error.starts_with(said), "{error}");
        }
    }
}
