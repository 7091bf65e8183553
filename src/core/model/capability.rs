//! An agent's capabilities: the cockpit offers an operator only the actions that the agent of the
//! run supports. Presets and configuration state them; adapters report them at the start of a turn.

use serde::{Deserialize, Serialize};

use crate::model::untrusted::Untrusted;

/// The time at which an agent takes a message during its turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Steer {
    /// During the turn, when the current tool finishes.
    MidTurn,
    /// As a separate turn after the current one; afk keeps the message until then.
    AfterTurn,
    /// The agent takes no messages.
    #[default]
    #[serde(rename = "no")]
    Unsupported,
}

/// The unit in which an agent reports its cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cost {
    /// In US dollars, per turn or per conversation.
    Usd,
    /// In tokens; afk estimates the money from the configured price.
    Tokens,
    /// The agent reports no cost.
    #[default]
    #[serde(rename = "no")]
    Unreported,
}

/// The actions that an agent supports beside its work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Capabilities {
    /// When the agent takes messages from an operator.
    pub steer: Steer,
    /// Whether it can be interrupted without losing the conversation.
    pub interrupt: bool,
    /// Whether it requests permissions before it acts.
    pub permissions: bool,
    /// Whether it accepts an edited command in place of an approval.
    pub edits: bool,
    /// Whether it reads the reason of a refusal and continues; otherwise a refusal ends its turn.
    pub reads_refusals: bool,
    /// Whether it asks questions and waits.
    pub questions: bool,
    /// Whether it reports its plan.
    pub plan: bool,
    /// Whether it reports its changes as diffs.
    pub diffs: bool,
    /// The unit in which it reports its cost.
    pub cost: Cost,
    /// Whether it stops by itself at a budget.
    pub budget: bool,
    /// Whether a new process can resume its conversation.
    pub resume: bool,
}

/// The agent of a run with its capabilities, as the runtime reports it when a turn begins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Equipment {
    /// The agent's name in the configuration.
    pub agent: String,
    /// The actions that it supports.
    pub can: Capabilities,
    /// The model, where the agent reports it.
    #[serde(default)]
    pub model: Option<Untrusted>,
    /// The program's version, where the agent reports it.
    #[serde(default)]
    pub version: Option<Untrusted>,
    /// The executor's name; none for a turn on this machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<String>,
    /// The name of the scratch directory of a job without a worktree: agents file their
    /// conversations by directory, so a later turn needs the same one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub folder: Option<String>,
    /// The agents that take the run's turns while this one is at its limit or can't log in, the first
    /// that can.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fallback: Vec<String>,
    /// Files of the repository that can let it act without asking, and that nothing overrides.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unasked: Vec<String>,
}
