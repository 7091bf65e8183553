//! The ranges of numbers, the forms of addresses and references to secrets, and labels that must differ:
//! rules that hold for a value alone. `check` has the rules between sections.

use super::notify::SinkConfig;
use super::{Config, ConfigError};

/// The longest time in minutes that makes sense anywhere: 30 days.
const MOST_MINUTES: u64 = 30 * 24 * 60;
/// The same in seconds.
const MOST_SECONDS: u64 = MOST_MINUTES * 60;

/// The first value out of its range.
pub(super) fn check(config: &Config) -> Result<(), ConfigError> {
    numbers(config)?;
    amounts(config)?;
    labels(config)?;
    addresses(config)?;
    references(config)
}

fn wrong(key: impl Into<String>, message: impl Into<String>) -> Result<(), ConfigError> {
    Err(ConfigError::meaning(key, message))
}

fn numbers(config: &Config) -> Result<(), ConfigError> {
    let limits = &config.limits;
    let minutes = MOST_MINUTES;
    let seconds = MOST_SECONDS;
    for (key, value, least, most) in [
        ("capacity", config.capacity.map_or(1, u64::from), 0, 10_000),
        ("max_queue_depth", config.max_queue_depth.into(), 1, 1_000_000),
        ("tracker.poll_seconds", config.tracker.poll_seconds, 1, seconds),
        ("fix_forward.attempts", config.fix_forward.attempts.into(), 0, 100),
        ("fix_forward.minutes", config.fix_forward.minutes.into(), 0, minutes),
        ("outages.ask_minutes", config.outages.ask_minutes.into(), 0, minutes),
        ("outages.longest_pause_seconds", config.outages.longest_pause_seconds.into(), 1, seconds),
        ("limits.turn_minutes", limits.turn_minutes, 1, minutes),
        ("limits.silence_seconds", limits.silence_seconds, 1, seconds),
        ("limits.tool_minutes", limits.tool_minutes, 0, minutes),
        ("limits.memory_mib", limits.memory_mib, 1, 1 << 30),
        ("limits.test_minutes", limits.test_minutes, 0, minutes),
        ("limits.ci_minutes", limits.ci_minutes, 0, minutes),
        ("limits.deploy_minutes", limits.deploy_minutes, 0, minutes),
        ("limits.git_seconds", limits.git_seconds, 1, seconds),
        ("limits.clone_minutes", limits.clone_minutes, 0, minutes),
        ("limits.setup_minutes", limits.setup_minutes, 0, minutes),
        ("limits.baseline_seconds", limits.baseline_seconds, 0, seconds),
        ("limits.grace_seconds", limits.grace_seconds, 0, 3600),
        ("limits.disk_free_mib", limits.disk_free_mib, 0, 1 << 30),
        ("limits.answer_hours", limits.answer_hours.into(), 0, 8760),
        ("notify.remind_minutes", config.notify.remind_minutes.into(), 0, minutes),
    ] {
        if !(least..=most).contains(&value) {
            return wrong(key, format!("should be from {least} to {most}"));
        }
    }
    let (ssh, http) = (&config.ssh, &config.http);
    let both = ssh.enabled && http.enabled;
    if both && ssh.listen == http.listen && http.listen.port() != 0 {
        return wrong("http.listen", "is the address of [ssh] already");
    }
    Ok(())
}

fn amounts(config: &Config) -> Result<(), ConfigError> {
    let budget = &config.budget;
    for (key, amount) in [
        ("budget.day_usd", budget.day_usd),
        ("budget.day_soft_usd", budget.day_soft_usd),
        ("budget.run_usd", budget.run_usd),
        ("budget.turn_reserve_usd", Some(budget.turn_reserve_usd)),
    ] {
        if amount.is_some_and(|usd| !usd.is_finite() || usd < 0.0) {
            return wrong(key, "should be an amount of US dollars, 0 or more");
        }
    }
    if let (Some(soft), Some(hard)) = (budget.day_soft_usd, budget.day_usd)
        && soft > hard
    {
        return wrong("budget.day_soft_usd", "is over day_usd, so it would never be reached");
    }
    Ok(())
}

fn labels(config: &Config) -> Result<(), ConfigError> {
    let labels = &config.labels;
    let all = [
        ("labels.ready", &labels.ready),
        ("labels.in_progress", &labels.in_progress),
        ("labels.human", &labels.human),
    ];
    for (at, (key, label)) in all.iter().enumerate() {
        if label.trim().is_empty() {
            return wrong(*key, "is empty");
        }
        if let Some((other, _)) = all[..at].iter().find(|(_, known)| known == label) {
            return wrong(*key, format!("is the label of {other} already"));
        }
    }
    Ok(())
}

fn addresses(config: &Config) -> Result<(), ConfigError> {
    let of = |key: &str, address: Option<&String>| {
        address.map(|address| (key.to_owned(), address.clone()))
    };
    let sinks = config.notify.sinks.iter().filter_map(|(name, sink)| match sink {
        SinkConfig::Ntfy { address, .. } => {
            Some((format!("notify.sinks.{name}.address"), address.clone()))
        }
        _ => None,
    });
    let all = [
        of("woodpecker.address", config.woodpecker.as_ref().map(|section| &section.address)),
        of("vault.address", config.vault.as_ref().map(|section| &section.address)),
        of("loki.address", config.loki.as_ref().map(|section| &section.address)),
        of("traces.endpoint", config.traces.as_ref().map(|section| &section.endpoint)),
        of("github.git", config.github.as_ref().and_then(|section| section.git.as_ref())),
    ];
    for (key, address) in all.into_iter().flatten().chain(sinks) {
        let is_path =
            key == "github.git" && (address.starts_with('/') || address.starts_with("file:"));
        if !is_path && !address.starts_with("http://") && !address.starts_with("https://") {
            return wrong(key, "is not an http:// or https:// address");
        }
    }
    for (name, sink) in &config.notify.sinks {
        match sink {
            SinkConfig::Command { command, .. } if command.first().is_none_or(String::is_empty) => {
                return wrong(format!("notify.sinks.{name}.command"), "names no program");
            }
            SinkConfig::Ntfy { topic, .. } if topic.is_empty() => {
                return wrong(format!("notify.sinks.{name}.topic"), "is empty");
            }
            _ => {}
        }
    }
    if let Some(map) = &config.control.config_map
        && map.split_once('/').is_none_or(|(space, name)| space.is_empty() || name.is_empty())
    {
        return wrong("control.config_map", "should be namespace/name");
    }
    Ok(())
}

/// The rule of a key that holds a reference to a secret. Its error shows no line of the file: that may have
/// the secret itself.
pub(super) const REFERENCE: &str = "should be a reference to a secret, and never the secret itself: \
                                    env:NAME, file:/path or vault:MOUNT/PATH#KEY";

/// Checks the keys that hold a reference to a secret.
fn references(config: &Config) -> Result<(), ConfigError> {
    let mut all: Vec<(String, Option<&String>)> = Vec::new();
    if let Some(github) = &config.github {
        all.push(("github.token".into(), github.token.as_ref()));
        all.push(("github.app.key".into(), github.app.as_ref().map(|app| &app.key)));
    }
    all.push(("woodpecker.token".into(), config.woodpecker.as_ref().map(|section| &section.token)));
    all.push(("loki.token".into(), config.loki.as_ref().and_then(|s| s.token.as_ref())));
    if let Some(traces) = &config.traces {
        all.push(("traces.token".into(), traces.token.as_ref()));
        let headers = traces.headers.iter();
        all.extend(headers.map(|(name, r)| (format!("traces.headers.{name}"), Some(r))));
    }
    all.push(("presence.token".into(), config.presence.token.as_ref()));
    all.push(("journal.anchor_key".into(), config.journal.anchor_key.as_ref()));
    for (name, token) in &config.http.tokens {
        all.push((format!("http.tokens.{name}.secret"), Some(&token.secret)));
    }
    for (name, agent) in &config.agents {
        let secrets = agent.secrets.iter();
        all.extend(secrets.map(|(key, r)| (format!("agents.{name}.secrets.{key}"), Some(r))));
    }
    for (name, sink) in &config.notify.sinks {
        let key = |key: &str| format!("notify.sinks.{name}.{key}");
        match sink {
            SinkConfig::Ntfy { token, .. } => all.push((key("token"), token.as_ref())),
            SinkConfig::Slack { webhook, .. } => all.push((key("webhook"), Some(webhook))),
            SinkConfig::Webhook(sink) => {
                all.push((key("address"), Some(&sink.address)));
                all.push((key("secret"), sink.secret.as_ref()));
            }
            SinkConfig::Command { .. } => {}
        }
    }
    let is_reference = |text: &str| {
        ["env:", "file:", "vault:"]
            .iter()
            .any(|kind| text.len() > kind.len() && text.starts_with(kind))
    };
    match all.into_iter().find(|(_, found)| found.is_some_and(|text| !is_reference(text))) {
        Some((key, _)) => wrong(key, REFERENCE),
        None => Ok(()),
    }
}
