//! The checks of a whole configuration: references between sections, and values that no type can
//! exclude. [`Config::load`] ends with them; each section checks its own values in its own file.

use super::agent::{AgentConfig, Protocol};
use super::breakglass::BreakglassConfig;
use super::repos::TrackerKind;
use super::setup::is_inside;
use super::{Config, ConfigError, ranges};
use crate::core::model::id::Repo;

impl Config {
    /// Checks whether the values fit together.
    ///
    /// # Errors
    /// Returns [`ConfigError::Meaning`] for the first key that doesn't fit.
    pub fn check(&self) -> Result<(), ConfigError> {
        ranges::check(self)?;
        self.check_traces()?;
        self.check_allowlist()?;
        self.log.check().map_err(|error| error.within("log"))?;
        self.journal.check().map_err(|error| error.within("journal"))?;
        self.presence.check().map_err(|error| error.within("presence"))?;
        if let Some(github) = &self.github {
            github.check().map_err(|error| error.within("github"))?;
        }
        if let Some(breakglass) = &self.breakglass {
            let is_agent = |name: &str| self.agents.contains_key(name);
            breakglass.check(&is_agent).map_err(|error| error.within("breakglass"))?;
            self.check_breakglass_agent(breakglass)?;
        }
        if let Some(service) = &self.service {
            service.check(self).map_err(|error| error.within("service"))?;
        }
        self.check_agents()?;
        if let Some(leader) = &self.leader {
            leader.check().map_err(|error| error.within("leader"))?;
        }
        for (name, executor) in &self.executors {
            let checked = executor.check(self.breakglass.is_some());
            checked.map_err(|error| error.within(&format!("executors.{name}")))?;
        }
        self.repos.keys().try_for_each(|repo| self.check_repository(repo))
    }

    /// An agent that may reach a host belongs in the breakglass role: a configuration that reads no
    /// issue, no repository and no prompt of a caller.
    fn check_breakglass_agent(&self, breakglass: &BreakglassConfig) -> Result<(), ConfigError> {
        let Some(agent) = breakglass.agent.as_ref().filter(|agent| agent.level.has_tools()) else {
            return Ok(());
        };
        let is_role = self.kill_switch
            && self.allowlist.is_empty()
            && self.repos.is_empty()
            && self.executors.is_empty()
            && self.github.is_none()
            && self.service.is_none();
        if !is_role {
            let message = "ask and act belong in the breakglass role: a configuration of its own with \
                           kill_switch = true, and without repositories, [github], [service] and \
                           executors; assets/roles/breakglass.toml is one";
            return Err(ConfigError::meaning("breakglass.agent.level", message));
        }
        let known = self.agents.get(&agent.agent).map(AgentConfig::protocol);
        match known {
            Some(Protocol::Text | Protocol::Pi) => {
                let message = "should be an agent that takes tools from afk: it has to speak command, \
                               claude, codex or acp";
                Err(ConfigError::meaning("breakglass.agent.agent", message))
            }
            _ => Ok(()),
        }
    }

    /// A section that would do nothing is an error, like an unknown key.
    fn check_traces(&self) -> Result<(), ConfigError> {
        let Some(traces) = &self.traces else { return Ok(()) };
        if !cfg!(feature = "traces") {
            let message = "this afk was built without traces: remove the section, or build afk with \
                           `cargo install --locked --path . --features traces`";
            return Err(ConfigError::meaning("traces", message));
        }
        traces.check().map_err(|error| error.within("traces"))
    }

    fn check_allowlist(&self) -> Result<(), ConfigError> {
        match self.allowlist.iter().find(|repo| !self.repos.contains_key(repo)) {
            Some(repo) => {
                let message = format!("{repo} has no [repos.\"{repo}\"] with its remote");
                Err(ConfigError::meaning("allowlist", message))
            }
            None => Ok(()),
        }
    }

    /// Checks each agent, and that each agent that a key names exists.
    fn check_agents(&self) -> Result<(), ConfigError> {
        let default = self.agent.iter().map(|name| ("agent".to_owned(), name));
        let of_repos = self.repos.iter().filter_map(|(repo, repository)| {
            repository.agent.as_ref().map(|name| (format!("repos.\"{repo}\".agent"), name))
        });
        let fallbacks = self.agents.iter().flat_map(|(of, agent)| {
            agent.fallback.iter().map(move |name| (format!("agents.{of}.fallback"), name))
        });
        for (key, name) in default.chain(of_repos).chain(fallbacks) {
            if !self.agents.contains_key(name) {
                return Err(ConfigError::meaning(key, format!("there is no [agents.{name}]")));
            }
        }
        let check = |(name, agent): (&String, &AgentConfig)| {
            agent.check().map_err(|error| error.within(&format!("agents.{name}")))
        };
        self.agents.iter().try_for_each(check)
    }

    fn check_repository(&self, repo: &Repo) -> Result<(), ConfigError> {
        let Some(repository) = self.repos.get(repo) else { return Ok(()) };
        let wrong = |key: &str, message: String| {
            Err(ConfigError::meaning(format!("repos.\"{repo}\".{key}"), message))
        };
        if let Some(name) = &repository.executor
            && !self.executors.contains_key(name)
        {
            return wrong("executor", format!("there is no [executors.{name}]"));
        }
        let branch = &repository.branch;
        if branch.is_empty() || branch.starts_with('-') || branch.contains([' ', ':', '~', '^']) {
            return wrong("branch", "is not a branch name".into());
        }
        if repository.remote.is_empty() {
            return wrong("remote", "is missing".into());
        }
        if repository.tracker == Some(TrackerKind::GitHub) && self.github.is_none() {
            return wrong("tracker", "needs [github] with a token".into());
        }
        // Git takes the one for an option, and runs the other as a command.
        if repository.remote.starts_with('-') || repository.remote.starts_with("ext::") {
            return wrong("remote", "is not an allowed remote".into());
        }
        if let Some((key, _)) = repository.caches.iter().find(|(_, folder)| !is_inside(folder)) {
            return wrong(&format!("caches.{key}"), "must be a relative path without ..".into());
        }
        Ok(())
    }
}
