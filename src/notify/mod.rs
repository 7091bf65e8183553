//! Telling the operator: terminals, and sinks outside (table T10).

pub mod command;
pub mod loki;
pub mod ntfy;
pub mod slack;
pub mod terminal;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::config::notify::{NotifyConfig, SinkConfig};
use crate::core::model::notice::{Notice, Severity};
use crate::core::model::run::Run;
use crate::core::model::untrusted::clean_line;
use crate::core::tables::sink::SinkOutcome;
use crate::secrets::Secrets;

/// Longest time of one message.
const CALL: Duration = Duration::from_secs(15);

/// A notice as a person reads it; every text is cleaned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Which kind: `frozen`, `done`, …
    pub kind: &'static str,
    /// How loud.
    pub severity: Severity,
    /// A line.
    pub title: String,
    /// What it is about.
    pub text: String,
    /// The command that opens the run.
    pub open: String,
    /// Where the issue can be read, where it has an address.
    pub link: Option<String>,
    /// The run.
    pub run: String,
}

impl Message {
    /// A notice about a run.
    #[must_use]
    pub fn new(notice: &Notice, run: Option<&Run>, link: Option<String>, open: &str) -> Self {
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
            open: open.replace("{run}", &id),
            link: link.map(|link| clean_line(&link)),
            run: id,
        }
    }
}

/// How a message fared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sent {
    /// It arrived.
    Done,
    /// It will never arrive, and why.
    Dropped(String),
    /// It is to be sent again after so many seconds, and why.
    Again(i64, String),
}

/// The sinks as configured.
#[derive(Debug)]
pub struct Sinks {
    config: NotifyConfig,
    /// None where there is no sink: it holds the system's certificates.
    client: Option<reqwest::Client>,
    secrets: Arc<Secrets>,
    /// Those that said no for good; until the configuration changes.
    disabled: Mutex<BTreeMap<String, String>>,
}

impl Sinks {
    /// All of them; nothing is sent yet.
    ///
    /// # Errors
    /// A line for a person.
    pub fn new(config: &NotifyConfig, secrets: Arc<Secrets>) -> Result<Self, String> {
        let build = || reqwest::Client::builder().timeout(CALL).build();
        let client = (!config.sinks.is_empty()).then(build).transpose();
        let client = client.map_err(|error| error.to_string())?;
        Ok(Self { config: config.clone(), client, secrets, disabled: Mutex::default() })
    }

    /// What opens a run, as configured.
    #[must_use]
    pub fn open(&self) -> &str {
        &self.config.open
    }

    /// The sinks that said no for good, a line each.
    #[must_use]
    pub fn disabled(&self) -> Vec<String> {
        let all = self.disabled.lock().unwrap_or_else(PoisonError::into_inner);
        let lines: BTreeSet<String> = all
            .iter()
            .map(|(name, why)| {
                format!(
                    "notify.sinks.{name}: {why}; it is not used until the configuration changes"
                )
            })
            .collect();
        lines.into_iter().collect()
    }

    /// Sends a message by one of them.
    pub async fn send(&self, name: &str, message: &Message) -> Sent {
        let (Some(sink), Some(client)) = (self.config.sinks.get(name), &self.client) else {
            return Sent::Dropped(format!("there is no notify.sinks.{name} any more"));
        };
        let no = self.disabled.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned();
        if let Some(why) = no {
            return Sent::Dropped(why);
        }
        let told = match sink {
            SinkConfig::Ntfy { address, topic, token, .. } => {
                ntfy::send(client, &self.secrets, address, topic, token.as_deref(), message).await
            }
            SinkConfig::Slack { webhook, .. } => {
                slack::send(client, &self.secrets, webhook, message).await
            }
            SinkConfig::Command { command, .. } => command::run(command, message).await,
        };
        match told {
            Ok((SinkOutcome::Done, _)) => Sent::Done,
            Ok((SinkOutcome::Drop, why)) => Sent::Dropped(why),
            Ok((SinkOutcome::DropAndDisable, why)) => {
                let mut all = self.disabled.lock().unwrap_or_else(PoisonError::into_inner);
                all.insert(name.to_owned(), why.clone());
                Sent::Dropped(why)
            }
            Ok((SinkOutcome::Again(seconds), why)) => Sent::Again(seconds, why),
            Err(why) => Sent::Again(5, why),
        }
    }
}

/// A status and what came with it.
async fn answer(request: reqwest::RequestBuilder) -> Result<(u16, Option<i64>, String), String> {
    // Without its address, which can be a secret.
    let tell = |error: reqwest::Error| clean_line(&error.without_url().to_string());
    let answer = request.send().await.map_err(tell)?;
    let status = answer.status().as_u16();
    let after = answer.headers().get("retry-after").and_then(|value| value.to_str().ok());
    let after = after.and_then(|text| text.parse().ok());
    let body: String = answer.text().await.map_err(tell)?.chars().take(400).collect();
    Ok((status, after, clean_line(&body)))
}
