//! `[notify]`: the notices that the operator receives, when, and through which sinks. The adapters of
//! `crate::notify` read it; the core decides by it what is due (`Config::policy`).

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::core::model::notice::NoticeKind;

/// `[notify]`: the terminal's signals, quiet hours, reminders and sinks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct NotifyConfig {
    /// Rings the terminal's bell.
    pub bell: bool,
    /// Sends an OSC 9 desktop notification through the terminal.
    pub osc: bool,
    /// Local time in which sinks receive only urgent notices, as `22:00-07:00`.
    pub quiet: Option<QuietHours>,
    /// Minutes after which an escalation that nobody acknowledged is sent again, doubling each
    /// time; 0 turns reminders off.
    pub remind_minutes: u32,
    /// The command that opens a run, added to each notice; `{run}` stands for the run.
    pub open: String,
    /// The address at which a run opens, for buttons and webhooks; `{run}` stands for the run.
    pub url: Option<String>,
    /// The destinations of notices, by a name of your choice.
    pub sinks: BTreeMap<String, SinkConfig>,
}

impl Default for NotifyConfig {
    fn default() -> Self {
        Self {
            bell: true,
            osc: false,
            quiet: None,
            remind_minutes: 30,
            open: "afk attach --run {run}".into(),
            url: None,
            sinks: BTreeMap::new(),
        }
    }
}

/// A part of the day, in minutes from midnight.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
pub struct QuietHours {
    /// The first minute that is quiet.
    pub from: u16,
    /// The first minute after it; on the next day if it is before `from`.
    pub to: u16,
}

impl From<QuietHours> for String {
    fn from(hours: QuietHours) -> Self {
        let time = |minute: u16| format!("{:02}:{:02}", minute / 60, minute % 60);
        format!("{}-{}", time(hours.from), time(hours.to))
    }
}

impl TryFrom<String> for QuietHours {
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

/// `[notify.sinks.NAME]`: a destination of notices.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum SinkConfig {
    /// A topic of an ntfy server.
    Ntfy {
        /// The server's address, without the topic.
        address: String,
        /// The topic to publish to.
        topic: String,
        /// An access token, as a reference to a secret.
        #[serde(default)]
        token: Option<String>,
        /// The kinds of notices to send; all kinds by default.
        #[schemars(with = "Option<BTreeSet<super::schema::NoticeName>>")]
        #[serde(default)]
        notices: Option<BTreeSet<NoticeKind>>,
    },
    /// An incoming webhook of Slack.
    Slack {
        /// Its address, as a reference to a secret, since the address alone permits posting.
        webhook: String,
        /// The kinds of notices to send; all kinds by default.
        #[schemars(with = "Option<BTreeSet<super::schema::NoticeName>>")]
        #[serde(default)]
        notices: Option<BTreeSet<NoticeKind>>,
    },
    /// Any endpoint that takes a request of HTTP.
    Webhook(WebhookConfig),
    /// A command that finds the notice in its environment (`AFK_NOTICE`, `AFK_TITLE`, …).
    Command {
        /// The program and its arguments.
        command: Vec<String>,
        /// The kinds of notices to send; all kinds by default.
        #[schemars(with = "Option<BTreeSet<super::schema::NoticeName>>")]
        #[serde(default)]
        notices: Option<BTreeSet<NoticeKind>>,
    },
}

/// `[notify.sinks.NAME]` with `kind = "webhook"`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WebhookConfig {
    /// Its address, as a reference to a secret, since the address alone may permit posting.
    pub address: String,
    /// The body with places such as `{title}`; every value as a JSON object by default.
    #[serde(default)]
    pub template: Option<String>,
    /// The type of the body. In a JSON body, the values of places are escaped.
    #[serde(default = "json")]
    pub content_type: String,
    /// The key of the signature, as a reference to a secret; no signature by default.
    #[serde(default)]
    pub secret: Option<String>,
    /// The header that has the signature.
    #[serde(default = "signature_header")]
    pub signature_header: String,
    /// The kinds of notices to send; all kinds by default.
    #[schemars(with = "Option<BTreeSet<super::schema::NoticeName>>")]
    #[serde(default)]
    pub notices: Option<BTreeSet<NoticeKind>>,
}

fn json() -> String {
    "application/json".into()
}

fn signature_header() -> String {
    "X-Hub-Signature-256".into()
}

impl SinkConfig {
    /// The kinds of notices that this sink receives; `None` stands for all kinds.
    #[must_use]
    pub const fn notices(&self) -> Option<&BTreeSet<NoticeKind>> {
        match self {
            Self::Ntfy { notices, .. }
            | Self::Slack { notices, .. }
            | Self::Webhook(WebhookConfig { notices, .. })
            | Self::Command { notices, .. } => notices.as_ref(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quiet_hours_parse_two_times_of_day() {
        let quiet = |text: &str| QuietHours::try_from(text.to_owned());
        assert_eq!(quiet("22:00-07:30"), Ok(QuietHours { from: 1320, to: 450 }));
        for bad in ["22-7", "24:00-07:00", "7:00-7:00", "now"] {
            assert!(quiet(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn sink_requires_known_kind_and_notices() {
        let sink = |text: &str| toml::from_str::<SinkConfig>(text);
        assert!(
            sink("kind='ntfy'\naddress='https://ntfy.sh'\ntopic='t'\nnotices=['frozen']").is_ok()
        );
        assert!(sink("kind='slack'\nwebhook='env:HOOK'").is_ok());
        assert!(sink("kind='pigeon'").is_err());
        assert!(sink("kind='slack'\nwebhook='env:HOOK'\nnotices=['gossip']").is_err());
    }
}
