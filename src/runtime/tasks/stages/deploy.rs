//! Deployment of the pushed commit: the repository's command, then Woodpecker's deploy pipeline,
//! then the rollouts in clusters. The first part that is not green decides.

use std::time::Duration;

use futures::FutureExt;

use super::checkout::{checkout, command};
use super::pipelines::{self, Trigger};
use super::{
    APPEAR_MINUTES, DAY_MINUTES, POLL_INTERVAL_MS, StageTask, TaskContext, TaskError, extension,
    minutes, rollout,
};
use crate::core::model::id::Sha;
use crate::core::model::verdict::{Judgement, Verdict};
use crate::core::tables::commit::Deadlines;
use crate::deploy;
use crate::runtime::wall::Grants;

pub(super) const STAGE: StageTask =
    StageTask { judge: |task, sha| judge(task, sha).boxed(), limit };

/// The repository's rules may set their own limit below this one.
fn limit(task: &TaskContext) -> Duration {
    let git = Duration::from_secs(task.config.limits.git_seconds);
    minutes(task.config.limits.deploy_minutes.max(DAY_MINUTES)) + git * 4
}

async fn judge(task: &TaskContext, sha: &Sha) -> Result<Judgement, TaskError> {
    let pool = task.pool().await?;
    let rules = task.rules(&pool, &task.base()?).await?;
    let rules = rules.deploy.clone().ok_or("no deploy is configured")?;
    let limit = minutes(rules.minutes.unwrap_or(task.config.limits.deploy_minutes));
    let mut judgement = Judgement::new(Verdict::Green, "nothing to roll out");
    // To look again is to read: the command could set a newer deploy back. Where nothing else can be read,
    // it alone shows how the commit does.
    let looks_only = task.run.progress.looks_again.is_some()
        && (rules.woodpecker.is_some() || !rules.kubernetes.is_empty());
    if let Some(line) = rules.command.as_ref().filter(|_| !looks_only) {
        let (_, folder) = checkout(task, sha).await?;
        let access = task.config.repos.get(task.run.work.repo()).map(|known| known.deploy.clone());
        let needs = Grants { needs: access.unwrap_or_default(), ..Grants::default() };
        let spec = command(task, line, &folder, sha, needs)?;
        let log = task.log("deploy");
        let done = deploy::command::run(&task.runtime.supervisor, &spec, &log, limit).await;
        judgement = done.map_err(|e| e.to_string())?;
    }
    if judgement.verdict == Verdict::Green
        && let Some(repo) = &rules.woodpecker
    {
        let run = i64::try_from(limit.as_millis()).unwrap_or(i64::MAX);
        let run = run.saturating_add(extension(task));
        let deadlines = Deadlines { appear: i64::from(APPEAR_MINUTES) * 60_000, run };
        let interval = Duration::from_millis(POLL_INTERVAL_MS);
        let (of, times) = ((repo.as_str(), Trigger::Manual), (deadlines, interval));
        let done = pipelines::follow(task, of, sha, &pool, times).await?;
        judgement = join(judgement, done);
    }
    if judgement.verdict == Verdict::Green && !rules.kubernetes.is_empty() {
        let done = rollout::follow_all(task, &rules, sha, &pool, limit).await?;
        judgement = join(judgement, done);
    }
    Ok(judgement)
}

/// One judgement with the verdict of the second and the facts of both.
pub(super) fn join(first: Judgement, second: Judgement) -> Judgement {
    let facts = [first.facts, second.facts].concat();
    Judgement { facts, ..second }
}
