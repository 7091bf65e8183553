//! The red-first gate: the runtime itself sees the run's tests fail on the base commit and pass on
//! the head, each on a clean checkout, before anything may be pushed.

use std::time::Duration;

use super::{Failure, Job};
use crate::config::repository::RepositoryRules;
use crate::core::model::id::Sha;
use crate::core::model::input::RunFact;
use crate::core::model::untrusted::Untrusted;
use crate::core::model::verdict::{GateReport, GateSide};
use crate::core::tables::guardrail;
use crate::process::Spec;
use crate::workspace::git::Git;
use crate::workspace::pool::Pool;
use crate::workspace::{WorkspaceError, overlay, seal};

pub(super) async fn run(job: &Job) -> Result<RunFact, Failure> {
    let pool = job.pool().await?;
    let base = job.base()?;
    let worktree = match job.worktree() {
        Ok(path) => path,
        Err(why) => return Ok(broken(base.clone(), base, why)),
    };
    let rules = job.rules(&pool, &base).await?;
    let git = pool.base().git().at(&worktree).owned_by(&job.owner());
    let text = |error: WorkspaceError| error.to_string();
    let head = seal_head(job, &pool, &git).await?;
    let changes = overlay::changes(&git, &base, &head, &rules.gate).await.map_err(text)?;
    let mut report = GateReport {
        base: base.clone(),
        head: head.clone(),
        tests: changes.tests.iter().map(|path| path.as_str().into()).collect(),
        on_base: GateSide::NotRun,
        on_head: GateSide::NotRun,
    };
    if changes.is_empty() {
        report.on_base = GateSide::NoChange;
        return Ok(RunFact::Gated(Box::new(report)));
    }
    let range = format!("{base}..{head}");
    let messages = git.call(&["log", "--format=%B", &range]).await.map_err(text)?;
    if guardrail::skips_ci(&messages) {
        report.on_base = GateSide::CiSkipped;
        return Ok(RunFact::Gated(Box::new(report)));
    }
    let prove = job.proving_tree();
    if changes.tests.is_empty() {
        report.on_base =
            if changes.other.is_empty() { GateSide::Exempt } else { GateSide::NoTests };
    } else {
        let base_git = pool.base().git().owned_by(&job.owner());
        let tree = overlay::check_out(&base_git, &prove, &base).await.map_err(text)?;
        overlay::lay_over(&tree, &head, &changes.tests).await.map_err(text)?;
        report.on_base = test(job, &rules, &tree, "gate-base").await?;
    }
    match &report.on_base {
        GateSide::Failed { code, .. } => {
            job.note(format!("gate: the new tests fail on {} with {code}", base.short()));
            job.tell(RunFact::RedSeen { base: base.clone() }).await;
        }
        GateSide::Exempt => job.note("gate: only exempt files changed; no test is asked for"),
        _ => return Ok(RunFact::Gated(Box::new(report))),
    }
    let base_git = pool.base().git().owned_by(&job.owner());
    let tree = overlay::check_out(&base_git, &prove, &head).await.map_err(text)?;
    report.on_head = test(job, &rules, &tree, "gate-head").await?;
    job.note(match &report.on_head {
        GateSide::Passed => format!("gate: the tests pass on {}", head.short()),
        GateSide::Failed { code, .. } => {
            format!("gate: the tests end with {code} on {}", head.short())
        }
        _ => format!("gate: the tests can't be run on {}", head.short()),
    });
    Ok(RunFact::Gated(Box::new(report)))
}

/// Commits what was left over and puts the trailers on; gives the head.
async fn seal_head(job: &Job, pool: &Pool, git: &Git) -> Result<Sha, Failure> {
    let title = job.run.work.title().clean_line();
    seal::commit_leftovers(git, &title).await.map_err(|e| e.to_string())?;
    let (Some(issue), Some(branch)) = (job.run.work.issue().cloned(), job.run.branch.clone())
    else {
        return Err("only an issue's run has a gate".into());
    };
    let (dir, upstream, run) = (git.dir().to_owned(), pool.base().upstream(), job.run.id);
    let sealed = tokio::task::spawn_blocking(move || {
        seal::add_trailers(&dir, &upstream, &branch, &issue, run)
    });
    sealed.await.map_err(|e| e.to_string())?.map_err(|e| e.to_string())
}

async fn test(
    job: &Job,
    rules: &RepositoryRules,
    tree: &Git,
    log: &str,
) -> Result<GateSide, Failure> {
    let mut spec = Spec::shell(&job.owner(), &rules.test, tree.dir());
    spec.env = job.environment();
    let limit = Duration::from_secs(60 * job.config.limits.test_minutes);
    let finished = job.shell.supervisor.run(&spec, &job.log(log), limit).await;
    let finished = finished.map_err(|e| format!("the test command: {e}"))?;
    Ok(match finished.code {
        Some(0) => GateSide::Passed,
        Some(code @ (126 | 127)) => GateSide::Broken {
            why: told(&rules.test, &format!("ended with {code}"), &finished.tail),
        },
        Some(code) => GateSide::Failed { code, log: finished.tail },
        None => GateSide::Broken { why: told(&rules.test, &finished.summary(), &finished.tail) },
    })
}

fn told(command: &str, how: &str, tail: &Untrusted) -> Untrusted {
    format!("the test command `{command}` {how}\n{}", tail.as_received()).into()
}

fn broken(base: Sha, head: Sha, why: String) -> RunFact {
    let on_base = GateSide::Broken { why: why.into() };
    let on_head = GateSide::NotRun;
    RunFact::Gated(Box::new(GateReport { base, head, tests: Vec::new(), on_base, on_head }))
}
