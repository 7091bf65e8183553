//! `[presence]`: where afk publishes what it works on, so that other tools and people keep their hands
//! off it.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::error::ConfigError;

/// `[presence]`: claims with a heartbeat, in a file or at an address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PresenceConfig {
    /// The file that afk writes, beside `presence.json` in the state folder.
    pub file: Option<PathBuf>,
    /// The address that afk sends the claims to with PUT.
    pub url: Option<String>,
    /// A bearer token for the address, as a reference to a secret.
    pub token: Option<String>,
    /// Seconds between two heartbeats. A claim that has had none for three times as long is void.
    pub heartbeat_seconds: u32,
}

impl Default for PresenceConfig {
    fn default() -> Self {
        Self { file: None, url: None, token: None, heartbeat_seconds: 30 }
    }
}

impl PresenceConfig {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let wrong = |key: &str, message: &str| Err(ConfigError::meaning(key, message));
        match &self.url {
            Some(url) if !url.starts_with("http://") && !url.starts_with("https://") => {
                wrong("url", "should begin with http:// or https://")
            }
            None if self.token.is_some() => wrong("token", "set `presence.url` too"),
            _ if self.heartbeat_seconds == 0 => wrong("heartbeat_seconds", "should be 1 or more"),
            _ => Ok(()),
        }
    }
}
