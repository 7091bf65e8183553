//! The sections of the services that afk talks to: GitHub, Woodpecker, Kubernetes, Vault, Loki and a
//! collector of traces.
//! The runtime builds the adapters from them (`runtime::services`), and rebuilds an adapter when its
//! section changes.
//!
//! A *reference to a secret* is `env:NAME`, `file:/path` or `vault:…`; the value never stands here.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::ConfigError;

/// `[github]`: issues and checks of the repositories on the allowlist.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GitHubConfig {
    /// The address of the API; `https://HOST/api/v3` for GitHub Enterprise.
    #[serde(default = "api")]
    pub api: String,
    /// The address that git finds the repositories under; the API's host by default.
    #[serde(default)]
    pub git: Option<String>,
    /// A personal access token, as a reference to a secret.
    #[serde(default)]
    pub token: Option<String>,
    /// A GitHub App instead of a token.
    #[serde(default)]
    pub app: Option<GitHubAppConfig>,
    /// Whether the role `triage` may arm an issue as well.
    #[serde(default)]
    pub triage_arms: bool,
    /// Whether a blocker that was closed as not planned still blocks.
    #[serde(default)]
    pub not_planned_blocks: bool,
}

fn api() -> String {
    "https://api.github.com".into()
}

/// `[github.app]`: the identity and the key of a GitHub App.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GitHubAppConfig {
    /// The App's client id or number.
    pub id: String,
    /// The number of its installation.
    pub installation: u64,
    /// Its private key in PEM, as a reference to a secret.
    pub key: String,
}

impl GitHubConfig {
    /// The address that git finds the repositories under, without a trailing slash.
    #[must_use]
    pub fn host(&self) -> String {
        if let Some(git) = &self.git {
            return git.trim_end_matches('/').to_owned();
        }
        let api = self.api.trim_end_matches('/');
        api.strip_suffix("/api/v3").unwrap_or(api).replace("://api.github.com", "://github.com")
    }

    pub(super) fn check(&self) -> Result<(), ConfigError> {
        match (&self.token, &self.app) {
            (None, None) => return Err(ConfigError::meaning("token", "set `token` or `app`")),
            (Some(_), Some(_)) => {
                return Err(ConfigError::meaning("token", "set either `token` or `app`, not both"));
            }
            _ => {}
        }
        if !self.api.starts_with("http://") && !self.api.starts_with("https://") {
            return Err(ConfigError::meaning("api", "is not an http:// or https:// address"));
        }
        Ok(())
    }
}

/// `[woodpecker]`: the server that runs pipelines.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WoodpeckerConfig {
    /// The address of the server, without the path of the API.
    pub address: String,
    /// The token of an account, as a reference to a secret.
    pub token: String,
}

/// `[kubernetes]`: the access to clusters. Read-only rights suffice
/// (`assets/kubernetes/base/read-only.yaml`).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct KubernetesConfig {
    /// A kubeconfig file; by default kubectl's usual places, or the pod's service account.
    pub kubeconfig: Option<PathBuf>,
    /// The contexts that repositories may name; if empty, only the current context.
    pub contexts: BTreeSet<String>,
}

/// `[vault]`: the server behind `vault:` references, and the login to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VaultConfig {
    /// The address of the server, without the path of the API.
    pub address: String,
    /// A token, as an `env:` or `file:` reference.
    #[serde(default)]
    pub token: Option<String>,
    /// The role of a login as a Kubernetes service account, instead of a token.
    #[serde(default)]
    pub role: Option<String>,
    /// The path that the Kubernetes login is mounted at.
    #[serde(default = "mount")]
    pub mount: String,
    /// The file that holds the service account's token.
    #[serde(default = "jwt")]
    pub jwt: PathBuf,
}

fn mount() -> String {
    "kubernetes".into()
}

fn jwt() -> PathBuf {
    "/var/run/secrets/kubernetes.io/serviceaccount/token".into()
}

/// `[loki]`: the events of runs, as log lines with the labels `repo` and `issue`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LokiConfig {
    /// The address that lines are pushed to.
    pub address: String,
    /// The tenant, if the server has several.
    #[serde(default)]
    pub tenant: Option<String>,
    /// A bearer token, as a reference to a secret.
    #[serde(default)]
    pub token: Option<String>,
}

/// `[traces]`: each run as a trace of OpenTelemetry. Only an afk that was built with the feature `traces` takes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TracesConfig {
    /// The address of a collector that takes OTLP over HTTP; `/v1/traces` may be left out.
    pub endpoint: String,
    /// A bearer token, as a reference to a secret.
    #[serde(default)]
    pub token: Option<String>,
    /// Further headers by their names; each value is a reference to a secret.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
}

impl TracesConfig {
    /// The address that traces are sent to.
    #[must_use]
    pub fn address(&self) -> String {
        let endpoint = self.endpoint.trim_end_matches('/');
        if endpoint.ends_with("/v1/traces") {
            endpoint.to_owned()
        } else {
            format!("{endpoint}/v1/traces")
        }
    }

    pub(super) fn check(&self) -> Result<(), ConfigError> {
        match self.headers.keys().find(|name| http::HeaderName::try_from(*name).is_err()) {
            Some(name) => {
                let message = format!("{name:?} is not the name of a header");
                Err(ConfigError::meaning("headers", message))
            }
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn git_host_follows_from_api_address() {
        let host = |api: &str| {
            let text = format!("api = '{api}'\ntoken = 'env:T'");
            toml::from_str::<GitHubConfig>(&text).unwrap().host()
        };
        assert_eq!(host("https://api.github.com"), "https://github.com");
        assert_eq!(host("https://ghe.acme.com/api/v3/"), "https://ghe.acme.com");
        assert_eq!(host("http://127.0.0.1:7700"), "http://127.0.0.1:7700");
    }

    #[test]
    fn address_of_traces_has_the_path_of_otlp_once() {
        for endpoint in ["http://a:4318", "http://a:4318/", "http://a:4318/v1/traces"] {
            let text = format!("endpoint = '{endpoint}'");
            let config: TracesConfig = toml::from_str(&text).unwrap();
            assert_eq!(config.address(), "http://a:4318/v1/traces");
        }
    }
}
