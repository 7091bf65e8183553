//! The red-first gate: afk itself runs the tests of the change, which must fail on the base commit
//! and pass on the head, each in a fresh checkout of afk's own. Only then may the run push.
//!
//! ```text
//!   commit leftovers (sandbox) ──▶ import ──▶ trailers ──▶ changes base..head
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

use super::setup::{Ready, TreeUse};
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
use crate::runtime::wall::Grants;
use crate::sandbox::NetworkPolicy;
use crate::workspace::pool::{FreshTree, Pool};
use crate::workspace::{WorkspaceError, import, leaks, leftovers, overlay, seal, shown};

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
    let head = match seal_head(task, &pool, &worktree).await? {
        Ok(head) => head,
        Err(why) => return Ok(closed(&base, &base, GateSide::Unfit { why: why.into() })),
    };
    if let Some(why) = unfit_range(&pool, &base, &head).await? {
        return Ok(closed(&base, &head, GateSide::Unfit { why: why.into() }));
    }
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
    let prove = task.proving_tree();
    if changes.tests.is_empty() {
        report.on_base =
            if changes.other.is_empty() { GateSide::Exempt } else { GateSide::NoTests };
    } else {
        report.on_base = match task.check_out(&pool, &rules, &prove, &base).await {
            Ok(tree) => {
                overlay::lay_over(&tree, &head, &changes.tests).await.map_err(text)?;
                side(task, &pool, &rules, tree, &base, "base").await?
            }
            Err(failure) => failure.side(),
        };
    }
    match &report.on_base {
        GateSide::Failed { code, .. } => {
            task.note(format!("gate: the new tests fail on {}, exit code {code}", base.short()));
            task.report(RunFact::RedSeen { base: base.clone() }).await;
        }
        GateSide::Exempt => task.note("gate: only exempt files changed; no test is required"),
        _ => return Ok(RunFact::Gated(Box::new(report))),
    }
    report.on_head = match task.check_out(&pool, &rules, &prove, &head).await {
        Ok(tree) => side(task, &pool, &rules, tree, &head, "head").await?,
        Err(failure) => failure.side(),
    };
    task.note(match &report.on_head {
        GateSide::Passed => format!("gate: the tests pass on {}", head.short()),
        GateSide::Failed { code, .. } => {
            format!("gate: the tests fail on {}, exit code {code}", head.short())
        }
        _ => format!("gate: the tests can't be run on {}", head.short()),
    });
    Ok(RunFact::Gated(Box::new(report)))
}

/// Commits the leftovers in the workspace, imports its commits and adds the trailers. Returns the
/// sealed commit, or the reason for which the agent must do something first.
async fn seal_head(
    task: &TaskContext,
    pool: &Pool,
    worktree: &Path,
) -> Result<Result<Sha, String>, TaskError> {
    let (Some(issue), Some(branch)) =
        (task.run.work.issue().cloned(), task.run.workspace.branch.clone())
    else {
        return Err("only an issue's run has a gate".into());
    };
    let sealed = async {
        let git = pool.walled(worktree).owned_by(&task.owner());
        leftovers::commit(&git, &task.run.work.title().clean_line()).await?;
        let none = || WorkspaceError::Unfit { why: "The branch has no commit.".into() };
        let head = git.commit("HEAD").await?.ok_or_else(none)?;
        let base = pool.base();
        let upstream = base.head().await?;
        let (from, to, run) = (upstream.clone(), head.clone(), task.run.id);
        let seal = move |dir: &Path| seal::add_trailers(dir, &from, &to, &issue, run);
        let sealed = import::of_run(base, &git, &head, &upstream, run, seal).await?;
        // The agent goes on from the sealed commit. If that fails, afk seals the same again.
        if let Err(error) = git.move_branch(&branch, &sealed).await {
            tracing::debug!(run = %task.run.id, %error, "the branch stays as the agent left it");
        }
        Ok(sealed)
    };
    match sealed.await {
        Ok(sealed) => Ok(Ok(sealed)),
        // Whatever git reports about a workspace lies in the workspace.
        Err(
            error @ (WorkspaceError::Unfit { .. }
            | WorkspaceError::Refused { .. }
            | WorkspaceError::Git { .. }),
        ) => Ok(Err(error.to_string())),
        Err(error) => Err(error.to_string()),
    }
}

/// The reason for which the sealed commits of a run can't be pushed as they are, whatever the
/// tests say. More reasons go here.
async fn unfit_range(pool: &Pool, base: &Sha, head: &Sha) -> Result<Option<String>, TaskError> {
    let links = import::loose_gitlinks(pool.base(), base, head).await.map_err(|e| e.to_string())?;
    Ok((!links.is_empty()).then(|| {
        format!(
            "Your commits hold a link to another repository in place of files, and `.gitmodules` \
             doesn't name it: {}. Remove the link with `git rm --cached`, and the `.git` inside.",
            leftovers::list(&links)
        )
    }))
}

/// Gets a tree ready and runs the tests in it.
async fn side(
    task: &TaskContext,
    pool: &Pool,
    rules: &RepositoryRules,
    tree: FreshTree,
    commit: &Sha,
    name: &'static str,
) -> Result<GateSide, TaskError> {
    match task.get_ready(pool, rules, tree, commit, TreeUse::Proof(name)).await {
        Ok(ready) => test(task, rules, &ready, &format!("gate-{name}")).await,
        Err(failure) => Ok(failure.side()),
    }
}

async fn test(
    task: &TaskContext,
    rules: &RepositoryRules,
    ready: &Ready,
    log: &str,
) -> Result<GateSide, TaskError> {
    let mut spec = Spec::shell(&task.owner(), &rules.test, &ready.folder);
    spec.env.clone_from(&ready.env);
    let network = (!rules.gate.network).then_some(NetworkPolicy::None);
    let needs = Grants { network, ..Grants::default() };
    spec.sandbox = task.ready_sandbox(ready, needs)?;
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
