//! The check of one agent: its program, its version, its login, and a turn without a prompt, which
//! tries what a run will use. afk reads no credential; the agent's own program does.

use std::path::Path;
use std::process::Stdio;

use tokio::process::Command;
use tokio::time::timeout;

use super::{CHECK, CheckResult, Problem, failed, git, problem};
use crate::agent::vendor::{self, on_path};
use crate::config::Config;
use crate::config::ability::Abilities;
use crate::config::agent::{AgentConfig, Login, Preset, Protocol};
use crate::core::model::id::Repo;
use crate::core::model::untrusted::clean_line;
use crate::error::chain;
use crate::runtime::agent_home::found_login;
use crate::runtime::dry_turn::{self, DryTurn};
use crate::workspace::{base, name};

/// Checks that an agent is installed, in a tested version, and that a run of it can begin.
pub(super) async fn check(name: &str, agent: &AgentConfig, config: &Config) -> CheckResult {
    let our_env = |name: &str| std::env::var(name).ok();
    for (key, reference) in &agent.secrets {
        if let Err(error) = crate::secrets::resolve(reference, &our_env) {
            let found = failed(&error, "see `secrets` in docs/configuration.md");
            return Err(problem(format!("{key}: {}", found.why), found.hint));
        }
    }
    let program = agent.command().first().cloned().unwrap_or_default();
    let preset = agent.preset_definition();
    let Some(path) = on_path(&program) else {
        let hint = preset.map_or_else(
            || format!("install it, or write its full path into agents.{name}.command"),
            |preset| format!("{}, or write its path into agents.{name}.command", preset.install),
        );
        return Err(problem(format!("{program} is not on the PATH"), hint));
    };
    let installed = path.display().to_string();
    let Some(preset) = preset else { return Ok(installed) };
    let version = version(&path, &preset.version, agent).await;
    let version = match &version {
        None => "unknown version".to_owned(),
        Some(version) if preset.tested.contains(version) => format!("{version}, tested"),
        Some(version) => format!("{version}, not tested (tested: {})", preset.tested.join(", ")),
    };
    let native =
        preset.vendor.as_ref().and_then(|pattern| vendor::program_behind_shim(&path, pattern));
    let shim = native.map_or("", |_| "; afk runs the program behind npm's shim");
    let found = found_login(agent, &our_env);
    let tried = if dry_turn::allows(agent.protocol()) {
        Some(dry(name, agent, config).await?)
    } else {
        None
    };
    let asks = asks_for(&preset.can);
    let installed = format!("{installed}, {version}{shim}, {asks}");
    judge(&installed, preset, found, tried)
}

/// The tools for which an agent asks afk before it uses them.
fn asks_for(can: &Abilities) -> String {
    let tools: Vec<&str> = can.asks.iter().map(|tool| tool.as_str()).collect();
    if tools.is_empty() {
        return "asks for no permission, so that the wall alone holds it".to_owned();
    }
    format!("asks for {}", tools.join(", "))
}

/// Checks that no file of a repository lets its agents act without asking. `None` where none could, or
/// where the repository is not on this machine yet.
pub(super) async fn settings(config: &Config, state: &Path, repo: &Repo) -> Option<CheckResult> {
    let section = config.repos.get(repo)?;
    let (name, agent) = config.agent_of(repo)?;
    let others = agent.fallback.iter().filter_map(|name| config.agents.get_key_value(name));
    let of_agent = |(name, agent): (&String, &AgentConfig)| {
        let preset = agent.preset_definition();
        let files = preset.into_iter().flat_map(|preset| &preset.unasked);
        files.map(|file| (name.clone(), file)).collect::<Vec<_>>()
    };
    let files: Vec<_> = std::iter::once((name, agent)).chain(others).flat_map(of_agent).collect();
    if files.is_empty() {
        return None;
    }
    let local = Path::new(&section.remote);
    let clone = state.join("workspaces").join(name::folder(repo)).join(base::FOLDER);
    let (dir, branch) = if local.is_dir() {
        (local.to_owned(), format!("refs/heads/{}", section.branch))
    } else if clone.is_dir() {
        (clone, format!("refs/remotes/origin/{}", section.branch))
    } else {
        return None;
    };
    let mut found = Vec::new();
    for (agent, file) in files {
        if git(&["cat-file", "-e", &format!("{branch}:{file}")], Some(&dir)).await.is_ok() {
            found.push(format!("{file} can let {agent} act without asking"));
        }
    }
    if found.is_empty() {
        return Some(Ok("none lets its agent act without asking".to_owned()));
    }
    let why = format!("{}; the policy doesn't bind it there, and the wall does", found.join("; "));
    Some(Err(problem(why, "delete it from the repository, or choose another agent for it")))
}

/// Judges an installed agent by the login that is there, and by its dry turn.
fn judge(
    installed: &str,
    preset: &Preset,
    found: Option<(&Login, &String)>,
    tried: Option<Result<DryTurn, String>>,
) -> CheckResult {
    let login = match found {
        Some((login, trace)) => format!("logs in by {trace} ({})", login.kind),
        // These look for a login without a prompt.
        None if matches!(preset.protocol, Protocol::Claude | Protocol::Codex | Protocol::Pi)
            && matches!(tried, Some(Ok(_))) =>
        {
            "finds a login by itself".to_owned()
        }
        None => {
            let why = match tried {
                Some(Err(why)) => format!("; a turn without a prompt: {why}"),
                _ => String::new(),
            };
            let why = format!("{installed}, has no visible login{why}");
            return Err(problem(why, &preset.log_in));
        }
    };
    match tried {
        None => Ok(format!("{installed}, {login}")),
        Some(Ok(DryTurn { model, notices })) => {
            let model = model.map_or_else(String::new, |model| format!(" with the model {model}"));
            let told = format!("{installed}, {login}, opens a conversation{model}");
            match notices.as_slice() {
                [] => Ok(told),
                doubts => {
                    let hint = "a run goes on all the same, but not as configured";
                    Err(problem(format!("{told}, but: {}", doubts.join("; ")), hint))
                }
            }
        }
        Some(Err(why)) => {
            let why = format!("{installed}, {login}, but a turn without a prompt fails: {why}");
            Err(problem(why, hint_of(&preset.log_in)))
        }
    }
}

/// The next step after a failed dry turn, whose cause is often the login.
fn hint_of(log_in: &str) -> String {
    format!("correct what the agent names; if it is the login: {log_in}")
}

/// Tries an agent in a folder of its own.
async fn dry(
    name: &str,
    agent: &AgentConfig,
    config: &Config,
) -> Result<Result<DryTurn, String>, Problem> {
    let hint = "check the folder for temporary files";
    let launcher = crate::cli::own_program().map_err(|failure| problem(chain(&failure), hint))?;
    let folder = format!("afk-dry-turn-{}-{name}", std::process::id());
    let folder = std::env::temp_dir().join(folder);
    let io = |error: std::io::Error| failed(&error, hint);
    std::fs::create_dir(&folder).map_err(io)?;
    let tried = dry_turn::dry_turn(config, agent, launcher, &folder, CHECK).await;
    std::fs::remove_dir_all(&folder).map_err(io)?;
    Ok(tried)
}

/// The version that a program prints: the first word that starts with a digit and contains a dot.
async fn version(program: &Path, args: &[String], agent: &AgentConfig) -> Option<String> {
    if args.is_empty() {
        return None;
    }
    let mut command = Command::new(program);
    command.args(args).envs(agent.fixed_variables()).stdin(Stdio::null()).stderr(Stdio::null());
    command.kill_on_drop(true);
    let out = timeout(CHECK, command.output()).await.ok()?.ok()?;
    version_in(&String::from_utf8_lossy(&out.stdout))
}

fn version_in(output: &str) -> Option<String> {
    let output = clean_line(output);
    let is_version =
        |word: &&str| word.starts_with(|c: char| c.is_ascii_digit()) && word.contains('.');
    let found = output.split([' ', '(', ')', 'v']).find(is_version);
    found.map(|version| version.trim_end_matches('.').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::agent::presets;

    fn said(preset: &str, found: bool, tried: Result<DryTurn, String>) -> Result<String, String> {
        let preset = &presets()[preset];
        let login = &preset.logins[0];
        let trace = login.env.first().or(login.files.first()).unwrap();
        let found = found.then_some((login, trace));
        judge("p, 1.0, tested", preset, found, Some(tried)).map_err(|problem| problem.why)
    }

    #[test]
    fn version_is_found_in_what_agents_print() {
        for (printed, version) in [
            ("2.1.330 (Claude Code)", Some("2.1.330")),
            ("codex-cli 0.169.0", Some("0.169.0")),
            ("GitHub Copilot CLI 1.0.102.\nRun 'copilot update'", Some("1.0.102")),
            ("v24.21.0", Some("24.21.0")),
            ("unknown", None),
        ] {
            assert_eq!(version_in(printed).as_deref(), version, "{printed}");
        }
    }

    #[test]
    fn dry_turn_decides_what_a_trace_of_a_login_only_suggests() {
        let works = || Ok(DryTurn { model: Some("m".into()), notices: Vec::new() });
        let fails = || Err("Authentication required".to_owned());
        let told = said("gemini", true, works()).unwrap();
        assert!(
            told.contains("logs in by GEMINI_API_KEY (key)") && told.ends_with("with the model m")
        );
        assert!(said("gemini", true, fails()).unwrap_err().contains("Authentication required"));
        assert!(said("gemini", false, fails()).unwrap_err().contains("no visible login; a turn"));
        // claude and codex report a missing login by themselves, opencode opens a session without one.
        assert!(said("claude", false, works()).unwrap().contains("finds a login by itself"));
        assert!(said("opencode", false, works()).unwrap_err().contains("no visible login"));
        let notices = vec!["the agent rejected the configured mode".to_owned()];
        let told = said("qwen", true, Ok(DryTurn { model: None, notices })).unwrap_err();
        assert!(told.contains("rejected the configured mode"));
    }
}
