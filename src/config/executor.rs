//! `[executors.NAME]`: the places beside this machine that carry out turns. `crate::executor` builds an
//! adapter from each section.

use std::collections::BTreeMap;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::ConfigError;

/// `[executors.NAME]`: a repository selects one by its key `executor`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum ExecutorConfig {
    /// Jobs in a Kubernetes cluster.
    Kubernetes(Box<KubernetesJobsConfig>),
    /// Another afk, or the service that afk replaces, over `POST /execute`.
    Service(RemoteServiceConfig),
    /// A T3 Code server on this machine, or on one that has the same folders.
    T3(T3Config),
}

/// Jobs in a Kubernetes cluster. The state folder must lie on a volume that afk and the pods share,
/// under the same path in both.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KubernetesJobsConfig {
    /// One of `kubernetes.contexts`; the current context by default.
    #[serde(default)]
    pub context: Option<String>,
    /// The namespace of the Jobs.
    pub namespace: String,
    /// An image that contains afk and the agents.
    pub image: String,
    /// The command that starts afk in that image.
    #[serde(default = "afk")]
    pub command: Vec<String>,
    /// The claim (PVC) of the shared volume.
    pub claim: String,
    /// The mount path of the volume, here and in the pods.
    pub mount: PathBuf,
    /// Secret objects whose entries become environment variables: the agents' keys.
    #[serde(default)]
    pub env_from: Vec<String>,
    /// The resources that a pod requests.
    #[serde(default)]
    pub requests: BTreeMap<String, String>,
    /// The resources that a pod may use at most.
    #[serde(default)]
    pub limits: BTreeMap<String, String>,
    /// The labels of nodes that may run the pods.
    #[serde(default)]
    pub node_selector: BTreeMap<String, String>,
    /// The taints that the pods tolerate.
    #[serde(default)]
    pub tolerations: Vec<Toleration>,
    /// The local queue, if Kueue admits the Jobs.
    #[serde(default)]
    pub queue: Option<String>,
    /// The service account of the pods; its token is not mounted.
    #[serde(default)]
    pub service_account: Option<String>,
    /// The priority class of the pods.
    #[serde(default)]
    pub priority_class: Option<String>,
    /// The numeric user and group of the pods, who must own the worktrees and can't be root; afk's
    /// own user by default.
    #[serde(default)]
    pub user: Option<u32>,
    /// Seconds that Kubernetes keeps a Job after its end.
    #[serde(default = "hour")]
    pub ttl_seconds: u32,
    /// Minutes within which a Job must start, once it left the queue.
    #[serde(default = "half_an_hour")]
    pub pending_minutes: u64,
}

/// A toleration, as in a pod's specification.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Toleration {
    /// The key of the taint; every key by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// `Exists`, or `Equal` by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operator: Option<String>,
    /// The value of the taint, for `Equal`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// `NoSchedule`, `NoExecute` or `PreferNoSchedule`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effect: Option<String>,
}

/// Another service. It works in a clone of its own, so that it receives jobs and prompts but no
/// issues.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RemoteServiceConfig {
    /// The address of the server, without a path.
    pub address: String,
    /// A bearer token, as a reference to a secret.
    pub token: String,
    /// The agent of that service; by default the one that the caller named.
    #[serde(default)]
    pub agent: Option<String>,
}

/// A T3 Code server. It works in the run's own worktree, so that the state folder must lie under the
/// same path on its machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct T3Config {
    /// The address of the server, without a path.
    pub address: String,
    /// A bearer token, as a reference to a secret.
    #[serde(default)]
    pub token: Option<String>,
    /// A command that prints a token; afk runs it again when the server refuses that token.
    #[serde(default)]
    pub issue: Vec<String>,
    /// The server's agent that works, by its instance name.
    #[serde(default = "claude")]
    pub instance: String,
    /// The model; by default that of the job or of the repository's agent.
    #[serde(default)]
    pub model: Option<String>,
    /// Whether the agent asks for permission before it acts.
    #[serde(default)]
    pub approvals: bool,
    /// The exact version that the server must have.
    #[serde(default)]
    pub version: Option<String>,
    /// Confirms that the server runs as a user who can't read the keys of breakglass, since afk
    /// can't hide them from its agents.
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

impl ExecutorConfig {
    pub(super) fn check(&self, breakglass: bool) -> Result<(), ConfigError> {
        let wrong = |key: &str, message: &str| Err(ConfigError::meaning(key, message));
        match self {
            Self::Kubernetes(jobs) if !jobs.mount.is_absolute() => {
                wrong("mount", "should be an absolute path")
            }
            Self::Kubernetes(jobs) if jobs.user == Some(0) => wrong(
                "user",
                "must not be 0: pods pass the restricted profile of the Pod Security Standards, \
                 which refuses root",
            ),
            Self::Kubernetes(jobs) if jobs.command.is_empty() => {
                wrong("command", "names no program")
            }
            Self::Service(RemoteServiceConfig { address, .. })
            | Self::T3(T3Config { address, .. })
                if !address.starts_with("http") =>
            {
                wrong("address", "is not an http:// or https:// address")
            }
            Self::T3(t3) if breakglass && !t3.apart => {
                let message = "set it to true once the server runs as a user who can't read the keys \
                               of breakglass: afk can't hide them from the server's agents";
                wrong("apart", message)
            }
            Self::T3(t3) if t3.token.is_some() != t3.issue.is_empty() => {
                wrong("token", "set either `token` or `issue`")
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong_key(text: &str, breakglass: bool) -> Option<String> {
        let section: ExecutorConfig = toml::from_str(text).unwrap();
        match section.check(breakglass).err()? {
            ConfigError::Meaning { key, .. } => Some(key),
            other => panic!("{other}"),
        }
    }

    #[test]
    fn kubernetes_pods_never_run_as_root() {
        let jobs = |more: &str| {
            format!(
                "kind = 'kubernetes'\nnamespace = 'a'\nimage = 'b'\nclaim = 'c'\nmount = '/d'\n{more}"
            )
        };
        assert_eq!(wrong_key(&jobs("user = 1000"), false), None);
        assert_eq!(wrong_key(&jobs("user = 0"), false).as_deref(), Some("user"));
    }

    #[test]
    fn t3_requires_one_token_source_and_distance_from_breakglass() {
        let t3 = |more: &str| format!("kind = 't3'\naddress = 'http://127.0.0.1:1'\n{more}");
        assert_eq!(wrong_key(&t3("token = 'env:A'"), false), None);
        assert_eq!(wrong_key(&t3("issue = ['t3']"), false), None);
        assert_eq!(wrong_key(&t3(""), false).as_deref(), Some("token"));
        assert_eq!(
            wrong_key(&t3("token = 'env:A'\nissue = ['t3']"), false).as_deref(),
            Some("token")
        );
        assert_eq!(wrong_key(&t3("token = 'env:A'"), true).as_deref(), Some("apart"));
        assert_eq!(wrong_key(&t3("token = 'env:A'\napart = true"), true), None);
        let text = "kind = 't3'\naddress = 'there'\ntoken = 'env:A'";
        assert_eq!(wrong_key(text, false).as_deref(), Some("address"));
    }
}
