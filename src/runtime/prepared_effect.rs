//! Effects of the core with everything that carrying them out needs to know of the fleet.
//!
//! The fleet steps on while the journal writes a batch, so the event loop prepares the effects of a
//! batch when the batch is complete. The [lanes](super::lanes) begin them once it is durable.

use std::sync::Arc;

use super::Context;
use super::delivery::Delivery;
use super::tasks::TaskContext;
use crate::agent::TurnControl;
use crate::core::fleet::Fleet;
use crate::core::model::activity::Activity;
use crate::core::model::breakglass;
use crate::core::model::effect::{Effect, Task};
use crate::core::model::id::{IssueKey, Repo, RunId};
use crate::core::model::outage::OutageCause;
use crate::core::model::run::Run;
use crate::core::model::untrusted::Untrusted;

/// An effect that needs nothing more of the fleet.
#[derive(Debug)]
pub(super) enum PreparedEffect {
    /// Begin the next activity of a run.
    Begin { context: TaskContext, task: Task },
    /// End everything that runs for a run.
    Stop {
        run: RunId,
        /// The run is a job without an issue.
        is_job: bool,
        /// The executor of the run's turns; none carries them out here.
        executor: Option<String>,
        /// The repository that needs another worktree, because the run keeps its own.
        warm: Option<Repo>,
    },
    /// Give the run's folder back.
    GiveBack(TaskContext),
    /// Write the run's capsule.
    Capsule(TaskContext),
    /// Delete the transcript and the raw record of a run.
    Forget(RunId),
    /// Send a message to the run's agent.
    Control { run: RunId, control: TurnControl },
    /// Add a remark to the run's transcript.
    Note { run: RunId, text: Untrusted },
    /// Try whether an outage is over.
    ProbeOutage {
        cause: OutageCause,
        repo: Option<Repo>,
        /// Runs wait for its end, and their next turn tries.
        holds_runs: bool,
    },
    /// Carry out a verb or a shell.
    Breakglass(breakglass::BreakglassTask),
    /// Clone a repository for the first time; the run's row shows how far it is.
    Clone { repo: Repo, run: RunId },
    /// Read an issue again before its claim.
    ReadIssue(IssueKey),
    /// Deliver an entry of the outbox.
    Deliver(Delivery),
}

impl PreparedEffect {
    /// None if there is nothing to do: the run is gone, or `breakglass_only` leaves it to the next
    /// whole start.
    pub(super) fn new(
        context: &Arc<Context>,
        breakglass_only: bool,
        effect: Effect,
        fleet: &Fleet,
    ) -> Option<Self> {
        let of = |run, epoch| TaskContext::new(context, fleet, run, epoch);
        let control = |run, control| Self::Control { run, control };
        Some(match effect {
            Effect::Begin { .. } | Effect::ProbeOutage { .. } | Effect::Clone { .. }
                if breakglass_only =>
            {
                return None;
            }
            Effect::Begin { run, epoch, task } => Self::Begin { context: of(run, epoch)?, task },
            Effect::Stop { run } => {
                let known = fleet.runs.get(&run);
                let kept = known.filter(|run| !run.live() && run.own_worktree().is_some());
                let executor = known.and_then(|run| fleet.remote_executor(&run.work));
                Self::Stop {
                    run,
                    is_job: known.is_some_and(|run| run.work.job().is_some()),
                    executor: executor.map(|executor| executor.name.clone()),
                    warm: kept.map(|run| run.work.repo().clone()),
                }
            }
            Effect::GiveBack { run } => Self::GiveBack(of(run, 0)?),
            Effect::Capsule { run } => Self::Capsule(of(run, 0)?),
            Effect::Forget { run } => Self::Forget(run),
            Effect::Steer { run, text, by } => control(run, TurnControl::Steer { text, by }),
            Effect::Answer { run, request, answer, by } => {
                control(run, TurnControl::Answer { request, answer, by })
            }
            Effect::Interrupt { run } => control(run, TurnControl::Interrupt),
            Effect::Note { run, text } => Self::Note { run, text },
            Effect::ProbeOutage { cause, repo } => {
                let waits = |run: &Arc<Run>| matches!(&run.progress.activity, Activity::Held { cause: of, .. } if *of == cause);
                let holds_runs = fleet.live_runs().any(waits);
                Self::ProbeOutage { cause, repo, holds_runs }
            }
            Effect::Breakglass(task) => Self::Breakglass(task),
            Effect::Clone { repo, run } => Self::Clone { repo, run },
            Effect::ReadIssue { issue } => Self::ReadIssue(issue),
            Effect::Deliver { entry, step } => Self::Deliver(Delivery::new(entry, step, fleet)),
        })
    }

    /// Whether the effect belongs to breakglass and passes a journal that can't be written.
    pub(super) fn is_breakglass(&self) -> bool {
        match self {
            Self::Breakglass(_) => true,
            Self::Deliver(delivery) => delivery.is_breakglass(),
            _ => false,
        }
    }
}
