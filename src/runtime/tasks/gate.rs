//! The gate: afk itself runs the tests of the change, each time on a fresh checkout of afk's own.
//! Only then may the run push.
//!
//! ```text
//!   commit leftovers (sandbox) ──▶ import ──▶ trailers ──▶ changes base..head
//!        ├─ unfit, refused, no change, CI skipped, leaks ──▶ closed
//!        └─ the table asks for runs, one at a time, until it decides:
//!             baseline   the base                          cached by commit
//!             red        the base with the new tests       must fail
//!             green      the head                          must pass
//!             old tests  the head with the base's tests
//!             without n  the head less a group of hunks
//! ```
//!
//! From the import on, every step concerns the imported commit. The workspace may change
//! meanwhile; that changes nothing here. [`crate::core::tables::gate`] decides.

use std::path::Path;
use std::time::Duration;

use super::test_run::{self, Checkout};
use super::{TaskContext, TaskError, baseline};
use crate::config::repository::{Needed, RepositoryRules};
use crate::core::model::gate_report::{
    ChangeClass, GateReport, GateRules, GateRun, TestRun, Unready,
};
use crate::core::model::id::Sha;
use crate::core::model::input::RunFact;
use crate::core::model::plural::plural;
use crate::core::model::untrusted::Untrusted;
use crate::core::tables::gate::GateVerdict;
use crate::core::tables::guardrail;
use crate::redact::Redactor;
use crate::workspace::change::{self, TestableChange};
use crate::workspace::pool::Pool;
use crate::workspace::{WorkspaceError, import, leaks, leftovers, seal};

pub(super) async fn run(task: &TaskContext) -> Result<RunFact, TaskError> {
    let pool = task.pool().await?;
    let base = task.base()?;
    let unfit = |head: &Sha, why: String| {
        let mut report = GateReport::new(base.clone(), head.clone(), GateRules::default());
        report.unready = Some(Unready::Unfit { why: why.into() });
        RunFact::Gated(Box::new(report))
    };
    let worktree = task.worktree()?;
    let rules = task.rules(&pool, &base).await?;
    let head = match seal_head(task, &pool, &worktree).await? {
        Ok(head) => head,
        Err(why) => return Ok(unfit(&base, why)),
    };
    if let Some(why) = unfit_range(&pool, &base, &head).await? {
        return Ok(unfit(&head, why));
    }
    let class = task.issue.as_ref().map(|issue| issue.class).unwrap_or_default();
    let testable = match read_change(&pool, &base, &head, &rules, class).await {
        Ok(testable) => testable,
        Err(WorkspaceError::Unfit { why }) => return Ok(unfit(&head, why)),
        Err(error) => return Err(error.to_string()),
    };
    let gate = &rules.gate;
    let limits = GateRules {
        class,
        reruns: gate.reruns,
        needed: gate.needed == Needed::Report,
        allow_removed: gate.allow_removed.clone(),
        approved: task.run.progress.approved,
    };
    let mut report = GateReport::new(base.clone(), head.clone(), limits);
    report.change = testable.change.clone();
    report.unready = unready(task, &pool, &rules, &base, &head, &testable).await?;
    prove(task, &pool, &rules, &testable, &mut report).await?;
    Ok(RunFact::Gated(Box::new(report)))
}

/// Runs the test command as often as the table asks for.
async fn prove(
    task: &TaskContext,
    pool: &Pool,
    rules: &RepositoryRules,
    testable: &TestableChange,
    report: &mut GateReport,
) -> Result<(), TaskError> {
    let (base, head) = (report.base.clone(), report.head.clone());
    while let GateVerdict::Run(run) = report.verdict() {
        let (commit, tree) = match run {
            GateRun::Baseline => {
                match baseline::runs(task, pool, rules, &base).await? {
                    Ok(runs) => report.runs.insert(run, runs),
                    Err(why) => {
                        return Ok(report.unready = Some(Unready::Unfit { why: why.into() }));
                    }
                };
                continue;
            }
            GateRun::Red => (&base, Some(testable.red)),
            GateRun::Green => (&head, None),
            GateRun::OldTests => (&head, Some(testable.old_tests)),
            GateRun::Without(index) => (&head, testable.without.get(index).copied()),
        };
        let files: &[Vec<u8>] = if run == GateRun::Red { &testable.test_files } else { &[] };
        let checkout = Checkout { commit, tree, test_files: files };
        let result = match test_run::run(task, pool, rules, run, &checkout).await? {
            Ok(result) => result,
            Err(why) => {
                report.unready = Some(Unready::Unfit { why: why.into() });
                return Ok(());
            }
        };
        task.note(format!("gate: {}: {}", run.summary(), test_run::summary(&result)));
        if run == GateRun::Red && !result.passed() {
            task.report(RunFact::RedSeen { base: base.clone() }).await;
        }
        report.record(run, result);
    }
    report.sandbox = test_run::sandbox_summary(task, rules)?;
    // The head is the next run's base, unless somebody else pushes.
    let green = report.of(GateRun::Green);
    if matches!(report.verdict(), GateVerdict::Open) && green.last().is_some_and(TestRun::passed) {
        baseline::remember(task, rules, &head, green);
    }
    Ok(())
}

/// Reads the change between two commits, off the runtime's threads.
async fn read_change(
    pool: &Pool,
    base: &Sha,
    head: &Sha,
    rules: &RepositoryRules,
    class: ChangeClass,
) -> Result<TestableChange, WorkspaceError> {
    let (dir, base, head) = (pool.base().dir().to_owned(), base.clone(), head.clone());
    let rules = rules.clone();
    let read = move || change::read(&dir, &base, &head, &rules, class);
    tokio::task::spawn_blocking(read).await.map_err(|error| WorkspaceError::Refused {
        why: format!("the change can't be read: {error}"),
    })?
}

/// The reason for which no test is worth a run; none if there is none.
async fn unready(
    task: &TaskContext,
    pool: &Pool,
    rules: &RepositoryRules,
    base: &Sha,
    head: &Sha,
    testable: &TestableChange,
) -> Result<Option<Unready>, TaskError> {
    let text = |error: WorkspaceError| error.to_string();
    // Commits that the remote has from others are not this run's.
    let ours = task.run.workspace.pushed.as_ref() == Some(head)
        || !pool.base().contains(head).await.map_err(text)?;
    if testable.is_empty || !ours {
        return Ok(Some(Unready::NoChange));
    }
    let git = pool.base().git().owned_by(&task.owner());
    let range = format!("{base}..{head}");
    let messages = git.call(&["log", "--format=%B", &range]).await.map_err(text)?;
    if guardrail::skips_ci(&messages) {
        return Ok(Some(Unready::CiSkipped));
    }
    let limit = Duration::from_secs(task.config.limits.git_seconds);
    let redactor = Redactor::default();
    let found = leaks::scan(&git, base, head, &rules.gate, &redactor, limit).await;
    let places: Vec<Untrusted> =
        found.map_err(text)?.iter().map(|leak| leak.summary().into()).collect();
    if places.is_empty() {
        return Ok(None);
    }
    let count = plural(places.len(), "place");
    task.note(format!("gate: the commits have {count} that must not be pushed"));
    Ok(Some(Unready::Leaks { places }))
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
