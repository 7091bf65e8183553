//! `afk config`: where the configuration is, what is in force, whether it is right, and its schema.
//! `config_edit` changes it.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde_json::Value;

use super::instance::{InstanceArgs, env};
use super::terminal::{print_json, print_line};
use super::{block_on, config_edit};
use crate::config::repository::{FILE, RepositoryRules};
use crate::config::{Config, ConfigError, schema};
use crate::error::{Failure, FailureKind};
use crate::redact::{Redactor, names_a_secret, without_credentials};

#[derive(Debug, Args)]
pub(super) struct ConfigArgs {
    #[command(subcommand)]
    command: ConfigCommand,
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Print the path of the configuration file
    Path,
    /// Print the configuration in force: the file, the environment over it, and all defaults
    Show {
        /// Print JSON in place of TOML
        #[arg(long)]
        json: bool,
    },
    /// Edit the configuration in `$VISUAL` or `$EDITOR`; it takes effect only if it is right
    Edit,
    /// Check the configuration, or the files that are named; a file `.afk.toml` is a repository's
    Check {
        /// The files to check
        files: Vec<PathBuf>,
    },
    /// Print the JSON Schema of the configuration, for editors and validators
    Schema {
        /// The schema of a repository's .afk.toml
        #[arg(long)]
        repository: bool,
    },
}

pub(super) fn run(args: &ConfigArgs, instance: &InstanceArgs) -> Result<(), Failure> {
    match &args.command {
        ConfigCommand::Path => {
            print_line(&instance.paths()?.config.display().to_string());
            Ok(())
        }
        ConfigCommand::Edit => block_on(config_edit::run(instance)),
        ConfigCommand::Show { json } => show(&instance.load()?.0, *json),
        ConfigCommand::Check { files } if files.is_empty() => {
            let (_, paths) = instance.load()?;
            print_line(&if paths.config.exists() {
                format!("{}: ok", paths.config.display())
            } else {
                "the environment alone: ok".to_owned()
            });
            Ok(())
        }
        ConfigCommand::Check { files } => files.iter().try_for_each(|file| {
            check(file)?;
            print_line(&format!("{}: ok", file.display()));
            Ok(())
        }),
        ConfigCommand::Schema { repository } => {
            let schema = if *repository { schema::of_repository() } else { schema::of_config() };
            print_line(&format!("{schema:#}"));
            Ok(())
        }
    }
}

fn check(file: &Path) -> Result<(), Failure> {
    if file.file_name().is_some_and(|name| name == FILE) {
        let path = file.to_owned();
        let text = std::fs::read_to_string(file)
            .map_err(|source| ConfigError::Unreadable { path, source })?;
        RepositoryRules::parse(&text)?;
        return Ok(());
    }
    Config::load(file, &env)?;
    Ok(())
}

/// Prints what is in force, without the secrets that may stand in it.
fn show(config: &Config, json: bool) -> Result<(), Failure> {
    let failed = |why: String| Failure::new(FailureKind::System, why);
    let mut value = serde_json::to_value(config).map_err(|error| failed(error.to_string()))?;
    clean(&mut value, false);
    if json {
        print_json(&value);
        return Ok(());
    }
    let text = toml::to_string(&value).map_err(|error| failed(error.to_string()))?;
    print_line(text.trim_end());
    Ok(())
}

/// Removes unset keys, the credentials of addresses, and the values of variables that are secrets.
/// References to secrets stay: they name a place, not a value.
fn clean(value: &mut Value, is_secret: bool) {
    match value {
        Value::String(text) => {
            let is_reference =
                ["env:", "file:", "vault:"].iter().any(|kind| text.starts_with(kind));
            *text = if is_secret && !is_reference {
                "(not shown)".to_owned()
            } else {
                without_credentials(&Redactor::default().clean(text))
            };
        }
        Value::Array(values) => values.iter_mut().for_each(|value| clean(value, is_secret)),
        Value::Object(fields) => {
            fields.retain(|_, value| !value.is_null());
            for (name, value) in fields {
                // The names of variables; keys such as `ssh_key` have paths and references.
                let is_variable = !name.chars().any(char::is_lowercase);
                clean(value, is_variable && names_a_secret(name));
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn shown_configuration_has_references_and_no_values_of_secrets() {
        let mut value = json!({
            "remote": "https://bot:hunter2-hunter2@git.acme.com/a.git",
            "token": "env:TOKEN",
            "set": {"API_KEY": "plain-value", "EDITOR": "vi"},
            "unset": null,
        });
        clean(&mut value, false);
        let expected = json!({
            "remote": "https://git.acme.com/a.git",
            "token": "env:TOKEN",
            "set": {"API_KEY": "(not shown)", "EDITOR": "vi"},
        });
        assert_eq!(value, expected);
    }
}
