//! Effects as they are begun: each with what the fleet told of it when its batch was complete, since
//! the fleet goes on while the batch is written.

use std::sync::Arc;

use super::Shell;
use super::effects::Delivery;
use super::tasks::Job;
use crate::agent::TurnControl;
use crate::core::fleet::Fleet;
use crate::core::model::effect::{Effect, Task};
use crate::core::model::id::{Repo, RunId};
use crate::core::model::run::Outcome;
use crate::core::model::untrusted::Untrusted;

/// See the module.
#[derive(Debug)]
pub(super) enum Ready {
    /// A run's next activity.
    Begin { job: Job, task: Task },
    /// The end of all that is under way for a run.
    Stop {
        run: RunId,
        /// It is an ad-hoc job's.
        asked: bool,
        /// Where its turns are carried out, if not here.
        place: Option<String>,
        /// Where a worktree is made ready, since the run keeps its own.
        warm: Option<Repo>,
    },
    /// Its worktree goes back.
    GiveBack(Job),
    /// Its evidence is kept.
    Capsule(Job),
    /// What is kept of it goes.
    Forget(RunId),
    /// Something for its live agent.
    Tell { run: RunId, control: TurnControl },
    /// A remark for its transcript.
    Note { run: RunId, text: Untrusted },
    /// Something for breakglass.
    Breakglass(crate::core::model::breakglass::BreakglassTask),
    /// An entry of the outbox.
    Deliver(Delivery),
}

impl Ready {
    /// None where there is nothing to do. `alone`: breakglass is all that is carried out.
    pub fn new(shell: &Arc<Shell>, alone: bool, effect: Effect, fleet: &Fleet) -> Option<Self> {
        let job = |run, epoch| Job::new(shell, fleet, run, epoch);
        Some(match effect {
            // Whatever is under way is begun at the next whole start.
            Effect::Begin { .. } if alone => return None,
            Effect::Begin { run, epoch, task } => Self::Begin { job: job(run, epoch)?, task },
            Effect::Stop { run } => {
                // One that keeps its worktree leaves none ready for the next run.
                let keeps = |outcome| matches!(outcome, Outcome::NeedsHuman | Outcome::Frozen);
                let known = fleet.runs.get(&run);
                let kept = known.filter(|r| r.outcome.is_some_and(keeps) && r.worktree.is_some());
                let place = known.and_then(|run| fleet.elsewhere(&run.work));
                Self::Stop {
                    run,
                    asked: known.is_some_and(|run| run.work.job().is_some()),
                    place: place.map(|place| place.name.clone()),
                    warm: kept.map(|run| run.work.repo().clone()),
                }
            }
            Effect::GiveBack { run } => Self::GiveBack(job(run, 0)?),
            Effect::Capsule { run } => Self::Capsule(job(run, 0)?),
            Effect::Forget { run } => Self::Forget(run),
            Effect::Steer { run, text, by } => {
                Self::Tell { run, control: TurnControl::Steer { text, by } }
            }
            Effect::Answer { run, request, answer, by } => {
                Self::Tell { run, control: TurnControl::Answer { request, answer, by } }
            }
            Effect::Interrupt { run } => Self::Tell { run, control: TurnControl::Interrupt },
            Effect::Note { run, text } => Self::Note { run, text },
            Effect::Breakglass(task) => Self::Breakglass(task),
            Effect::Deliver { entry, step } => Self::Deliver(Delivery::new(entry, step, fleet)),
        })
    }

    /// Part of breakglass: not held up by a journal that can't be written.
    pub fn is_breakglass(&self) -> bool {
        match self {
            Self::Breakglass(_) => true,
            Self::Deliver(delivery) => delivery.is_breakglass(),
            _ => false,
        }
    }
}
