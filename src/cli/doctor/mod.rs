//! `afk doctor`: checks everything that a run needs, and prints a line for each check with a hint for each
//! problem. It reads no agent's credentials; it starts each agent for a turn without a prompt.

mod agent;
mod clones;
mod repository;
mod verdicts;
mod wall;

use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use tokio::process::Command;
use tokio::time::timeout;

use crate::breakglass::ssh;
use crate::cli::failure;
use crate::cli::git_call::git;
use crate::cli::instance::InstanceArgs;
use crate::cli::log;
use crate::cli::terminal::print_line;
use crate::cluster;
use crate::config::Config;
use crate::config::breakglass::{BreakglassConfig, HYPERVISOR};
use crate::config::notify::SinkConfig;
use crate::core::model::command::Role;
use crate::core::model::id::Repo;
use crate::core::model::plural::plural;
use crate::core::model::untrusted::clean_line;
use crate::error::{Failure, FailureKind, chain};
use crate::executor;
use crate::github::Api;
use crate::journal::Journal;
use crate::process::launch;
use crate::redact::without_credentials;
use crate::secrets::Secrets;
use crate::tracker::folder::FolderTracker;
use crate::tracker::{Tracker, TrackerError};

/// The longest time of a single check that waits for a program or a server.
const CHECK: Duration = Duration::from_secs(20);

/// The outcome of a check: a remark, or a problem.
type CheckResult = Result<String, Problem>;

struct Problem {
    why: String,
    hint: String,
}

fn problem(why: impl Into<String>, hint: impl Into<String>) -> Problem {
    Problem { why: why.into(), hint: hint.into() }
}

/// A failed check: the error with its causes, and the hint that fits them, or `otherwise` where no
/// cause has a hint.
fn failed(error: &(dyn std::error::Error + 'static), otherwise: &str) -> Problem {
    problem(cluster::reason(error), failure::hint(error).unwrap_or_else(|| otherwise.to_owned()))
}

/// Prints the results of checks and counts the problems.
#[derive(Default)]
struct Checkup {
    problems: usize,
}

impl Checkup {
    fn report(&mut self, subject: &str, result: CheckResult) {
        match result {
            Ok(remark) => print(&format!("ok  {subject}: {remark}")),
            Err(Problem { why, hint }) => {
                self.problems += 1;
                print(&format!("NO  {subject}: {why}"));
                print(&format!("    hint: {hint}"));
            }
        }
    }
}

/// Prints a line without the credentials in its addresses, such as those of a remote.
fn print(line: &str) {
    print_line(&without_credentials(line));
}

#[derive(Debug, Args)]
pub(super) struct DoctorArgs {
    /// Set damaged base clones aside, so that the next run clones them anew
    #[arg(long)]
    fix: bool,
    /// Don't try the test commands
    #[arg(long)]
    no_try: bool,
    /// Stop the trial of a test command after this time
    #[arg(long, value_name = "SECONDS", default_value_t = crate::cli::init::TRY_SECONDS)]
    try_seconds: u64,
}

/// The newest file of the log, or the place where it will be.
fn log_place(state: &Path) -> String {
    match log::newest(state) {
        Some(path) => path.display().to_string(),
        None => format!("{}, after the first start", state.join("afk.DATE.log").display()),
    }
}

pub(super) async fn run(args: &DoctorArgs, instance: &InstanceArgs) -> Result<(), Failure> {
    let mut checkup = Checkup::default();
    checkup.report("git", git_version().await);
    let paths = instance.paths()?;
    checkup.report("state", state(&paths.state));
    checkup.report("log", Ok(log_place(&paths.state)));
    match instance.load() {
        Err(failure) => {
            let why = chain(&failure);
            let hint =
                failure.hint.unwrap_or_else(|| "correct the key that the error names".into());
            checkup.report("configuration", Err(problem(why, hint)));
        }
        Ok((config, paths)) => {
            let readiness = if config.kill_switch {
                "the kill switch is on, so afk starts nothing".to_owned()
            } else if config.allowlist.is_empty() {
                "the allowlist is empty, so afk starts nothing".to_owned()
            } else {
                match config.allowlist.len() {
                    1 => "armed for 1 repository".to_owned(),
                    count => format!("armed for {count} repositories"),
                }
            };
            let place = if instance.needs_no_file(&paths) {
                "the environment alone".to_owned()
            } else {
                paths.config.display().to_string()
            };
            let text = format!("{place}; {readiness}");
            checkup.report("configuration", Ok(text));
            // A service may work without any issue.
            let has_issues = config.tracker.folder.is_some() || config.service.is_none();
            if config.tracker.folder.is_some() || (config.github.is_none() && has_issues) {
                checkup.report("tracker", tracker(&config).await);
            }
            services(&config, &mut checkup).await;
            if has_issues && let Some(problem) = nobody_arms(&config, &place) {
                checkup.report("trusted", Err(problem));
            }
            if config.ssh.enabled {
                checkup.report("ssh", ssh_server(&config, &paths.state));
            }
            if let Some(section) = &config.breakglass {
                breakglass(section, &mut checkup).await;
            }
            checkup.report("sandbox", wall::check(&config).await);
            checkup.report("control groups", wall::control_groups(&config, &paths.state));
            for (name, section) in &config.agents {
                let result = agent::check(name, section, &config).await;
                checkup.report(&format!("agent {name}"), result);
            }
            for repo in config.repos.keys() {
                if config.agent_of(repo).is_none() {
                    let hint = "write an [agents.NAME] and set `agent`";
                    let problem = problem("no agent is selected", hint);
                    checkup.report(&format!("agent of {repo}"), Err(problem));
                }
                if let Some(result) = agent::settings(&config, &paths.state, repo).await {
                    checkup.report(&format!("agent settings of {repo}"), result);
                }
                repository::check(&config, repo, &paths.state, args, &mut checkup).await;
                if let Some(result) = clones::check(&paths.state, repo, args.fix).await {
                    checkup.report(&format!("base clone of {repo}"), result);
                }
            }
            verdicts::check(&config, &mut checkup).await;
        }
    }
    match checkup.problems {
        0 => Ok(()),
        count => {
            Err(Failure::new(FailureKind::Negative, format!("found {}", plural(count, "problem"))))
        }
    }
}

/// The problem that nobody may arm an issue of the folder. GitHub tells by itself who may arm its own.
fn nobody_arms(config: &Config, place: &str) -> Option<Problem> {
    let on_folder = |repo: &Repo| !config.on_github(repo);
    let by_list = config.github.is_none()
        || config.tracker.folder.is_some() && config.repos.keys().any(on_folder);
    if !config.trusted.is_empty() || !by_list {
        return None;
    }
    let name = crate::cli::init::user().unwrap_or_else(|| "you".to_owned());
    let hint = format!(
        "write `trusted = [\"{name}\"]` into {place}, with the name that issues have as `armed_by`"
    );
    Some(problem("nobody may arm an issue", hint))
}

/// Logs in to each host of breakglass without running anything, and checks that its keys can be hidden
/// from agents.
async fn breakglass(section: &BreakglassConfig, checkup: &mut Checkup) {
    let names = section.hosts.keys().map(String::as_str).chain([HYPERVISOR]);
    for name in names {
        let result = match ssh::connect(section, name).await {
            Ok(_) => {
                let host = section.host(name).map(|host| format!("{}@{}", host.user, host.address));
                Ok(format!("{}, key as pinned", host.unwrap_or_default()))
            }
            Err(error) => Err(failed(&error, "see \"Setting it up\" in docs/breakglass.md")),
        };
        checkup.report(&format!("breakglass {name}"), result);
    }
    if section.hide_from_agents {
        checkup.report("breakglass, hidden from agents", hiding(&section.pins).await);
    }
}

/// Checks that the launcher can hide a file from the programs that it starts.
async fn hiding(file: &Path) -> CheckResult {
    const HINT: &str = "allow user namespaces, or run breakglass as another user and set \
                        hide_from_agents = false";
    let program = crate::cli::own_program().map_err(|failure| problem(chain(&failure), HINT))?;
    let mut command = Command::new(program);
    command.args([launch::WORD, launch::HIDE]).arg(file).args(["test", "!", "-s"]).arg(file);
    let out = timeout(CHECK, command.stdin(Stdio::null()).output()).await;
    match out {
        Ok(Ok(out)) if out.status.success() => Ok("yes".into()),
        Ok(Ok(out)) => {
            let why = String::from_utf8_lossy(&out.stderr);
            Err(problem(clean_line(&why), HINT))
        }
        Ok(Err(error)) => Err(problem(chain(&error), HINT)),
        Err(_) => Err(problem(no_answer(), HINT)),
    }
}

/// Sends one request to each configured service, and resolves each secret.
async fn services(config: &Config, checkup: &mut Checkup) {
    let secrets = match Secrets::new(config.vault.as_ref()) {
        Ok(secrets) => Arc::new(secrets),
        Err(error) => {
            return checkup.report("secrets", Err(failed(&error, "check [vault]")));
        }
    };
    if let Some(section) = &config.github {
        match Api::new(section, secrets.clone()) {
            Ok(api) => {
                let login = api.login().await.map_err(|error| failed(&error, "check [github]"));
                let reached = login.is_ok();
                checkup.report("github", login.map(|login| format!("{}, as {login}", section.api)));
                for repo in config.allowlist.iter().filter(|repo| reached && config.on_github(repo))
                {
                    checkup.report(&format!("github {repo}"), name_on_github(&api, repo).await);
                }
            }
            Err(why) => {
                let hint = "check the CA certificates of this machine";
                checkup.report("github", Err(problem(why, hint)));
            }
        }
    }
    let mut references: Vec<(String, &String)> = Vec::new();
    if let Some(woodpecker) = &config.woodpecker {
        references.push(("woodpecker".into(), &woodpecker.token));
    }
    if let Some(token) = config.loki.as_ref().and_then(|loki| loki.token.as_ref()) {
        references.push(("loki".into(), token));
    }
    if let Some(traces) = &config.traces {
        references.extend(traces.token.iter().map(|token| ("traces".into(), token)));
        let headers = traces.headers.iter();
        references.extend(headers.map(|(name, value)| (format!("header {name} of traces"), value)));
    }
    for (name, sink) in &config.notify.sinks {
        match sink {
            SinkConfig::Ntfy { token: Some(secret), .. }
            | SinkConfig::Slack { webhook: secret, .. } => {
                references.push((format!("sink {name}"), secret));
            }
            SinkConfig::Webhook(sink) => {
                references.push((format!("sink {name}"), &sink.address));
                let secret = sink.secret.iter();
                references.extend(secret.map(|key| (format!("the key of sink {name}"), key)));
            }
            SinkConfig::Ntfy { .. } | SinkConfig::Command { .. } => {}
        }
    }
    for (name, reference) in references {
        let secret = secrets.get(reference).await;
        let remark = secret.map(|_| format!("its secret is at {}", secret_location(reference)));
        let otherwise = "see \"Secrets\" in docs/configuration.md";
        checkup.report(&name, remark.map_err(|error| failed(&error, otherwise)));
    }
    if config.kubernetes.kubeconfig.is_some() || !config.kubernetes.contexts.is_empty() {
        let contexts = config.kubernetes.contexts.iter().map(|name| Some(name.as_str()));
        for context in contexts.chain(config.kubernetes.kubeconfig.iter().map(|_| None)) {
            let name = format!("kubernetes {}", context.unwrap_or("current context"));
            let client = cluster::client(&config.kubernetes, context).await;
            let hint = "check [kubernetes] and the kubeconfig";
            let version = match client {
                Ok(client) => match timeout(CHECK, client.apiserver_version()).await {
                    Ok(Ok(version)) => Ok(format!("version {}", version.git_version)),
                    Ok(Err(error)) => Err(failed(&error, hint)),
                    Err(_) => Err(problem(no_answer(), hint)),
                },
                Err(why) => Err(problem(why, hint)),
            };
            checkup.report(&name, version);
        }
    }
    executors(config, &secrets, checkup).await;
}

/// Checks that a repository has the name on GitHub under which the configuration knows it.
async fn name_on_github(api: &Api, repo: &Repo) -> CheckResult {
    let found = api.get::<serde_json::Value>(&format!("/repos/{repo}")).await;
    let found = found.map_err(|error| failed(&error, "check the name, and the token's rights"))?;
    let name = clean_line(found["full_name"].as_str().unwrap_or_default());
    if !name.eq_ignore_ascii_case(repo.as_str()) {
        let hint = format!("write {name} in place of {repo} in the configuration");
        return Err(problem(format!("it has another name now: {name}"), hint));
    }
    if found["archived"] == true {
        return Err(problem("it is archived, so nothing can be written", "unarchive it"));
    }
    Ok(format!("number {}", found["id"]))
}

/// Checks each executor.
async fn executors(config: &Config, secrets: &Arc<Secrets>, checkup: &mut Checkup) {
    for (name, section) in &config.executors {
        let result = match executor::from_config(section, &config.kubernetes, secrets) {
            Ok(executor) => executor.check().await,
            Err(why) => Err(why.into()),
        };
        let hint = format!("check [executors.{name}]");
        let result = result.map_err(|error| failed(&*error, &hint));
        checkup.report(&format!("executor {name}"), result);
    }
}

/// The reference without the field that a `vault:` reference names.
fn secret_location(reference: &str) -> &str {
    reference.split('#').next().unwrap_or(reference)
}

fn no_answer() -> String {
    format!("no answer within {} s", CHECK.as_secs())
}

async fn git_version() -> CheckResult {
    git(&["--version"], None).await.map_err(|why| problem(why, "install git 2.30 or newer"))
}

fn state(state: &Path) -> CheckResult {
    let folder = state.display();
    if let Some(pid) = crate::journal::lock::owner(state) {
        return Ok(format!("{folder}, in use by process {pid}"));
    }
    if !state.exists() {
        return Ok(format!("{folder}, created at the first start"));
    }
    match Journal::open(state) {
        Ok(journal) => Ok(format!("{folder}, {}", plural(journal.last(), "record"))),
        Err(error) => {
            let failure = Failure::from(error);
            let why = chain(&failure);
            Err(problem(
                why,
                failure.hint.unwrap_or_else(|| "`afk verify` checks the journal".into()),
            ))
        }
    }
}

async fn tracker(config: &Config) -> CheckResult {
    let Some(folder) = config.tracker.folder.clone() else {
        return Err(problem("no folder is set", "set `folder` in [tracker]"));
    };
    let path = folder.display().to_string();
    let (labels, trusted) = (config.labels.clone(), config.trusted.clone());
    let tracker = FolderTracker::new(folder, labels, trusted, String::new());
    match tracker.list(&std::collections::BTreeSet::new()).await {
        Err(error) => Err(problem(chain(&error), folder_hint(&error, &path))),
        Ok(listing) if listing.problems.is_empty() => {
            Ok(format!("{path}, {}", plural(listing.issues.len(), "issue")))
        }
        Ok(listing) => Err(problem(
            listing.problems.join("; "),
            "correct the front matter (docs/issues.md); afk serves the other issues",
        )),
    }
}

/// The operator's next step for a folder of issues that can't be read.
fn folder_hint(error: &TrackerError, path: &str) -> String {
    match error {
        TrackerError::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound => {
            format!("create the folder: mkdir -p {path}")
        }
        _ => format!("check that the user of afk can read {path}"),
    }
}

/// Checks the SSH server's file of admitted keys, and shows its host key.
fn ssh_server(config: &Config, state: &Path) -> CheckResult {
    let file = &config.ssh.authorized_keys;
    let text = crate::trusted_file::read(file).map_err(|error| {
        let missing =
            "add a line per key, each with role=\"operator\" or role=\"viewer\" before it";
        let hint = if error.is_missing() { missing } else { "nobody can log in until then" };
        problem(chain(&error), hint)
    })?;
    let (keys, refused) = crate::serve::ssh::keys::parse(&text);
    let host = crate::serve::ssh::fingerprint(state);
    let host = host.unwrap_or_else(|| "created at the first start".into());
    if !refused.is_empty() {
        let why = format!("host key {host}; {}: {}", file.display(), refused.join("; "));
        return Err(problem(why, "correct or remove the line; the other lines are valid"));
    }
    let operators = keys.iter().filter(|key| key.role == Role::Operator).count();
    let (listen, viewers) = (config.ssh.listen, keys.len() - operators);
    let (operators, viewers) = (plural(operators, "operator"), plural(viewers, "viewer"));
    Ok(format!("{listen}, host key {host}, {operators}, {viewers}"))
}
