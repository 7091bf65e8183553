//! GitHub's checks of a commit: tables T3 and T4.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use crate::core::model::id::{Repo, Sha};
use crate::core::model::time::Timestamp;
use crate::core::model::untrusted::{Untrusted, clean_line};
use crate::core::model::verdict::{Fact, FactKind, Judgement, Verdict};
use crate::core::tables::check::{Check, CheckIdentity, CheckState, newest, state};
use crate::core::tables::commit::{CommitChecks, CommitVerdict, Deadlines, judge};
use crate::github::{Api, ApiError, time};

/// Failing checks whose logs are kept.
const LOGS: usize = 5;
/// The end of each, in bytes.
const TAIL: usize = 4 * 1024;
/// Facts that are kept of a green commit.
const FACTS: usize = 20;

/// What is watched.
#[derive(Debug, Clone)]
pub struct Watched<'a> {
    /// Where.
    pub repo: &'a Repo,
    /// The branch that was pushed to.
    pub branch: &'a str,
    /// Names that must pass, beside those that the branch's rules require.
    pub required: &'a [String],
    /// Our own deadlines.
    pub deadlines: Deadlines,
    /// When the commit was pushed.
    pub pushed: Timestamp,
}

/// Where the commit stands on its branch, as git says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// The branch has it.
    pub ancestor: bool,
    /// The branch's head.
    pub head: Sha,
}

/// What one look gave.
#[derive(Debug)]
pub enum Look {
    /// Not decided, with what is waited for.
    Pending(String),
    /// Cut off because the branch moved on: its head, which has the commit in it, decides.
    Superseded,
    /// Decided.
    Decided(Judgement),
}

#[derive(Debug, Clone, Deserialize)]
struct RunDto {
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
struct Suite {
    id: u64,
    #[serde(default)]
    created_at: Option<String>,
}

#[derive(Debug, Clone, Deserialize)]
struct Status {
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
struct Workflow {
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

/// What was read of a commit.
struct Read {
    checks: Vec<Check>,
    /// The newest suite or status came then.
    newest: Timestamp,
    /// What a check says of itself.
    outputs: BTreeMap<u64, String>,
    /// Checks are workflow runs: the token may not read checks.
    workflows: bool,
}

fn text(value: Option<&Value>, key: &str) -> String {
    value.and_then(|value| value[key].as_str()).unwrap_or_default().to_owned()
}

/// Looks once. An error is UNKNOWN: what was known stays.
///
/// # Errors
/// [`ApiError`].
pub async fn look(
    api: &Api,
    watched: &Watched<'_>,
    sha: &Sha,
    standing: &Standing,
    now: Timestamp,
) -> Result<Look, ApiError> {
    let Watched { repo, branch, .. } = watched;
    let read = read(api, repo, sha).await?;
    let mut required = watched.required.to_vec();
    required.extend(rules(api, repo, branch).await?);
    required.sort();
    required.dedup();
    let seen = CommitChecks {
        ancestor: standing.ancestor,
        moved: standing.head != *sha,
        checks: read.checks.clone(),
        required,
        age: now.since(watched.pushed),
        quiet: now.since(read.newest),
    };
    let decided = |verdict, detail: String| {
        Ok(Look::Decided(Judgement {
            facts: facts(&read.checks),
            ..Judgement::new(verdict, detail)
        }))
    };
    let list = |names: &[String]| clean_line(&names.join(", "));
    match judge(&seen, watched.deadlines) {
        CommitVerdict::Pending(what) => Ok(Look::Pending(clean_line(&what))),
        CommitVerdict::Superseded => Ok(Look::Superseded),
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
        CommitVerdict::Green(count) => decided(Verdict::Green, format!("{count} checks passed")),
        CommitVerdict::Red(names) => {
            let log = logs(api, repo, &read, &names).await;
            let judgement = Judgement::new(Verdict::Red, format!("{} failed", list(&names)));
            Ok(Look::Decided(Judgement { log, facts: facts(&read.checks), ..judgement }))
        }
    }
}

async fn read(api: &Api, repo: &Repo, sha: &Sha) -> Result<Read, ApiError> {
    let at = format!("/repos/{repo}/commits/{sha}");
    let runs = format!("/repos/{repo}/actions/runs?head_sha={sha}&per_page=100");
    let workflows = match api.list::<Workflow>(&runs, Some("workflow_runs")).await {
        Ok(all) => all,
        // No Actions here, or the token may not see them: checks stand without their workflow.
        Err(error) if matches!(error.status(), Some(403 | 404)) => Vec::new(),
        Err(error) => return Err(error),
    };
    let mut newest = Timestamp(0);
    let mut outputs = BTreeMap::new();
    let path = format!("{at}/check-runs?filter=all&per_page=100");
    let (mut checks, by_workflow) = match api.list::<RunDto>(&path, Some("check_runs")).await {
        Ok(all) => {
            let suites = format!("{at}/check-suites?per_page=100");
            for suite in api.list::<Suite>(&suites, Some("check_suites")).await? {
                // One that holds no run is no sign that one comes.
                let used = |run: &RunDto| suite_of(run) == suite.id;
                if all.iter().any(used) {
                    newest = newest.max(time(suite.created_at.as_deref().unwrap_or_default()));
                }
            }
            for run in &all {
                let output = run.output.as_ref();
                let said: Vec<String> =
                    ["title", "summary", "text"].iter().map(|key| text(output, key)).collect();
                outputs.insert(run.id, said.join("\n").trim().to_owned());
            }
            (all.into_iter().map(|run| of_run(run, &workflows)).collect(), false)
        }
        // Fine-grained personal tokens have no right to read checks.
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
    for status in api.list::<Status>(&statuses, None).await? {
        newest = newest.max(time(status.created_at.as_deref().unwrap_or_default()));
        outputs.insert(status.id, status.description.unwrap_or_default());
        checks.push(Check {
            identity: CheckIdentity::Status { context: status.context },
            id: status.id,
            suite: 0,
            status: status.state,
            conclusion: None,
            url: status.target_url,
        });
    }
    Ok(Read { checks, newest, outputs, workflows: by_workflow })
}

fn suite_of(run: &RunDto) -> u64 {
    run.check_suite.as_ref().and_then(|suite| suite["id"].as_u64()).unwrap_or_default()
}

fn of_run(run: RunDto, workflows: &[Workflow]) -> Check {
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

fn of_workflow(run: Workflow) -> Check {
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

/// Names that the branch's rules require.
async fn rules(api: &Api, repo: &Repo, branch: &str) -> Result<Vec<String>, ApiError> {
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
        // Not on this plan, or an older server.
        Err(error) if matches!(error.status(), Some(403 | 404)) => {}
        Err(error) => return Err(error),
    }
    match api.get::<Value>(&format!("/repos/{repo}/branches/{branch}")).await {
        Ok(told) => {
            let contexts = told["protection"]["required_status_checks"]["contexts"].as_array();
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

/// The ends of the failing checks' logs, with their names and links. What can't be had is said.
async fn logs(api: &Api, repo: &Repo, read: &Read, names: &[String]) -> Untrusted {
    let failing = newest(&read.checks).into_iter().filter(|check| {
        names.iter().any(|name| name == check.identity.name())
            && state(check, false) == CheckState::Red
    });
    let mut out = String::new();
    for check in failing.take(LOGS) {
        let name = check.identity.name();
        out.push_str(&format!("== {name} {}\n", check.url.as_deref().unwrap_or_default()));
        out.push_str(read.outputs.get(&check.id).map_or("", String::as_str));
        let jobs = match &check.identity {
            CheckIdentity::Run { app, .. } if app == "github-actions" && read.workflows => {
                let path = format!("/repos/{repo}/actions/runs/{}/jobs?per_page=100", check.id);
                let all = api.list::<Value>(&path, Some("jobs")).await.unwrap_or_default();
                let bad = all.iter().filter(|job| job["conclusion"] == "failure");
                bad.filter_map(|job| job["id"].as_u64()).collect()
            }
            // A check run of Actions has its job's number.
            CheckIdentity::Run { app, .. } if app == "github-actions" => vec![check.id],
            _ => Vec::new(),
        };
        for job in jobs.into_iter().take(LOGS) {
            match api.text(&format!("/repos/{repo}/actions/jobs/{job}/logs")).await {
                Ok(log) => out.push_str(Untrusted::new(log).tail(TAIL).as_received()),
                Err(error) => out.push_str(&format!("\n(its log can't be read: {error})")),
            }
        }
        out.push('\n');
    }
    out.into()
}
