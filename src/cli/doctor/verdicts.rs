//! What `afk doctor` checks about verdicts: whether the token may read every source of CI, and whether the
//! rules of a repository and its workloads can prove that a commit runs.

use std::path::Path;
use std::sync::Arc;

use base64::Engine;
use serde_json::Value;

use super::{CheckResult, Checkup, failed, git, problem};
use crate::cluster;
use crate::config::Config;
use crate::config::repository::{FILE, RepositoryRules};
use crate::core::model::id::Repo;
use crate::deploy::survey::survey;
use crate::github::Api;
use crate::secrets::Secrets;

/// Checks every repository whose rules can be read. Faults of the credential and of the remote are
/// reported elsewhere.
pub(super) async fn check(config: &Config, checkup: &mut Checkup) {
    let secrets = Secrets::new(config.vault.as_ref()).ok().map(Arc::new);
    let api = config
        .github
        .as_ref()
        .zip(secrets)
        .and_then(|(section, secrets)| Api::new(section, secrets).ok());
    for (repo, section) in &config.repos {
        let mut text = from_folder(&section.remote, &section.branch).await;
        if let (None, Some(api)) = (&text, &api) {
            text = from_github(api, repo, &section.branch).await;
        }
        let rules = text.and_then(|text| RepositoryRules::parse(&text).ok());
        // Where the rules of a repository on GitHub can't be read, its CI may well be GitHub's.
        let by_github = match &rules {
            Some(rules) => rules.ci.as_ref().is_some_and(|ci| ci.github),
            None => config.on_github(repo),
        };
        if let Some(api) = api.as_ref().filter(|_| by_github) {
            let rights = rights(api, repo, &section.branch).await;
            checkup.report(&format!("rights for the CI of {repo}"), rights);
        }
        let Some(rules) = rules else { continue };
        for doubt in rules.doubts() {
            let hint = format!("correct {FILE} in {repo} (docs/configuration.md)");
            checkup.report(&format!("proof of {repo}"), Err(problem(doubt, hint)));
        }
        for target in rules.deploy.iter().flat_map(|deploy| &deploy.kubernetes) {
            let subject = format!("workload {} of {repo}", target.summary());
            let client = cluster::client(&config.kubernetes, target.context.as_deref()).await;
            let surveyed = match client {
                Ok(client) => survey(&client, target).await,
                Err(why) => Err(why),
            };
            checkup.report(
                &subject,
                match surveyed {
                    Ok(None) => Ok("its name depends on the commit".into()),
                    Ok(Some(found)) if found.is_empty() => {
                        Ok("a rollout of it can be proved".into())
                    }
                    Ok(Some(found)) => Err(problem(
                        format!(
                            "a rollout of it can't become green as it is: {}",
                            found.join("; ")
                        ),
                        format!("change the workload, or [[deploy.kubernetes]] in {FILE}"),
                    )),
                    Err(why) => Err(problem(why, "check [kubernetes] and its rights")),
                },
            );
        }
    }
}

/// The rules on the branch of a remote on this machine.
async fn from_folder(remote: &str, branch: &str) -> Option<String> {
    let folder = Path::new(remote);
    if !folder.is_dir() {
        return None;
    }
    git(&["show", &format!("refs/heads/{branch}:{FILE}")], Some(folder)).await.ok()
}

/// The rules on a branch on GitHub.
async fn from_github(api: &Api, repo: &Repo, branch: &str) -> Option<String> {
    let path = format!("/repos/{repo}/contents/{FILE}?ref={branch}");
    let found: Value = api.get(&path).await.ok()?;
    let lines = found["content"].as_str()?.split_whitespace().collect::<String>();
    let bytes = base64::engine::general_purpose::STANDARD.decode(lines).ok()?;
    String::from_utf8(bytes).ok()
}

/// Whether the token may read check runs, workflow runs and commit statuses.
async fn rights(api: &Api, repo: &Repo, branch: &str) -> CheckResult {
    let sources = [
        ("Checks", format!("/repos/{repo}/commits/{branch}/check-runs?per_page=1")),
        ("Actions", format!("/repos/{repo}/actions/runs?per_page=1")),
        ("Commit statuses", format!("/repos/{repo}/commits/{branch}/statuses?per_page=1")),
    ];
    let mut refused = Vec::new();
    for (name, path) in sources {
        match api.get::<Value>(&path).await {
            Ok(_) => {}
            Err(error) if matches!(error.status(), Some(403 | 404)) => refused.push(name),
            Err(error) => return Err(failed(&error, "check [github]")),
        }
    }
    let lacks = |name: &str| refused.contains(&name);
    if lacks("Commit statuses") || (lacks("Checks") && lacks("Actions")) {
        let why = format!("the token lacks the right to read: {}", refused.join(", "));
        let hint = "grant it Commit statuses: read, and Checks: read (an App) or Actions: read (a \
                    fine-grained token); until then the other sources decide";
        return Err(problem(why, hint));
    }
    Ok(match refused.first() {
        Some(&"Checks") => "no Checks: read, so that workflow runs stand in for them".into(),
        Some(_) => "no Actions: read, so that a repeated run replaces no older one".into(),
        None => "checks, workflow runs and commit statuses can be read".into(),
    })
}
