//! `test_secrets` of a repository: the references that `[env]` of its `.afk.toml` may use. Whoever
//! can change that file in the repository could otherwise hand every secret of afk to a test.

use std::collections::BTreeSet;

use super::{Config, ConfigError};

/// Refuses references that are secrets of afk's own: those that any other key of the configuration
/// names, and variables that agents inherit. `text` is the configuration as it is in the file.
pub(super) fn check(config: &Config, text: &str) -> Result<(), ConfigError> {
    let Ok(toml::Value::Table(table)) = toml::from_str::<toml::Table>(text).map(toml::Value::Table)
    else {
        // The caller has parsed the same text.
        return Ok(());
    };
    let mut own = BTreeSet::new();
    for value in table.values() {
        strings(value, &mut own);
    }
    let inherited = config.agents.values().flat_map(|agent| agent.inherited_variables());
    own.extend(inherited.map(|name| format!("env:{name}")));
    for (repo, known) in &config.repos {
        let wrong = |message: String| {
            Err(ConfigError::meaning(format!("repos.\"{repo}\".test_secrets"), message))
        };
        for reference in &known.test_secrets {
            let place = reference.strip_prefix("file:").or(reference.strip_prefix("env:"));
            let Some(place) = place.filter(|place| !place.is_empty()) else {
                return wrong(format!("{reference:?} is neither env:NAME nor file:/path"));
            };
            if own.contains(reference) || own.contains(place) || place.starts_with("AFK_") {
                return wrong(format!("{reference} is a secret of afk's own; tests never get it"));
            }
        }
    }
    Ok(())
}

/// Collects every text of a value, but not those of `test_secrets`.
fn strings(value: &toml::Value, all: &mut BTreeSet<String>) {
    match value {
        toml::Value::String(text) => {
            all.insert(text.clone());
        }
        toml::Value::Array(items) => items.iter().for_each(|item| strings(item, all)),
        toml::Value::Table(fields) => {
            let others = fields.iter().filter(|(key, _)| *key != "test_secrets");
            others.for_each(|(_, field)| strings(field, all));
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::super::Config;

    #[test]
    fn secrets_of_afk_are_no_test_secrets() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("afk.toml");
        let load = |secret: &str| {
            let text = format!(
                "[repos.'a/b']\nremote = '/r'\nssh_key = '/keys/id'\ntest_secrets = ['{secret}']\n\
                 [github]\ntoken = 'env:GITHUB_TOKEN'\n[agents.x]\ncommand = ['x']\nenv = ['MODEL_KEY']\n\
                 secrets = {{ KEY = 'file:/keys/model' }}"
            );
            std::fs::write(&path, text).unwrap();
            Config::load(&path, &|_| None).map_err(|error| error.to_string())
        };
        for own in [
            "env:GITHUB_TOKEN",
            "file:/keys/model",
            "file:/keys/id",
            "env:MODEL_KEY",
            "env:AFK_SECRET",
        ] {
            let error = load(own).unwrap_err();
            assert!(error.contains("is a secret of afk's own"), "{own}: {error}");
        }
        assert!(load("vault:a/b#c").unwrap_err().contains("is neither"));
        assert!(load("env:TEST_DATABASE_URL").is_ok());
        assert!(load("file:/keys/test").is_ok());
    }
}
