//! What the runtime must do. Effects are data; each has a deadline in the runtime and reports
//! back as an [`crate::model::input::Input`] with the run's epoch.

use crate::model::approval::{Answer, DecidedBy};
use crate::model::breakglass;
use crate::model::budget::MicroUsd;
use crate::model::id::{OutboxId, RunId, Sha};
use crate::model::outbox::OutboxStep;
use crate::model::run::TurnPrompt;
use crate::model::stage::Stage;
use crate::model::untrusted::Untrusted;

/// One thing to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Begin a run's activity. What is under way for an older epoch is stopped first.
    Begin {
        /// Which run.
        run: RunId,
        /// Its epoch, for the report.
        epoch: u32,
        /// What.
        task: Task,
    },
    /// End all that is under way for a run: tasks and whole process trees.
    Stop {
        /// Which.
        run: RunId,
    },
    /// Hand an answer to the agent that asked.
    Answer {
        /// In which run.
        run: RunId,
        /// What the agent calls its request.
        request: String,
        /// What.
        answer: Answer,
        /// By whom, for the transcript.
        by: DecidedBy,
    },
    /// Hand a message to the live agent.
    Steer {
        /// In which run.
        run: RunId,
        /// What.
        text: Untrusted,
        /// By whom.
        by: String,
    },
    /// End the live agent's turn and keep its conversation.
    Interrupt {
        /// In which run.
        run: RunId,
    },
    /// Keep the evidence of a freeze.
    Capsule {
        /// Of which run.
        run: RunId,
    },
    /// Give the run's worktree back to the pool, if nothing in it would be lost.
    GiveBack {
        /// Which.
        run: RunId,
    },
    /// Take away what is kept of a job that is known no more.
    Forget {
        /// Its run.
        run: RunId,
    },
    /// Write a remark into the run's transcript.
    Note {
        /// Which.
        run: RunId,
        /// What.
        text: Untrusted,
    },
    /// Something for breakglass.
    Breakglass(breakglass::BreakglassTask),
    /// Deliver an outbox entry.
    Deliver {
        /// Which; the idempotency key.
        entry: OutboxId,
        /// What.
        step: OutboxStep,
    },
}

impl Effect {
    /// Part of breakglass: not held up by a journal that can't be written.
    #[must_use]
    pub const fn is_breakglass(&self) -> bool {
        match self {
            Self::Breakglass(_) => true,
            Self::Deliver { step, .. } => step.is_breakglass(),
            _ => false,
        }
    }
}

/// The effect of an activity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Task {
    /// Fetch, and switch a worktree of the pool to the run's branch.
    Worktree,
    /// One turn of the agent.
    Turn {
        /// What it is told.
        prompt: TurnPrompt,
        /// Which turn of the run, from 1.
        turn: u32,
        /// The conversation to go on with.
        resume: Option<String>,
        /// What it may cost; none is no limit.
        budget: Option<MicroUsd>,
    },
    /// The red-first gate.
    Gate,
    /// Fetch and rebase.
    Rebase,
    /// Push `head`, fast-forward only, and read the remote back.
    Push {
        /// The head that the gate opened for.
        head: Sha,
    },
    /// A stage after the push judges a commit.
    Stage {
        /// The stage that judges.
        stage: Stage,
        /// The commit that it judges.
        sha: Sha,
    },
}
