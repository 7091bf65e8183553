//! `afk init`: examines the repository you are in and writes a configuration that starts nothing. It
//! overwrites no file.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use clap::Args;

use super::instance::InstanceArgs;
use super::terminal::print_line;
use crate::agent::vendor::on_path;
use crate::config::agent::{Preset, presets};
use crate::core::model::id::Repo;
use crate::error::{Failure, FailureKind};

const TEMPLATE: &str = include_str!("../../assets/afk.toml");

#[derive(Debug, Args)]
pub(super) struct InitArgs {
    /// The folder of the repository
    #[arg(default_value = ".")]
    pub(super) dir: PathBuf,
}

pub(super) fn run(args: &InitArgs, instance: &InstanceArgs) -> Result<(), Failure> {
    let paths = instance.paths()?;
    if paths.config.exists() {
        let why = format!("{} already exists", paths.config.display());
        return Err(Failure::new(FailureKind::Usage, why)
            .hint("edit it, or name another file with --config; `afk doctor` checks it"));
    }
    let repository = DetectedRepository::detect(&args.dir)?;
    let folder = paths.config.parent().unwrap_or(Path::new("."));
    crate::trusted_file::create_folder(&folder.join("issues"))?;
    // The configuration grants rights, so the group may not write it, whatever the umask is.
    let mut file = File::options().write(true).create_new(true).mode(0o600).open(&paths.config)?;
    file.write_all(configuration(&repository).as_bytes())?;
    print_line(&format!("wrote {}", paths.config.display()));
    let rules = repository.top.join(crate::config::repository::FILE);
    if rules.exists() {
        print_line(&format!("{} already exists", rules.display()));
    } else {
        std::fs::write(&rules, rules_text(&repository))?;
        print_line(&format!("wrote {}: review and commit it", rules.display()));
    }
    print_line("");
    print_line("It starts nothing yet. To change that:");
    print_line(&format!("  1. write an issue into {}", folder.join("issues").display()));
    print_line(&format!("  2. put \"{}\" on the allowlist and name an agent", repository.repo));
    print_line("  3. set kill_switch = false");
    print_line("`afk doctor` reports what is missing.");
    Ok(())
}

/// The facts about a repository that its configuration starts from.
struct DetectedRepository {
    /// The top folder of the checkout.
    top: PathBuf,
    repo: Repo,
    remote: String,
    branch: String,
    /// The test command that its files suggest.
    test: Option<&'static str>,
    /// The presets whose programs are on the PATH.
    agents: Vec<(&'static str, PathBuf)>,
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
            .unwrap_or_else(|| top.display().to_string());
        let branch = upstream_branch(&repository);
        Ok(Self {
            repo: repo_name(&remote),
            remote,
            branch,
            test: test_command(&top),
            agents: presets().iter().filter_map(installed_preset).collect(),
            top,
        })
    }
}

/// The default branch of `origin`, or else the current branch.
fn upstream_branch(repository: &git2::Repository) -> String {
    let remote_head = repository.find_reference("refs/remotes/origin/HEAD").ok();
    let remote_head = remote_head
        .and_then(|head| head.symbolic_target().ok().flatten().map(str::to_owned))
        .and_then(|name| name.strip_prefix("refs/remotes/origin/").map(str::to_owned));
    let local = || {
        let head = repository.head().ok()?;
        head.shorthand().ok().map(str::to_owned)
    };
    remote_head.or_else(local).unwrap_or_else(|| "master".into())
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

fn test_command(top: &Path) -> Option<&'static str> {
    let has = |name: &str| top.join(name).exists();
    let names = |file: &str, word: &str| {
        std::fs::read_to_string(top.join(file)).is_ok_and(|text| text.contains(word))
    };
    [
        (has("test.sh"), "./test.sh"),
        (has("Cargo.toml"), "cargo test"),
        (names("package.json", "\"test\""), "npm test"),
        (has("go.mod"), "go test ./..."),
        (has("mix.exs"), "mix test"),
        (has("pom.xml"), "mvn -q test"),
        (has("pytest.ini") || names("pyproject.toml", "pytest"), "pytest"),
        (names("Makefile", "\ntest:"), "make test"),
    ]
    .into_iter()
    .find_map(|(there, command)| there.then_some(command))
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
    let user = std::env::var("USER").ok().filter(|name| !name.is_empty());
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
        .replace("{{trusted}}", &user.map(|name| quoted(&name)).unwrap_or_default())
        .replace("{{agents}}\n", &agents)
        .replace("{{agent}}", &chosen)
        .replace("{{repository}}", &repository)
}

fn rules_text(detected: &DetectedRepository) -> String {
    let (test, remark) = match detected.test {
        Some(test) => (test, ""),
        None => ("false", "# afk recognised no test command: write yours here.\n"),
    };
    format!(
        "# How afk tests, builds and deploys this repository (docs/configuration.md). afk\n\
         # always reads it from the commit that a run starts from.\n\
         {remark}test = {}\n\n\
         # [ci]\n# command = {}\n\n\
         # [deploy]\n# command = \"./deploy.sh\"\n\n\
         # [probe]\n# http = \"http://127.0.0.1:8080/health\"\n# soak_ms = 60000\n",
        quoted(test),
        quoted(test)
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
