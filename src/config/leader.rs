//! Several afk on one journal: `[leader]`. Off by default.

use serde::Deserialize;

/// `[leader]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Leader {
    /// The Lease, `namespace/name`.
    pub lease: String,
    /// One of `kubernetes.contexts`; the current one otherwise.
    #[serde(default)]
    pub context: Option<String>,
    /// How long a leader may be silent before another takes its place.
    #[serde(default = "seconds")]
    pub seconds: u32,
}

const fn seconds() -> u32 {
    15
}

impl Leader {
    /// What is wrong with it: the key below its own and the message.
    ///
    /// # Errors
    /// The first that is found.
    pub(super) fn check(&self) -> Result<(), (&'static str, String)> {
        let halves =
            self.lease.split_once('/').is_some_and(|(a, b)| !a.is_empty() && !b.is_empty());
        if !halves {
            return Err(("lease", "should be namespace/name".into()));
        }
        if !(2..=25).contains(&self.seconds) {
            return Err(("seconds", "should be from 2 to 25".into()));
        }
        Ok(())
    }
}
