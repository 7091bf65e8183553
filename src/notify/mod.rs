//! Notices for the operator: a line and a sound in attached terminals, and messages to the sinks of
//! `[notify]`, whose answers table T10 judges. Loki's log lines and the traces of runs are sent
//! from here as well.
//!
//! ```text
//! core → outbox step → runtime::delivery ┬→ terminal_notice → attached clients
//!                                       └→ Sinks::send → ntfy, slack, webhook, command → SendOutcome
//! journal → runtime::loki → LokiBuffer → loki::push
//! journal → runtime::traces → RunTrace → otlp::push
//! ```

mod command;
pub mod loki;
mod ntfy;
#[cfg(feature = "traces")]
pub(crate) mod otlp;
mod slack;
pub mod terminal;
mod webhook;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::config::notify::{NotifyConfig, SinkConfig};
use crate::core::model::notice::{Notice, Severity};
use crate::core::model::run::Run;
use crate::core::model::untrusted::clean_line;
use crate::core::tables::sink::SinkOutcome;
use crate::error::chain;
use crate::lock::LockExt;
use crate::network::{NetworkError, calls};
use crate::secrets::Secrets;

/// The time limit of one message.
const CALL: Duration = Duration::from_secs(15);

/// A notice as a sink sends it; every text is cleaned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutgoingNotice {
    /// The kind of the notice: `frozen`, `done`, …
    pub kind: &'static str,
    /// How urgent the notice is; sinks map it to their own priorities.
    pub severity: Severity,
    /// The kind and the issue or repository, in a line.
    pub title: String,
    /// The text of the notice, in a line.
    pub text: String,
    /// The command that opens the run.
    pub open: String,
    /// The address of the issue, where it has one.
    pub link: Option<String>,
    /// The address at which the run opens, where one is configured.
    pub url: Option<String>,
    /// The id of the run; empty without one.
    pub run: String,
}

/// The word for a severity in requests and environments.
const fn severity_name(severity: Severity) -> &'static str {
    match severity {
        Severity::Info => "info",
        Severity::Warning => "warning",
        Severity::Urgent => "urgent",
    }
}

impl OutgoingNotice {
    /// A notice about a run; `opening` has the configured command and address.
    #[must_use]
    pub fn new(
        notice: &Notice,
        run: Option<&Run>,
        link: Option<String>,
        opening: &NotifyConfig,
    ) -> Self {
        let kind = notice.kind();
        let id = run.map(|run| run.id.to_string()).unwrap_or_default();
        let about = run.and_then(|run| run.work.issue().map(ToString::to_string));
        let about =
            about.unwrap_or_else(|| run.map(|r| r.work.repo().to_string()).unwrap_or_default());
        Self {
            kind: kind.as_str(),
            severity: notice.severity(),
            title: format!("{}: {about}", kind.as_str()),
            text: clean_line(notice.text()),
            open: opening.open.replace("{run}", &id),
            url: opening
                .url
                .as_ref()
                .filter(|_| run.is_some())
                .map(|url| url.replace("{run}", &id)),
            link: link.map(|link| clean_line(&link)),
            run: id,
        }
    }
}

/// The result of sending one notice to one sink.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SendOutcome {
    /// The sink accepted the notice.
    Delivered,
    /// The notice will never arrive; the text says why.
    Dropped(String),
    /// The caller sends the notice again after so many seconds; the text says why.
    Retry(i64, String),
}

/// The sinks as configured.
#[derive(Debug)]
pub struct Sinks {
    config: NotifyConfig,
    /// None without a sink: a client holds the certificates of the system in memory.
    client: Option<reqwest::Client>,
    secrets: Arc<Secrets>,
    /// The sinks that refused for good, with their answers, until the configuration changes.
    disabled: Mutex<BTreeMap<String, String>>,
}

impl Sinks {
    /// The sinks of the configuration; nothing is sent yet.
    ///
    /// # Errors
    /// A line for the operator: there is no TLS client.
    pub fn new(config: &NotifyConfig, secrets: Arc<Secrets>) -> Result<Self, String> {
        let build = || reqwest::Client::builder().timeout(CALL).build();
        let client = (!config.sinks.is_empty()).then(build).transpose();
        let client = client.map_err(|error| format!("no client for sinks: {}", chain(&error)))?;
        Ok(Self { config: config.clone(), client, secrets, disabled: Mutex::default() })
    }

    /// The configuration, for the command and the address that open a run.
    #[must_use]
    pub const fn config(&self) -> &NotifyConfig {
        &self.config
    }

    /// One line for each sink that refused for good.
    #[must_use]
    pub fn disabled(&self) -> Vec<String> {
        let all = self.disabled.locked();
        let lines: BTreeSet<String> = all
            .iter()
            .map(|(name, why)| {
                format!(
                    "notify.sinks.{name}: {why}; the sink is off until the configuration changes"
                )
            })
            .collect();
        lines.into_iter().collect()
    }

    /// Sends a notice to the sink of a name.
    pub async fn send(&self, name: &str, notice: &OutgoingNotice) -> SendOutcome {
        let (Some(sink), Some(client)) = (self.config.sinks.get(name), &self.client) else {
            return SendOutcome::Dropped(format!("notify.sinks.{name} is no longer configured"));
        };
        let off = self.disabled.locked().get(name).cloned();
        if let Some(why) = off {
            return SendOutcome::Dropped(why);
        }
        let sent = match sink {
            SinkConfig::Ntfy { address, topic, token, .. } => {
                ntfy::send(client, &self.secrets, address, topic, token.as_deref(), notice).await
            }
            SinkConfig::Slack { webhook, .. } => {
                slack::send(client, &self.secrets, webhook, notice).await
            }
            SinkConfig::Webhook(sink) => webhook::send(client, &self.secrets, sink, notice).await,
            SinkConfig::Command { command, .. } => command::run(command, notice).await,
        };
        match sent {
            Ok((SinkOutcome::Done, _)) => SendOutcome::Delivered,
            Ok((SinkOutcome::Drop, why)) => SendOutcome::Dropped(why),
            Ok((SinkOutcome::DropAndDisable, why)) => {
                let mut all = self.disabled.locked();
                all.insert(name.to_owned(), why.clone());
                SendOutcome::Dropped(why)
            }
            Ok((SinkOutcome::Retry(seconds), why)) => SendOutcome::Retry(seconds, why),
            Err(why) => SendOutcome::Retry(5, why),
        }
    }
}

/// Sends a request to a sink at `address`, of which an error names the origin only: the path can be
/// a secret. Gives the status code, the seconds of `retry-after` and the start of the body.
async fn answer(
    address: &str,
    request: reqwest::RequestBuilder,
) -> Result<(u16, Option<i64>, String), String> {
    let failed = |error: reqwest::Error| chain(&NetworkError::new(address, error));
    let answer = calls::send("sink", request).await.map_err(failed)?;
    let status = answer.status().as_u16();
    let after = answer.headers().get("retry-after").and_then(|value| value.to_str().ok());
    let after = after.and_then(|text| text.parse().ok());
    let body: String = answer.text().await.map_err(failed)?.chars().take(400).collect();
    Ok((status, after, clean_line(&body)))
}
