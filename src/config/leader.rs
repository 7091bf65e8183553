//! `[leader]`: the election among several afk processes on one journal. Off by default; the runtime's
//! `leader` module holds the Lease.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::ConfigError;

/// `[leader]`: the Lease of the election, and its length.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LeaderConfig {
    /// The Lease object, as `namespace/name`.
    pub lease: String,
    /// One of `kubernetes.contexts`; the current context by default.
    #[serde(default)]
    pub context: Option<String>,
    /// The length of the lease: a leader that is silent for longer loses its place.
    #[serde(default = "seconds")]
    pub seconds: u32,
}

const fn seconds() -> u32 {
    15
}

impl LeaderConfig {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let is_pair =
            self.lease.split_once('/').is_some_and(|(a, b)| !a.is_empty() && !b.is_empty());
        if !is_pair {
            return Err(ConfigError::meaning("lease", "should be namespace/name"));
        }
        if !(2..=25).contains(&self.seconds) {
            return Err(ConfigError::meaning("seconds", "should be from 2 to 25"));
        }
        Ok(())
    }
}
