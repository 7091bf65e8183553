//! The activity of a run: what is under way for it now, and the reason for a turn of its agent.

use serde::{Deserialize, Serialize};

use crate::model::outage::OutageCause;
use crate::model::stage::{Stage, by_name};
use crate::model::time::Timestamp;
use crate::model::untrusted::Untrusted;

/// A run's current activity. For each but `Waiting`, `Backoff`, `Held` and `Ended` exactly one effect is
/// under way, which a restart begins again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "doing")]
pub enum Activity {
    /// The run waits for a permit.
    Waiting,
    /// The runtime fetches and prepares a worktree.
    Worktree,
    /// The agent works on a prompt.
    Turn {
        /// The prompt that the turn began with.
        prompt: TurnPrompt,
    },
    /// The red-first gate runs the tests.
    Gate,
    /// git rebases the run's commits onto those that others pushed.
    Rebase,
    /// git pushes the head or reads the remote back.
    Push,
    /// The commits of a job are taken in, and pushed where the configuration says so.
    Collect,
    /// The run waits, then begins `then`.
    Backoff {
        /// The time at which the wait is over.
        until: Timestamp,
        /// The activity that begins then.
        then: Box<Activity>,
    },
    /// A part of the environment is away: the run waits until it is back, then begins `then`.
    Held {
        /// The part that is away.
        cause: OutageCause,
        /// The time at which the run met the outage.
        since: Timestamp,
        /// The activity that begins then.
        then: Box<Activity>,
    },
    /// The run has ended.
    Ended,
    /// A stage after the push decides. Recorded as `"doing": "ci"`, so it must stay last: serde
    /// tries an untagged variant after all others.
    #[serde(untagged)]
    Stage {
        /// The stage that decides.
        #[serde(rename = "doing")]
        stage: Stage,
    },
}

impl Activity {
    /// The activity in a few words, for the run's row on the screen.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Waiting => "waiting for a permit",
            Self::Worktree => "preparing worktree",
            Self::Turn { prompt } => prompt.as_str(),
            Self::Gate => "running the tests",
            Self::Rebase => "rebasing",
            Self::Push => "pushing",
            Self::Collect => "taking its commits in",
            Self::Stage { stage } => stage.doing(),
            Self::Backoff { .. } => "retrying soon",
            Self::Held { .. } => "waiting for an outage to end",
            Self::Ended => "ended",
        }
    }
}

/// The reason for a turn, from which the runtime builds the prompt's text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "prompt")]
pub enum TurnPrompt {
    /// Implement the run's issue.
    Implement,
    /// Work on an ad-hoc prompt.
    Adhoc,
    /// Repair the findings of a gate that stayed closed.
    GateClosed {
        /// The gate's explanation with the end of the log.
        why: Untrusted,
    },
    /// Repair a red stage by a further commit: one fix-forward attempt.
    FixForward {
        /// The stage with the red verdict.
        #[serde(rename = "what", with = "by_name")]
        stage: Stage,
        /// The last lines of the failing log.
        log: Untrusted,
    },
    /// Resolve the conflict of a rebase.
    Conflict {
        /// The message from git.
        why: Untrusted,
    },
    /// Continue a turn whose process was lost.
    Continue {
        /// The way in which it was lost.
        why: Untrusted,
        /// The prompt of the lost turn.
        of: Box<TurnPrompt>,
    },
    /// Take up an edit of the issue by a person who may arm it.
    Edited,
    /// Continue after an operator reopened the run.
    Guidance {
        /// The operator's guidance; may be empty.
        text: Untrusted,
    },
}

impl TurnPrompt {
    /// The prompt that continues this one after its turn was lost. Losing it twice does not nest.
    #[must_use]
    pub fn again(self, why: Untrusted) -> Self {
        let of = match self {
            Self::Continue { of, .. } => of,
            other => Box::new(other),
        };
        Self::Continue { why, of }
    }

    /// The turn in a few words, for the run's row on the screen.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Implement => "implementing",
            Self::Adhoc => "working on a prompt",
            Self::GateClosed { .. } => "repairing the gate's findings",
            Self::FixForward { .. } => "fixing forward",
            Self::Conflict { .. } => "resolving a conflict",
            Self::Continue { .. } => "continuing after a stop",
            Self::Edited => "taking up an edit of the issue",
            Self::Guidance { .. } => "continuing with guidance",
        }
    }
}
