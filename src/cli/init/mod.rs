//! `afk init`: examines the repository you are in, tries its test command once, and writes a
//! configuration that starts nothing. It overwrites no file.

mod suite;

use std::fs::File;
use std::io::{IsTerminal, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;

use self::suite::ProposedSuite;
use super::instance::InstanceArgs;
use super::push_target;
use super::terminal::{ask, print_line};
use super::trial::{Trial, TrialCheckout, TrialCommand, TrialSource};
use crate::agent::vendor::on_path;
use crate::config::agent::{Preset, presets};
use crate::config::report::ReportFormat;
use crate::config::sandbox::SandboxConfig;
use crate::config::schema;
use crate::core::model::id::Repo;
use crate::core::model::plural::plural;
use crate::error::{Failure, FailureKind};
use crate::sandbox::Level;

/// The schema beside the configuration, by which editors complete and check it.
const SCHEMA: &str = "afk.schema.json";
const TEMPLATE: &str = include_str!("../../../assets/afk.toml");

#[derive(Debug, Args)]
pub(super) struct InitArgs {
    /// The folder of the repository
    #[arg(default_value = ".")]
    pub(super) dir: PathBuf,
    /// Don't try the test command
    #[arg(long)]
    pub(super) no_try: bool,
    /// Stop the trial of the test command after this time
    #[arg(long, value_name = "SECONDS", default_value_t = TRY_SECONDS)]
    pub(super) try_seconds: u64,
    /// Write .afk.toml without a question, also if the test command fails
    #[arg(long)]
    pub(super) yes: bool,
}

/// The default limit of the trial: a newcomer waits for it.
pub(super) const TRY_SECONDS: u64 = 120;

impl Default for InitArgs {
    fn default() -> Self {
        Self { dir: ".".into(), no_try: false, try_seconds: TRY_SECONDS, yes: false }
    }
}

pub(super) async fn run(args: &InitArgs, instance: &InstanceArgs) -> Result<(), Failure> {
    let paths = instance.paths()?;
    if paths.config.exists() {
        let why = format!("{} already exists", paths.config.display());
        return Err(Failure::new(FailureKind::Usage, why)
            .hint("edit it, or name another file with --config; `afk doctor` checks it"));
    }
    let repository = DetectedRepository::detect(&args.dir)?;
    let rules = repository.top.join(crate::config::repository::FILE);
    // The trial takes time. Whoever ends afk meanwhile finds no file half done.
    let new_rules =
        if rules.exists() { None } else { new_rules(args, &repository, &paths.state).await? };
    let folder = paths.config.parent().unwrap_or(Path::new("."));
    crate::trusted_file::create_folder(&folder.join("issues"))?;
    // The configuration grants rights, so the group may not write it, whatever the umask is.
    let mut file = File::options().write(true).create_new(true).mode(0o600).open(&paths.config)?;
    file.write_all(format!("#:schema ./{SCHEMA}\n{}", configuration(&repository)).as_bytes())?;
    print_line(&format!("wrote {}", paths.config.display()));
    // It only describes the file, so that a newer afk may replace it.
    std::fs::write(folder.join(SCHEMA), format!("{:#}\n", schema::of_config()))?;
    let wrote_rules = new_rules.is_some();
    match new_rules {
        Some(text) => {
            std::fs::write(&rules, text)?;
            print_line(&format!("wrote {}: review and commit it", rules.display()));
        }
        None if rules.exists() => print_line(&format!("{} already exists", rules.display())),
        None => print_line(&format!("wrote no {}", rules.display())),
    }
    for line in repository.obstacles(&paths.config, wrote_rules).await {
        print_line("");
        print_line(&line);
    }
    print_line("");
    print_line("It starts nothing yet. To change that:");
    print_line(&format!("  1. write an issue into {}", folder.join("issues").display()));
    print_line(&format!("  2. put \"{}\" on the allowlist and name an agent", repository.repo));
    print_line("  3. set kill_switch = false");
    print_line("`afk doctor` reports what is missing.");
    Ok(())
}

/// Tries the proposed test command, and returns the text of `.afk.toml`. A suite that doesn't pass is
/// no error: the user may know why, so there is a text unless the user declines.
async fn new_rules(
    args: &InitArgs,
    repository: &DetectedRepository,
    state: &Path,
) -> Result<Option<String>, Failure> {
    let trial = match &repository.suite {
        Some(suite) if !args.no_try => try_suite(args, repository, suite, state).await?,
        _ => None,
    };
    let failed = trial.as_ref().is_some_and(|trial| !trial.passed() && !trial.interrupted());
    if failed && !args.yes && std::io::stdin().is_terminal() && !wants_rules().await? {
        return Ok(None);
    }
    Ok(Some(rules_text(repository.suite.as_ref(), trial.as_ref())))
}

/// Asks whether to write `.afk.toml` although the suite didn't pass. Ctrl-C declines: since the trial,
/// it ends the process no more.
async fn wants_rules() -> Result<bool, Failure> {
    const QUESTION: &str = "Write .afk.toml with this command? [Y/n] ";
    let answer = tokio::task::spawn_blocking(|| ask(std::io::stdout(), QUESTION));
    tokio::select! {
        answer = answer => {
            let answer = answer.map_err(std::io::Error::other)??;
            Ok(!answer.to_lowercase().starts_with('n'))
        }
        _ = tokio::signal::ctrl_c() => {
            print_line("");
            Ok(false)
        }
    }
}

/// Runs the suite once and prints how it ended. None if it can't be tried here.
async fn try_suite(
    args: &InitArgs,
    repository: &DetectedRepository,
    suite: &ProposedSuite,
    state: &Path,
) -> Result<Option<Trial>, Failure> {
    let command = suite.command();
    let tried = async {
        let report = suite.report.map(|text| ReportFormat::try_from(text.to_owned()));
        let report = report.transpose()?.unwrap_or_default();
        let to_try = TrialCommand { line: command.clone(), report, ..TrialCommand::default() };
        let (top, objects) = (repository.top.clone(), repository.objects.clone());
        let checkout = TrialCheckout::new(state, TrialSource::Folder { top, objects }).await?;
        let commit = checkout.commit.clone();
        let announce = |level: Level| {
            let limit = plural(args.try_seconds, "second");
            print_line(&format!("{} suggests the test command `{command}`.", suite.found));
            print_line(&format!(
                "Trying it once on a clean checkout of {commit}, behind the wall ({level}), for at \
                 most {limit}; Ctrl-C skips it."
            ));
        };
        let limit = Duration::from_secs(args.try_seconds);
        checkout.run(&to_try, &SandboxConfig::default(), limit, announce).await
    };
    let trial = match tried.await {
        Ok(trial) => trial,
        Err(why) => {
            print_line(&format!("The test command `{command}` was not tried: {why}."));
            return Ok(None);
        }
    };
    print_line(&format!("The test command {}.", trial.summary()));
    if trial.interrupted() {
        return Ok(Some(trial));
    }
    for name in trial.failed_tests() {
        print_line(&format!("    {name}"));
    }
    if !trial.passed() {
        print_line("The end of its output:");
        for line in trial.end_of_log() {
            print_line(&format!("    {line}"));
        }
        print_line(
            "The gate runs it like this: on a commit alone, without untracked files, your home folder \
             or its settings.",
        );
        print_line("No run starts on a red suite. Mend it, or change `test` in .afk.toml.");
    } else if trial.proves_nothing() {
        print_line("It ran no test, so no change can be proved by it. Write a first test.");
    } else if !trial.has_names() {
        print_line("Its output names no tests, so the gate goes by exit codes only.");
    }
    print_line("");
    Ok(Some(trial))
}

/// The facts about a repository that its configuration starts from.
struct DetectedRepository {
    /// The top folder of the checkout.
    top: PathBuf,
    repo: Repo,
    remote: String,
    branch: String,
    /// The folder with its objects.
    objects: PathBuf,
    /// The test suite that its files suggest.
    suite: Option<ProposedSuite>,
    /// The presets whose programs are on the PATH.
    agents: Vec<(&'static str, PathBuf)>,
    /// The name of the person who may arm issues.
    user: Option<String>,
}

impl DetectedRepository {
    fn detect(dir: &Path) -> Result<Self, Failure> {
        let repository = git2::Repository::discover(dir).map_err(|_| {
            Failure::new(
                FailureKind::Usage,
                format!("{} is not in a git repository", dir.display()),
            )
            .hint("change to a repository, or run `git init` and commit first")
        })?;
        let top = repository.workdir().map(Path::to_owned).ok_or_else(|| {
            Failure::new(
                FailureKind::Usage,
                "a bare repository has no files to detect a test command from",
            )
        })?;
        let remote = repository
            .find_remote("origin")
            .ok()
            .and_then(|remote| remote.url().ok().map(str::to_owned))
            .map_or_else(|| top.display().to_string(), |address| absolute(&top, address));
        let branch = upstream_branch(&repository);
        Ok(Self {
            repo: repo_name(&remote),
            remote,
            branch,
            objects: repository.commondir().join("objects"),
            suite: suite::propose(&top),
            user: user(),
            agents: presets().iter().filter_map(installed_preset).collect(),
            top,
        })
    }
}

impl DetectedRepository {
    /// A sentence about each thing that keeps an issue from landing with this configuration, with the
    /// command that mends it.
    async fn obstacles(&self, config: &Path, wrote_rules: bool) -> Vec<String> {
        let mut found = Vec::new();
        if self.suite.is_none() && wrote_rules {
            found.push(
                "afk recognised no test command, so .afk.toml has `test = \"false\"`, which always \
                 fails: write yours there."
                    .to_owned(),
            );
        }
        if self.user.is_none() {
            let config = config.display();
            found.push(format!(
                "Nobody may arm an issue: write your name into `trusted` in {config}."
            ));
        }
        if let Some(obstacle) = push_target::obstacle(&self.remote, &self.branch, &self.repo).await
        {
            found.push(format!("{}: {}.", obstacle.why, obstacle.hint));
        }
        found
    }
}

/// The name of the user, as the environment or the machine's list of users has it.
pub(super) fn user() -> Option<String> {
    let variable = |name| std::env::var(name).ok().filter(|name| !name.is_empty());
    let listed = || {
        let users = std::fs::read_to_string("/etc/passwd").ok()?;
        let id = rustix::process::getuid().as_raw().to_string();
        let ours = |line: &&str| line.split(':').nth(2) == Some(id.as_str());
        users.lines().find(ours)?.split(':').next().map(str::to_owned)
    };
    variable("USER").or_else(|| variable("LOGNAME")).or_else(listed)
}

/// The default branch of `origin`, or else the current branch.
fn upstream_branch(repository: &git2::Repository) -> String {
    let remote_head = repository.find_reference("refs/remotes/origin/HEAD").ok();
    let remote_head = remote_head
        .and_then(|head| head.symbolic_target().ok().flatten().map(str::to_owned))
        .and_then(|name| name.strip_prefix("refs/remotes/origin/").map(str::to_owned));
    // Also the name of a branch without a commit.
    let local = || {
        let head = repository.find_reference("HEAD").ok()?;
        let target = head.symbolic_target().ok().flatten()?;
        target.strip_prefix("refs/heads/").map(str::to_owned)
    };
    remote_head.or_else(local).unwrap_or_else(|| "master".into())
}

/// The address of a remote. git reads a path from the top of the checkout, and afk from the folder of its
/// configuration.
fn absolute(top: &Path, address: String) -> String {
    let path = top.join(&address);
    match path.canonicalize() {
        Ok(path) if !address.contains(':') => path.display().to_string(),
        _ => address,
    }
}

/// Derives `owner/name` from an address: its last two parts, without characters that are not allowed.
fn repo_name(remote: &str) -> Repo {
    let trimmed = remote.trim_end_matches('/').trim_end_matches(".git");
    let mut parts = trimmed.rsplit(['/', ':']).filter(|part| !part.is_empty());
    let clean = |part: Option<&str>, or: &str| {
        let part: String = part
            .unwrap_or_default()
            .chars()
            .filter(|c| c.is_ascii_alphanumeric() || "._-".contains(*c))
            .collect();
        let part = part.trim_start_matches(['-', '.']).to_owned();
        if part.is_empty() { or.to_owned() } else { part }
    };
    let name = clean(parts.next(), "repository");
    let owner = clean(parts.next(), "local");
    Repo::parse(&format!("{owner}/{name}"))
        .or_else(|_| Repo::parse("local/repository"))
        .unwrap_or_else(|_| unreachable!("a constant name is well formed"))
}

/// The preset with the path of its program, if that is on the PATH.
fn installed_preset(
    (name, preset): (&'static String, &'static Preset),
) -> Option<(&'static str, PathBuf)> {
    let path = on_path(preset.command.first()?)?;
    Some((name.as_str(), path))
}

fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

fn configuration(detected: &DetectedRepository) -> String {
    let mut agents = String::new();
    for (name, path) in &detected.agents {
        agents.push_str(&format!(
            "# Found: {}\n[agents.{name}]\npreset = \"{name}\"\n\n",
            path.display()
        ));
    }
    let agents = if agents.is_empty() {
        "# No agent with a preset is on your PATH.\n".into()
    } else {
        agents
    };
    let chosen = detected
        .agents
        .first()
        .map_or_else(|| "# agent = \"mine\"".to_owned(), |(name, _)| format!("agent = \"{name}\""));
    let repository = format!(
        "[repos.\"{}\"]\nremote = {}\nbranch = {}\n# Environment variables that point at folders which `[setup]` of .afk.toml fills for later checkouts.\n# caches = {{ CARGO_TARGET_DIR = \"target\" }}",
        detected.repo,
        quoted(&detected.remote),
        quoted(&detected.branch)
    );
    TEMPLATE
        .replace("{{trusted}}", &detected.user.as_deref().map(quoted).unwrap_or_default())
        .replace("{{agents}}\n", &agents)
        .replace("{{agent}}", &chosen)
        .replace("{{repository}}", &repository)
}

fn rules_text(suite: Option<&ProposedSuite>, trial: Option<&Trial>) -> String {
    let remark = match (suite, trial) {
        (None, _) => "# afk recognised no test command: write yours here.\n".to_owned(),
        (Some(_), None) => "# Not tried yet.\n".to_owned(),
        (Some(_), Some(trial)) => format!("# `afk init` tried it: it {}.\n", trial.summary()),
    };
    let test = suite.map_or_else(|| "false".to_owned(), ProposedSuite::command);
    let report = match suite.and_then(|suite| suite.report) {
        Some(report) => format!("[gate]\nreport = {}\n\n", quoted(report)),
        None => String::new(),
    };
    format!(
        "# How afk tests, builds and deploys this repository (docs/configuration.md). afk\n\
         # always reads it from the commit that a run starts from. `afk config check .afk.toml` checks it;\n\
         # `afk config schema --repository > FILE` with a first line \"#:schema FILE\" has an editor do so.\n\
         {remark}test = {}\n\n\
         {report}\
         # [ci]\n# command = {}\n\n\
         # [deploy]\n# command = \"./deploy.sh\"\n\n\
         # [probe]\n# http = \"http://127.0.0.1:8080/health\"\n# soak_ms = 60000\n",
        quoted(&test),
        quoted(&test)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repo_name_comes_from_the_address() {
        for (remote, name) in [
            ("git@github.com:acme/widget.git", "acme/widget"),
            ("https://github.com/acme/widget", "acme/widget"),
            ("/srv/git/widget.git/", "git/widget"),
            ("widget", "local/widget"),
            ("", "local/repository"),
            ("x://é/ü", "local/repository"),
        ] {
            assert_eq!(repo_name(remote).as_str(), name, "{remote}");
        }
    }
}
