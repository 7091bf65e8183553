//! The rebase of a run's commits onto commits that others pushed meanwhile.

use super::{TaskContext, TaskError};
use crate::core::model::input::RunFact;
use crate::workspace::WorkspaceError;

pub(super) async fn run(task: &TaskContext) -> Result<RunFact, TaskError> {
    let text = |error: WorkspaceError| error.to_string();
    let pool = task.pool().await?;
    let upstream = pool.base().fetch().await.map_err(text)?;
    let git = pool.base().git().at(&task.worktree()?).owned_by(&task.owner());
    // A crash may have left a rebase half done. Usually there is none, and this fails.
    git.ask(&["rebase", "--abort"]).await.map_err(text)?;
    let us = git.identity().await.map_err(text)?;
    let answer = git.ask_with(&["rebase", "--quiet", &upstream.0], us).await.map_err(text)?;
    if !answer.ok {
        git.ask(&["rebase", "--abort"]).await.map_err(text)?;
        let why = format!("{}\n{}", answer.out, answer.err);
        return Ok(RunFact::Conflict { why: why.into() });
    }
    // Once the run has pushed, its proof keeps the commit that the run began from.
    let base = if task.run.workspace.pushed.is_some() { task.base()? } else { upstream };
    task.note(format!("rebased onto {}", base.short()));
    Ok(RunFact::Rebased { base })
}
