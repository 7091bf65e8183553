//! The baseline: the tests of the base as it is. A run begins no turn on a base that proves nothing.
//! A green baseline is stored by its commit, so that all runs of a repository share it.

use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::TaskError;
use super::command_context::CommandContext;
use super::test_run::{self, Checkout};
use crate::config::repository::RepositoryRules;
use crate::core::model::digest::Digest;
use crate::core::model::gate_report::{GateReport, GateRules, GateRun, TestRun};
use crate::core::model::id::{Repo, Sha};
use crate::core::model::untrusted::Untrusted;
use crate::core::tables::gate::GateVerdict;
use crate::runtime::Context;
use crate::workspace::pool::Pool;

/// The most baselines that are stored for a repository; the oldest go first.
const KEPT: usize = 20;

/// A stored baseline.
#[derive(Debug, Serialize, Deserialize)]
struct Stored {
    commit: Sha,
    runs: Vec<TestRun>,
}

/// The runs of the test command on the base: the stored ones, or new ones. The inner error is a line
/// about a base that can't be checked out.
pub(super) async fn runs(
    commands: &CommandContext,
    pool: &Pool,
    rules: &RepositoryRules,
    base: &Sha,
) -> Result<Result<Vec<TestRun>, String>, TaskError> {
    let turn = commands.runtime.workspaces.baseline_turn(&commands.repo);
    let turn = if let Ok(turn) = turn.clone().try_lock_owned() {
        turn
    } else {
        commands.show(Some("waiting for the tests of the base")).await;
        turn.lock_owned().await
    };
    if let Some(runs) = stored(commands, rules, base) {
        commands.note(format!("the baseline of {} is known", base.short()));
        return Ok(Ok(runs));
    }
    let mut report = report(rules, base);
    while let GateVerdict::Run(GateRun::Baseline) = report.verdict() {
        let checkout = Checkout { commit: base, tree: None, test_files: &[], known_tests: None };
        let result =
            match test_run::run(commands, pool, rules, GateRun::Baseline, &checkout).await? {
                Ok(result) => result,
                Err(why) => return Ok(Err(why)),
            };
        let line = test_run::summary(&result);
        commands.note(format!("baseline of {}: {line}", base.short()));
        report.record(GateRun::Baseline, result);
    }
    let runs = report.of(GateRun::Baseline).to_vec();
    remember(commands, rules, base, &runs);
    drop(turn);
    Ok(Ok(runs))
}

/// Fetches an idle repository, and tests its newest commit unless that was looked at before. Returns
/// that commit, and why no run can begin on it.
pub(in crate::runtime) async fn look(
    runtime: &Arc<Context>,
    repo: &Repo,
    before: Option<&Sha>,
) -> Result<Option<(Sha, Option<String>)>, TaskError> {
    let commands = CommandContext::of_upstream(runtime, repo);
    let pool = commands.pool().await?;
    let head = pool.base().fetch().await?;
    if before == Some(&head) {
        return Ok(None);
    }
    let rules = commands.rules(&pool, &head).await?;
    let unfit = unfit(&commands, &pool, &rules, &head).await?;
    commands.forget_command_home()?;
    Ok(Some((head, unfit.map(|why| why.clean()))))
}

/// The reason for which no test can prove anything on the base; none if one can.
pub(super) async fn unfit(
    commands: &CommandContext,
    pool: &Pool,
    rules: &RepositoryRules,
    base: &Sha,
) -> Result<Option<Untrusted>, TaskError> {
    let mut report = report(rules, base);
    match runs(commands, pool, rules, base).await? {
        Ok(runs) => report.runs.insert(GateRun::Baseline, runs),
        Err(why) => return Ok(Some(why.into())),
    };
    Ok(match report.verdict() {
        GateVerdict::Broken(why) => Some(why),
        _ => None,
    })
}

/// A report that asks for the baseline alone.
fn report(rules: &RepositoryRules, base: &Sha) -> GateReport {
    let limits = GateRules { reruns: rules.gate.reruns, ..GateRules::default() };
    GateReport::new(base.clone(), base.clone(), limits)
}

/// Stores runs that passed at last. A red base may be red for a reason that goes away.
pub(super) fn remember(
    commands: &CommandContext,
    rules: &RepositoryRules,
    commit: &Sha,
    runs: &[TestRun],
) {
    if !runs.last().is_some_and(TestRun::passed) {
        return;
    }
    let stored = Stored { commit: commit.clone(), runs: runs.to_vec() };
    let path = path(commands, rules, commit);
    let written = serde_json::to_vec(&stored).map_err(std::io::Error::other).and_then(|text| {
        let folder = path.parent().unwrap_or(&path);
        std::fs::create_dir_all(folder)?;
        drop_oldest(folder)?;
        std::fs::write(&path, text)
    });
    // Without it, the next run tests the base again.
    if let Err(error) = written {
        tracing::warn!(path = %path.display(), %error, "the baseline can't be stored");
    }
}

fn drop_oldest(folder: &std::path::Path) -> std::io::Result<()> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        all.push((entry.metadata()?.modified()?, entry.path()));
    }
    all.sort();
    let spare = (all.len() + 1).saturating_sub(KEPT);
    all.iter().take(spare).try_for_each(|(_, path)| std::fs::remove_file(path))
}

fn stored(
    commands: &CommandContext,
    rules: &RepositoryRules,
    commit: &Sha,
) -> Option<Vec<TestRun>> {
    let text = std::fs::read(path(commands, rules, commit)).ok()?;
    let stored: Stored = serde_json::from_slice(&text).ok()?;
    (stored.commit == *commit).then_some(stored.runs)
}

/// Where the baseline of a commit is stored. The name changes with everything that changes a run.
fn path(commands: &CommandContext, rules: &RepositoryRules, commit: &Sha) -> PathBuf {
    let repo = &commands.repo.to_string();
    let network = [u8::from(rules.gate.network)];
    let report = format!("{:?} {:?} {:?}", rules.gate.report, rules.setup, rules.env);
    let key = Digest::of(&[
        repo.as_bytes(),
        commit.0.as_bytes(),
        rules.test.as_bytes(),
        report.as_bytes(),
        &network,
    ]);
    let folder = commands.runtime.workspaces.folder(&commands.repo).join("baselines");
    folder.join(format!("{key}.json"))
}
