//! Probes of the deployed commit for its settle and soak times. Each sample also goes to
//! the core, for the sparkline of the repository.

use std::time::Duration;

use futures::FutureExt;

use super::checkout::{checkout, command};
use super::{DAY_MINUTES, StageTask, TaskContext, TaskError, minutes};
use crate::core::model::id::Sha;
use crate::core::model::input::Input;
use crate::core::model::verdict::{Fact, FactKind, Judgement, ProbeSample, Verdict};
use crate::deploy::probe::Prober;
use crate::runtime::wall::Grants;
use crate::runtime::{LoopMessage, clock};

pub(super) const STAGE: StageTask =
    StageTask { judge: |task, sha| judge(task, sha).boxed(), limit };

/// The settle and soak times are the repository's own.
fn limit(_task: &TaskContext) -> Duration {
    minutes(DAY_MINUTES)
}

async fn judge(task: &TaskContext, sha: &Sha) -> Result<Judgement, TaskError> {
    let (rules, folder) = checkout(task, sha).await?;
    let probe = rules.probe.clone().ok_or("no probe is configured")?;
    let doubt = rules.probe_doubt();
    let supervisor = task.runtime.supervisor.clone();
    let log = task.log("probe");
    let line = probe.command.clone().unwrap_or_default();
    let spec = command(task, &line, &folder, sha, Grants::default())?;
    let prober = Prober::new(probe, sha.clone(), supervisor, spec, log);
    let prober = prober.map_err(|e| crate::error::chain(&e))?;
    let (inputs, repo) = (task.runtime.inputs.clone(), task.run.work.repo().clone());
    let mut judgement = prober
        .judge(|sample| {
            let latency_ms = u32::try_from(sample.latency.as_millis()).unwrap_or(u32::MAX);
            let sample = ProbeSample { at: clock::wall(), ok: sample.ok, latency_ms };
            let input = Input::Probe { repo: repo.clone(), sample };
            // If the queue is full, the sparkline lacks this sample; the judgement doesn't.
            let _ = inputs.try_send(LoopMessage::Input(Box::new(input)));
        })
        .await;
    if let Some(doubt) = doubt.filter(|_| judgement.verdict == Verdict::Green) {
        judgement.facts.push(Fact::new(FactKind::Reservation, doubt));
    }
    Ok(judgement)
}
