//! What the home of an agent behind the wall starts with: copies of its login and of its settings, and
//! the shipped settings that stop updates and telemetry. An agent sees nothing else of the user's home
//! but the folders that its preset reads.
//!
//! [`turn_spec`](super::tasks) asks for the seeds of an agent, and [`Wall`](super::wall::Wall) plants
//! them before the agent starts.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::wall::{replace_below, write_below};
use crate::config::agent::{AgentConfig, Login, Preset};
use crate::sandbox::{Level, Sandbox, user_home};
use crate::whole_file;

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
    /// A shipped text that replaces whatever is there.
    Guard(&'static str),
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
    let guards = preset.guards.iter().map(|(name, text)| {
        let source = SeedSource::Guard(text);
        Seed { name: name.clone(), source }
    });
    // The first one of a name wins.
    guards.chain(copies).chain(shipped).collect()
}

/// The user's files that an agent gets copies of: the path below its home, and where each one lies.
pub(super) fn copied_files(agent: &AgentConfig, our_env: OurEnv<'_>) -> Vec<(String, PathBuf)> {
    let Some(preset) = agent.preset_definition() else { return Vec::new() };
    let settings = preset.settings.iter().filter(|_| agent.home.is_none());
    let names = preset.login_files().chain(settings);
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

/// Deletes what a program left in its private home to decide what it asks for.
pub(super) fn forget(home: &Path, names: &[String]) {
    for name in names {
        let path = home.join(name);
        // A link is deleted, and not followed.
        let deleted = match path.symlink_metadata() {
            Ok(known) if known.is_dir() => std::fs::remove_dir_all(&path),
            Ok(_) => std::fs::remove_file(&path),
            Err(_) => continue,
        };
        if let Err(error) = deleted {
            tracing::warn!(path = %path.display(), %error, "an agent's settings can't be deleted");
        }
    }
}

/// The folder with the files that an agent's settings can't override, for reading alone. It is written
/// again if it differs.
///
/// # Errors
/// A line that names the file which can't be written.
pub(super) fn enforced_folder(
    state: &Path,
    agent: &AgentConfig,
) -> Result<Option<PathBuf>, String> {
    let (Some(name), Some(preset)) = (&agent.preset, agent.preset_definition()) else {
        return Ok(None);
    };
    if preset.enforced.files.is_empty() {
        return Ok(None);
    }
    let folder = state.join("enforced").join(name);
    for (file, text) in &preset.enforced.files {
        let path = folder.join(file);
        if std::fs::read_to_string(&path).is_ok_and(|known| known == *text) {
            continue;
        }
        // Another turn may read or write it now.
        let written = std::fs::create_dir_all(&folder)
            .and_then(|()| whole_file::replace(&path, text.as_bytes(), 0o666));
        written.map_err(|error| format!("write {}: {error}", path.display()))?;
    }
    Ok(Some(folder))
}

/// Adds what makes an agent ask to its command and its environment. What needs a file is left out
/// without the folder: the agent runs elsewhere.
pub(super) fn enforce(
    agent: &AgentConfig,
    folder: Option<&Path>,
    command: &mut Vec<String>,
    env: &mut BTreeMap<String, String>,
) {
    let Some(preset) = agent.preset_definition() else { return };
    let enforced = &preset.enforced;
    let needs_folder = |text: &String| text.contains(ENFORCED);
    let filled = |text: &String| match folder {
        Some(folder) => text.replace(ENFORCED, &folder.display().to_string()),
        None => text.clone(),
    };
    if folder.is_some() || !enforced.args.iter().any(needs_folder) {
        command.extend(enforced.args.iter().map(filled));
    }
    let usable = enforced.env.iter().filter(|(_, value)| folder.is_some() || !needs_folder(value));
    env.extend(usable.map(|(name, value)| (name.clone(), filled(value))));
}

/// Stands for the folder of [`enforced_folder`] in a preset.
const ENFORCED: &str = "{enforced}";

/// Writes the seeds that are missing in a home. A login that the program renews there stays its own.
/// A link that the program left there is not followed.
///
/// # Errors
/// A line that names a guard that can't be written, without which the agent must not start.
pub(super) fn plant(home: &Path, seeds: &[Seed]) -> Result<(), String> {
    for Seed { name, source } in seeds {
        if let SeedSource::Guard(text) = source {
            replace_below(home, Path::new(name), text.as_bytes())
                .map_err(|error| format!("write {}: {error}", home.join(name).display()))?;
            continue;
        }
        if home.join(name).symlink_metadata().is_ok() {
            continue;
        }
        let planted = match source {
            SeedSource::Guard(_) => continue,
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
    Ok(())
}

/// Writes the guards of an agent into a home of its own, which stands also where no wall does.
///
/// # Errors
/// As [`plant`].
pub(super) fn plant_guards(agent: &AgentConfig, home: &Path) -> Result<(), String> {
    let mut guards = seeds(agent, &|_| None);
    guards.retain(|seed| matches!(seed.source, SeedSource::Guard(_)));
    if !guards.is_empty() {
        std::fs::create_dir_all(home)
            .map_err(|error| format!("create {}: {error}", home.display()))?;
    }
    plant(home, &guards)
}

/// This agent with the login that is there: in its own home, or else where its preset copies it from.
pub(crate) fn logged_in(agent: &AgentConfig, our_env: OurEnv<'_>) -> AgentConfig {
    found_login(agent, our_env).map_or_else(|| agent.clone(), |(login, _)| agent.with_login(login))
}

/// The kind of login that is there, and the variable or file by which it was recognized.
pub(crate) fn found_login(
    agent: &AgentConfig,
    our_env: OurEnv<'_>,
) -> Option<(&'static Login, &'static String)> {
    let preset = agent.preset_definition()?;
    agent.login(our_env, &|file| {
        let own = agent.home.as_ref().map(|home| home.join(file));
        let all = own.into_iter().chain(of_user(preset, file, our_env));
        all.into_iter().any(|path| path.is_file())
    })
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
        plant(home.path(), &seeds(&agent("codex", None), &our_env)).unwrap();
        let read = |name: &str| std::fs::read_to_string(home.path().join(".codex").join(name));
        assert_eq!(read("auth.json").unwrap(), "login");
        assert_eq!(read("config.toml").unwrap(), "settings");
        assert!(read("history.jsonl").is_err());
        // What the agent wrote since stays.
        std::fs::write(home.path().join(".codex/auth.json"), "renewed").unwrap();
        plant(home.path(), &seeds(&agent("codex", None), &our_env)).unwrap();
        assert_eq!(read("auth.json").unwrap(), "renewed");
    }

    #[test]
    fn guard_replaces_what_the_agent_left() {
        let nothing = |_: &str| None;
        let (home, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let guard = home.path().join(".pi/agent/afk.ts");
        let seeds = seeds(&agent("pi", None), &nothing);
        plant(home.path(), &seeds).unwrap();
        let shipped = std::fs::read_to_string(&guard).unwrap();
        assert!(shipped.contains("tool_call"));
        let target = outside.path().join("mine");
        std::fs::write(&target, "mine").unwrap();
        std::fs::remove_file(&guard).unwrap();
        std::os::unix::fs::symlink(&target, &guard).unwrap();
        plant(home.path(), &seeds).unwrap();
        assert!(!guard.symlink_metadata().unwrap().is_symlink());
        assert_eq!(std::fs::read_to_string(&guard).unwrap(), shipped);
        assert_eq!(std::fs::read_to_string(&target).unwrap(), "mine");
        // A folder in its place could hold another extension.
        std::fs::remove_file(&guard).unwrap();
        std::fs::create_dir(&guard).unwrap();
        assert!(plant(home.path(), &seeds).unwrap_err().contains("afk.ts"));
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
        plant(home.path(), &shipped).unwrap();
        let settings = std::fs::read_to_string(home.path().join(".gemini/settings.json")).unwrap();
        assert!(settings.contains("usageStatisticsEnabled"));
    }

    #[test]
    fn settings_that_an_agent_wrote_itself_are_replaced_by_those_of_the_user() {
        let user = tempfile::tempdir().unwrap();
        let moved = user.path().display().to_string();
        let our_env = |name: &str| (name == "CODEX_HOME").then(|| moved.clone());
        std::fs::write(user.path().join("config.toml"), "settings").unwrap();
        let home = tempfile::tempdir().unwrap();
        let (codex, folder) = (agent("codex", None), home.path().join(".codex"));
        plant(home.path(), &seeds(&codex, &our_env)).unwrap();
        std::fs::write(folder.join("config.toml"), "approval_policy = 'never'").unwrap();
        std::fs::create_dir(folder.join("rules")).unwrap();
        std::fs::write(folder.join("rules/default.rules"), "allow").unwrap();
        std::fs::create_dir(folder.join("sessions")).unwrap();
        forget(home.path(), &codex.preset_definition().unwrap().forget);
        plant(home.path(), &seeds(&codex, &our_env)).unwrap();
        assert_eq!(std::fs::read_to_string(folder.join("config.toml")).unwrap(), "settings");
        assert!(!folder.join("rules").exists() && folder.join("sessions").exists());
    }

    #[test]
    fn agents_ask_whatever_their_settings_say() {
        let state = tempfile::tempdir().unwrap();
        for (preset, variable) in [
            ("gemini", "GEMINI_CLI_SYSTEM_SETTINGS_PATH"),
            ("qwen", "QWEN_CODE_SYSTEM_SETTINGS_PATH"),
            ("opencode", "OPENCODE_PERMISSION"),
        ] {
            let agent = agent(preset, None);
            let folder = enforced_folder(state.path(), &agent).unwrap();
            let (mut command, mut env) = (vec!["program".to_owned()], BTreeMap::new());
            env.insert(variable.to_owned(), "of the owner".to_owned());
            enforce(&agent, folder.as_deref(), &mut command, &mut env);
            let value = &env[variable];
            if folder.is_some() {
                assert!(Path::new(value).is_file(), "{preset}: {value}");
            } else {
                assert!(value.contains("ask"), "{preset}: {value}");
            }
            let files = command.iter().filter(|word| word.starts_with('/'));
            assert!(files.clone().all(|file| Path::new(file).is_file()), "{command:?}");
            assert_eq!(files.count(), usize::from(preset == "gemini"));
            // A file that somebody changed is written again.
            if let Some(folder) = folder {
                std::fs::write(folder.join("settings.json"), "{}").unwrap();
                enforced_folder(state.path(), &agent).unwrap();
                assert_ne!(std::fs::read_to_string(folder.join("settings.json")).unwrap(), "{}");
            }
        }
        // Elsewhere the files are missing.
        let (mut command, mut env) = (vec!["gemini".to_owned()], BTreeMap::new());
        enforce(&agent("gemini", None), None, &mut command, &mut env);
        assert!(command.len() == 1 && env.is_empty(), "{command:?} {env:?}");
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
