//! The work that the core asks of the runtime. Effects are data: [`crate::step::step`] returns
//! them, and the runtime carries them out after the journal is durable, each with a deadline. A
//! run's effects report back as [`crate::model::input::Input::Run`] with the run's epoch, so that a
//! late report of an older activity is ignored.

use crate::model::activity::TurnPrompt;
use crate::model::approval::{Answer, DecidedBy};
use crate::model::breakglass;
use crate::model::budget::MicroUsd;
use crate::model::id::{IssueKey, OutboxId, Repo, RunId, Sha};
use crate::model::outage::OutageCause;
use crate::model::outbox::OutboxStep;
use crate::model::stage::Stage;
use crate::model::untrusted::Untrusted;

/// One piece of work for the runtime.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Begin a run's activity, after stopping the work of any older epoch.
    Begin {
        /// The run that begins it.
        run: RunId,
        /// The run's epoch, which the report must carry.
        epoch: u32,
        /// The work of the activity.
        task: Task,
    },
    /// Stop all work of a run: tasks and whole process trees.
    Stop {
        /// The run to stop.
        run: RunId,
    },
    /// Send an answer to the agent that waits for it.
    Answer {
        /// The run whose agent waits.
        run: RunId,
        /// The agent's identifier for its request.
        request: String,
        /// The answer to send.
        answer: Answer,
        /// The person or rule that decided, for the transcript.
        by: DecidedBy,
    },
    /// Send a message to the agent of a running turn.
    Steer {
        /// The run whose agent receives it.
        run: RunId,
        /// The message for the agent.
        text: Untrusted,
        /// The operator's name, for the transcript.
        by: String,
    },
    /// End the agent's current turn and keep its conversation.
    Interrupt {
        /// The run whose agent is interrupted.
        run: RunId,
    },
    /// Collect the evidence of a freeze into a capsule.
    Capsule {
        /// The run that was frozen.
        run: RunId,
    },
    /// Return the run's worktree to the pool, unless that would lose work.
    GiveBack {
        /// The run that has ended.
        run: RunId,
    },
    /// Delete the stored data of a job whose time to live is over.
    Forget {
        /// The run of the job.
        run: RunId,
    },
    /// Write a remark into the run's transcript.
    Note {
        /// The run whose transcript receives it.
        run: RunId,
        /// The text of the remark.
        text: Untrusted,
    },
    /// Try whether an outage is over.
    ProbeOutage {
        /// The part of the environment that is away.
        cause: OutageCause,
        /// A repository that needs it, where one has met the outage.
        repo: Option<Repo>,
    },
    /// Work on behalf of breakglass.
    Breakglass(breakglass::BreakglassTask),
    /// Clone a repository for the first time, for a run that waits for a permit.
    Clone {
        /// The repository to clone.
        repo: Repo,
        /// The run whose row shows how far the clone is.
        run: RunId,
    },
    /// Read an issue from its tracker right before its claim.
    ReadIssue {
        /// The issue to read.
        issue: IssueKey,
    },
    /// Deliver an outbox entry.
    Deliver {
        /// The entry's number, which is the idempotency key.
        entry: OutboxId,
        /// The step to carry out.
        step: OutboxStep,
    },
}

impl Effect {
    /// Whether it belongs to breakglass, which continues even when the journal can't be written.
    #[must_use]
    pub const fn is_breakglass(&self) -> bool {
        match self {
            Self::Breakglass(_) => true,
            Self::Deliver { step, .. } => step.is_breakglass(),
            _ => false,
        }
    }
}

/// The work of a run's activity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Task {
    /// Fetch, and switch a pooled worktree to the run's branch.
    Worktree,
    /// One turn of the agent.
    Turn {
        /// The prompt to build for the agent.
        prompt: TurnPrompt,
        /// The number of the turn within the run, from 1.
        turn: u32,
        /// The conversation to resume; none begins another one.
        resume: Option<String>,
        /// The most that the turn may cost; none for no limit.
        budget: Option<MicroUsd>,
    },
    /// Run the red-first gate on base and head.
    Gate,
    /// Fetch, and rebase the run's commits onto the remote branch.
    Rebase,
    /// Push `head` by fast-forward only, and read the remote back.
    Push {
        /// The head that the gate opened for.
        head: Sha,
    },
    /// Take the commits of a job in.
    Collect {
        /// Whether the agent reported success: only then may they be pushed.
        done: bool,
    },
    /// Let a stage after the push judge a commit.
    Stage {
        /// The stage that judges.
        stage: Stage,
        /// The commit that it judges.
        sha: Sha,
    },
}
