//! Pushing, and laying a run's commits over what others pushed.

use super::{Failure, Job};
use crate::core::model::id::Sha;
use crate::core::model::input::RunFact;
use crate::workspace::WorkspaceError;
use crate::workspace::base::Pushed;

pub(super) async fn push(job: &Job, head: &Sha) -> Result<RunFact, Failure> {
    let pool = job.pool().await?;
    match pool.base().push(head).await.map_err(|e| e.to_string())? {
        Pushed::Landed => {
            job.note(format!("pushed {}: the remote was read back and has it", head.short()));
            Ok(RunFact::Pushed { head: head.clone() })
        }
        Pushed::Rejected(why) => {
            job.note(format!("the remote has moved on: {why}"));
            Ok(RunFact::PushRejected { why: why.into() })
        }
        Pushed::Protected(why) => {
            let why = format!("the branch's rules forbid it: {why}");
            Ok(RunFact::PushRefused { why: why.into() })
        }
        Pushed::Denied(why) => {
            let why = format!("the remote does not let us in: {why}");
            Ok(RunFact::PushRefused { why: why.into() })
        }
        Pushed::Refused(why) => Err(format!("the push did not land: {why}")),
    }
}

pub(super) async fn rebase(job: &Job) -> Result<RunFact, Failure> {
    let text = |error: WorkspaceError| error.to_string();
    let pool = job.pool().await?;
    let upstream = pool.base().fetch().await.map_err(text)?;
    let git = pool.base().git().at(&job.worktree()?).owned_by(&job.owner());
    // One that a crash cut short would be in the way; usually there is none.
    git.ask(&["rebase", "--abort"]).await.map_err(text)?;
    let us = git.identity().await.map_err(text)?;
    let answer = git.ask_with(&["rebase", "--quiet", &upstream.0], us).await.map_err(text)?;
    if !answer.ok {
        git.ask(&["rebase", "--abort"]).await.map_err(text)?;
        let why = format!("{}\n{}", answer.out, answer.err);
        return Ok(RunFact::Conflict { why: why.into() });
    }
    // Once something was pushed, the proof stays that of the commit that the run began from.
    let base = if job.run.pushed.is_some() { job.base()? } else { upstream };
    job.note(format!("rebased onto {}", base.short()));
    Ok(RunFact::Rebased { base })
}
