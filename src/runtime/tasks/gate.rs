//! The red-first gate: afk itself runs the tests of the change, which must fail on the base commit
//! and pass on the head, each in a fresh checkout of afk's own. Only then may the run push.
//!
//! ```text
//!   commit leftovers (sandbox) ──▶ fetch ──▶ import ──▶ fitness ──▶ trailers ──▶ changes base..head
//!        ├─ a rewritten branch, or work of others ──────────▶ a human decides
//!        ├─ unfit, refused, no change, or CI is skipped ────▶ closed
//!        ├─ secrets, huge files, links out of the tree ─────▶ closed
//!        ├─ tests: lay them over the base, run ── must fail ─┐
//!        └─ exempt files only ───────────────────────────────┤
//!                                       run on the head ── must pass ──▶ open
//! ```
//!
//! From the import on, every step concerns the imported commit. The workspace may change
//! meanwhile; that changes nothing here.

use std::path::Path;
use std::time::Duration;

use super::{TaskContext, TaskError};
use crate::config::repository::{GateConfig, RepositoryRules};
use crate::core::model::id::Sha;
use crate::core::model::input::RunFact;
use crate::core::model::plural::plural;
use crate::core::model::untrusted::Untrusted;
use crate::core::model::verdict::{GateReport, GateSide};
use crate::core::tables::guardrail;
use crate::process::Spec;
use crate::redact::Redactor;
use crate::runtime::wall::Grants;
use crate::sandbox::NetworkPolicy;
use crate::workspace::fitness::{self, Fitness};
use crate::workspace::pool::Pool;
use crate::workspace::walled_git::WalledGit;
use crate::workspace::{WorkspaceError, import, leaks, leftovers, lfs, overlay, seal, shown};

pub(super) async fn run(task: &TaskContext) -> Result<RunFact, TaskError> {
    let pool = task.pool().await?;
    let base = task.base()?;
    let worktree = match task.worktree() {
        Ok(path) => path,
        Err(why) => {
            let side = GateSide::Broken { why: why.into() };
            return Ok(closed(&base, &base, side));
        }
    };
    let rules = task.rules(&pool, &base).await?;
    let text = |error: WorkspaceError| error.to_string();
    let Sealed { base, head } = match seal_head(task, &pool, &worktree, &rules.gate).await? {
        Ok(sealed) => sealed,
        Err(report) => return Ok(report),
    };
    let git = pool.base().git().owned_by(&task.owner());
    let changes = overlay::changes(&git, &base, &head, &rules.gate).await.map_err(text)?;
    let mut report = GateReport {
        base: base.clone(),
        head: head.clone(),
        tests: changes.tests.iter().map(|path| shown(path).into()).collect(),
        on_base: GateSide::NotRun,
        on_head: GateSide::NotRun,
    };
    // Commits that the remote has from others are not this run's.
    let ours = task.run.workspace.pushed.as_ref() == Some(&head)
        || !pool.base().contains(&head).await.map_err(text)?;
    if changes.is_empty() || !ours {
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
    let (prove, owner) = (task.proving_tree(), task.owner());
    if changes.tests.is_empty() {
        report.on_base =
            if changes.other.is_empty() { GateSide::Exempt } else { GateSide::NoTests };
    } else {
        let tree = pool.check_out(&prove, &base, &owner).await.map_err(text)?;
        overlay::lay_over(&tree, &head, &changes.tests).await.map_err(text)?;
        drop(tree);
        report.on_base = test(task, &rules, &prove, "gate-base").await?;
    }
    match &report.on_base {
        GateSide::Failed { code, .. } => {
            task.note(format!("gate: the new tests fail on {}, exit code {code}", base.short()));
            task.report(RunFact::RedSeen { base: base.clone() }).await;
        }
        GateSide::Exempt => task.note("gate: only exempt files changed; no test is required"),
        _ => return Ok(RunFact::Gated(Box::new(report))),
    }
    drop(pool.check_out(&prove, &head, &owner).await.map_err(text)?);
    report.on_head = test(task, &rules, &prove, "gate-head").await?;
    task.note(match &report.on_head {
        GateSide::Passed => format!("gate: the tests pass on {}", head.short()),
        GateSide::Failed { code, .. } => {
            format!("gate: the tests fail on {}, exit code {code}", head.short())
        }
        _ => format!("gate: the tests can't be run on {}", head.short()),
    });
    Ok(RunFact::Gated(Box::new(report)))
}

/// The commits of a run that may be proved.
struct Sealed {
    /// The commit that they add to.
    base: Sha,
    head: Sha,
}

/// Commits the leftovers in the workspace, imports its commits and adds the trailers. Returns the
/// report instead, if the agent or a human must do something first.
async fn seal_head(
    task: &TaskContext,
    pool: &Pool,
    worktree: &Path,
    gate: &GateConfig,
) -> Result<Result<Sealed, RunFact>, TaskError> {
    let start = task.base()?;
    let unfit = |why: String| closed(&start, &start, GateSide::Unfit { why: why.into() });
    let (Some(issue), Some(branch)) =
        (task.run.work.issue().cloned(), task.run.workspace.branch.clone())
    else {
        return Ok(Err(unfit("only an issue's run has a gate".into())));
    };
    let text = |error: WorkspaceError| error.to_string();
    let (base, run) = (pool.base(), task.run.id);
    let git = pool.walled(worktree).owned_by(&task.owner());
    let head = match committed(task, &git).await {
        Ok(head) => head,
        Err(error) => return for_agent(&error).map(|why| Err(unfit(why))),
    };
    let was_known = base.knows(&head).await.map_err(text)?;
    let upstream = match base.fetch().await {
        Ok(upstream) => upstream,
        Err(error) => return task.failed(error).map(Err),
    };
    if let Err(error) = import::of_run(base, &git, &head, &upstream, run).await {
        return for_agent(&error).map(|why| Err(unfit(why)));
    }
    if !was_known && base.contains(&head).await.map_err(text)? {
        task.report_bypass(base, &head).await;
    }
    // Before the seal, which would make commits of others look like the run's own.
    let fit = match fitness::of_run(base, task.commits(&start, &head), gate).await.map_err(text)? {
        Fitness::Fit { base } => base,
        Fitness::Unfit { why } => return Ok(Err(unfit(why))),
        Fitness::Ask(question) => {
            task.show_upstream(pool).await;
            return Ok(Err(task.ask_human(question)));
        }
    };
    match lfs::take(base, &git, &fit, &head, gate).await {
        Ok(None) => {}
        Ok(Some(why)) => return Ok(Err(unfit(why))),
        Err(error) => return for_agent(&error).map(|why| Err(unfit(why))),
    }
    let imported = head.clone();
    let seal = move |dir: &Path, own: &[Sha]| seal::add_trailers(dir, own, &imported, &issue, run);
    let head = import::seal(base, &head, run, seal).await.map_err(text)?;
    // The agent goes on from the sealed commit. If that fails, afk seals the same again.
    if let Err(error) = git.move_branch(&branch, &head).await {
        tracing::debug!(%run, %error, "the branch stays as the agent left it");
    }
    Ok(Ok(Sealed { base: fit, head }))
}

/// Commits the leftovers in the workspace, and returns its newest commit.
async fn committed(task: &TaskContext, git: &WalledGit) -> Result<Sha, WorkspaceError> {
    leftovers::commit(git, &task.run.work.title().clean_line()).await?;
    let none = || WorkspaceError::Unfit { why: "The branch has no commit.".into() };
    git.commit("HEAD").await?.ok_or_else(none)
}

/// The text for the agent about an error that lies in its workspace, as all that git reports there
/// does.
fn for_agent(error: &WorkspaceError) -> Result<String, TaskError> {
    let text = error.to_string();
    match error {
        WorkspaceError::Unfit { .. }
        | WorkspaceError::Refused { .. }
        | WorkspaceError::Git { .. } => Ok(text),
        _ => Err(text),
    }
}

async fn test(
    task: &TaskContext,
    rules: &RepositoryRules,
    tree: &Path,
    log: &str,
) -> Result<GateSide, TaskError> {
    let mut spec = Spec::shell(&task.owner(), &rules.test, tree);
    spec.env = task.environment();
    let network = (!rules.gate.network).then_some(NetworkPolicy::None);
    let needs = Grants { network, ..Grants::default() };
    spec.sandbox = task.command_sandbox(tree, needs)?;
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

fn closed(base: &Sha, head: &Sha, on_base: GateSide) -> RunFact {
    let (base, head, on_head) = (base.clone(), head.clone(), GateSide::NotRun);
    RunFact::Gated(Box::new(GateReport { base, head, tests: Vec::new(), on_base, on_head }))
}
