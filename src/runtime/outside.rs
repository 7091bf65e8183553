//! The services outside as the configuration has them now: built at the start, and anew where a
//! part of it changed.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use futures::future::BoxFuture;
use secrecy::ExposeSecret;

use crate::config::Config;
use crate::executor::{self, Executor};
use crate::github::Api;
use crate::notify::Sinks;
use crate::secrets::Secrets;
use crate::tracker::folder::Folder;
use crate::tracker::github::{GitHub, Setting};
use crate::tracker::joined::Joined;
use crate::workspace::git::Credentials;

/// See the module.
#[derive(Debug)]
pub(crate) struct Outside {
    config: Config,
    pub secrets: Arc<Secrets>,
    pub github: Option<Arc<Api>>,
    pub tracker: Arc<Joined>,
    pub sinks: Arc<Sinks>,
    pub executors: BTreeMap<String, Arc<dyn Executor>>,
}

impl Outside {
    /// All of it, with the parts of an earlier one that are still as configured.
    ///
    /// # Errors
    /// A line for a person.
    pub fn new(config: &Config, journal: &str, before: Option<&Self>) -> Result<Self, String> {
        let same_vault = before.filter(|old| old.config.vault == config.vault);
        let secrets = match same_vault {
            Some(old) => old.secrets.clone(),
            None => Arc::new(Secrets::new(config.vault.as_ref()).map_err(|e| e.to_string())?),
        };
        let same_github = same_vault.filter(|old| old.config.github == config.github);
        let github = match (same_github, &config.github) {
            (Some(old), _) => old.github.clone(),
            (None, Some(github)) => Some(Arc::new(Api::new(github, secrets.clone())?)),
            (None, None) => None,
        };
        let folder = config.tracker.folder.clone().map(|folder| {
            let (labels, trusted) = (config.labels.clone(), config.trusted.clone());
            Arc::new(Folder::new(folder, labels, trusted, journal.to_owned()))
        });
        let on_github = config.github.as_ref().zip(github.clone()).map(|(section, api)| {
            let repos: std::collections::BTreeSet<_> =
                config.allowlist.iter().filter(|repo| config.on_github(repo)).cloned().collect();
            let setting = Setting {
                repos: repos.clone(),
                labels: config.labels.clone(),
                trusted: config.trusted.clone(),
                triage: section.triage_arms,
                not_planned_blocks: section.not_planned_blocks,
                journal: journal.to_owned(),
            };
            (Arc::new(GitHub::new(api, setting)), repos)
        });
        let tracker = Arc::new(Joined { folder, github: on_github });
        let same_sinks = same_vault.filter(|old| old.config.notify == config.notify);
        let sinks = match same_sinks {
            Some(old) => old.sinks.clone(),
            None => Arc::new(Sinks::new(&config.notify, secrets.clone())?),
        };
        let executors = config.executors.iter().map(|(name, place)| {
            Ok::<_, String>((name.clone(), executor::of(place, &config.kubernetes, &secrets)?))
        });
        let executors = executors.collect::<Result<_, _>>()?;
        Ok(Self { config: config.clone(), secrets, github, tracker, sinks, executors })
    }
}

/// What git is given to reach a remote, as it is now.
#[derive(Debug, Clone)]
pub(crate) struct Remotes(pub Arc<RwLock<Arc<Outside>>>);

/// Gives git the token from its environment, and nobody else's helper a say.
const HELPER: &str = "!f() { test \"$1\" = get && printf 'username=x-access-token\\npassword=%s\\n' \
    \"$AFK_GIT_TOKEN\"; }; f";

impl Credentials for Remotes {
    fn of<'a>(&'a self, remote: &'a str) -> BoxFuture<'a, Result<Vec<(String, String)>, String>> {
        Box::pin(async move {
            let outside = self.0.read().unwrap_or_else(PoisonError::into_inner).clone();
            let config = &outside.config;
            let mut env = Vec::new();
            let known = config.repos.values().find(|known| known.remote == remote);
            if let Some(key) = known.and_then(|known| known.ssh_key.as_ref()) {
                let quoted = |path: &std::path::Path| {
                    format!("'{}'", path.display().to_string().replace('\'', "'\\''"))
                };
                let mut command = format!(
                    "ssh -o BatchMode=yes -o ConnectTimeout=15 -o IdentitiesOnly=yes -i {}",
                    quoted(key)
                );
                if let Some(hosts) = known.and_then(|known| known.ssh_known_hosts.as_ref()) {
                    command = format!("{command} -o UserKnownHostsFile={}", quoted(hosts));
                }
                env.push(("GIT_SSH_COMMAND".to_owned(), command));
            }
            let host = config.github.as_ref().map(crate::config::services::GitHubConfig::host);
            let theirs = host.filter(|host| remote.starts_with(&format!("{host}/")));
            if let (Some(host), Some(api)) = (theirs, &outside.github) {
                let token = api.token().await.map_err(|error| error.to_string())?;
                let set = [
                    ("GIT_CONFIG_COUNT", "2".to_owned()),
                    ("GIT_CONFIG_KEY_0", format!("credential.{host}.helper")),
                    ("GIT_CONFIG_VALUE_0", String::new()),
                    ("GIT_CONFIG_KEY_1", format!("credential.{host}.helper")),
                    ("GIT_CONFIG_VALUE_1", HELPER.to_owned()),
                    ("AFK_GIT_TOKEN", token.expose_secret().to_owned()),
                ];
                env.extend(set.map(|(name, value)| (name.to_owned(), value)));
            }
            Ok(env)
        })
    }
}
