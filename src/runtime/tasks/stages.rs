//! The stages after the push: CI, deploy, probes.

use std::sync::Arc;
use std::time::Duration;

use super::{Failure, Job};
use crate::config::repository::RepositoryRules;
use crate::core::id::Sha;
use crate::core::input::{Input, RunFact};
use crate::core::verdict::{Judgement, ProbeSample};
use crate::deploy::probe::Prober;
use crate::process::Spec;
use crate::workspace::overlay;
use crate::{ci, deploy};

/// The rules, and a clean checkout of the commit.
async fn checkout(
    job: &Job,
    sha: &Sha,
) -> Result<(Arc<RepositoryRules>, std::path::PathBuf), Failure> {
    let pool = job.pool().await?;
    let rules = job.rules(&pool, &job.base()?).await?;
    let git = pool.base().git().owned_by(&job.owner());
    let tree = overlay::check_out(&git, &job.proving_tree(), sha).await;
    Ok((rules, tree.map_err(|e| e.to_string())?.dir().to_owned()))
}

fn spec(job: &Job, line: &str, cwd: &std::path::Path, sha: &Sha) -> Spec {
    let mut spec = Spec::shell(&job.owner(), line, cwd);
    spec.env = job.environment();
    spec.env.insert("AFK_SHA".into(), sha.0.clone());
    spec
}

fn judged(job: &Job, what: &str, sha: Sha, judgement: Judgement) -> RunFact {
    let Judgement { verdict, detail, log } = judgement;
    job.note(format!("{what} of {}: {} ({})", sha.short(), verdict.word(), detail.clean_line()));
    RunFact::Judged { sha, verdict, detail, log }
}

pub(super) async fn ci(job: &Job, sha: Sha) -> Result<RunFact, Failure> {
    let (rules, cwd) = checkout(job, &sha).await?;
    let rules = rules.ci.clone().ok_or("no CI is configured")?;
    let limit = Duration::from_secs(60 * job.config.limits.ci_minutes);
    let spec = spec(job, &rules.command, &cwd, &sha);
    let done = ci::command::run(&job.shell.supervisor, &spec, &job.log("ci"), limit).await;
    Ok(judged(job, "CI", sha, done.map_err(|e| e.to_string())?))
}

pub(super) async fn deploy(job: &Job, sha: Sha) -> Result<RunFact, Failure> {
    let (rules, cwd) = checkout(job, &sha).await?;
    let rules = rules.deploy.clone().ok_or("no deploy is configured")?;
    let limit = Duration::from_secs(60 * job.config.limits.deploy_minutes);
    let spec = spec(job, &rules.command, &cwd, &sha);
    let done = deploy::command::run(&job.shell.supervisor, &spec, &job.log("deploy"), limit).await;
    Ok(judged(job, "deploy", sha, done.map_err(|e| e.to_string())?))
}

pub(super) async fn probe(job: &Job, sha: Sha) -> Result<RunFact, Failure> {
    let (rules, cwd) = checkout(job, &sha).await?;
    let probe = rules.probe.clone().ok_or("no probe is configured")?;
    let supervisor = job.shell.supervisor.clone();
    let log = job.log("probe");
    let prober = Prober::new(probe, sha.clone(), supervisor, job.owner(), cwd, log);
    let prober = prober.map_err(|e| e.to_string())?;
    let (inputs, repo) = (job.shell.inputs.clone(), job.run.work.repo().clone());
    let judgement = prober.judge(|sample| {
        let latency_ms = u32::try_from(sample.latency.as_millis()).unwrap_or(u32::MAX);
        let at = super::super::clock::wall();
        let sample = ProbeSample { at, ok: sample.ok, latency_ms };
        let input = Input::Probe { repo: repo.clone(), sample };
        // A sample that finds the queue full is missing from the sparkline and nothing else.
        let _ = inputs.try_send(super::super::Message::Input(Box::new(input)));
    });
    Ok(judged(job, "probe", sha, judgement.await))
}
