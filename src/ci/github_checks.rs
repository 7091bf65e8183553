//! Reads everything that GitHub reports about the checks of a commit: suites, workflow runs, check runs and
//! commit statuses. A source that the token may not read is noted, and the others decide.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::core::model::id::{Repo, Sha};
use crate::core::model::time::Timestamp;
use crate::core::tables::check::{ACTIONS, Check, CheckIdentity};
use crate::core::tables::commit::Unread;
use crate::core::tables::suite::{Suite, WorkflowRun, replaced};
use crate::github::{Api, ApiError, time};

#[derive(Debug, Clone, Deserialize)]
struct CheckRunDto {
    id: u64,
    name: String,
    status: String,
    #[serde(default)]
    conclusion: Option<String>,
    #[serde(default)]
    html_url: Option<String>,
    #[serde(default)]
    check_suite: Option<Value>,
    #[serde(default)]
    app: Option<Value>,
    #[serde(default)]
    output: Option<Value>,
    #[serde(default)]
    started_at: Option<String>,
    #[serde(default)]
    completed_at: Option<String>,
}

#[derive(Debug, Clone, Deserialize)]
struct SuiteDto {
    id: u64,
    #[serde(default)]
    status: Option<String>,
    #[serde(default)]
    conclusion: Option<String>,
    #[serde(default)]
    app: Option<Value>,
    #[serde(default)]
    latest_check_runs_count: u64,
    #[serde(default)]
    created_at: Option<String>,
}

#[derive(Debug, Clone, Deserialize)]
struct StatusDto {
    id: u64,
    context: String,
    state: String,
    #[serde(default)]
    target_url: Option<String>,
    #[serde(default)]
    description: Option<String>,
    #[serde(default)]
    created_at: Option<String>,
}

#[derive(Debug, Clone, Deserialize)]
struct WorkflowDto {
    id: u64,
    #[serde(default)]
    workflow_id: u64,
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    event: String,
    #[serde(default)]
    head_branch: Option<String>,
    status: String,
    #[serde(default)]
    conclusion: Option<String>,
    #[serde(default)]
    html_url: Option<String>,
    #[serde(default)]
    check_suite_id: Option<u64>,
    #[serde(default)]
    created_at: Option<String>,
    #[serde(default)]
    run_started_at: Option<String>,
    #[serde(default)]
    updated_at: Option<String>,
}

/// The checks of a commit at one poll.
#[derive(Debug, Default)]
pub(super) struct CheckRuns {
    pub all: Vec<Check>,
    pub runs: Vec<WorkflowRun>,
    pub suites: Vec<Suite>,
    /// When a suite appeared or a check ended at last, by GitHub's clock.
    pub newest: Timestamp,
    /// The check's own summary, by its id.
    pub outputs: BTreeMap<u64, String>,
    /// Whether runs of Actions stand in for check runs, which the token may not read.
    pub from_workflows: bool,
    /// The sources that the token may not read.
    refused: Vec<Source>,
}

/// A source of checks, by the name of the permission that reads it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    Checks,
    Actions,
    Statuses,
}

impl CheckRuns {
    /// How much of the commit's checks the token may not read. Workflow runs alone are no source:
    /// where the check runs can be read, they have the same jobs.
    pub(super) fn unread(&self) -> Unread {
        let refused = |source| self.refused.contains(&source);
        match (refused(Source::Checks), refused(Source::Actions), refused(Source::Statuses)) {
            (true, true, true) => Unread::All,
            (true, true, false) | (_, _, true) => Unread::Some,
            _ => Unread::Nothing,
        }
    }

    /// The sources that can't be read, as a reservation about the verdict.
    pub(super) fn reservation(&self) -> Option<String> {
        let refused = |source| self.refused.contains(&source);
        let name = |source| match source {
            Source::Checks => "Checks",
            Source::Actions => "Actions",
            Source::Statuses => "Commit statuses",
        };
        let matters = |source: &&Source| match source {
            Source::Statuses => true,
            Source::Checks | Source::Actions => refused(Source::Checks) && refused(Source::Actions),
        };
        let names: Vec<&str> =
            self.refused.iter().filter(matters).map(|source| name(*source)).collect();
        (!names.is_empty()).then(|| {
            format!("the token lacks the right to read {} (see `afk doctor`)", names.join(", "))
        })
    }

    fn note_time(&mut self, text: Option<&str>) -> Option<i64> {
        let at = time(text?);
        self.newest = self.newest.max(at);
        Some(at.0)
    }
}

/// Lists a source; none where the token may not read it, or the repository doesn't have it.
async fn list<T: DeserializeOwned>(
    api: &Api,
    path: &str,
    key: Option<&str>,
) -> Result<Option<Vec<T>>, ApiError> {
    match api.list(path, key).await {
        Ok(all) => Ok(Some(all)),
        Err(error) if matches!(error.status(), Some(403 | 404)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Reads the suites and workflow runs, then the check runs, then the commit statuses. In this order a
/// suite that is completed has all of its checks in the answer that follows.
pub(super) async fn read(api: &Api, repo: &Repo, sha: &Sha) -> Result<CheckRuns, ApiError> {
    let at = format!("/repos/{repo}/commits/{sha}");
    let runs = format!("/repos/{repo}/actions/runs?head_sha={sha}&per_page=100");
    let runs = list(api, &runs, Some("workflow_runs")).await?;
    let suites = format!("{at}/check-suites?per_page=100");
    let suites = list(api, &suites, Some("check_suites")).await?;
    let checks = format!("{at}/check-runs?filter=all&per_page=100");
    let checks = list(api, &checks, Some("check_runs")).await?;
    let now = api.now();
    let statuses = list(api, &format!("{at}/statuses?per_page=100"), None).await?;
    Ok(CheckAnswers { runs, suites, checks, statuses }.check_runs(now))
}

/// GitHub's answers about a commit; none from a source that the token may not read, or that the
/// repository doesn't have.
#[derive(Debug, Default)]
#[cfg_attr(any(test, fuzzing), derive(Deserialize))]
pub(super) struct CheckAnswers {
    runs: Option<Vec<WorkflowDto>>,
    suites: Option<Vec<SuiteDto>>,
    checks: Option<Vec<CheckRunDto>>,
    statuses: Option<Vec<StatusDto>>,
}

impl CheckAnswers {
    /// The checks as the tables take them; `now` is the time on GitHub's clock when the checks were
    /// read.
    pub(super) fn check_runs(self, now: Option<Timestamp>) -> CheckRuns {
        let mut found = CheckRuns::default();
        let runs_known = self.runs.is_some();
        if !runs_known {
            found.refused.push(Source::Actions);
        }
        let runs = self.runs.unwrap_or_default();
        for run in &runs {
            found.note_time(run.created_at.as_deref());
            found.note_time(run.run_started_at.as_deref());
        }
        found.runs = runs.iter().map(run_of).collect();
        if let Some(checks) = self.checks {
            for suite in self.suites.unwrap_or_default() {
                // An empty suite is no sign that a check comes.
                if checks.iter().any(|check| suite_of(check) == suite.id) {
                    found.note_time(suite.created_at.as_deref());
                }
                let created = time(suite.created_at.as_deref().unwrap_or_default());
                found.suites.push(Suite {
                    unclaimed: now.filter(|_| runs_known).map(|now| now.since(created)),
                    id: suite.id,
                    app: slug(suite.app.as_ref()),
                    // A suite without a status is as complete as its checks.
                    status: suite.status.unwrap_or_else(|| "completed".into()),
                    conclusion: suite.conclusion,
                    checks: suite.latest_check_runs_count,
                });
            }
            for check in checks {
                let texts =
                    ["title", "summary", "text"].map(|key| text(check.output.as_ref(), key));
                found.outputs.insert(check.id, texts.join("\n").trim().to_owned());
                let began = check.started_at.as_deref().map(|at| time(at).0);
                let ended = found.note_time(check.completed_at.as_deref());
                found.all.push(check_of(check, began, ended));
            }
        } else {
            // A fine-grained personal token may not read check runs.
            found.refused.push(Source::Checks);
            found.from_workflows = true;
            for run in runs.iter().filter(|run| run.status == "completed") {
                found.note_time(run.updated_at.as_deref());
            }
            found.all = runs.into_iter().map(check_of_run).collect();
        }
        // Neither the proof nor the log for the agent names a check of a run that a newer one replaced.
        let replaced = replaced(&found.runs);
        found.all.retain(|check| !replaced.contains(&check.suite()));
        if self.statuses.is_none() {
            found.refused.push(Source::Statuses);
        }
        for status in self.statuses.unwrap_or_default() {
            found.note_time(status.created_at.as_deref());
            found.outputs.insert(status.id, status.description.unwrap_or_default());
            found.all.push(Check {
                identity: CheckIdentity::Status { context: status.context },
                id: status.id,
                status: status.state,
                conclusion: None,
                began: None,
                ended: None,
                url: status.target_url,
            });
        }
        found
    }
}

/// A text below `key`, or nothing.
fn text(value: Option<&Value>, key: &str) -> String {
    value.and_then(|value| value[key].as_str()).unwrap_or_default().to_owned()
}

fn slug(app: Option<&Value>) -> String {
    text(app, "slug")
}

fn suite_of(check: &CheckRunDto) -> u64 {
    check.check_suite.as_ref().and_then(|suite| suite["id"].as_u64()).unwrap_or_default()
}

fn check_of(check: CheckRunDto, began: Option<i64>, ended: Option<i64>) -> Check {
    let suite = suite_of(&check);
    Check {
        identity: CheckIdentity::Run { app: slug(check.app.as_ref()), suite, name: check.name },
        id: check.id,
        status: check.status,
        conclusion: check.conclusion,
        began,
        ended,
        url: check.html_url,
    }
}

fn run_of(run: &WorkflowDto) -> WorkflowRun {
    WorkflowRun {
        id: run.id,
        workflow: run.workflow_id,
        name: run.name.clone().unwrap_or_default(),
        event: run.event.clone(),
        branch: run.head_branch.clone().unwrap_or_default(),
        suite: run.check_suite_id.unwrap_or_default(),
        status: run.status.clone(),
        conclusion: run.conclusion.clone(),
    }
}

fn check_of_run(run: WorkflowDto) -> Check {
    let suite = run.check_suite_id.unwrap_or_default();
    let name = run.name.unwrap_or_default();
    Check {
        identity: CheckIdentity::Run { app: ACTIONS.into(), suite, name },
        id: run.id,
        status: run.status,
        conclusion: run.conclusion,
        began: None,
        ended: None,
        url: run.html_url,
    }
}
