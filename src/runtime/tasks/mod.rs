//! The tasks of a run, one file each. The [lanes](super::lanes) call [`carry_out`] with a core
//! [`Task`] and send the one fact that it returns back to the core.
//!
//! ```text
//!   Task::Worktree      worktree        Task::Gate       gate         Task::Stage     stages
//!   Task::Turn          turn            Task::Rebase     rebase
//!   Task::Collect       collect         Task::Push       push
//! ```
//!
//! [`capsule`] and [`worktree::give_back`] end a run; [`question`] is a turn without a run.

pub(super) mod baseline;
pub(super) mod capsule;
mod collect;
mod command_context;
mod context;
mod gate;
mod handover;
mod pace;
mod push;
pub(super) mod question;
mod rebase;
mod setup;
mod stages;
mod task_error;
mod test_run;
mod turn;
mod turn_events;
pub(super) mod turn_spec;
pub(super) mod worktree;

use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::timeout;

pub(super) use self::context::TaskContext;
pub(super) use self::task_error::TaskError;
use crate::agent::TurnControl;
use crate::config::limits::LimitsConfig;
use crate::config::repository::GateConfig;
use crate::core::model::effect::Task;
use crate::core::model::input::RunFact;
use crate::core::tables::gate::HUNK_GROUPS;

/// Extra time beyond the limits of a task's parts, so that those fire first.
const SLACK: Duration = Duration::from_secs(120);

/// How often the gate repeats a run at most, for its deadline.
const REPEATED: u32 = 1 + GateConfig::MAX_RERUNS;

/// The longest that a fresh workspace may take: a clone, the setup that fills the caches, and its own.
fn workspace_limit(limits: &LimitsConfig) -> Duration {
    let minutes = limits.clone_minutes + 2 * limits.setup_minutes;
    Duration::from_secs(60 * minutes + 8 * limits.git_seconds)
}

/// The longest that the look at a workspace and its renewal may take. The task that follows keeps its own
/// time, which may have no room for a setup.
fn renewal_deadline(limits: &LimitsConfig) -> Duration {
    SLACK + workspace_limit(limits) + Duration::from_secs(8 * limits.git_seconds)
}

/// The longest that a task may take; every part of it has a shorter limit of its own.
fn deadline(context: &TaskContext, task: &Task) -> Duration {
    let limits = &context.config.limits;
    let git = Duration::from_secs(limits.git_seconds);
    let setup = Duration::from_secs(60 * limits.setup_minutes);
    let tests = Duration::from_secs(60 * limits.test_minutes);
    SLACK
        + match task {
            Task::Worktree => workspace_limit(limits) + (setup + tests) * REPEATED,
            Task::Rebase | Task::Push { .. } => git * 8,
            // Each retry of a push fetches, and its commits are searched again.
            Task::Collect { .. } => git * 32 + turn_spec::limit(context),
            Task::Turn { .. } => turn_spec::limit(context),
            // Baseline, red, green and old tests, each repeated, and the hunks.
            Task::Gate => {
                let runs = 4 * u64::from(REPEATED) + HUNK_GROUPS as u64;
                let minutes = runs * (limits.setup_minutes + limits.test_minutes);
                git * 8 + Duration::from_secs(60 * minutes)
            }
            Task::Stage { stage, .. } => stages::limit(context, *stage),
        }
}

/// Carries a task out within its deadline, after a look at the workspace that it needs. An error becomes
/// [`RunFact::Unavailable`] where an outage explains it, and [`RunFact::Failed`] otherwise.
pub(super) async fn carry_out(
    context: &TaskContext,
    task: Task,
    controls: mpsc::Receiver<TurnControl>,
) -> RunFact {
    if matches!(task, Task::Turn { .. } | Task::Gate | Task::Rebase) {
        let limit = renewal_deadline(&context.config.limits);
        match timeout(limit, worktree::renew_if_damaged(context)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return error.into_fact(),
            Err(_) => return late("the renewal of the workspace took", limit),
        }
    }
    let limit = deadline(context, &task);
    match timeout(limit, carry_out_step(context, task, controls)).await {
        Ok(done) => done.unwrap_or_else(TaskError::into_fact),
        Err(_) => late("took", limit),
    }
}

/// The report of work that its deadline has ended.
fn late(work: &str, limit: Duration) -> RunFact {
    RunFact::Failed { why: format!("{work} longer than {} s", limit.as_secs()).into() }
}

async fn carry_out_step(
    context: &TaskContext,
    task: Task,
    controls: mpsc::Receiver<TurnControl>,
) -> Result<RunFact, TaskError> {
    match task {
        Task::Worktree => worktree::prepare(context).await,
        Task::Turn { prompt, turn, resume, budget } => {
            let start = turn::TurnStart { prompt, turn, resume, budget };
            turn::run(context, &start, controls).await
        }
        Task::Gate => gate::run(context).await,
        Task::Rebase => rebase::run(context).await,
        Task::Push { head } => push::run(context, &head).await,
        Task::Collect { done } => collect::run(context, done).await,
        Task::Stage { stage, sha } => stages::run(context, stage, sha).await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renewal_has_time_for_a_clone_and_two_setups() {
        let limits =
            LimitsConfig { clone_minutes: 7, setup_minutes: 20, ..LimitsConfig::default() };
        assert!(renewal_deadline(&limits) > Duration::from_secs(60 * (7 + 2 * 20)));
    }
}
