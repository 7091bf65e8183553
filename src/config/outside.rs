//! The services outside: GitHub, Woodpecker, Kubernetes, Vault, sinks, and where control comes from.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use serde::Deserialize;

use crate::core::model::notice::NoticeKind;

/// `[github]`: issues and checks of the allow-listed repositories.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GitHub {
    /// The API's address; GitHub Enterprise: `https://HOST/api/v3`.
    #[serde(default = "api")]
    pub api: String,
    /// Where git finds the repositories; the API's host where it isn't set.
    #[serde(default)]
    pub git: Option<String>,
    /// A personal access token, as a reference to a secret.
    #[serde(default)]
    pub token: Option<String>,
    /// A GitHub App in a token's place.
    #[serde(default)]
    pub app: Option<App>,
    /// The role `triage` may arm an issue as well.
    #[serde(default)]
    pub triage_arms: bool,
    /// A blocker that was closed as not planned still blocks.
    #[serde(default)]
    pub not_planned_blocks: bool,
}

fn api() -> String {
    "https://api.github.com".into()
}

/// A GitHub App.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct App {
    /// Its client id or number.
    pub id: String,
    /// Its installation.
    pub installation: u64,
    /// Its private key in PEM, as a reference to a secret.
    pub key: String,
}

impl GitHub {
    /// Where git finds the repositories.
    #[must_use]
    pub fn host(&self) -> String {
        if let Some(git) = &self.git {
            return git.trim_end_matches('/').to_owned();
        }
        let api = self.api.trim_end_matches('/');
        api.strip_suffix("/api/v3").unwrap_or(api).replace("://api.github.com", "://github.com")
    }

    pub(super) fn check(&self) -> Result<(), (String, String)> {
        let wrong = |key: &str, message: &str| Err((key.to_owned(), message.to_owned()));
        match (&self.token, &self.app) {
            (None, None) => return wrong("token", "name a `token` or an `app`"),
            (Some(_), Some(_)) => return wrong("token", "name either `token` or `app`"),
            _ => {}
        }
        if !self.api.starts_with("http://") && !self.api.starts_with("https://") {
            return wrong("api", "is no address");
        }
        Ok(())
    }
}

/// `[woodpecker]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Woodpecker {
    /// Its address.
    pub address: String,
    /// Its token, as a reference to a secret.
    pub token: String,
}

/// `[kubernetes]`: how clusters are reached. Read-only rights are enough
/// (`assets/kubernetes/read-only.yaml`).
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Kubernetes {
    /// A kubeconfig; the usual places, or the pod's own account, where it isn't set.
    pub kubeconfig: Option<PathBuf>,
    /// The contexts that repositories may name; with none, the current one alone.
    pub contexts: BTreeSet<String>,
}

/// `[vault]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Vault {
    /// Its address.
    pub address: String,
    /// A token, as `env:` or `file:`.
    #[serde(default)]
    pub token: Option<String>,
    /// The role of a login as a Kubernetes service account.
    #[serde(default)]
    pub role: Option<String>,
    /// Where that login is mounted.
    #[serde(default = "mount")]
    pub mount: String,
    /// The service account's token.
    #[serde(default = "jwt")]
    pub jwt: PathBuf,
}

fn mount() -> String {
    "kubernetes".into()
}

fn jwt() -> PathBuf {
    "/var/run/secrets/kubernetes.io/serviceaccount/token".into()
}

/// `[loki]`: what happens in runs, as log lines with the labels `repo` and `issue`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Loki {
    /// Its push address.
    pub address: String,
    /// The tenant, where it has several.
    #[serde(default)]
    pub tenant: Option<String>,
    /// A bearer token, as a reference to a secret.
    #[serde(default)]
    pub token: Option<String>,
}

/// `[notify]`: how the operator is told.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Notify {
    /// Ring the terminal's bell.
    pub bell: bool,
    /// Send an OSC 9 desktop notification.
    pub osc: bool,
    /// Local time in which only what is urgent is sent, as `22:00-07:00`.
    pub quiet: Option<Quiet>,
    /// Minutes after which an escalation that nobody acknowledged is told again, doubling; 0 is
    /// never.
    pub remind_minutes: u32,
    /// What opens a run, told with each notice; `{run}` stands for it.
    pub open: String,
    /// Where notices go, by a name of yours.
    pub sinks: BTreeMap<String, Sink>,
}

impl Default for Notify {
    fn default() -> Self {
        Self {
            bell: true,
            osc: false,
            quiet: None,
            remind_minutes: 30,
            open: "afk attach --run {run}".into(),
            sinks: BTreeMap::new(),
        }
    }
}

/// A part of the day, in minutes from midnight.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Quiet {
    /// Its begin.
    pub from: u16,
    /// Its end; before the begin it is the next day's.
    pub to: u16,
}

impl TryFrom<String> for Quiet {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        let minute = |text: &str| {
            let (hour, minute) = text.trim().split_once(':')?;
            let (hour, minute) = (hour.parse::<u16>().ok()?, minute.parse::<u16>().ok()?);
            (hour < 24 && minute < 60).then_some(hour * 60 + minute)
        };
        let (from, to) = text.split_once('-').ok_or("should be like 22:00-07:00")?;
        match (minute(from), minute(to)) {
            (Some(from), Some(to)) if from != to => Ok(Self { from, to }),
            _ => Err("should be like 22:00-07:00".into()),
        }
    }
}

/// Somewhere that notices go.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum Sink {
    /// ntfy.
    Ntfy {
        /// The server's address, without the topic.
        address: String,
        /// The topic.
        topic: String,
        /// Its token, as a reference to a secret.
        #[serde(default)]
        token: Option<String>,
        /// What is sent; all where it isn't set.
        #[serde(default)]
        notices: Option<BTreeSet<NoticeKind>>,
    },
    /// A Slack webhook.
    Slack {
        /// Its address, as a reference to a secret: who knows it can post.
        webhook: String,
        /// What is sent; all where it isn't set.
        #[serde(default)]
        notices: Option<BTreeSet<NoticeKind>>,
    },
    /// A command, with the notice in its environment (`AFK_NOTICE`, `AFK_TITLE`, …).
    Command {
        /// Program and arguments.
        command: Vec<String>,
        /// What is sent; all where it isn't set.
        #[serde(default)]
        notices: Option<BTreeSet<NoticeKind>>,
    },
}

impl Sink {
    /// What is sent there; none is all.
    #[must_use]
    pub const fn notices(&self) -> Option<&BTreeSet<NoticeKind>> {
        match self {
            Self::Ntfy { notices, .. }
            | Self::Slack { notices, .. }
            | Self::Command { notices, .. } => notices.as_ref(),
        }
    }
}

/// `[control]`: `AFK_KILL_SWITCH` and the other names, beside the environment, from a place that
/// can change while afk runs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Control {
    /// A folder with a file a name: a mounted `ConfigMap`.
    pub folder: Option<PathBuf>,
    /// A `ConfigMap` over the API, as `namespace/name`.
    pub config_map: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_follows_from_the_api() {
        let host = |api: &str| {
            let text = format!("api = '{api}'\ntoken = 'env:T'");
            toml::from_str::<GitHub>(&text).unwrap().host()
        };
        assert_eq!(host("https://api.github.com"), "https://github.com");
        assert_eq!(host("https://ghe.acme.com/api/v3/"), "https://ghe.acme.com");
        assert_eq!(host("http://127.0.0.1:7700"), "http://127.0.0.1:7700");
    }

    #[test]
    fn quiet_hours_are_two_times_of_day() {
        let quiet = |text: &str| Quiet::try_from(text.to_owned());
        assert_eq!(quiet("22:00-07:30"), Ok(Quiet { from: 1320, to: 450 }));
        for bad in ["22-7", "24:00-07:00", "7:00-7:00", "now"] {
            assert!(quiet(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_sink_names_its_kind() {
        let sink = |text: &str| toml::from_str::<Sink>(text);
        assert!(
            sink("kind='ntfy'\naddress='https://ntfy.sh'\ntopic='t'\nnotices=['frozen']").is_ok()
        );
        assert!(sink("kind='slack'\nwebhook='env:HOOK'").is_ok());
        assert!(sink("kind='pigeon'").is_err());
        assert!(sink("kind='slack'\nwebhook='env:HOOK'\nnotices=['gossip']").is_err());
    }
}
