//! The adapters to services outside of afk, as the configuration in force defines them.
//!
//! [`setup`](super::setup) builds them at the start; [`config_watch`](super::config_watch) builds
//! them again after a change, but keeps the secret store, the GitHub client and the sinks whose part
//! of the configuration is the same, with their connections and caches.

use std::collections::BTreeMap;
use std::sync::{Arc, RwLock};

use futures::future::BoxFuture;

use crate::config::Config;
use crate::config::repos::RepositoryConfig;
use crate::error::chain;
use crate::executor::{self, Executor};
use crate::github::Api;
use crate::lock::RwLockExt;
use crate::notify::Sinks;
use crate::secrets::Secrets;
use crate::tracker::folder::FolderTracker;
use crate::tracker::github::{GitHubTracker, GitHubTrackerConfig};
use crate::tracker::router::TrackerRouter;
use crate::workspace::credential::{Credentials, RemoteAccess, RemoteLogin};

/// One set of adapters; see the module.
#[derive(Debug)]
pub(crate) struct Services {
    /// The configuration that they were built from.
    config: Config,
    pub secrets: Arc<Secrets>,
    pub github: Option<Arc<Api>>,
    pub tracker: Arc<TrackerRouter>,
    pub sinks: Arc<Sinks>,
    pub executors: BTreeMap<String, Arc<dyn Executor>>,
}

impl Services {
    /// Builds the adapters, and takes those over from `before` that are configured the same.
    ///
    /// # Errors
    /// A line that says which adapter can't be built and why.
    pub(super) fn new(
        config: &Config,
        journal: &str,
        before: Option<&Self>,
    ) -> Result<Self, String> {
        let same_vault = before.filter(|old| old.config.vault == config.vault);
        let secrets = match same_vault {
            Some(old) => old.secrets.clone(),
            None => Arc::new(Secrets::new(config.vault.as_ref()).map_err(|e| chain(&e))?),
        };
        let same_github = same_vault.filter(|old| old.config.github == config.github);
        let github = match (same_github, &config.github) {
            (Some(old), _) => old.github.clone(),
            (None, Some(github)) => Some(Arc::new(Api::new(github, secrets.clone())?)),
            (None, None) => None,
        };
        let folder = config.tracker.folder.clone().map(|folder| {
            let (labels, trusted) = (config.labels.clone(), config.trusted.clone());
            Arc::new(FolderTracker::new(folder, labels, trusted, journal.to_owned()))
        });
        let on_github = config.github.as_ref().zip(github.clone()).map(|(section, api)| {
            let repos: std::collections::BTreeSet<_> =
                config.allowlist.iter().filter(|repo| config.on_github(repo)).cloned().collect();
            let setting = GitHubTrackerConfig {
                repos: repos.clone(),
                labels: config.labels.clone(),
                trusted: config.trusted.clone(),
                triage: section.triage_arms,
                not_planned_blocks: section.not_planned_blocks,
                journal: journal.to_owned(),
            };
            (Arc::new(GitHubTracker::new(api, setting)), repos)
        });
        let tracker = Arc::new(TrackerRouter { folder, github: on_github });
        let same_sinks = same_vault.filter(|old| old.config.notify == config.notify);
        let sinks = match same_sinks {
            Some(old) => old.sinks.clone(),
            None => Arc::new(Sinks::new(&config.notify, secrets.clone())?),
        };
        let executors = config.executors.iter().map(|(name, place)| {
            Ok::<_, String>((
                name.clone(),
                executor::from_config(place, &config.kubernetes, &secrets)?,
            ))
        });
        let executors = executors.collect::<Result<_, _>>()?;
        Ok(Self { config: config.clone(), secrets, github, tracker, sinks, executors })
    }
}

/// The credentials of git for a remote, by the configuration in force.
#[derive(Debug, Clone)]
pub(crate) struct GitCredentials(pub Arc<RwLock<Arc<Services>>>);

impl Credentials for GitCredentials {
    fn of<'a>(&'a self, remote: &'a str) -> BoxFuture<'a, Result<RemoteAccess, String>> {
        Box::pin(async move {
            let services = self.0.read_locked().clone();
            let config = &services.config;
            let mut access = RemoteAccess::default();
            let known = config.repos.values().find(|known| known.remote == remote);
            access.ssh_command = known.and_then(RepositoryConfig::ssh_command);
            let host = config.github.as_ref().map(crate::config::services::GitHubConfig::host);
            let theirs = host.filter(|host| remote.starts_with(&format!("{host}/")));
            if let (Some(host), Some(api)) = (theirs, &services.github) {
                let password = api.token().await.map_err(|error| chain(&error))?;
                let username = "x-access-token".to_owned();
                access.login = Some(RemoteLogin { host, username, password });
            }
            Ok(access)
        })
    }
}
