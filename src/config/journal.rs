//! `[journal]`: the anchor that proves the end of the journal; off by default.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::ConfigError;

/// `[journal]`: where afk anchors the journal's hash chain, and with which key.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct JournalConfig {
    /// The file of anchored heads, outside of the state folder, relative to the configuration.
    pub anchor_file: Option<PathBuf>,
    /// The key of their HMAC, as a reference to a secret of at least 16 characters.
    pub anchor_key: Option<String>,
}

impl JournalConfig {
    /// The file and the reference of its key, if the journal is anchored.
    #[must_use]
    pub fn anchor(&self) -> Option<(&PathBuf, &String)> {
        self.anchor_file.as_ref().zip(self.anchor_key.as_ref())
    }

    pub(super) fn check(&self) -> Result<(), ConfigError> {
        match (&self.anchor_file, &self.anchor_key) {
            (Some(_), None) => {
                let message = "is missing: without a key, everybody could write the anchor";
                Err(ConfigError::meaning("anchor_key", message))
            }
            (None, Some(_)) => {
                Err(ConfigError::meaning("anchor_file", "is missing: the key needs a file"))
            }
            _ => Ok(()),
        }
    }
}
