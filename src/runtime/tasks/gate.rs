//! The gate: afk itself runs the tests of the change, each time on a fresh checkout of afk's own.
//! Only then may the run push.
//!
//! ```text
//!   commit leftovers (sandbox) ──▶ fetch ──▶ import ──▶ fitness ──▶ trailers ──▶ changes base..head
//!        ├─ a rewritten branch, or work of others ─────────▶ a human decides
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
use crate::config::repository::{GateConfig, Needed, RepositoryRules};
use crate::core::model::gate_report::{
    ChangeClass, GateReport, GateRules, GateRun, TestRun, Unready,
};
use crate::core::model::id::Sha;
use crate::core::model::input::RunFact;
use crate::core::model::plural::plural;
use crate::core::model::test_report::TestReport;
use crate::core::model::untrusted::Untrusted;
use crate::core::tables::gate::GateVerdict;
use crate::core::tables::guardrail;
use crate::redact::Redactor;
use crate::workspace::change::{self, TestableChange};
use crate::workspace::fitness::{self, Fitness};
use crate::workspace::pool::Pool;
use crate::workspace::walled_git::WalledGit;
use crate::workspace::{WorkspaceError, import, leaks, leftovers, lfs, seal};

pub(super) async fn run(task: &TaskContext) -> Result<RunFact, TaskError> {
    let pool = task.pool().await?;
    let base = task.base()?;
    let worktree = task.worktree()?;
    let rules = task.rules(&pool, &base).await?;
    let Sealed { base, head } = match seal_head(task, &pool, &worktree, &rules.gate).await? {
        Ok(sealed) => sealed,
        Err(report) => return Ok(report),
    };
    let class = task.brief.as_ref().map(|brief| brief.class).unwrap_or_default();
    let testable = match read_change(&pool, &base, &head, &rules, class).await {
        Ok(testable) => testable,
        Err(WorkspaceError::Unfit { why }) => return Ok(unfit(&base, &head, why)),
        Err(error) => return Err(error.into()),
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

/// The report of commits that the agent must change before a test is worth a run.
fn unfit(base: &Sha, head: &Sha, why: String) -> RunFact {
    let mut report = GateReport::new(base.clone(), head.clone(), GateRules::default());
    report.unready = Some(Unready::Unfit { why: why.into() });
    RunFact::Gated(Box::new(report))
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
    let unfit = |why: String| Some(Unready::Unfit { why: why.into() });
    while let GateVerdict::Run(run) = report.verdict() {
        let (commit, tree) = match run {
            GateRun::Baseline if report.of(run).is_empty() => {
                match baseline::runs(&task.commands, pool, rules, &base).await? {
                    Ok(runs) => report.runs.insert(run, runs),
                    Err(why) => {
                        report.unready = unfit(why);
                        return Ok(());
                    }
                };
                continue;
            }
            GateRun::Baseline => (&base, None),
            GateRun::Red => (&base, Some(testable.red)),
            GateRun::Green => (&head, None),
            GateRun::OldTests => (&head, Some(testable.old_tests)),
            GateRun::Without(index) => (&head, testable.without.get(index).copied()),
        };
        let files: &[Vec<u8>] = if run == GateRun::Red { &testable.test_files } else { &[] };
        let known_tests = files.is_empty().then(|| known_tests(report)).flatten();
        let checkout = Checkout { commit, tree, test_files: files, known_tests };
        let result = match test_run::run(&task.commands, pool, rules, run, &checkout).await? {
            Ok(result) => result,
            Err(why) => {
                report.unready = unfit(why);
                return Ok(());
            }
        };
        task.note(format!("gate: {}: {}", run.summary(), test_run::summary(&result)));
        if run == GateRun::Red && !result.passed() {
            task.report(RunFact::RedSeen { base: base.clone() }).await;
        }
        report.record(run, result);
    }
    report.sandbox = test_run::sandbox_summary(&task.commands, rules)?;
    // The head is the next run's base, unless somebody else pushes.
    let green = report.of(GateRun::Green);
    if matches!(report.verdict(), GateVerdict::Open) && green.last().is_some_and(TestRun::passed) {
        baseline::remember(&task.commands, rules, &head, green);
    }
    Ok(())
}

/// How many tests the base has.
fn known_tests(report: &GateReport) -> Option<usize> {
    report.of(GateRun::Baseline).last()?.named().map(TestReport::len)
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
    let text = |error: WorkspaceError| TaskError::from(error);
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
    let unfit = |why: String| unfit(&start, &start, why);
    let (Some(issue), Some(branch)) =
        (task.run.work.issue().cloned(), task.run.workspace.branch.clone())
    else {
        return Ok(Err(unfit("only an issue's run has a gate".into())));
    };
    let text = |error: WorkspaceError| TaskError::from(error);
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
        error if error.outage().is_some() => Err(error.into()),
        WorkspaceError::Unfit { .. }
        | WorkspaceError::Refused { .. }
        | WorkspaceError::Git { .. } => Ok(text),
        _ => Err(text.into()),
    }
}
