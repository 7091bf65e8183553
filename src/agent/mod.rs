//! Agents: one translation each into [`crate::core::agent_event::AgentEvent`].

pub mod command;
pub mod wire;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use tokio::sync::mpsc;

use crate::core::agent_event::AgentEvent;
use crate::core::approval::Answer;
use crate::core::untrusted::Untrusted;

/// One turn to be started.
#[derive(Debug, Clone)]
pub struct TurnSpec {
    /// The run, as its processes are marked.
    pub owner: String,
    /// Program and arguments.
    pub command: Vec<String>,
    /// The worktree.
    pub cwd: PathBuf,
    /// Environment beside what every child gets.
    pub env: BTreeMap<String, String>,
    /// What the agent is told.
    pub prompt: Untrusted,
    /// The conversation to go on with.
    pub resume: Option<String>,
    /// Longest time of the turn.
    pub limit: Duration,
    /// Longest silence, except while a human is asked.
    pub silence: Duration,
}

/// What can be told to an agent in the middle of a turn.
#[derive(Debug, Clone)]
pub enum Control {
    /// A message from an operator.
    Steer {
        /// What.
        text: Untrusted,
        /// By whom.
        by: String,
    },
    /// The answer to a request.
    Answer {
        /// Which.
        request: String,
        /// What.
        answer: Answer,
        /// By whom.
        by: String,
    },
}

/// Where a turn's events go; bounded, so that a flood waits in the agent's own pipe.
pub type Events = mpsc::Sender<AgentEvent>;
