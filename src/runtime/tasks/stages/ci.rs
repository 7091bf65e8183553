//! CI of the pushed commit: the repository's own command, Woodpecker's pipeline or GitHub's checks.

use std::time::Duration;

use futures::FutureExt;

use super::checkout::{checkout, command};
use super::checks::Checks;
use super::pipelines::{self, Trigger};
use super::poll::poll_until_decided;
use super::{
    APPEAR_MINUTES, DAY_MINUTES, POLL_INTERVAL_MS, StageTask, TaskContext, TaskError, branch,
    extension, minutes,
};
use crate::ci;
use crate::ci::github::WatchedCommit;
use crate::ci::quiet::QuietClock;
use crate::core::model::id::Sha;
use crate::core::model::verdict::Judgement;
use crate::core::tables::commit::{Deadlines, QUIET};
use crate::runtime::wall::Grants;

pub(super) const STAGE: StageTask =
    StageTask { judge: |task, sha| judge(task, sha).boxed(), limit };

fn limit(task: &TaskContext) -> Duration {
    let git = Duration::from_secs(task.config.limits.git_seconds);
    minutes(task.config.limits.ci_minutes.max(DAY_MINUTES)) + git * 4
}

async fn judge(task: &TaskContext, sha: &Sha) -> Result<Judgement, TaskError> {
    let pool = task.pool().await?;
    let rules = task.rules(&pool, &task.base()?).await?;
    let rules = rules.ci.clone().ok_or("no CI is configured")?;
    let limit = minutes(task.config.limits.ci_minutes);
    if let Some(line) = &rules.command {
        let (_, folder) = checkout(task, sha).await?;
        let spec = command(task, line, &folder, sha, Grants::default())?;
        let done = ci::command::run(&task.runtime.supervisor, &spec, &task.log("ci"), limit).await;
        return Ok(done.map_err(|e| e.to_string())?);
    }
    let ms = |minutes: u32| i64::from(minutes) * 60_000;
    let deadlines = Deadlines {
        appear: ms(rules.appear_minutes.unwrap_or(APPEAR_MINUTES)),
        run: rules
            .run_minutes
            .map_or(i64::try_from(limit.as_millis()).unwrap_or(i64::MAX), ms)
            .saturating_add(extension(task)),
    };
    let interval = Duration::from_millis(rules.poll_ms.unwrap_or(POLL_INTERVAL_MS).max(100));
    if let Some(repo) = &rules.woodpecker {
        let (of, times) = ((repo.as_str(), Trigger::Push), (deadlines, interval));
        return pipelines::follow(task, of, sha, &pool, times).await;
    }
    let api = task.runtime.services().github.clone();
    let api = api.ok_or("the repository's CI is GitHub's, and [github] is not configured")?;
    let watched = WatchedCommit {
        repo: task.run.work.repo(),
        branch: &branch(task),
        required: rules.required.as_slice(),
        deadlines,
        quiet: rules.quiet_seconds.map_or(QUIET, |seconds| i64::from(seconds) * 1000),
    };
    let quiet = QuietClock::default();
    let checks = Checks { task, api, pool: &pool, watched, pushed: sha, quiet };
    poll_until_decided(task, &checks, sha, deadlines, interval).await
}
