//! `[control]`: the names that control afk from outside its file, such as `AFK_KILL_SWITCH`.
//!
//! They come from the environment at start-up, and from a mounted folder or a `ConfigMap` while afk
//! runs (`runtime::control`). A value that can't be read is an error and never a guess, since a kill
//! switch that fails open would be none.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Config, ConfigError, Env};
use crate::core::model::id::Repo;

/// The names that afk looks up.
pub const NAMES: [&str; 8] = [
    "AFK_ALLOWLIST",
    "AFK_KILL_SWITCH",
    "AFK_READY_LABEL",
    "AFK_IN_PROGRESS_LABEL",
    "AFK_BUDGET_USD",
    "AFK_DAY_BUDGET_USD",
    "AFK_FIX_FORWARD_MAX_ATTEMPTS",
    "AFK_FIX_FORWARD_MAX_SECONDS",
];

/// `[control]`: the sources of [`NAMES`] that can change while afk runs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ControlConfig {
    /// A folder with one file per name, such as a mounted `ConfigMap`.
    pub folder: Option<PathBuf>,
    /// A `ConfigMap` that afk watches over the API, as `namespace/name`.
    pub config_map: Option<String>,
}

/// The trimmed value of a variable; a blank one counts as not set.
pub(super) fn value_of(lookup: Env<'_>, name: &str) -> Option<String> {
    let value = lookup(name)?.trim().to_owned();
    (!value.is_empty()).then_some(value)
}

/// The switch that a word stands for, in any case.
pub(super) fn switch(word: &str) -> Option<bool> {
    match word.to_ascii_lowercase().as_str() {
        "true" | "1" | "on" | "yes" => Some(true),
        "false" | "0" | "off" | "no" => Some(false),
        _ => None,
    }
}

/// Overwrites the configuration with each name that `lookup` has a value for. A blank value is none,
/// except that a blank kill switch is an error and a blank allowlist allows nothing.
///
/// # Errors
/// Returns [`ConfigError::Environment`] with the name and the values that are allowed.
pub fn apply(config: &mut Config, lookup: Env<'_>) -> Result<(), ConfigError> {
    for name in NAMES {
        let Some(value) = lookup(name) else { continue };
        // A mounted file ends with a newline.
        let value = value.trim().to_owned();
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
            config.kill_switch = switch(value).ok_or("should be true or false")?;
        }
        "AFK_ALLOWLIST" => {
            let names = value.split([',', ' ', '\n']).filter(|name| !name.is_empty());
            config.allowlist =
                names.map(|name| repository(config, name)).collect::<Result<_, _>>()?;
        }
        _ if value.is_empty() => {}
        "AFK_READY_LABEL" => value.clone_into(&mut config.labels.ready),
        "AFK_IN_PROGRESS_LABEL" => value.clone_into(&mut config.labels.in_progress),
        // An issue's, as in the replaced service.
        "AFK_BUDGET_USD" => config.budget.run_usd = Some(amount(value)?),
        "AFK_DAY_BUDGET_USD" => config.budget.day_usd = Some(amount(value)?),
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

fn amount(value: &str) -> Result<f64, &'static str> {
    let usd = value.parse::<f64>().ok().filter(|usd| usd.is_finite() && *usd >= 0.0);
    usd.ok_or("should be an amount in US dollars")
}

/// The repository of a name. A name without an owner is that of the one repository that is configured
/// under it.
fn repository(config: &Config, name: &str) -> Result<Repo, &'static str> {
    let message = "should list owner/name, comma-separated; a name alone must be that of one \
                   repository that is configured";
    if name.contains('/') {
        return Repo::parse(name).map_err(|_| message);
    }
    let of_this_name = |repo: &&Repo| repo.to_string().split('/').nth(1) == Some(name);
    let mut found = config.repos.keys().filter(of_this_name);
    match (found.next(), found.next()) {
        (Some(repo), None) => Ok(repo.clone()),
        _ => Err(message),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::repos::RepositoryConfig;

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
            ("AFK_DAY_BUDGET_USD", " 40 "),
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
        assert_eq!((config.budget.run_usd, config.budget.day_usd), (Some(12.5), Some(40.0)));
    }

    #[test]
    fn switch_knows_the_words_of_the_replaced_service_in_any_case() {
        for (word, on) in [("TRUE", true), ("yes", true), ("On", true), ("1", true)] {
            assert_eq!(
                apply_values(&[("AFK_KILL_SWITCH", word)]).unwrap().kill_switch,
                on,
                "{word}"
            );
        }
        for word in ["False", "no", "OFF", "0", " false \n"] {
            assert!(!apply_values(&[("AFK_KILL_SWITCH", word)]).unwrap().kill_switch, "{word}");
        }
    }

    #[test]
    fn blank_value_is_not_set_and_a_blank_allowlist_allows_nothing() {
        let blank = |name| apply_values(&[(name, " \n")]).unwrap();
        for name in ["AFK_READY_LABEL", "AFK_BUDGET_USD", "AFK_FIX_FORWARD_MAX_SECONDS"] {
            assert_eq!(blank(name), Config::default(), "{name}");
        }
        let mut config = Config::default();
        config.allowlist.insert(Repo::parse("a/b").unwrap());
        apply(&mut config, &|name| (name == "AFK_ALLOWLIST").then(String::new)).unwrap();
        assert!(config.allowlist.is_empty());
    }

    #[test]
    fn name_without_an_owner_is_the_one_repository_of_this_name() {
        let with = |repos: &[&str], value: &str| {
            let mut config = Config::default();
            for repo in repos {
                config.repos.insert(Repo::parse(repo).unwrap(), RepositoryConfig::default());
            }
            let value = value.to_owned();
            let lookup = move |name: &str| (name == "AFK_ALLOWLIST").then(|| value.clone());
            apply(&mut config, &lookup).map_err(|error| error.to_string())?;
            Ok::<_, String>(config.allowlist.iter().map(Repo::to_string).collect::<Vec<_>>())
        };
        assert_eq!(with(&["acme/infra", "acme/web"], "infra"), Ok(vec!["acme/infra".to_owned()]));
        for repos in [&["acme/web"][..], &["acme/infra", "evil/infra"]] {
            let error = with(repos, "infra").unwrap_err();
            assert!(error.contains("owner/name"), "{error}");
        }
    }

    #[test]
    fn unreadable_values_are_errors() {
        for (name, value) in [
            ("AFK_KILL_SWITCH", "maybe"),
            ("AFK_KILL_SWITCH", ""),
            ("AFK_ALLOWLIST", "acme"),
            ("AFK_ALLOWLIST", "acme/"),
            ("AFK_BUDGET_USD", "NaN"),
            ("AFK_DAY_BUDGET_USD", "much"),
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
