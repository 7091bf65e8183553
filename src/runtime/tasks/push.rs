//! The push of a run's head to its branch, fast-forward only.

use super::{TaskContext, TaskError};
use crate::core::model::id::Sha;
use crate::core::model::input::RunFact;
use crate::workspace::base::Pushed;

pub(super) async fn run(task: &TaskContext, head: &Sha) -> Result<RunFact, TaskError> {
    let pool = task.pool().await?;
    match pool.base().push(head).await.map_err(|e| e.to_string())? {
        Pushed::Landed => {
            task.note(format!("pushed {}: the remote was read back and has it", head.short()));
            Ok(RunFact::Pushed { head: head.clone() })
        }
        Pushed::Rejected(why) => {
            task.note(format!("the remote has moved on: {why}"));
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
