//! Fuzz targets for the configuration: `afk.toml`, and `.afk.toml` of each repository.

use std::path::Path;

use super::repository::RepositoryRules;
use super::{Config, ConfigError};

/// Reads `afk.toml`: an error is one line.
pub(crate) fn configuration(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    match Config::from_text(Path::new("/etc/afk/afk.toml"), &text, &|_| None) {
        Ok(config) => {
            for repo in &config.allowlist {
                let _ = (config.on_github(repo), config.agent_of(repo));
            }
        }
        Err(error) => assert_is_one_line(&error, &text),
    }
}

/// Reads `.afk.toml`: rules that are accepted can be used, and an error is one line.
pub(crate) fn repository_rules(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    match RepositoryRules::parse(&text) {
        Ok(rules) => {
            assert!(!rules.test.trim().is_empty(), "an empty test command proves nothing");
            let _ = (rules.doubts(), rules.probe_doubt(), rules.stages());
        }
        Err(error) => assert_is_one_line(&error, &text),
    }
}

fn assert_is_one_line(error: &ConfigError, text: &str) {
    let shown = error.to_string();
    assert!(!shown.contains(char::is_control), "{shown:?} is not one line");
    assert!(shown.len() <= 8 * text.len() + 1024, "{} bytes tell one error", shown.len());
    let snippet = error.snippet();
    assert!(!snippet.contains(|c: char| c.is_control() && c != '\n'), "{snippet:?}");
}
