//! The sections `[repos."owner/name"]`, `[tracker]` and `[labels]`: the repositories that afk works
//! in, and the trackers that their issues come from.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::sandbox::NetworkPolicy;

/// `[repos."owner/name"]`: a repository on the owner's side; `.afk.toml` is the repository's side.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RepositoryConfig {
    /// A folder or an address that git fetches from and pushes to; GitHub's address by default.
    #[serde(default)]
    pub remote: String,
    /// The source of the issues: GitHub if `[github]` is set, the folder otherwise.
    #[serde(default)]
    pub tracker: Option<TrackerKind>,
    /// The private key that git uses over ssh; by default the ssh agent and ssh's configuration.
    #[serde(default)]
    pub ssh_key: Option<PathBuf>,
    /// The known-hosts file beside that key; ssh's own list by default.
    #[serde(default)]
    pub ssh_known_hosts: Option<PathBuf>,
    /// The branch that runs start from and push to.
    #[serde(default = "master")]
    pub branch: String,
    /// The agent of this repository; the top-level `agent` by default.
    #[serde(default)]
    pub agent: Option<String>,
    /// The executor that carries out its turns, by name; this machine by default.
    #[serde(default)]
    pub executor: Option<String>,
    /// Environment variables that point at folders which the setup of a checkout fills, and which
    /// later checkouts start with.
    #[serde(default)]
    pub caches: BTreeMap<String, String>,
    /// The references that `[env]` of the repository's `.afk.toml` may use.
    #[serde(default)]
    pub test_secrets: Vec<String>,
    /// What agents and commands of this repository may reach over the network; `sandbox.network` by
    /// default.
    #[serde(default)]
    pub network: Option<NetworkPolicy>,
    /// What the deploy command may reach beside its checkout.
    #[serde(default)]
    pub deploy: DeployAccess,
}

/// The name of a git remote in messages and among the causes of outages: its host, or the path of a
/// local one. It holds no credential.
#[must_use]
pub(crate) fn remote_name(address: &str) -> String {
    let host = |rest: &str| {
        let authority = rest.split('/').next().unwrap_or_default();
        authority.rsplit('@').next().unwrap_or_default().to_owned()
    };
    if let Some(path) = address.strip_prefix("file://") {
        return path.to_owned();
    }
    if let Some((_, rest)) = address.split_once("://") {
        return host(rest);
    }
    // `user@host:path`, ssh's short form; a path may have a colon behind a slash.
    match address.split_once(':') {
        Some((login, _)) if !login.contains('/') => host(login),
        _ => address.to_owned(),
    }
}

/// `[repos."owner/name".deploy]`: what the deploy command needs, and no other program gets.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DeployAccess {
    /// Files and folders that it may read, such as a kubeconfig.
    pub read: Vec<PathBuf>,
    /// Files and folders that it may write.
    pub write: Vec<PathBuf>,
    /// What it may reach over the network; that of the repository by default.
    pub network: Option<NetworkPolicy>,
}

/// The kinds of trackers that a repository's issues can come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum TrackerKind {
    /// The folder of Markdown issues.
    Folder,
    /// The issues of the repository on GitHub.
    GitHub,
}

impl RepositoryConfig {
    /// The command in place of `ssh`, where the repository has a key of its own.
    #[must_use]
    pub(crate) fn ssh_command(&self) -> Option<String> {
        let quoted =
            |path: &Path| format!("'{}'", path.display().to_string().replace('\'', "'\\''"));
        let key = quoted(self.ssh_key.as_ref()?);
        let command =
            format!("ssh -o BatchMode=yes -o ConnectTimeout=15 -o IdentitiesOnly=yes -i {key}");
        Some(match &self.ssh_known_hosts {
            Some(hosts) => format!("{command} -o UserKnownHostsFile={}", quoted(hosts)),
            None => command,
        })
    }
}

impl Default for RepositoryConfig {
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
            test_secrets: Vec::new(),
            network: None,
            deploy: DeployAccess::default(),
        }
    }
}

fn master() -> String {
    "master".into()
}

/// `[tracker]`: the folder of issues, and how often every tracker is polled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TrackerConfig {
    /// A folder of Markdown issues (docs/issues.md).
    pub folder: Option<PathBuf>,
    /// Seconds between two polls; a folder is also watched for changes.
    pub poll_seconds: u64,
}

impl Default for TrackerConfig {
    fn default() -> Self {
        Self { folder: None, poll_seconds: 30 }
    }
}

/// `[labels]`: label names in the tracker, compared byte for byte.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LabelsConfig {
    /// The label that arms an issue.
    pub ready: String,
    /// The label that afk sets while a run works on the issue.
    pub in_progress: String,
    /// The label that afk sets when it asks a human.
    pub human: String,
}

impl Default for LabelsConfig {
    fn default() -> Self {
        Self {
            ready: "ready-for-agent".into(),
            in_progress: "agent-in-progress".into(),
            human: "ready-for-human".into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remote_name_is_the_host_without_a_credential() {
        for (address, name) in [
            ("https://x:secret@git.acme.com/a/b.git", "git.acme.com"),
            ("http://127.0.0.1:8080/a.git", "127.0.0.1:8080"),
            ("ssh://git@git.acme.com:22/a.git", "git.acme.com:22"),
            ("git@git.acme.com:a/b.git", "git.acme.com"),
            ("file:///srv/a.git", "/srv/a.git"),
            ("/srv/a:b.git", "/srv/a:b.git"),
        ] {
            assert_eq!(remote_name(address), name);
        }
    }
}
