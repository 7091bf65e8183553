//! GitHub's checks of a commit: check runs and commit statuses with the suites and workflow runs around
//! them, judged by tables T3 and T4.
//!
//! Where the token may not read check runs, as with a fine-grained personal one, the runs of Actions
//! stand in for them. A red commit comes with the ends of its failing logs.

use serde_json::Value;

use super::CiStatus;
use super::github_checks::{CheckRuns, read};
use super::quiet::QuietClock;
use crate::core::model::id::{Repo, Sha};
use crate::core::model::plural::plural;
use crate::core::model::untrusted::{Untrusted, clean_line};
use crate::core::model::verdict::{Fact, FactKind, Judgement, Verdict};
use crate::core::tables::check::{ACTIONS, Check, CheckIdentity, CheckState, current, state};
use crate::core::tables::commit::{CommitChecks, CommitVerdict, Deadlines, judge};
use crate::core::tables::suite::WorkflowRun;
use crate::error::chain;
use crate::github::{Api, ApiError};

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
    /// How long nothing may happen before the commit is green, in milliseconds.
    pub quiet: i64,
}

/// The place of a commit on its branch, as git reports it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BranchPosition {
    /// Whether the branch contains the commit.
    pub ancestor: bool,
    /// The newest commit of the branch.
    pub head: Sha,
}

/// Reads the checks once and judges them. `age` is the time since the push by afk's clock, and `quiet`
/// has the earlier polls of the same commit.
///
/// # Errors
/// [`ApiError`]; the checks are unknown, and the caller polls again.
pub async fn poll(
    api: &Api,
    watched: &WatchedCommit<'_>,
    sha: &Sha,
    position: &BranchPosition,
    age: i64,
    quiet: &QuietClock,
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
        quiet: quiet.quiet(sha, &checks, api.now()),
        quiet_needed: watched.quiet,
        unread: checks.unread(),
        checks: checks.all.clone(),
        runs: checks.runs.clone(),
        suites: checks.suites.clone(),
        required,
        age,
    };
    let reservation = checks.reservation();
    let decided = |verdict, detail: String| {
        let facts = facts(&checks.all, reservation.as_deref());
        Ok(CiStatus::Decided(Judgement { facts, ..Judgement::new(verdict, detail) }))
    };
    let also = reservation.as_ref().map(|said| format!("; {said}")).unwrap_or_default();
    let list = |names: &[String]| clean_line(&names.join(", "));
    match judge(&seen, watched.deadlines) {
        CommitVerdict::Pending(what) => Ok(CiStatus::Pending(clean_line(&what))),
        CommitVerdict::Superseded => Ok(CiStatus::Superseded),
        CommitVerdict::Lost => {
            decided(Verdict::Lost, format!("{branch} no longer has {}", sha.short()))
        }
        CommitVerdict::NoCi(what) => {
            decided(Verdict::NoCi, format!("{} never came{also}", clean_line(&what)))
        }
        CommitVerdict::Unreadable(what) => {
            decided(Verdict::NoCi, format!("{} can't be seen{also}", clean_line(&what)))
        }
        CommitVerdict::Stuck(names) => {
            decided(Verdict::Stuck, format!("{} never ended{also}", list(&names)))
        }
        CommitVerdict::RedForHuman(names) => {
            decided(Verdict::Stuck, format!("{} needs a person", list(&names)))
        }
        CommitVerdict::Green(count) => {
            decided(Verdict::Green, format!("{} passed{also}", plural(count, "check")))
        }
        CommitVerdict::Red(names) => {
            let log = logs(api, repo, &checks, &names).await;
            let judgement = Judgement::new(Verdict::Red, format!("{} failed", list(&names)));
            let facts = facts(&checks.all, reservation.as_deref());
            Ok(CiStatus::Decided(Judgement { log, facts, ..judgement }))
        }
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

fn facts(checks: &[Check], reservation: Option<&str>) -> Vec<Fact> {
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
    let reservation = reservation.map(|said| Fact::new(FactKind::Reservation, said));
    current(checks).iter().take(FACTS).map(fact).chain(reservation).collect()
}

/// The ends of the failing checks' logs with their names and links; a log that can't be read says so
/// in its place.
async fn logs(api: &Api, repo: &Repo, checks: &CheckRuns, names: &[String]) -> Untrusted {
    let failing = current(&checks.all).into_iter().filter(|check| {
        names.iter().any(|name| name == check.identity.name())
            && state(check, false) == CheckState::Red
    });
    let mut out = String::new();
    // A workflow that can't start has neither a check nor a log.
    let name_of = |run: &WorkflowRun| format!("the workflow {}", run.name);
    for run in checks.runs.iter().filter(|run| names.contains(&name_of(run))).take(LOGS) {
        let conclusion = run.conclusion.as_deref().unwrap_or_default();
        out.push_str(&format!("== {}: {conclusion}\n", name_of(run)));
    }
    for check in failing.take(LOGS) {
        let name = check.identity.name();
        out.push_str(&format!("== {name} {}\n", check.url.as_deref().unwrap_or_default()));
        out.push_str(checks.outputs.get(&check.id).map_or("", String::as_str));
        let jobs = match &check.identity {
            CheckIdentity::Run { app, .. } if app == ACTIONS && checks.from_workflows => {
                let path = format!("/repos/{repo}/actions/runs/{}/jobs?per_page=100", check.id);
                let all = api.list::<Value>(&path, Some("jobs")).await.unwrap_or_default();
                let bad = all.iter().filter(|job| job["conclusion"] == "failure");
                bad.filter_map(|job| job["id"].as_u64()).collect()
            }
            // The id of a check run of Actions is its job's.
            CheckIdentity::Run { app, .. } if app == ACTIONS => vec![check.id],
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
