//! `afk doctor`: looks at everything that a run needs and says how to mend what isn't right.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use tokio::process::Command;
use tokio::time::timeout;

use super::place::PlaceArgs;
use crate::agent::vendor::{self, on_path};
use crate::breakglass::ssh;
use crate::config::Config;
use crate::config::agent::AgentConfig;
use crate::config::breakglass::{BreakglassConfig, HYPERVISOR};
use crate::config::notify::SinkConfig;
use crate::config::repository::{FILE, RepositoryRules};
use crate::core::model::command::Role;
use crate::core::model::id::Repo;
use crate::error::{Failure, Kind};
use crate::executor;
use crate::github::Api;
use crate::journal::Journal;
use crate::process::launch;
use crate::secrets::Secrets;
use crate::tracker::Tracker;
use crate::tracker::folder::Folder;

/// Longest time of one call of git.
const GIT: Duration = Duration::from_secs(20);

/// What was found, and what to do where it isn't right.
struct Report {
    wrong: usize,
}

impl Report {
    fn tell(&mut self, what: &str, found: Result<String, (String, String)>) {
        match found {
            Ok(found) => super::say(&format!("ok  {what}: {found}")),
            Err((why, hint)) => {
                self.wrong += 1;
                super::say(&format!("NO  {what}: {why}"));
                super::say(&format!("    hint: {hint}"));
            }
        }
    }
}

/// Runs the command.
///
/// # Errors
/// [`Failure`] where something isn't right.
pub async fn run(place: &PlaceArgs) -> Result<(), Failure> {
    let mut report = Report { wrong: 0 };
    report.tell("git", git_version().await);
    let paths = place.paths()?;
    report.tell("state", state(&paths.state));
    match place.load() {
        Err(failure) => {
            let hint = failure.hint.unwrap_or_else(|| "mend the line that is named".into());
            report.tell("configuration", Err((failure.message, hint)));
        }
        Ok((config, paths)) => {
            let standing = if config.kill_switch {
                "the kill switch is on: nothing is started".to_owned()
            } else if config.allowlist.is_empty() {
                "the allowlist is empty: nothing is started".to_owned()
            } else {
                format!("armed for {} repositories", config.allowlist.len())
            };
            let text = format!("{}; {standing}", paths.config.display());
            report.tell("configuration", Ok(text));
            if config.tracker.folder.is_some() || config.github.is_none() {
                report.tell("tracker", tracker(&config).await);
            }
            outside(&config, &mut report).await;
            if config.trusted.is_empty() && config.github.is_none() {
                let hint = "put logins into `trusted`".to_owned();
                report.tell("trusted", Err(("nobody may arm an issue".into(), hint)));
            }
            if config.ssh.enabled {
                report.tell("ssh", ssh_server(&config, &paths.state));
            }
            if let Some(section) = &config.breakglass {
                breakglass(section, &mut report).await;
            }
            for (name, known) in &config.agents {
                report.tell(&format!("agent {name}"), agent(name, known).await);
            }
            for repo in config.repos.keys() {
                if config.agent_of(repo).is_none() {
                    let hint = "write an [agents.NAME] and set `agent`".to_owned();
                    report.tell(&format!("agent of {repo}"), Err(("none is named".into(), hint)));
                }
                let found = repository(&config, repo).await;
                report.tell(&format!("repository {repo}"), found);
            }
        }
    }
    if report.wrong == 0 {
        Ok(())
    } else {
        Err(Failure::new(Kind::No, format!("{} things aren't right", report.wrong)))
    }
}

/// Each host of breakglass is logged in to, and nothing is asked of it; and whether agents can be
/// kept from its keys.
async fn breakglass(section: &BreakglassConfig, report: &mut Report) {
    let names = section.hosts.keys().map(String::as_str).chain([HYPERVISOR]);
    for name in names {
        let found = match ssh::connect(section, name).await {
            Ok(_) => {
                let host = section.host(name).map(|host| format!("{}@{}", host.user, host.address));
                Ok(format!("{}, key as pinned", host.unwrap_or_default()))
            }
            Err(error) => {
                let hint = "see docs/breakglass.md, Setting it up".to_owned();
                Err((crate::core::model::untrusted::clean_line(&error.to_string()), hint))
            }
        };
        report.tell(&format!("breakglass {name}"), found);
    }
    if section.hide_from_agents {
        report.tell("breakglass, hidden from agents", hidden(&section.pins).await);
    }
}

/// Whether the launcher can hide a file from what it starts.
async fn hidden(file: &Path) -> Found {
    let hint = || {
        "allow user namespaces, or run breakglass as another user and set hide_from_agents = false"
            .to_owned()
    };
    let program = super::own_program().map_err(|failure| (failure.message, hint()))?;
    let mut command = Command::new(program);
    command.args([launch::WORD, launch::HIDE]).arg(file).args(["test", "!", "-s"]).arg(file);
    let out = timeout(GIT, command.stdin(Stdio::null()).output()).await;
    match out {
        Ok(Ok(out)) if out.status.success() => Ok("yes".into()),
        Ok(Ok(out)) => {
            let why = String::from_utf8_lossy(&out.stderr);
            Err((crate::core::model::untrusted::clean_line(&why), hint()))
        }
        Ok(Err(error)) => Err((error.to_string(), hint())),
        Err(_) => Err(("the launcher did not answer".into(), hint())),
    }
}

/// The services outside: each is asked one thing.
async fn outside(config: &Config, report: &mut Report) {
    let secrets = match Secrets::new(config.vault.as_ref()) {
        Ok(secrets) => Arc::new(secrets),
        Err(error) => {
            let hint = "see [vault]".to_owned();
            return report.tell("secrets", Err((error.to_string(), hint)));
        }
    };
    if let Some(section) = &config.github {
        let login = match Api::new(section, secrets.clone()) {
            Ok(api) => api.login().await.map_err(|error| error.to_string()),
            Err(error) => Err(error),
        };
        let found = login.map(|login| format!("{}, as {login}", section.api));
        let hint = "see [github]: the token's place, and that it is not expired".to_owned();
        report.tell("github", found.map_err(|why| (why, hint)));
    }
    let mut references: Vec<(String, &String)> = Vec::new();
    if let Some(woodpecker) = &config.woodpecker {
        references.push(("woodpecker".into(), &woodpecker.token));
    }
    if let Some(token) = config.loki.as_ref().and_then(|loki| loki.token.as_ref()) {
        references.push(("loki".into(), token));
    }
    for (name, sink) in &config.notify.sinks {
        match sink {
            SinkConfig::Ntfy { token: Some(secret), .. }
            | SinkConfig::Slack { webhook: secret, .. } => {
                references.push((format!("sink {name}"), secret));
            }
            SinkConfig::Ntfy { .. } | SinkConfig::Command { .. } => {}
        }
    }
    for (name, reference) in references {
        let found = secrets.get(reference).await;
        let found = found.map(|_| format!("its secret is at {}", place_of(reference)));
        let hint = "put the secret there".to_owned();
        report.tell(&name, found.map_err(|error| (error.to_string(), hint)));
    }
    if config.kubernetes.kubeconfig.is_some() || !config.kubernetes.contexts.is_empty() {
        let contexts = config.kubernetes.contexts.iter().map(|name| Some(name.as_str()));
        for context in contexts.chain(config.kubernetes.kubeconfig.iter().map(|_| None)) {
            let name = format!("kubernetes {}", context.unwrap_or("current context"));
            let client = crate::cluster::client(&config.kubernetes, context).await;
            let version = match client {
                Ok(client) => match timeout(GIT, client.apiserver_version()).await {
                    Ok(Ok(version)) => Ok(format!("version {}", version.git_version)),
                    Ok(Err(error)) => Err(error.to_string()),
                    Err(_) => Err(format!("no answer in {} s", GIT.as_secs())),
                },
                Err(error) => Err(error),
            };
            let hint = "see [kubernetes] and the kubeconfig".to_owned();
            report.tell(&name, version.map_err(|why| (why, hint)));
        }
    }
    executors(config, &secrets, report).await;
}

/// The places where turns are carried out beside this machine.
async fn executors(config: &Config, secrets: &Arc<Secrets>, report: &mut Report) {
    for (name, place) in &config.executors {
        let found = match executor::of(place, &config.kubernetes, secrets) {
            Ok(made) => made.check().await,
            Err(why) => Err(why),
        };
        let hint = format!("see [executors.{name}]");
        report.tell(&format!("executor {name}"), found.map_err(|why| (why, hint)));
    }
}

/// Where a secret is, without more than its kind where that is its name.
fn place_of(reference: &str) -> &str {
    reference.split('#').next().unwrap_or(reference)
}

type Found = Result<String, (String, String)>;

async fn git(args: &[&str], dir: Option<&Path>) -> Result<String, String> {
    let mut command = Command::new("git");
    command.args(["-c", "protocol.ext.allow=never"]);
    if let Some(dir) = dir {
        command.arg("-C").arg(dir);
    }
    command.args(args).env("GIT_TERMINAL_PROMPT", "0").stdin(Stdio::null()).kill_on_drop(true);
    match timeout(GIT, command.output()).await {
        Err(_) => Err(format!("no answer in {} s", GIT.as_secs())),
        Ok(Err(error)) => Err(error.to_string()),
        Ok(Ok(out)) if out.status.success() => {
            Ok(String::from_utf8_lossy(&out.stdout).trim().to_owned())
        }
        Ok(Ok(out)) => {
            let said = String::from_utf8_lossy(&out.stderr).into_owned();
            Err(crate::core::model::untrusted::clean_line(said.trim()))
        }
    }
}

async fn git_version() -> Found {
    git(&["--version"], None).await.map_err(|why| (why, "install git, 2.30 or newer".into()))
}

fn state(state: &Path) -> Found {
    let place = state.display();
    if let Some(pid) = crate::journal::lock::owner(state) {
        return Ok(format!("{place}, in use by process {pid}"));
    }
    if !state.exists() {
        return Ok(format!("{place}, not there yet"));
    }
    match Journal::open(state) {
        Ok(journal) => Ok(format!("{place}, {} records", journal.last())),
        Err(error) => {
            let hint = "see that the folder can be written and its disk has room";
            Err((error.to_string(), hint.into()))
        }
    }
}

async fn tracker(config: &Config) -> Found {
    let Some(folder) = config.tracker.folder.clone() else {
        return Err(("no folder is set".into(), "set `folder` under [tracker]".into()));
    };
    let place = folder.display().to_string();
    let (labels, trusted) = (config.labels.clone(), config.trusted.clone());
    let tracker = Folder::new(folder, labels, trusted, String::new());
    match tracker.list(&std::collections::BTreeSet::new()).await {
        Err(error) => Err((error.to_string(), format!("make the folder: mkdir -p {place}"))),
        Ok(listing) if listing.problems.is_empty() => {
            Ok(format!("{place}, {} issues", listing.issues.len()))
        }
        Ok(listing) => Err((
            listing.problems.join("; "),
            "mend the front matter (docs/issues.md); the other issues are served".into(),
        )),
    }
}

/// The SSH server: its host key, and who may come in.
fn ssh_server(config: &Config, state: &Path) -> Found {
    let file = &config.ssh.authorized_keys;
    let text = std::fs::read_to_string(file).map_err(|error| {
        let hint = "write keys into it, each with role=\"operator\" or role=\"viewer\" before it";
        (format!("{}: {error}", file.display()), hint.into())
    })?;
    let (keys, wrong) = crate::serve::ssh::keys::parse(&text);
    let host = crate::serve::ssh::fingerprint(state);
    let host = host.unwrap_or_else(|| "made at the first start".into());
    if !wrong.is_empty() {
        let why = format!("host key {host}; {}: {}", file.display(), wrong.join("; "));
        return Err((why, "mend or remove the line; the others are served".into()));
    }
    let operator = |key: &&crate::serve::ssh::keys::AuthorizedKey| key.role == Role::Operator;
    let operators = keys.iter().filter(operator).count();
    let (listen, viewers) = (config.ssh.listen, keys.len() - operators);
    Ok(format!("{listen}, host key {host}, {operators} operators, {viewers} viewers"))
}

/// One agent: whether it is there, in a version that was tried, and can log in as far as that
/// can be told without reading its credentials.
async fn agent(name: &str, agent: &AgentConfig) -> Found {
    let our_env = |name: &str| std::env::var(name).ok();
    for (key, reference) in &agent.secrets {
        if let Err(error) = crate::secrets::resolve(reference, &our_env) {
            let hint = "see `secrets` in docs/configuration.md";
            return Err((format!("{key}: {error}"), hint.into()));
        }
    }
    let program = agent.command().first().cloned().unwrap_or_default();
    let preset = agent.preset_definition();
    let Some(path) = on_path(&program) else {
        let hint = preset.map_or_else(
            || format!("install it, or write its whole path into agents.{name}.command"),
            |preset| format!("{}, or write its path into agents.{name}.command", preset.install),
        );
        return Err((format!("{program} is not on the PATH"), hint));
    };
    let place = path.display().to_string();
    let Some(preset) = preset else { return Ok(place) };
    let version = version(&path, &preset.version, agent).await;
    let told = match &version {
        None => "tells no version".to_owned(),
        Some(version) if preset.tested.contains(version) => format!("{version}, tested"),
        Some(version) => format!("{version}, not tested ({} is)", preset.tested.join(", ")),
    };
    let home = agent.home.clone().or_else(|| our_env("HOME").map(PathBuf::from));
    let login = &preset.login;
    let given = login.env.iter().find(|name| {
        let known = |all: &BTreeMap<String, String>| all.contains_key(*name);
        known(&agent.set) || known(&agent.secrets) || our_env(name).is_some()
    });
    let file = login.files.iter().find(|file| home.as_ref().is_some_and(|h| h.join(file).exists()));
    let behind = preset.vendor.as_ref().and_then(|pattern| vendor::behind(&path, pattern));
    let shim =
        behind.map_or_else(String::new, |_| "; the program behind npm's shim is used".into());
    match given.or(file) {
        Some(how) => Ok(format!("{place}, {told}, logs in by {how}{shim}")),
        None => Err((format!("{place}, {told}, has no login that can be seen"), login.how.clone())),
    }
}

/// What a program says its version is: the first word of its answer that has a dot and a figure.
async fn version(program: &Path, args: &[String], agent: &AgentConfig) -> Option<String> {
    if args.is_empty() {
        return None;
    }
    let mut command = Command::new(program);
    command.args(args).envs(agent.fixed_variables()).stdin(Stdio::null()).stderr(Stdio::null());
    command.kill_on_drop(true);
    let out = timeout(GIT, command.output()).await.ok()?.ok()?;
    let said = crate::core::model::untrusted::clean_line(&String::from_utf8_lossy(&out.stdout));
    let figures =
        |word: &&str| word.starts_with(|c: char| c.is_ascii_digit()) && word.contains('.');
    said.split([' ', '(', ')', 'v']).find(figures).map(str::to_owned)
}

async fn repository(config: &Config, repo: &Repo) -> Found {
    let Some(known) = config.repos.get(repo) else {
        return Err(("not configured".into(), format!("write a [repos.\"{repo}\"]")));
    };
    let branch = format!("refs/heads/{}", known.branch);
    let listed = git(&["ls-remote", "--", &known.remote, &branch], None).await.map_err(|why| {
        (format!("{}: {why}", known.remote), "see that git can fetch from it without asking".into())
    })?;
    let Some(sha) = listed.split_whitespace().next().map(str::to_owned) else {
        let hint = format!("set repos.\"{repo}\".branch");
        return Err((format!("{} has no branch {}", known.remote, known.branch), hint));
    };
    let short = sha.get(..8).unwrap_or(&sha).to_owned();
    // A local remote can be asked for its rules; another one only once it was fetched.
    let local = Path::new(&known.remote);
    if !local.is_dir() {
        return Ok(format!("{} at {short}", known.branch));
    }
    let hint = format!("commit a {FILE} with `test = \"…\"`; `afk init` writes one");
    let name = format!("{sha}:{FILE}");
    let text = git(&["show", &name], Some(local))
        .await
        .map_err(|_| (format!("no {FILE} on {} at {short}", known.branch), hint.clone()))?;
    let rules = RepositoryRules::parse(&text).map_err(|e| (e.to_string(), hint))?;
    Ok(format!("{} at {short}, tested by `{}`", known.branch, rules.test))
}
