//! The stages after the push: CI, deploy, probes. Each proves the pushed commit one step further.
//!
//! ```text
//!   tasks::carry_out ──▶ run(stage, sha) ──▶ table(stage).judge ──▶ Judgement
//!                                                   │ green: the branch must still have the commit
//!                                                   ▼
//!                                            RunFact::Judged ──▶ core
//! ```
//!
//! To add a stage, write its file with a `STAGE` constant and add its line to [`table`].

mod checkout;
mod checks;
mod ci;
mod deploy;
mod pipelines;
mod poll;
mod probe;
mod rollout;

use std::time::Duration;

use futures::future::BoxFuture;

use super::{TaskContext, TaskError};
use crate::config::repos::RepositoryConfig;
use crate::core::model::id::Sha;
use crate::core::model::input::RunFact;
use crate::core::model::stage::{ProofLink, Stage};
use crate::core::model::untrusted::Untrusted;
use crate::core::model::verdict::{Judgement, Verdict};
use crate::redact::Redactor;

/// Minutes until a check or a pipeline should have appeared, unless the repository says otherwise.
const APPEAR_MINUTES: u32 = 10;
/// The time between two polls of a service, unless the repository says otherwise.
const POLL_INTERVAL_MS: u64 = 10_000;
/// The longest that any stage may take by the repository's own limits.
const DAY_MINUTES: u64 = 24 * 60;

/// How one stage is carried out.
struct StageTask {
    /// Judges a commit that the branch has.
    judge: for<'a> fn(&'a TaskContext, &'a Sha) -> BoxFuture<'a, Result<Judgement, TaskError>>,
    /// The longest that the judgement may take.
    limit: fn(&TaskContext) -> Duration,
}

const fn table(stage: Stage) -> StageTask {
    match stage {
        Stage::Ci => ci::STAGE,
        Stage::Deploy => deploy::STAGE,
        Stage::Probe => probe::STAGE,
    }
}

/// The longest that a stage may take; every part of it has a shorter limit of its own.
pub(super) fn limit(task: &TaskContext, stage: Stage) -> Duration {
    (table(stage).limit)(task)
}

/// Carries a stage out and reports the judgement to the core.
pub(super) async fn run(task: &TaskContext, stage: Stage, sha: Sha) -> Result<RunFact, TaskError> {
    let judgement = (table(stage).judge)(task, &sha).await?;
    let Judgement { verdict, detail, log, facts } = confirm(task, &sha, judgement).await?;
    // Services cut their logs, perhaps within a secret.
    let log = Untrusted::new(Redactor::default().clean_cut(log.as_received()));
    let name = stage.as_str();
    task.note(format!("{name} of {}: {} ({})", sha.short(), verdict.as_str(), detail.clean_line()));
    if !log.as_received().is_empty() && verdict != Verdict::Green {
        let path = task.log(&format!("{name}-said"));
        if let Err(error) = std::fs::write(&path, log.as_received()) {
            tracing::warn!(path = %path.display(), %error, "the log of the stage can't be written");
        }
    }
    Ok(RunFact::Judged { sha, verdict, detail, log, facts })
}

/// Checks once more that the branch has a commit that was judged green: green holds only then
/// (table T4, row 1).
async fn confirm(
    task: &TaskContext,
    sha: &Sha,
    judgement: Judgement,
) -> Result<Judgement, TaskError> {
    if judgement.verdict != Verdict::Green {
        return Ok(judgement);
    }
    let base = task.pool().await?.base().clone();
    base.fetch().await?;
    if base.contains(sha).await? {
        return Ok(judgement);
    }
    let detail = format!("the branch no longer has {}", sha.short());
    Ok(Judgement { facts: judgement.facts, ..Judgement::new(Verdict::Lost, detail) })
}

/// The milliseconds since the commit was pushed, by afk's own clock. Deadlines count from there, also
/// after a restart.
fn age(task: &TaskContext) -> i64 {
    task.run.proof.get(ProofLink::Commit).map_or(0, |link| task.since(link.at))
}

/// The milliseconds since the stage before the deploy was green, or since the push without one. CI may
/// have taken long, and that time is not the deploy's.
fn deploy_age(task: &TaskContext) -> i64 {
    let ci = task.run.proof.get(ProofLink::Ci).filter(|link| link.verdict == Verdict::Green);
    ci.map_or_else(|| age(task), |link| task.since(link.at))
}

/// The milliseconds by which the deadline for the end of a stage is later, where an operator has afk look
/// again: what still runs then gets its whole time.
fn extension(task: &TaskContext) -> i64 {
    let looks = task.run.progress.looks_again;
    looks.map_or(0, |at| (age(task) - task.since(at)).max(0))
}

/// The branch that the run's repository is pushed to.
fn branch(task: &TaskContext) -> String {
    let known = task.config.repos.get(task.run.work.repo());
    known.map_or_else(|| RepositoryConfig::default().branch, |known| known.branch.clone())
}

const fn minutes(n: u64) -> Duration {
    Duration::from_secs(60 * n)
}
