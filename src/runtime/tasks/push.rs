//! The push of a run's head to its branch, fast-forward only.

use super::{TaskContext, TaskError};
use crate::core::model::id::Sha;
use crate::core::model::input::RunFact;
use crate::workspace::base::PushOutcome;

pub(super) async fn run(task: &TaskContext, head: &Sha) -> Result<RunFact, TaskError> {
    let pool = task.pool().await?;
    let base = task.base()?;
    task.confirm_repository().await?;
    let outcome = match pool.base().push(task.commits(&base, head)).await {
        Ok(outcome) => outcome,
        Err(error) => return task.failed(error),
    };
    if outcome == PushOutcome::Landed {
        pool.base().pushed(task.run.id).await?;
    } else {
        task.check_bypass(&pool).await;
    }
    match outcome {
        PushOutcome::Landed => {
            task.note(format!("pushed {}: confirmed on the remote", head.short()));
            Ok(RunFact::Pushed { head: head.clone() })
        }
        PushOutcome::Rejected(why) => {
            task.note(format!("the remote has moved on: {why}"));
            Ok(RunFact::PushRejected { why: why.into() })
        }
        PushOutcome::Protected(why) => {
            let why = format!("the branch's rules forbid it: {why}");
            Ok(RunFact::PushRefused { why: why.into() })
        }
        PushOutcome::Denied(why) => {
            let why = format!("the remote does not let us in: {why}");
            Ok(RunFact::PushRefused { why: why.into() })
        }
        PushOutcome::Rewritten(question) => {
            task.show_upstream(&pool).await;
            Ok(task.ask_human(question))
        }
        PushOutcome::Refused(why) => Err(format!("the push did not land: {why}").into()),
    }
}
