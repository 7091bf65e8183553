//! GitHub's checks of a commit: check runs and commit statuses, judged by tables T3 and T4.
//!
//! Where the token may not read check runs, as with a fine-grained personal one, the runs of Actions
//! stand in for them. A red commit comes with the ends of its failing logs.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use super::CiStatus;
use crate::core::model::id::{Repo, Sha};
use crate::core::model::plural::plural;
use crate::core::model::time::Timestamp;
use crate::core::model::untrusted::{Untrusted, clean_line};
use crate::core::model::verdict::{Fact, FactKind, Judgement, Verdict};
use crate::core::tables::check::{Check, CheckIdentity, CheckState, newest, state};
use crate::core::tables::commit::{CommitChecks, CommitVerdict, Deadlines, judge};
use crate::error::chain;
use crate::github::{Api, ApiError, time};

/// The failing checks whose logs are kept.
const LOGS: usize = 5;
/// The end of each log that is kept, in bytes.
const TAIL: usize = 4 * 1024;
/// The checks that become facts of the proof chain.
const FACTS: usize = 20;

/// A commit whose checks are awaited.
#[derive(Debug, Clone)]
pub struct WatchedCommit<'a> {
    /// The repository on GitHub.
    pub repo: &'a Repo,
    /// The branch that was pushed to.
    pub branch: &'a str,
    /// The names of checks that must pass, beside those that the branch's rules require.
    pub required: &'a [String],
    /// How long checks may take to appear and to end.
    pub deadlines: Deadlines,
    /// When the commit was pushed.
    pub pushed: Timestamp,
}

/// The place of a commit on its branch, as git reports it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BranchPosition {
    /// Whether the branch contains the commit.
    pub ancestor: bool,
    /// The newest commit of the branch.
    pub head: Sha,
}

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
}

#[derive(Debug, Clone, Deserialize)]
struct SuiteDto {
    id: u64,
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
    name: Option<String>,
    #[serde(default)]
    event: String,
    status: String,
    #[serde(default)]
    conclusion: Option<String>,
    #[serde(default)]
    html_url: Option<String>,
    #[serde(default)]
    check_suite_id: Option<u64>,
    #[serde(default)]
    created_at: Option<String>,
}

/// The checks of a commit at one poll.
struct CheckRuns {
    all: Vec<Check>,
    /// When the newest suite or status came.
    newest: Timestamp,
    /// The check's own summary, by its id.
    outputs: BTreeMap<u64, String>,
    /// Whether runs of Actions stand in for check runs, which the token may not read.
    from_workflows: bool,
}

/// A text below `key`, or nothing.
fn text(value: Option<&Value>, key: &str) -> String {
    value.and_then(|value| value[key].as_str()).unwrap_or_default().to_owned()
}

/// Reads the checks once and judges them.
///
/// # Errors
/// [`ApiError`]; the checks are unknown, and the caller polls again.
pub async fn poll(
    api: &Api,
    watched: &WatchedCommit<'_>,
    sha: &Sha,
    position: &BranchPosition,
    now: Timestamp,
) -> Result<CiStatus, ApiError> {
    let WatchedCommit { repo, branch, .. } = watched;
    let checks = read(api, repo, sha).await?;
    let mut required = watched.required.to_vec();
    required.extend(required_checks(api, repo, branch).await?);
    required.sort();
    required.dedup();
    let seen = CommitChecks {
        ancestor: position.ancestor,
        moved: position.head != *sha,
        checks: checks.all.clone(),
        required,
        age: now.since(watched.pushed),
        quiet: now.since(checks.newest),
    };
    let decided = |verdict, detail: String| {
        Ok(CiStatus::Decided(Judgement {
            facts: facts(&checks.all),
            ..Judgement::new(verdict, detail)
        }))
    };
    let list = |names: &[String]| clean_line(&names.join(", "));
    match judge(&seen, watched.deadlines) {
        CommitVerdict::Pending(what) => Ok(CiStatus::Pending(clean_line(&what))),
        CommitVerdict::Superseded => Ok(CiStatus::Superseded),
        CommitVerdict::Lost => {
            decided(Verdict::Lost, format!("{branch} no longer has {}", sha.short()))
        }
        CommitVerdict::NoCi(what) => {
            decided(Verdict::NoCi, format!("{} never came", clean_line(&what)))
        }
        CommitVerdict::Stuck(names) => {
            decided(Verdict::Stuck, format!("{} never ended", list(&names)))
        }
        CommitVerdict::RedForHuman(names) => {
            decided(Verdict::Stuck, format!("{} needs a person", list(&names)))
        }
        CommitVerdict::Green(count) => {
            decided(Verdict::Green, format!("{} passed", plural(count, "check")))
        }
        CommitVerdict::Red(names) => {
            let log = logs(api, repo, &checks, &names).await;
            let judgement = Judgement::new(Verdict::Red, format!("{} failed", list(&names)));
            Ok(CiStatus::Decided(Judgement { log, facts: facts(&checks.all), ..judgement }))
        }
    }
}

/// Reads the check runs, or the runs of Actions in their place, and the commit statuses.
async fn read(api: &Api, repo: &Repo, sha: &Sha) -> Result<CheckRuns, ApiError> {
    let at = format!("/repos/{repo}/commits/{sha}");
    let runs = format!("/repos/{repo}/actions/runs?head_sha={sha}&per_page=100");
    let workflows = match api.list::<WorkflowDto>(&runs, Some("workflow_runs")).await {
        Ok(all) => all,
        // The repository has no Actions, or the token may not read them: checks stand without their
        // workflow.
        Err(error) if matches!(error.status(), Some(403 | 404)) => Vec::new(),
        Err(error) => return Err(error),
    };
    let mut newest = Timestamp(0);
    let mut outputs = BTreeMap::new();
    let path = format!("{at}/check-runs?filter=all&per_page=100");
    let (mut all, from_workflows) = match api.list::<CheckRunDto>(&path, Some("check_runs")).await {
        Ok(runs) => {
            let suites = format!("{at}/check-suites?per_page=100");
            for suite in api.list::<SuiteDto>(&suites, Some("check_suites")).await? {
                // An empty suite is no sign that a run comes.
                let used = |run: &CheckRunDto| suite_of(run) == suite.id;
                if runs.iter().any(used) {
                    newest = newest.max(time(suite.created_at.as_deref().unwrap_or_default()));
                }
            }
            for run in &runs {
                let output = run.output.as_ref();
                let parts: Vec<String> =
                    ["title", "summary", "text"].iter().map(|key| text(output, key)).collect();
                outputs.insert(run.id, parts.join("\n").trim().to_owned());
            }
            (runs.into_iter().map(|run| of_run(run, &workflows)).collect(), false)
        }
        // A fine-grained personal token may not read check runs.
        Err(error) if matches!(error.status(), Some(403 | 404)) => {
            newest = workflows
                .iter()
                .map(|w| time(w.created_at.as_deref().unwrap_or_default()))
                .max()
                .unwrap_or(newest);
            (workflows.into_iter().map(of_workflow).collect::<Vec<_>>(), true)
        }
        Err(error) => return Err(error),
    };
    let statuses = format!("{at}/statuses?per_page=100");
    for status in api.list::<StatusDto>(&statuses, None).await? {
        newest = newest.max(time(status.created_at.as_deref().unwrap_or_default()));
        outputs.insert(status.id, status.description.unwrap_or_default());
        all.push(Check {
            identity: CheckIdentity::Status { context: status.context },
            id: status.id,
            suite: 0,
            status: status.state,
            conclusion: None,
            url: status.target_url,
        });
    }
    Ok(CheckRuns { all, newest, outputs, from_workflows })
}

fn suite_of(run: &CheckRunDto) -> u64 {
    run.check_suite.as_ref().and_then(|suite| suite["id"].as_u64()).unwrap_or_default()
}

fn of_run(run: CheckRunDto, workflows: &[WorkflowDto]) -> Check {
    let suite = suite_of(&run);
    let workflow = workflows.iter().find(|w| w.check_suite_id == Some(suite));
    Check {
        identity: CheckIdentity::Run {
            app: text(run.app.as_ref(), "slug"),
            workflow: workflow.and_then(|w| w.name.clone()).unwrap_or_default(),
            event: workflow.map(|w| w.event.clone()).unwrap_or_default(),
            name: run.name,
        },
        id: run.id,
        suite,
        status: run.status,
        conclusion: run.conclusion,
        url: run.html_url,
    }
}

fn of_workflow(run: WorkflowDto) -> Check {
    let name = run.name.unwrap_or_default();
    Check {
        identity: CheckIdentity::Run {
            app: "github-actions".into(),
            workflow: name.clone(),
            event: run.event,
            name,
        },
        id: run.id,
        suite: run.check_suite_id.unwrap_or_default(),
        status: run.status,
        conclusion: run.conclusion,
        url: run.html_url,
    }
}

/// The names of checks that the branch's rules and its protection require.
async fn required_checks(api: &Api, repo: &Repo, branch: &str) -> Result<Vec<String>, ApiError> {
    let mut names = Vec::new();
    match api
        .list::<Value>(&format!("/repos/{repo}/rules/branches/{branch}?per_page=100"), None)
        .await
    {
        Ok(rules) => {
            for rule in rules.iter().filter(|rule| rule["type"] == "required_status_checks") {
                let checks = rule["parameters"]["required_status_checks"].as_array();
                let contexts = checks.into_iter().flatten();
                names.extend(contexts.filter_map(|c| c["context"].as_str().map(str::to_owned)));
            }
        }
        // The plan has no rules, or the server is older than they are.
        Err(error) if matches!(error.status(), Some(403 | 404)) => {}
        Err(error) => return Err(error),
    }
    match api.get::<Value>(&format!("/repos/{repo}/branches/{branch}")).await {
        Ok(found) => {
            let contexts = found["protection"]["required_status_checks"]["contexts"].as_array();
            let contexts = contexts.into_iter().flatten();
            names.extend(contexts.filter_map(|context| context.as_str().map(str::to_owned)));
        }
        Err(error) if matches!(error.status(), Some(403 | 404)) => {}
        Err(error) => return Err(error),
    }
    Ok(names)
}

fn facts(checks: &[Check]) -> Vec<Fact> {
    let fact = |check: &&Check| Fact {
        kind: FactKind::CiRun,
        value: format!(
            "{}: {}",
            check.identity.name(),
            check.conclusion.as_deref().unwrap_or(&check.status)
        )
        .into(),
        link: check.url.as_deref().map(Into::into),
    };
    newest(checks).iter().take(FACTS).map(fact).collect()
}

/// The ends of the failing checks' logs with their names and links; a log that can't be read says so
/// in its place.
async fn logs(api: &Api, repo: &Repo, checks: &CheckRuns, names: &[String]) -> Untrusted {
    let failing = newest(&checks.all).into_iter().filter(|check| {
        names.iter().any(|name| name == check.identity.name())
            && state(check, false) == CheckState::Red
    });
    let mut out = String::new();
    for check in failing.take(LOGS) {
        let name = check.identity.name();
        out.push_str(&format!("== {name} {}\n", check.url.as_deref().unwrap_or_default()));
        out.push_str(checks.outputs.get(&check.id).map_or("", String::as_str));
        let jobs = match &check.identity {
            CheckIdentity::Run { app, .. } if app == "github-actions" && checks.from_workflows => {
                let path = format!("/repos/{repo}/actions/runs/{}/jobs?per_page=100", check.id);
                let all = api.list::<Value>(&path, Some("jobs")).await.unwrap_or_default();
                let bad = all.iter().filter(|job| job["conclusion"] == "failure");
                bad.filter_map(|job| job["id"].as_u64()).collect()
            }
            // The id of a check run of Actions is its job's.
            CheckIdentity::Run { app, .. } if app == "github-actions" => vec![check.id],
            _ => Vec::new(),
        };
        for job in jobs.into_iter().take(LOGS) {
            match api.text(&format!("/repos/{repo}/actions/jobs/{job}/logs")).await {
                Ok(log) => out.push_str(Untrusted::new(log).tail(TAIL).as_received()),
                Err(error) => {
                    out.push_str(&format!("\n(its log can't be read: {})", chain(&error)));
                }
            }
        }
        out.push('\n');
    }
    out.into()
}
