//! The rebase of a run's commits onto commits that others pushed meanwhile, inside the sandbox. The
//! gate imports the result and proves it again. Commits that somebody took off the branch are never
//! replayed: then a human is asked.

use super::{TaskContext, TaskError};
use crate::core::model::input::RunFact;
use crate::workspace::{WorkspaceError, fitness};

pub(super) async fn run(task: &TaskContext) -> Result<RunFact, TaskError> {
    let text = |error: WorkspaceError| TaskError::from(error);
    let pool = task.pool().await?;
    let upstream = match pool.base().fetch().await {
        Ok(upstream) => upstream,
        Err(error) => return task.failed(error),
    };
    task.check_bypass(&pool).await;
    let start = task.base()?;
    let mut from = start.clone();
    if let Some(gated) = &task.run.workspace.gated {
        let commits = task.commits(&start, gated);
        if let Some(question) =
            fitness::withdrawn(pool.base(), commits, &upstream).await.map_err(text)?
        {
            task.show_upstream(&pool).await;
            return Ok(task.ask_human(question));
        }
        from = fitness::replayed_after(pool.base(), commits, &upstream).await.map_err(text)?;
    }
    let git = pool.walled(&task.worktree()?).owned_by(&task.owner());
    git.break_locks().await.map_err(text)?;
    // A crash may have left a rebase half done. Usually there is none, and this fails.
    git.ask(&["rebase", "--abort"]).await.map_err(text)?;
    if let Err(error) = git.track(pool.base().branch(), &upstream).await {
        tracing::debug!(run = %task.run.id, %error, "the agent's view of the remote stays old");
    }
    // The workspace sees the new commits through the objects that it borrows.
    let rebase = ["rebase", "--quiet", "--onto", &upstream.0, &from.0];
    let answer = git.ask(&rebase).await.map_err(text)?;
    if !answer.ok {
        git.ask(&["rebase", "--abort"]).await.map_err(text)?;
        return Ok(RunFact::Conflict { why: answer.all_text().into() });
    }
    // Once the run has pushed, its proof keeps the commit that the run began from.
    let base = if task.run.workspace.pushed.is_some() { task.base()? } else { upstream };
    task.note(format!("rebased onto {}", base.short()));
    Ok(RunFact::Rebased { base })
}
