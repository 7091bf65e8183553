//! The check of a repository: its remote, its branch, its `.afk.toml`, and whether a run can begin there and
//! land. The test command runs once in a clean checkout of the branch, as the gate will run it.

use std::path::Path;
use std::time::Duration;

use super::{CheckResult, Checkup, DoctorArgs, Problem, git, problem};
use crate::cli::git_call::git_by;
use crate::cli::push_target;
use crate::cli::trial::{Trial, TrialCheckout, TrialCommand, TrialSource};
use crate::config::Config;
use crate::config::repos::RepositoryConfig;
use crate::config::repository::{FILE, RepositoryRules};
use crate::config::setup::is_reference;
use crate::core::model::id::Repo;
use crate::error::chain;
use crate::workspace::lfs;

/// Checks a repository, and tries its test command.
pub(super) async fn check(
    config: &Config,
    repo: &Repo,
    state: &Path,
    args: &DoctorArgs,
    checkup: &mut Checkup,
) {
    let subject = format!("repository {repo}");
    let Some(section) = config.repos.get(repo) else {
        let hint = format!("write a [repos.\"{repo}\"]");
        return checkup.report(&subject, Err(problem("not configured", hint)));
    };
    let short = match head(section, repo).await {
        Ok(short) => short,
        Err(problem) => return checkup.report(&subject, Err(problem)),
    };
    let at = format!("{} at {short}", section.branch);
    let obstacle = push_target::obstacle(&section.remote, &section.branch, repo).await;
    let is_blocked = obstacle.is_some();
    if let Some(obstacle) = obstacle {
        checkup.report(&format!("pushes to {repo}"), Err(problem(obstacle.why, obstacle.hint)));
    }
    let source = TrialSource::Remote {
        address: section.remote.clone(),
        branch: section.branch.clone(),
        ssh_command: section.ssh_command(),
    };
    let checkout = match TrialCheckout::new(state, source).await {
        Ok(checkout) => checkout,
        Err(why) => return checkup.report(&subject, Ok(format!("{at}; its files: {why}"))),
    };
    let rules = match rules(&checkout, &section.branch, &at).await {
        Ok(rules) => rules,
        Err(problem) => return checkup.report(&subject, Err(problem)),
    };
    checkup.report(&subject, Ok(format!("{at}, tested by `{}`", rules.test)));
    // GitHub answers to afk's own credentials; its answer to those of the user would say nothing.
    if !is_blocked
        && !config.on_github(repo)
        && let Some(refused) = refused_push(section, &checkout).await
    {
        checkup.report(&format!("pushes to {repo}"), refused);
    }
    let tried = tests(config, section, &rules, &checkout, args).await;
    checkup.report(&format!("tests of {repo}"), tried);
}

/// The short name of the branch's newest commit.
async fn head(section: &RepositoryConfig, repo: &Repo) -> CheckResult {
    let branch = format!("refs/heads/{}", section.branch);
    let ssh = section.ssh_command();
    let list = ["ls-remote", "--", &section.remote, &branch];
    let listed = match git_by(ssh.as_deref(), &list, None).await {
        Ok(listed) => listed,
        Err(why) => {
            let hint = moved(&section.remote, repo).await;
            return Err(problem(format!("{}: {why}", section.remote), hint));
        }
    };
    let Some(sha) = listed.split_whitespace().next().map(str::to_owned) else {
        let list = ["ls-remote", "--heads", "--", &section.remote];
        let any = git_by(ssh.as_deref(), &list, None).await.unwrap_or_default();
        if any.is_empty() {
            let why = format!("{} has no commit yet", section.remote);
            return Err(problem(why, format!("commit a {FILE} and push it to {}", section.branch)));
        }
        let has: Vec<&str> = any
            .lines()
            .filter_map(|line| line.rsplit_once("refs/heads/").map(|(_, name)| name))
            .take(3)
            .collect();
        let why = format!("{} has no branch {}", section.remote, section.branch);
        let hint = format!("set repos.\"{repo}\".branch: there is {}", has.join(", "));
        return Err(problem(why, hint));
    };
    if sha.len() != 40 {
        let hint = "use a repository with SHA-1, git's default";
        return Err(problem(format!("{} uses SHA-256", section.remote), hint));
    }
    Ok(sha.get(..8).unwrap_or(&sha).to_owned())
}

/// The hint for a remote that can't be fetched from. The clone that the user is in may know its new address.
async fn moved(remote: &str, repo: &Repo) -> String {
    let origin = git(&["config", "--local", "--get", "remote.origin.url"], None).await;
    match origin {
        Ok(origin) if !origin.is_empty() && origin != remote => format!(
            "the origin of this clone is {origin}: write `remote = \"{origin}\"` into \
             [repos.\"{repo}\"] of afk.toml if it has moved there (no restart is needed)"
        ),
        _ => "check that git can fetch from it without a prompt".to_owned(),
    }
}

/// The rules of the checkout.
async fn rules(
    checkout: &TrialCheckout,
    branch: &str,
    at: &str,
) -> Result<RepositoryRules, Problem> {
    let hint = format!(
        "commit a {FILE} with `test = \"…\"`, which `afk init` writes, and push it to {branch}"
    );
    let text = git(&["show", &format!("HEAD:{FILE}")], Some(&checkout.tree()))
        .await
        .map_err(|_| problem(format!("no {FILE} on {at}"), &hint))?;
    let rules = RepositoryRules::parse(&text).map_err(|error| problem(chain(&error), hint))?;
    let lfs = git(&lfs::search("HEAD"), Some(&checkout.tree())).await.is_ok();
    if lfs && !lfs::is_installed() {
        let why = "the repository uses Git LFS, and git-lfs is not installed";
        return Err(problem(why, "install git-lfs"));
    }
    Ok(rules)
}

/// The refusal of a push, where the remote refuses it before it looks at the commits.
async fn refused_push(section: &RepositoryConfig, checkout: &TrialCheckout) -> Option<CheckResult> {
    let ssh = section.ssh_command();
    let target = format!("HEAD:refs/heads/{}", section.branch);
    let push = ["push", "--quiet", "--dry-run", "--", &section.remote, &target];
    let why = git_by(ssh.as_deref(), &push, Some(&checkout.tree())).await.err()?;
    // The branch may have moved since the clone.
    if why.contains("[rejected]") {
        return None;
    }
    let hint = format!(
        "give the user of afk the right to push; `git push --dry-run {} HEAD:{}` in a clone tries it",
        section.remote, section.branch
    );
    Some(Err(problem(format!("a push is refused: {why}"), hint)))
}

/// Tries the test command, as the gate will run it on the base of the next run.
async fn tests(
    config: &Config,
    section: &RepositoryConfig,
    rules: &RepositoryRules,
    checkout: &TrialCheckout,
    args: &DoctorArgs,
) -> CheckResult {
    let test = &rules.test;
    if passes_always(test) {
        let hint = format!(
            "write a first test, set `test` in {FILE} to the command that runs it, and push both to {}",
            section.branch
        );
        return Err(problem(format!("`{test}` passes without a test, so it proves nothing"), hint));
    }
    if args.no_try {
        return Ok("not tried".into());
    }
    let uses_lfs = git(&lfs::search("HEAD"), Some(&checkout.tree())).await.is_ok();
    if let Some(why) = untriable(section, rules, &checkout.tree(), uses_lfs) {
        return Ok(format!("not tried: {why}"));
    }
    let line = match &rules.setup.command {
        Some(setup) => format!("{{ {setup}\n}} && {{ {test}\n}}"),
        None => test.clone(),
    };
    let command = TrialCommand {
        line,
        report: rules.gate.report.clone(),
        dir: rules.setup.dir.clone(),
        env: rules.env.clone(),
        network: section.network,
    };
    let limit = Duration::from_secs(args.try_seconds);
    match checkout.run(&command, &config.sandbox, limit, |_| {}).await {
        Err(why) => Ok(format!("not tried: {why}")),
        Ok(trial) => judge(&trial, rules, &section.branch),
    }
}

fn judge(trial: &Trial, rules: &RepositoryRules, branch: &str) -> CheckResult {
    let test = &rules.test;
    let how = format!("`{test}` {}", trial.summary());
    if trial.is_unfinished() {
        return Ok(format!("{how}; --try-seconds gives it more time"));
    }
    if trial.interrupted() {
        return Ok(how);
    }
    if trial.proves_nothing() {
        let hint = format!("write a first test and push it to {branch}");
        return Err(problem(format!("{how}, but it ran no test, so it proves nothing"), hint));
    }
    if trial.passed() {
        return Ok(how);
    }
    let end = trial.failed_tests().into_iter().next().or_else(|| trial.end_of_log().pop());
    let why = end.map_or_else(|| how.clone(), |end| format!("{how}: {}", end.trim()));
    let hint = if is_placeholder(test) {
        format!("write your test command in place of `{test}` into {FILE}, and push it to {branch}")
    } else if trial.is_missing() {
        format!("install it, or change `test` in {FILE} and push it to {branch}")
    } else {
        format!(
            "no run starts on a red suite: make `{test}` pass in a fresh clone, and push that to {branch}"
        )
    };
    Err(problem(why, hint))
}

/// Whether a command fails whatever it is run on: `afk init` writes it where it recognises no suite.
fn is_placeholder(test: &str) -> bool {
    matches!(test.trim(), "false" | "exit 1" | "/bin/false")
}

/// Whether a command passes whatever it is run on.
fn passes_always(test: &str) -> bool {
    let test = test.trim().trim_end_matches(';').trim();
    let echoes = test.starts_with("echo ") && !test.contains([';', '&', '|', '$', '`', '\n']);
    matches!(test, "" | "true" | ":" | "exit" | "exit 0" | "/bin/true" | "/usr/bin/true") || echoes
}

/// What the test command needs that only a run of afk has; none where a checkout is enough.
fn untriable(
    section: &RepositoryConfig,
    rules: &RepositoryRules,
    tree: &Path,
    uses_lfs: bool,
) -> Option<&'static str> {
    let setup = &rules.setup;
    let secret = rules.env.values().any(|value| is_reference(value));
    if secret || !section.test_secrets.is_empty() {
        Some("it needs secrets, which the gate alone gives it")
    } else if !setup.copy.is_empty() || setup.ports > 0 || !setup.sparse.is_empty() {
        Some("it needs [setup], which the first run tries")
    } else if setup.submodules && tree.join(".gitmodules").exists() {
        Some("it needs submodules, which the first run fetches")
    } else if setup.lfs && uses_lfs {
        Some("it needs files of Git LFS, which the first run fetches")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_that_passes_always_is_recognised() {
        for test in ["true", " : ", "exit 0;", "echo no tests yet", "/bin/true"] {
            assert!(passes_always(test), "{test}");
        }
        for test in ["truely", "echo a && ./test.sh", "./true", "exit 1", "echo $(./test.sh)"] {
            assert!(!passes_always(test), "{test}");
        }
    }
}
