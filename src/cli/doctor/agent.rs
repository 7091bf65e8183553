//! The check of one agent, without reading its credentials.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::process::Command;
use tokio::time::timeout;

use super::{CHECK, CheckResult, failed, problem};
use crate::agent::vendor::{self, on_path};
use crate::config::agent::AgentConfig;
use crate::core::model::untrusted::clean_line;

/// Checks that an agent is installed, in a tested version, and has the traces of a login.
pub(super) async fn check(name: &str, agent: &AgentConfig) -> CheckResult {
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
    let home = agent.home.clone().or_else(|| our_env("HOME").map(PathBuf::from));
    let login = &preset.login;
    let variable = login.env.iter().find(|name| {
        let sets = |all: &BTreeMap<String, String>| all.contains_key(*name);
        sets(&agent.set) || sets(&agent.secrets) || our_env(name).is_some()
    });
    let file = login.files.iter().find(|file| home.as_ref().is_some_and(|h| h.join(file).exists()));
    let native =
        preset.vendor.as_ref().and_then(|pattern| vendor::program_behind_shim(&path, pattern));
    let shim = native.map_or("", |_| "; afk runs the program behind npm's shim");
    match variable.or(file) {
        Some(trace) => Ok(format!("{installed}, {version}, logs in by {trace}{shim}")),
        None => Err(problem(format!("{installed}, {version}, has no visible login"), &login.how)),
    }
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
    let output = clean_line(&String::from_utf8_lossy(&out.stdout));
    let is_version =
        |word: &&str| word.starts_with(|c: char| c.is_ascii_digit()) && word.contains('.');
    output.split([' ', '(', ')', 'v']).find(is_version).map(str::to_owned)
}
