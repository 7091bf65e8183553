//! What a run remembers of its agents: the first one, while a fallback takes its turns, and the commands
//! that they ran without asking.

use serde::{Deserialize, Serialize};

use crate::model::outage::OutageCause;
use crate::model::plural::plural;
use crate::model::untrusted::Untrusted;

/// The first agent of a run while another one takes its turns.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PreferredAgent {
    /// Its name in the configuration.
    pub agent: String,
    /// The agents that can take its place, in their order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fallback: Vec<String>,
    /// The outage because of which another one took its place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<OutageCause>,
}

/// The refused commands that an agent ran without asking.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnaskedCommands {
    /// How many there were.
    pub count: u32,
    /// The latest of them.
    pub latest: Untrusted,
}

impl UnaskedCommands {
    /// The count in words.
    #[must_use]
    pub fn summary(&self) -> String {
        format!("ran {} without asking", plural(self.count, "refused command"))
    }
}
