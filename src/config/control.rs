//! `[control]`: the names that control afk from outside its file, such as `AFK_KILL_SWITCH`.
//!
//! They come from the environment at start-up, and from a mounted folder or a `ConfigMap` while afk
//! runs (`runtime::control`). A value that can't be read is an error and never a guess, since a kill
//! switch that fails open would be none.

use std::path::PathBuf;

use serde::Deserialize;

use super::{Config, ConfigError, Env};
use crate::core::model::id::Repo;

/// The names that afk looks up.
pub const NAMES: [&str; 7] = [
    "AFK_ALLOWLIST",
    "AFK_KILL_SWITCH",
    "AFK_READY_LABEL",
    "AFK_IN_PROGRESS_LABEL",
    "AFK_BUDGET_USD",
    "AFK_FIX_FORWARD_MAX_ATTEMPTS",
    "AFK_FIX_FORWARD_MAX_SECONDS",
];

/// `[control]`: the sources of [`NAMES`] that can change while afk runs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ControlConfig {
    /// A folder with one file per name, such as a mounted `ConfigMap`.
    pub folder: Option<PathBuf>,
    /// A `ConfigMap` that afk watches over the API, as `namespace/name`.
    pub config_map: Option<String>,
}

/// Overwrites the configuration with each name that `lookup` has a value for.
///
/// # Errors
/// Returns [`ConfigError::Environment`] with the name and the values that are allowed.
pub fn apply(config: &mut Config, lookup: Env<'_>) -> Result<(), ConfigError> {
    for name in NAMES {
        // A mounted file ends with a newline.
        let Some(value) = lookup(name).map(|text| text.trim_end_matches(['\r', '\n']).to_owned())
        else {
            continue;
        };
        set(config, name, &value).map_err(|message| ConfigError::Environment {
            name,
            value,
            message,
        })?;
    }
    // The allowlist may have grown.
    config.add_github_remotes();
    Ok(())
}

fn set(config: &mut Config, name: &str, value: &str) -> Result<(), &'static str> {
    match name {
        "AFK_KILL_SWITCH" => {
            config.kill_switch = match value {
                "true" | "1" | "on" => true,
                "false" | "0" | "off" => false,
                _ => return Err("should be true or false"),
            };
        }
        "AFK_ALLOWLIST" => {
            let names = value.split([',', ' ', '\n']).filter(|name| !name.is_empty());
            config.allowlist = names
                .map(Repo::parse)
                .collect::<Result<_, _>>()
                .map_err(|_| "should list owner/name, comma-separated")?;
        }
        "AFK_READY_LABEL" | "AFK_IN_PROGRESS_LABEL" => {
            if value.is_empty() {
                return Err("should be a label");
            }
            let labels = &mut config.labels;
            let label =
                if name == "AFK_READY_LABEL" { &mut labels.ready } else { &mut labels.in_progress };
            value.clone_into(label);
        }
        "AFK_BUDGET_USD" => {
            let usd = value.parse::<f64>().ok().filter(|usd| usd.is_finite() && *usd >= 0.0);
            config.budget.day_usd = Some(usd.ok_or("should be an amount in US dollars")?);
        }
        "AFK_FIX_FORWARD_MAX_ATTEMPTS" => {
            config.fix_forward.attempts = value.parse().map_err(|_| "should be a whole number")?;
        }
        _ => {
            let seconds =
                value.parse::<u32>().map_err(|_| "should be a whole number of seconds")?;
            config.fix_forward.seconds = Some(seconds);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn apply_values(values: &[(&str, &str)]) -> Result<Config, String> {
        let mut config = Config::default();
        let value = |name: &str| {
            values.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        };
        apply(&mut config, &value).map_err(|error| error.to_string())?;
        Ok(config)
    }

    #[test]
    fn each_name_sets_its_key() {
        let config = apply_values(&[
            ("AFK_KILL_SWITCH", "off\n"),
            ("AFK_ALLOWLIST", "acme/a, acme/b\nacme/c"),
            ("AFK_READY_LABEL", "go"),
            ("AFK_IN_PROGRESS_LABEL", "going"),
            ("AFK_BUDGET_USD", "12.5"),
            ("AFK_FIX_FORWARD_MAX_ATTEMPTS", "2"),
            ("AFK_FIX_FORWARD_MAX_SECONDS", "90"),
        ])
        .unwrap();
        assert!(!config.kill_switch);
        assert_eq!(config.allowlist.len(), 3);
        assert_eq!(
            (config.labels.ready.as_str(), config.labels.in_progress.as_str()),
            ("go", "going")
        );
        let policy = config.policy();
        assert_eq!((policy.fix_forward_attempts, policy.fix_forward_ms), (2, 90_000));
        assert_eq!(config.budget.day_usd, Some(12.5));
    }

    #[test]
    fn unreadable_values_are_errors() {
        for (name, value) in [
            ("AFK_KILL_SWITCH", "maybe"),
            ("AFK_KILL_SWITCH", ""),
            ("AFK_ALLOWLIST", "acme"),
            ("AFK_READY_LABEL", ""),
            ("AFK_BUDGET_USD", "NaN"),
            ("AFK_BUDGET_USD", "-1"),
            ("AFK_FIX_FORWARD_MAX_ATTEMPTS", "-1"),
            ("AFK_FIX_FORWARD_MAX_SECONDS", "1h"),
        ] {
            assert!(
                apply_values(&[(name, value)]).unwrap_err().starts_with(name),
                "{name}={value}"
            );
        }
    }
}
