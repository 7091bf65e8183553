//! The red-first gate: afk itself runs the tests of the change, which must fail on the base commit
//! and pass on the head, each in a clean checkout. Only then may the run push.
//!
//! ```text
//!   commit leftovers, add trailers ──▶ changes base..head
//!        ├─ none, or CI is skipped ─────────────────────────▶ closed
//!        ├─ secrets, huge files, links out of the tree ─────▶ closed
//!        ├─ tests: lay them over the base, run ── must fail ─┐
//!        └─ exempt files only ───────────────────────────────┤
//!                                       run on the head ── must pass ──▶ open
//! ```

use std::time::Duration;

use super::{TaskContext, TaskError};
use crate::config::repository::RepositoryRules;
use crate::core::model::id::Sha;
use crate::core::model::input::RunFact;
use crate::core::model::plural::plural;
use crate::core::model::untrusted::Untrusted;
use crate::core::model::verdict::{GateReport, GateSide};
use crate::core::tables::guardrail;
use crate::process::Spec;
use crate::redact::Redactor;
use crate::workspace::git::Git;
use crate::workspace::pool::Pool;
use crate::workspace::{WorkspaceError, leaks, overlay, seal};

pub(super) async fn run(task: &TaskContext) -> Result<RunFact, TaskError> {
    let pool = task.pool().await?;
    let base = task.base()?;
    let worktree = match task.worktree() {
        Ok(path) => path,
        Err(why) => return Ok(broken(base.clone(), base, why)),
    };
    let rules = task.rules(&pool, &base).await?;
    let git = pool.base().git().at(&worktree).owned_by(&task.owner());
    let text = |error: WorkspaceError| error.to_string();
    let head = seal_head(task, &pool, &git).await?;
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
    let limit = Duration::from_secs(task.config.limits.git_seconds);
    let redactor = Redactor::default();
    let found = leaks::scan(&git, &base, &head, &rules.gate, &redactor, limit).await;
    let places: Vec<Untrusted> =
        found.map_err(text)?.iter().map(|leak| leak.summary().into()).collect();
    if !places.is_empty() {
        let count = plural(places.len(), "place");
        task.note(format!("gate: the commits have {count} that must not be pushed"));
        report.on_base = GateSide::Leaks { places };
        return Ok(RunFact::Gated(Box::new(report)));
    }
    let prove = task.proving_tree();
    if changes.tests.is_empty() {
        report.on_base =
            if changes.other.is_empty() { GateSide::Exempt } else { GateSide::NoTests };
    } else {
        let base_git = pool.base().git().owned_by(&task.owner());
        let tree = overlay::check_out(&base_git, &prove, &base).await.map_err(text)?;
        overlay::lay_over(&tree, &head, &changes.tests).await.map_err(text)?;
        report.on_base = test(task, &rules, &tree, "gate-base").await?;
    }
    match &report.on_base {
        GateSide::Failed { code, .. } => {
            task.note(format!("gate: the new tests fail on {}, exit code {code}", base.short()));
            task.report(RunFact::RedSeen { base: base.clone() }).await;
        }
        GateSide::Exempt => task.note("gate: only exempt files changed; no test is required"),
        _ => return Ok(RunFact::Gated(Box::new(report))),
    }
    let base_git = pool.base().git().owned_by(&task.owner());
    let tree = overlay::check_out(&base_git, &prove, &head).await.map_err(text)?;
    report.on_head = test(task, &rules, &tree, "gate-head").await?;
    task.note(match &report.on_head {
        GateSide::Passed => format!("gate: the tests pass on {}", head.short()),
        GateSide::Failed { code, .. } => {
            format!("gate: the tests fail on {}, exit code {code}", head.short())
        }
        _ => format!("gate: the tests can't be run on {}", head.short()),
    });
    Ok(RunFact::Gated(Box::new(report)))
}

/// Commits changes that the agent left uncommitted, adds the trailers, and returns the head.
async fn seal_head(task: &TaskContext, pool: &Pool, git: &Git) -> Result<Sha, TaskError> {
    let title = task.run.work.title().clean_line();
    seal::commit_leftovers(git, &title).await.map_err(|e| e.to_string())?;
    let (Some(issue), Some(branch)) =
        (task.run.work.issue().cloned(), task.run.workspace.branch.clone())
    else {
        return Err("only an issue's run has a gate".into());
    };
    let (dir, upstream, run) = (git.dir().to_owned(), pool.base().upstream(), task.run.id);
    let sealed = tokio::task::spawn_blocking(move || {
        seal::add_trailers(&dir, &upstream, &branch, &issue, run)
    });
    sealed.await.map_err(|e| e.to_string())?.map_err(|e| e.to_string())
}

async fn test(
    task: &TaskContext,
    rules: &RepositoryRules,
    tree: &Git,
    log: &str,
) -> Result<GateSide, TaskError> {
    let mut spec = Spec::shell(&task.owner(), &rules.test, tree.dir());
    spec.env = task.environment();
    let limit = Duration::from_secs(60 * task.config.limits.test_minutes);
    let finished = task.runtime.supervisor.run(&spec, &task.log(log), limit).await;
    let finished = finished.map_err(|e| format!("the test command: {e}"))?;
    Ok(match finished.code {
        Some(0) => GateSide::Passed,
        Some(code @ (126 | 127)) => GateSide::Broken {
            why: broken_command(&rules.test, &format!("exit code {code}"), &finished.tail),
        },
        Some(code) => GateSide::Failed { code, log: finished.tail },
        None => GateSide::Broken {
            why: broken_command(&rules.test, &finished.summary(), &finished.tail),
        },
    })
}

fn broken_command(command: &str, how: &str, tail: &Untrusted) -> Untrusted {
    format!("the test command `{command}` {how}\n{}", tail.as_received()).into()
}

fn broken(base: Sha, head: Sha, why: String) -> RunFact {
    let on_base = GateSide::Broken { why: why.into() };
    let on_head = GateSide::NotRun;
    RunFact::Gated(Box::new(GateReport { base, head, tests: Vec::new(), on_base, on_head }))
}
