//! `[service.chat]`, `[service.stream]` and `[service.converse]`: the agent that answers the questions
//! of a route, its role and its equipment. A route's `models` override them by the name of the model
//! that the caller asks for.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Config, ConfigError};

/// The settings of one route, or of one model of a route. A key that isn't set is the route's.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AnswerConfig {
    /// One of `[agents.…]`; the service's by default.
    pub agent: Option<String>,
    /// The role that the agent itself defines, such as a subagent of Claude Code.
    pub role: Option<String>,
    /// Text that stands before each question.
    pub persona: Option<String>,
    /// Whether the agent has its tools, under the policy of the repository; false by default.
    pub tools: Option<bool>,
    /// Whether the agent works in a throwaway clone of the repository; false by default.
    pub clone: Option<bool>,
    /// The most that an answer may cost, in US dollars.
    pub max_usd: Option<f64>,
    /// The longest time of an answer, with the wait.
    pub seconds: Option<u32>,
    /// The model that the agent is started with; the name that the caller asked for by default.
    pub model: Option<String>,
    /// The settings of single models, by the name that a caller asks for.
    pub models: BTreeMap<String, AnswerConfig>,
}

/// The settings of one answer.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct AnswerSettings {
    pub agent: Option<String>,
    pub role: Option<String>,
    pub persona: Option<String>,
    pub tools: bool,
    pub clone: bool,
    pub max_usd: Option<f64>,
    pub seconds: u32,
    pub model: String,
}

impl AnswerConfig {
    /// The settings of an answer by the model `name`, with `seconds` where the route sets no time.
    pub(super) fn settings(&self, name: &str, seconds: u32) -> AnswerSettings {
        let own = self.models.get(name);
        let text = |key: fn(&Self) -> &Option<String>| {
            own.and_then(|own| key(own).clone()).or_else(|| key(self).clone())
        };
        let flag = |key: fn(&Self) -> Option<bool>| own.and_then(key).or_else(|| key(self));
        AnswerSettings {
            agent: text(|of| &of.agent),
            role: text(|of| &of.role),
            persona: text(|of| &of.persona),
            tools: flag(|of| of.tools).unwrap_or(false),
            clone: flag(|of| of.clone).unwrap_or(false),
            max_usd: own.and_then(|own| own.max_usd).or(self.max_usd),
            seconds: own.and_then(|own| own.seconds).or(self.seconds).unwrap_or(seconds),
            model: text(|of| &of.model).unwrap_or_else(|| name.to_owned()),
        }
    }

    pub(super) fn check(&self, config: &Config) -> Result<(), ConfigError> {
        let wrong = |key: &str, message: String| Err(ConfigError::meaning(key, message));
        if let Some(agent) = &self.agent
            && !config.agents.contains_key(agent)
        {
            return wrong("agent", format!("there is no [agents.{agent}]"));
        }
        if let Some(role) = &self.role
            && !is_role(role)
        {
            return wrong(
                "role",
                format!("{role:?} is neither a name nor a path below the repository"),
            );
        }
        if self.max_usd.is_some_and(|usd| !(usd > 0.0 && usd.is_finite())) {
            return wrong("max_usd", "should be an amount over 0".into());
        }
        if self.seconds.is_some_and(|seconds| !(1..=86_400).contains(&seconds)) {
            return wrong("seconds", "should be from 1 to 86400".into());
        }
        for (name, own) in &self.models {
            if !own.models.is_empty() {
                return wrong(&format!("models.{name}.models"), "can't be set here".into());
            }
            own.check(config).map_err(|error| error.within(&format!("models.{name}")))?;
        }
        Ok(())
    }
}

/// Whether a text is the name of a role, or the path of a role's file below the repository.
pub(crate) fn is_role(role: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"._:-/".contains(&b);
    let is_path_inside = role.split('/').all(|part| !part.is_empty() && part != "..");
    !role.starts_with('-') && role.len() <= 200 && role.bytes().all(plain) && is_path_inside
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn model_overrides_its_route_key_by_key() {
        let text = "role = 'triage'\ntools = true\nseconds = 900\n\
                    [models.fast]\nmodel = 'haiku'\ntools = false\nmax_usd = 0.5";
        let route: AnswerConfig = toml::from_str(text).unwrap();
        let other = route.settings("opus", 120);
        assert_eq!((other.tools, other.seconds, other.model.as_str()), (true, 900, "opus"));
        let fast = route.settings("fast", 120);
        assert_eq!((fast.tools, fast.seconds, fast.model.as_str()), (false, 900, "haiku"));
        assert_eq!((fast.role.as_deref(), fast.max_usd), (Some("triage"), Some(0.5)));
        let none = AnswerConfig::default().settings("opus", 120);
        assert_eq!((none.tools, none.clone, none.seconds, none.role), (false, false, 120, None));
    }

    #[test]
    fn role_is_a_name_or_a_path_below_the_repository() {
        for good in ["triage", "a.b:c-d_e", ".claude/agents/issue-responder", "./x", "agents/x.md"]
        {
            assert!(is_role(good), "{good}");
        }
        for bad in
            ["", "-x", "--agent", "/etc/passwd", "../x", "a/../../b", "a//b", "a b", "x/", "é"]
        {
            assert!(!is_role(bad), "{bad}");
        }
        assert!(!is_role(&"x".repeat(201)));
    }
}
