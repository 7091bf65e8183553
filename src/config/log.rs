//! `[log]`: the form of afk's own log, and how long it is kept.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `[log]`: the form of the log, and its age.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LogConfig {
    /// Lines for people, or one JSON object a line.
    pub format: LogFormat,
    /// The days that a file is kept; a new one begins each day in UTC.
    #[schemars(range(min = 1, max = 3650))]
    pub keep_days: usize,
    /// Whether `afk up` also writes the log to standard error.
    pub stderr: bool,
}

/// The form of a line of the log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Lines of text for people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self { format: LogFormat::Text, keep_days: 14, stderr: true }
    }
}

impl LogConfig {
    /// The rule that a value breaks, with its key.
    pub(super) fn check(&self) -> Result<(), super::ConfigError> {
        if (1..=3650).contains(&self.keep_days) {
            return Ok(());
        }
        Err(super::ConfigError::meaning("keep_days", "should be from 1 to 3650"))
    }
}
