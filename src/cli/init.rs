//! `afk init`: looks at the repository you are in and writes a configuration that starts nothing.

use std::path::{Path, PathBuf};

use clap::Args;

use super::place::PlaceArgs;
use crate::agent::vendor::on_path;
use crate::config::agent::{Preset, presets};
use crate::core::model::id::Repo;
use crate::error::{Failure, FailureKind};

const TEMPLATE: &str = include_str!("../../assets/afk.toml");

/// Arguments of `afk init`.
#[derive(Debug, Args)]
pub struct InitArgs {
    /// The repository's folder
    #[arg(default_value = ".")]
    pub dir: PathBuf,
}

/// Runs the command. Nothing that is there is overwritten.
///
/// # Errors
/// [`Failure`].
pub fn run(args: &InitArgs, place: &PlaceArgs) -> Result<(), Failure> {
    let paths = place.paths()?;
    if paths.config.exists() {
        let why = format!("{} is there already", paths.config.display());
        return Err(Failure::new(FailureKind::Usage, why)
            .hint("edit it, or name another one with --config; `afk doctor` checks it"));
    }
    let found = look(&args.dir)?;
    let folder = paths.config.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder.join("issues"))?;
    std::fs::write(&paths.config, configuration(&found))?;
    super::say(&format!("wrote {}", paths.config.display()));
    let rules = found.top.join(crate::config::repository::FILE);
    if rules.exists() {
        super::say(&format!("{} is there already", rules.display()));
    } else {
        std::fs::write(&rules, rules_text(&found))?;
        super::say(&format!("wrote {}: look it over and commit it", rules.display()));
    }
    super::say("");
    super::say("It starts nothing yet. To let it:");
    super::say(&format!("  1. write an issue into {}", folder.join("issues").display()));
    super::say(&format!("  2. put \"{}\" on the allowlist and name an agent", found.repo));
    super::say("  3. set kill_switch = false");
    super::say("`afk doctor` says what is missing.");
    Ok(())
}

struct Found {
    top: PathBuf,
    repo: Repo,
    remote: String,
    branch: String,
    test: Option<&'static str>,
    agents: Vec<(&'static str, PathBuf)>,
}

fn look(dir: &Path) -> Result<Found, Failure> {
    let repository = git2::Repository::discover(dir).map_err(|_| {
        Failure::new(FailureKind::Usage, format!("{} is in no git repository", dir.display()))
            .hint("go into one, or `git init` and commit first")
    })?;
    let top = repository.workdir().map(Path::to_owned).ok_or_else(|| {
        Failure::new(FailureKind::Usage, "a bare repository has no files to look at")
    })?;
    let remote = repository
        .find_remote("origin")
        .ok()
        .and_then(|remote| remote.url().ok().map(str::to_owned))
        .unwrap_or_else(|| top.display().to_string());
    let branch = upstream_branch(&repository);
    Ok(Found {
        repo: name_of(&remote),
        remote,
        branch,
        test: test_command(&top),
        agents: presets().iter().filter_map(found_preset).collect(),
        top,
    })
}

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

/// `owner/name` out of an address: the last two parts, brought to the allowed characters.
fn name_of(remote: &str) -> Repo {
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

/// A preset whose program is on the PATH under its own name.
fn found_preset(
    (name, preset): (&'static String, &'static Preset),
) -> Option<(&'static str, PathBuf)> {
    let path = on_path(preset.command.first()?)?;
    Some((name.as_str(), path))
}

fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

fn configuration(found: &Found) -> String {
    let user = std::env::var("USER").ok().filter(|name| !name.is_empty());
    let mut agents = String::new();
    for (name, path) in &found.agents {
        agents.push_str(&format!(
            "# Found: {}\n[agents.{name}]\npreset = \"{name}\"\n\n",
            path.display()
        ));
    }
    let agents = if agents.is_empty() {
        "# None of the agents that are known by name was found on your PATH.\n".into()
    } else {
        agents
    };
    let chosen = found
        .agents
        .first()
        .map_or_else(|| "# agent = \"mine\"".to_owned(), |(name, _)| format!("agent = \"{name}\""));
    let repository = format!(
        "[repos.\"{}\"]\nremote = {}\nbranch = {}\n# Environment names that point at folders shared by all its worktrees.\n# caches = {{ CARGO_TARGET_DIR = \"target\" }}",
        found.repo,
        quoted(&found.remote),
        quoted(&found.branch)
    );
    TEMPLATE
        .replace("{{trusted}}", &user.map(|name| quoted(&name)).unwrap_or_default())
        .replace("{{agents}}\n", &agents)
        .replace("{{agent}}", &chosen)
        .replace("{{repository}}", &repository)
}

fn rules_text(found: &Found) -> String {
    let (test, remark) = match found.test {
        Some(test) => (test, ""),
        None => ("false", "# No test command was recognised: write yours here.\n"),
    };
    format!(
        "# How afk tests, builds and deploys this repository (docs/configuration.md). Always read\n\
         # from the commit that a run begins from.\n\
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
    fn addresses_have_a_name() {
        for (remote, name) in [
            ("git@github.com:acme/widget.git", "acme/widget"),
            ("https://github.com/acme/widget", "acme/widget"),
            ("/srv/git/widget.git/", "git/widget"),
            ("widget", "local/widget"),
            ("", "local/repository"),
            ("x://é/ü", "local/repository"),
        ] {
            assert_eq!(name_of(remote).as_str(), name, "{remote}");
        }
    }
}
