//! The keys that afk reads only when it starts. A reload that changes one names it, so that nobody waits
//! for a change that doesn't come.

use serde_json::Value;

use super::Config;

/// The paths of these keys. All keys below a path belong to it.
const AT_START: [&str; 20] = [
    "control",
    "http.enabled",
    "http.listen",
    "journal",
    "leader",
    "limits.grace_seconds",
    "log",
    "sandbox.cgroup",
    "service.agent",
    "service.chat",
    "service.chat_seconds",
    "service.converse",
    "service.converse_seconds",
    "service.model",
    "service.models",
    "service.repository",
    "service.stream",
    "ssh.authorized_keys",
    "ssh.enabled",
    "ssh.listen",
];

/// The keys that differ from those at the start and need a restart, as `afk.toml` spells them.
#[must_use]
pub(crate) fn needed(at_start: &Config, now: &Config) -> Vec<String> {
    // Both are maps with text as keys, so that neither fails.
    let (Ok(old), Ok(new)) = (serde_json::to_value(at_start), serde_json::to_value(now)) else {
        return Vec::new();
    };
    let differs = |path: &&str| at(&old, path) != at(&new, path);
    AT_START.iter().copied().filter(differs).map(str::to_owned).collect()
}

/// The value at a path.
fn at<'a>(value: &'a Value, path: &str) -> Option<&'a Value> {
    path.split('.').try_fold(value, |value, part| value.get(part))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::model::id::Repo;

    #[test]
    fn keys_of_the_start_are_named_and_others_are_not() {
        let repo = Repo::parse("acme/web").unwrap();
        let mut old = Config::default();
        old.repos.entry(repo.clone()).or_default();
        let mut new = old.clone();
        assert_eq!(needed(&old, &new), Vec::<String>::new());
        new.capacity = Some(9);
        new.repos.entry(Repo::parse("acme/new").unwrap()).or_default().branch = "main".into();
        assert_eq!(needed(&old, &new), Vec::<String>::new());
        new.repos.entry(repo).or_default().branch = "main".into();
        assert_eq!(needed(&old, &new), Vec::<String>::new());
        new.http.listen = ([127, 0, 0, 1], 1).into();
        new.log.keep_days = 3;
        assert_eq!(needed(&old, &new), ["http.listen", "log"]);
    }

    #[test]
    fn every_path_is_a_key_of_the_configuration() {
        let service = Some(super::super::service::ServiceConfig::default());
        let config = Config { service, ..Config::default() };
        let value = serde_json::to_value(&config).unwrap();
        for path in AT_START {
            let mut here = &value;
            for part in path.split('.') {
                here = here.get(part).unwrap_or_else(|| panic!("{path}: there is no {part}"));
            }
        }
    }
}
