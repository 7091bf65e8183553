//! What an agent can do beside working: the cockpit offers no more than that.

use serde::{Deserialize, Serialize};

use crate::model::untrusted::Untrusted;

/// When a message to a live agent is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Steer {
    /// In the middle of the turn, at the next tool's end.
    MidTurn,
    /// As a turn of its own once this one is over; afk keeps it until then.
    AfterTurn,
    /// Not at all.
    #[default]
    No,
}

/// How an agent tells what it costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cost {
    /// In money.
    Usd,
    /// In tokens; money is an estimate from the configured price.
    Tokens,
    /// Not at all.
    #[default]
    No,
}

/// What an agent can do; see the fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Capabilities {
    /// Takes messages.
    pub steer: Steer,
    /// Ends its turn when told, and keeps the conversation.
    pub interrupt: bool,
    /// Asks leave before it does something.
    pub permissions: bool,
    /// Takes an edited command instead of a yes.
    pub edits: bool,
    /// Reads the reason of a refusal and goes on; otherwise a refusal ends its turn.
    pub reads_refusals: bool,
    /// Asks questions.
    pub questions: bool,
    /// Tells its plan.
    pub plan: bool,
    /// Tells its changes as diffs.
    pub diffs: bool,
    /// Tells its cost.
    pub cost: Cost,
    /// Stops by itself at a budget.
    pub budget: bool,
    /// Goes on with a conversation in a new process.
    pub resume: bool,
}

/// Which agent works in a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Equipment {
    /// Its name in the configuration.
    pub agent: String,
    /// What it can do.
    pub can: Capabilities,
    /// Its model, where it says.
    #[serde(default)]
    pub model: Option<Untrusted>,
    /// Its program's version, where it says.
    #[serde(default)]
    pub version: Option<Untrusted>,
    /// Where it works, if not here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<String>,
    /// The name of the empty folder that it works in, where it has no worktree: agents keep their
    /// conversations by folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub folder: Option<String>,
}
