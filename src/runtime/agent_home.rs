//! What the home of an agent behind the wall starts with: copies of its login and of its settings, and
//! the shipped settings that stop updates and telemetry. An agent sees nothing else of the user's home
//! but the folders that its preset reads.
//!
//! [`turn_spec`](super::tasks) asks for the seeds of an agent, and [`Wall`](super::wall::Wall) plants
//! them before the agent starts.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::wall::write_below;
use crate::config::agent::{AgentConfig, Preset};
use crate::sandbox::{Level, Sandbox, user_home};

/// A file that a home starts with, unless it is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seed {
    /// Its path below the home.
    pub name: String,
    pub source: SeedSource,
}

/// Where the content of a seed comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum SeedSource {
    /// A copy of this file, if it exists.
    Copy(PathBuf),
    /// A shipped text.
    Shipped(&'static str),
}

/// A variable of our environment.
type OurEnv<'a> = &'a dyn Fn(&str) -> Option<String>;

/// The files that an agent's home starts with. A home of the owner's choice has its own settings.
pub(super) fn seeds(agent: &AgentConfig, our_env: OurEnv<'_>) -> Vec<Seed> {
    let Some(preset) = agent.preset_definition() else { return Vec::new() };
    let copies = copied_files(agent, our_env);
    let copies = copies.into_iter().map(|(name, from)| {
        let source = SeedSource::Copy(from);
        Seed { name, source }
    });
    let shipped = preset.files.iter().map(|(name, text)| {
        let source = SeedSource::Shipped(text);
        Seed { name: name.clone(), source }
    });
    // The first one of a name wins.
    copies.chain(shipped).collect()
}

/// The user's files that an agent gets copies of: the path below its home, and where each one lies.
pub(super) fn copied_files(agent: &AgentConfig, our_env: OurEnv<'_>) -> Vec<(String, PathBuf)> {
    let Some(preset) = agent.preset_definition() else { return Vec::new() };
    let settings = preset.settings.iter().filter(|_| agent.home.is_none());
    let names = preset.login.files.iter().chain(settings);
    names.filter_map(|name| Some((name.clone(), of_user(preset, name, our_env)?))).collect()
}

/// Where the user's own file of an agent lies: below the folder that a variable names, or below HOME.
fn of_user(preset: &Preset, name: &str, our_env: OurEnv<'_>) -> Option<PathBuf> {
    let moved = preset.folders.iter().find_map(|(variable, folder)| {
        let rest = Path::new(name).strip_prefix(folder).ok()?;
        Some(moved_to(variable, our_env)?.join(rest))
    });
    moved.or_else(|| Some(user_home()?.join(name)))
}

/// The folder that a variable of our environment names.
fn moved_to(variable: &str, our_env: OurEnv<'_>) -> Option<PathBuf> {
    our_env(variable).map(PathBuf::from).filter(|folder| folder.is_absolute())
}

/// The parts of the user's home that an agent without a home of its own may read in place.
pub(super) fn readable(agent: &AgentConfig) -> Vec<PathBuf> {
    let preset = agent.preset_definition().filter(|_| agent.home.is_none());
    let names = preset.into_iter().flat_map(|preset| &preset.read);
    names.filter_map(|name| Some(user_home()?.join(name))).collect()
}

/// Points the variables that move an agent's folders at its home behind the wall, where the folders
/// that they name don't exist. The owner's own values stay.
pub(super) fn keep_folders_at_home(
    agent: &AgentConfig,
    sandbox: &Sandbox,
    env: &mut BTreeMap<String, String>,
    our_env: OurEnv<'_>,
) {
    let Some(preset) = agent.preset_definition() else { return };
    // With namespaces, a home without a choice of the owner appears at the path of the user's.
    let at_users = sandbox.level == Level::Strong && agent.home.is_none();
    let home = if at_users { user_home() } else { sandbox.home.clone() };
    let Some(home) = home else { return };
    for (variable, folder) in &preset.folders {
        let is_own = agent.set.contains_key(variable) || agent.secrets.contains_key(variable);
        if !is_own && moved_to(variable, our_env).is_some() {
            env.insert(variable.clone(), home.join(folder).display().to_string());
        }
    }
}

/// Writes the seeds that are missing in a home. A login that the program renews there stays its own.
/// A link that the program left there is not followed.
pub(super) fn plant(home: &Path, seeds: &[Seed]) {
    for Seed { name, source } in seeds {
        if home.join(name).symlink_metadata().is_ok() {
            continue;
        }
        let planted = match source {
            SeedSource::Copy(from) if !from.is_file() => continue,
            SeedSource::Copy(from) => {
                std::fs::read(from).and_then(|bytes| write_below(home, Path::new(name), &bytes))
            }
            SeedSource::Shipped(text) => write_below(home, Path::new(name), text.as_bytes()),
        };
        if let Err(error) = planted {
            let path = home.join(name);
            tracing::warn!(path = %path.display(), %error, "an agent's file can't be written");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agent(preset: &str, home: Option<&str>) -> AgentConfig {
        let home = home.map(PathBuf::from);
        AgentConfig { preset: Some(preset.into()), home, ..AgentConfig::default() }
    }

    #[test]
    fn home_starts_with_login_and_settings_and_no_more() {
        let user = tempfile::tempdir().unwrap();
        let moved = user.path().display().to_string();
        let our_env = |name: &str| (name == "CODEX_HOME").then(|| moved.clone());
        for (name, text) in
            [("auth.json", "login"), ("config.toml", "settings"), ("history.jsonl", "private")]
        {
            std::fs::write(user.path().join(name), text).unwrap();
        }
        let home = tempfile::tempdir().unwrap();
        plant(home.path(), &seeds(&agent("codex", None), &our_env));
        let read = |name: &str| std::fs::read_to_string(home.path().join(".codex").join(name));
        assert_eq!(read("auth.json").unwrap(), "login");
        assert_eq!(read("config.toml").unwrap(), "settings");
        assert!(read("history.jsonl").is_err());
        // What the agent wrote since stays.
        std::fs::write(home.path().join(".codex/auth.json"), "renewed").unwrap();
        plant(home.path(), &seeds(&agent("codex", None), &our_env));
        assert_eq!(read("auth.json").unwrap(), "renewed");
    }

    #[test]
    fn own_home_keeps_its_own_settings() {
        let nothing = |_: &str| None;
        let names = |seeds: Vec<Seed>| seeds.into_iter().map(|seed| seed.name).collect::<Vec<_>>();
        let own = names(seeds(&agent("codex", Some("/h")), &nothing));
        assert_eq!(own, [".codex/auth.json"]);
        assert!(readable(&agent("claude", Some("/h"))).is_empty());
        let home = tempfile::tempdir().unwrap();
        let shipped = seeds(&agent("gemini", Some("/h")), &nothing);
        plant(home.path(), &shipped);
        let settings = std::fs::read_to_string(home.path().join(".gemini/settings.json")).unwrap();
        assert!(settings.contains("usageStatisticsEnabled"));
    }

    #[test]
    fn moved_folder_is_at_home_behind_the_wall() {
        let our_env = |name: &str| (name == "CODEX_HOME").then(|| "/elsewhere".to_owned());
        let mut sandbox = Sandbox::granting_nothing(Level::Landlock);
        sandbox.home = Some("/private/home".into());
        let mut env = BTreeMap::from([("CODEX_HOME".to_owned(), "/elsewhere".to_owned())]);
        keep_folders_at_home(&agent("codex", None), &sandbox, &mut env, &our_env);
        assert_eq!(env["CODEX_HOME"], "/private/home/.codex");
        sandbox.level = Level::Strong;
        keep_folders_at_home(&agent("codex", Some("/h")), &sandbox, &mut env, &our_env);
        assert_eq!(env["CODEX_HOME"], "/private/home/.codex");
        keep_folders_at_home(&agent("codex", None), &sandbox, &mut env, &our_env);
        let user = user_home().unwrap().join(".codex");
        assert_eq!(env["CODEX_HOME"], user.display().to_string());
        let set = BTreeMap::from([("CODEX_HOME".to_owned(), "/mine".to_owned())]);
        let mut env = set.clone();
        let agent = AgentConfig { set, ..agent("codex", None) };
        keep_folders_at_home(&agent, &sandbox, &mut env, &our_env);
        assert_eq!(env["CODEX_HOME"], "/mine");
    }
}
