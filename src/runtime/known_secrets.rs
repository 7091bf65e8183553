//! Has the secrets redacted that no adapter reads through [`secrets`](crate::secrets): those of
//! afk's environment, the key files that the configuration names, and the logins of agents.
//!
//! [`setup`](super::setup) calls [`remember`] at the start, and [`config_watch`](super::config_watch)
//! after a change. Each turn calls [`remember_logins`] and its kin, because agents renew their tokens.

use std::collections::BTreeMap;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use serde_json::Value;

use crate::config::Config;
use crate::config::agent::AgentConfig;
use crate::redact;
use crate::secrets;

/// The most bytes of a key file that are read.
const KEY_LIMIT: u64 = 64 * 1024;

/// Remembers the secrets of afk's environment and of the files that a configuration names.
pub(super) fn remember(config: &Config) {
    for (name, value) in std::env::vars_os() {
        if let (Some(name), Some(value)) = (name.to_str(), value.to_str())
            && redact::names_a_secret(name)
        {
            redact::remember_likely(value);
        }
    }
    let of_repositories = config.repos.values().filter_map(|known| known.ssh_key.as_deref());
    let hosts = config
        .breakglass
        .iter()
        .flat_map(|breakglass| breakglass.hosts.values().chain([&breakglass.hypervisor]));
    for path in of_repositories.chain(hosts.filter_map(|host| host.key.as_deref())) {
        // An unreadable key protects nothing here; its user reports the error.
        if let Some(text) = read(path) {
            redact::remember(&text);
        }
    }
    // A token may stand in the address of a remote.
    for repository in config.repos.values() {
        let password = reqwest::Url::parse(&repository.remote)
            .ok()
            .and_then(|url| url.password().or(Some(url.username())).map(str::to_owned));
        if let Some(password) = password {
            redact::remember_likely(&password);
        }
    }
    // The tests of the base run before the first turn resolves these.
    for reference in config.agents.values().flat_map(|agent| agent.secrets.values()) {
        // An unreadable secret protects nothing here; the turn that needs it reports the error. Those of
        // Vault are not read before they are needed.
        let _ = secrets::resolve(reference, &|name| std::env::var(name).ok());
    }
}

/// Remembers the tokens in the login and the settings of an agent in one home.
pub(super) fn remember_logins(agent: &AgentConfig, home: &Path) {
    let Some(preset) = agent.preset_definition() else { return };
    for file in preset.login_files().chain(&preset.settings) {
        remember_login(&home.join(file));
    }
}

/// Remembers the tokens in a file of an agent, in JSON or TOML.
pub(super) fn remember_login(file: &Path) {
    let Some(text) = read(file) else { return };
    let login = match file.extension() {
        Some(end) if end == "toml" => toml::from_str(&text).ok(),
        _ => serde_json::from_str(&text).ok(),
    };
    if let Some(login) = login {
        remember_tokens("", &login);
    }
}

/// Remembers the tokens in settings of JSON in an agent's environment.
pub(super) fn remember_settings(env: &BTreeMap<String, String>) {
    for settings in env.values().filter(|value| value.starts_with('{')) {
        if let Ok(settings) = serde_json::from_str(settings) {
            remember_tokens("", &settings);
        }
    }
}

/// Remembers the texts of a login whose keys name a secret. A key and a token have no blanks, and at
/// least as many characters as this.
fn remember_tokens(key: &str, value: &Value) {
    const SHORTEST: usize = 20;
    // opencode names its tokens so.
    let names_one = || redact::names_a_secret(key) || ["access", "refresh"].contains(&key);
    match value {
        Value::String(text)
            if text.len() >= SHORTEST && !text.contains(char::is_whitespace) && names_one() =>
        {
            redact::remember_token(text);
        }
        Value::Array(items) => items.iter().for_each(|item| remember_tokens(key, item)),
        Value::Object(fields) => {
            fields.iter().for_each(|(key, value)| remember_tokens(key, value));
        }
        _ => {}
    }
}

/// The text of a regular file. A FIFO or a device in its place must not block.
fn read(path: &Path) -> Option<String> {
    let flags = rustix::fs::OFlags::NONBLOCK.bits();
    let flags = i32::try_from(flags).ok()?;
    let file = std::fs::File::options().read(true).custom_flags(flags).open(path).ok()?;
    let mut text = String::new();
    let is_file = file.metadata().ok()?.is_file();
    is_file.then(|| file.take(KEY_LIMIT).read_to_string(&mut text).ok()).flatten()?;
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::repos::RepositoryConfig;
    use crate::core::model::id::Repo;
    use crate::redact::Redactor;

    #[test]
    fn key_file_is_redacted_and_a_fifo_in_its_place_does_not_block() {
        let dir = tempfile::tempdir().unwrap();
        let (key, fifo) = (dir.path().join("key"), dir.path().join("fifo"));
        let line = "QyNTUxOQAAACBa1b2c3d4e5f6a7b8c9d0e1f2a3b4c5d6e7f8a9b0c1d2e3f4a5b6c7d8e";
        let text = format!("-----BEGIN OPENSSH PRIVATE KEY-----\n{line}\n-----END OPENSSH");
        std::fs::write(&key, text).unwrap();
        let made = std::process::Command::new("mkfifo").arg(&fifo).status().unwrap();
        assert!(made.success());
        let mut config = Config::default();
        for (name, path) in [("a/b", &fifo), ("a/c", &key)] {
            let ssh_key = Some(path.clone());
            let known = RepositoryConfig { ssh_key, ..RepositoryConfig::default() };
            config.repos.insert(Repo::parse(name).unwrap(), known);
        }
        remember(&config);
        assert_eq!(Redactor::default().clean(&format!("a {line} b")), "a [redacted] b");
    }
    #[test]
    fn logins_of_agents_are_redacted() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join(".codex")).unwrap();
        let login = r#"{"tokens":{"access_token":"an-access-token-of-codex-1","account_id":"an-account-id-of-codex-12"}}"#;
        std::fs::write(dir.path().join(".codex/auth.json"), login).unwrap();
        let agent = AgentConfig { preset: Some("codex".into()), ..AgentConfig::default() };
        let settings = r#"{"provider":{"options":{"apiKey":"a-key-in-settings-of-json"}}}"#;
        let provider =
            "[model_providers.x]\nexperimental_bearer_token = 'a-token-in-settings-of-toml'\n";
        std::fs::write(dir.path().join(".codex/config.toml"), provider).unwrap();
        remember_settings(&BTreeMap::from([("OPENCODE_CONFIG_CONTENT".into(), settings.into())]));
        remember_logins(&agent, dir.path());
        let redactor = Redactor::default();
        assert_eq!(redactor.clean("an-access-token-of-codex-1"), "[redacted]");
        assert_eq!(redactor.clean("a-key-in-settings-of-json"), "[redacted]");
        assert_eq!(redactor.clean("a-token-in-settings-of-toml"), "[redacted]");
        assert_eq!(redactor.clean("an-account-id-of-codex-12"), "an-account-id-of-codex-12");
    }
}
