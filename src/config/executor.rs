//! Where turns are carried out beside this machine: `[executors.NAME]`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// One place; a repository names it by `executor`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Executor {
    /// Jobs in a cluster.
    Kubernetes(Box<KubernetesJobs>),
    /// Another afk, or the agent service, over `/execute`.
    Service(OtherService),
    /// A T3 Code server, on this machine or on one with the same folders.
    T3(T3),
}

/// Jobs in a cluster. The state folder lies on the shared volume, under the same path here and in
/// the pods.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KubernetesJobs {
    /// One of `kubernetes.contexts`; the current one otherwise.
    #[serde(default)]
    pub context: Option<String>,
    /// Where the Jobs are.
    pub namespace: String,
    /// With afk and the agents in it.
    pub image: String,
    /// How afk is called in it.
    #[serde(default = "afk")]
    pub command: Vec<String>,
    /// The claim of the shared volume.
    pub claim: String,
    /// Where it is mounted, here and there.
    pub mount: PathBuf,
    /// Secrets whose names become the pod's environment: the agents' keys.
    #[serde(default)]
    pub env_from: Vec<String>,
    /// What a pod asks for.
    #[serde(default)]
    pub requests: BTreeMap<String, String>,
    /// What it may have.
    #[serde(default)]
    pub limits: BTreeMap<String, String>,
    /// Which nodes.
    #[serde(default)]
    pub node_selector: BTreeMap<String, String>,
    /// Which taints it bears.
    #[serde(default)]
    pub tolerations: Vec<Toleration>,
    /// The queue of Kueue.
    #[serde(default)]
    pub queue: Option<String>,
    /// Its account; it gets no token of it.
    #[serde(default)]
    pub service_account: Option<String>,
    /// Its priority class.
    #[serde(default)]
    pub priority_class: Option<String>,
    /// The user that it runs as, who owns the worktrees.
    #[serde(default)]
    pub user: Option<i64>,
    /// How long a Job that ended is kept.
    #[serde(default = "hour")]
    pub ttl_seconds: u32,
    /// How long a Job may take to begin, once it left the queue.
    #[serde(default = "half_an_hour")]
    pub pending_minutes: u64,
}

/// As in a pod's specification.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Toleration {
    /// The taint's key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// `Exists` or `Equal`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operator: Option<String>,
    /// The taint's value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// `NoSchedule`, `NoExecute` or `PreferNoSchedule`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effect: Option<String>,
}

/// Another service. It has a clone of its own, so that it works on jobs and prompts, and not on
/// issues, which are worked on here.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OtherService {
    /// Its address.
    pub address: String,
    /// Its token, as a reference to a secret.
    pub token: String,
    /// The agent there; the one that a caller named otherwise.
    #[serde(default)]
    pub agent: Option<String>,
}

/// A T3 Code server. It works in the run's own worktree, so that the state folder lies under the
/// same path where it runs.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct T3 {
    /// Its address.
    pub address: String,
    /// Its token, as a reference to a secret.
    #[serde(default)]
    pub token: Option<String>,
    /// A command that prints a token; it is run again when that is refused.
    #[serde(default)]
    pub issue: Vec<String>,
    /// Which of its agents.
    #[serde(default = "claude")]
    pub instance: String,
    /// The agent's model; that of a job or of the repository's agent otherwise.
    #[serde(default)]
    pub model: Option<String>,
    /// Whether the agent asks leave before it does something.
    #[serde(default)]
    pub approvals: bool,
    /// The version that the server must have.
    #[serde(default)]
    pub version: Option<String>,
    /// It runs as a user who can read no key of breakglass: afk hides nothing from its agents.
    #[serde(default)]
    pub apart: bool,
}

fn claude() -> String {
    "claudeAgent".into()
}

fn afk() -> Vec<String> {
    vec!["afk".into()]
}

const fn hour() -> u32 {
    3600
}

const fn half_an_hour() -> u64 {
    30
}

impl Executor {
    /// What is wrong with it: the key below its own and the message.
    ///
    /// # Errors
    /// The first that is found.
    pub(super) fn check(&self, breakglass: bool) -> Result<(), (&'static str, String)> {
        match self {
            Self::Kubernetes(jobs) if !jobs.mount.is_absolute() => {
                Err(("mount", "should be an absolute path".into()))
            }
            Self::Kubernetes(jobs) if jobs.command.is_empty() => {
                Err(("command", "names no program".into()))
            }
            Self::Service(OtherService { address, .. }) | Self::T3(T3 { address, .. })
                if !address.starts_with("http") =>
            {
                Err(("address", "is no address".into()))
            }
            Self::T3(t3) if breakglass && !t3.apart => {
                let why = "should say that the server runs as a user who can't read the keys of \
                           breakglass: nothing is hidden from its agents";
                Err(("apart", why.into()))
            }
            Self::T3(t3) if t3.token.is_some() != t3.issue.is_empty() => {
                Err(("token", "should be set, or `issue`, and not both".into()))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong(text: &str, breakglass: bool) -> Option<&'static str> {
        let section: Executor = toml::from_str(text).unwrap();
        section.check(breakglass).err().map(|(key, _)| key)
    }

    #[test]
    fn a_t3_server_has_one_way_to_a_token_and_stays_apart_from_breakglass() {
        let t3 = |more: &str| format!("kind = 't3'\naddress = 'http://127.0.0.1:1'\n{more}");
        assert_eq!(wrong(&t3("token = 'env:A'"), false), None);
        assert_eq!(wrong(&t3("issue = ['t3']"), false), None);
        assert_eq!(wrong(&t3(""), false), Some("token"));
        assert_eq!(wrong(&t3("token = 'env:A'\nissue = ['t3']"), false), Some("token"));
        assert_eq!(wrong(&t3("token = 'env:A'"), true), Some("apart"));
        assert_eq!(wrong(&t3("token = 'env:A'\napart = true"), true), None);
        let text = "kind = 't3'\naddress = 'there'\ntoken = 'env:A'";
        assert_eq!(wrong(text, false), Some("address"));
    }
}
