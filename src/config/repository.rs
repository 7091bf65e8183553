//! A repository's own `.afk.toml`: how it is tested, built and deployed.
//!
//! It is always read from the commit that a run begins from, so an agent can't loosen its own gate.

use serde::Deserialize;

use super::ConfigError;
use crate::core::model::permission::Permissions;
use crate::core::model::stage::{Stage, Stages};

/// The file's name at the top of a repository.
pub const FILE: &str = ".afk.toml";

/// See the fields; docs/configuration.md explains each.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RepositoryRules {
    /// The test command, for `sh -c` at the top of a checkout.
    pub test: String,
    /// The red-first gate.
    #[serde(default)]
    pub gate: Gate,
    /// The template of the first prompt, a path in the repository; afk's own where it isn't set.
    #[serde(default)]
    pub prompt: Option<String>,
    /// What its agents may do without being asked.
    #[serde(default)]
    pub permissions: Permissions,
    /// CI; without it the stage is passed over.
    #[serde(default)]
    pub ci: Option<Ci>,
    /// Deploy; without it the stage is passed over.
    #[serde(default)]
    pub deploy: Option<Deploy>,
    /// Probes after the deploy.
    #[serde(default)]
    pub probe: Option<Probe>,
}

/// What counts as a test, and what needs none.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Gate {
    /// Globs of test files.
    pub tests: Vec<String>,
    /// Globs of files that may change without a test.
    pub exempt: Vec<String>,
}

impl Default for Gate {
    fn default() -> Self {
        let list = |globs: &[&str]| globs.iter().map(|&glob| glob.to_owned()).collect();
        Self {
            tests: list(&[
                "test/**",
                "tests/**",
                "**/test/**",
                "**/tests/**",
                "**/__tests__/**",
                "**/test_*",
                "**/*_test.*",
                "**/*.test.*",
                "**/*.spec.*",
                "**/*Test.*",
                "spec/**",
            ]),
            exempt: list(&["docs/**", "**/*.md", "LICENSE*"]),
        }
    }
}

/// What decides about a pushed commit: one of the three.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Ci {
    /// For `sh -c` at the top of a clean checkout of the pushed commit.
    pub command: Option<String>,
    /// GitHub's checks.
    pub github: bool,
    /// A Woodpecker repository, `owner/name`.
    pub woodpecker: Option<String>,
    /// Checks that must pass, beside those that the branch's rules require; with none, all must.
    pub required: Vec<String>,
    /// Minutes until a check should have appeared; 10.
    pub appear_minutes: Option<u32>,
    /// Minutes until all should have ended; the owner's `limits.ci_minutes`.
    pub run_minutes: Option<u32>,
    /// Milliseconds between two looks; 10,000.
    pub poll_ms: Option<u64>,
}

/// What rolls a commit out; several are done one after the other.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Deploy {
    /// For `sh -c` at the top of a clean checkout of the pushed commit.
    pub command: Option<String>,
    /// A Woodpecker repository whose deploy pipeline (`manual`, with `IMAGE_TAG`) is waited for.
    pub woodpecker: Option<String>,
    /// Rollouts in clusters that are followed, at once.
    pub kubernetes: Vec<Target>,
    /// Seconds that a complete rollout must hold without a restart; 60.
    pub soak_seconds: Option<u64>,
    /// Minutes that all of it may take; the owner's `limits.deploy_minutes`.
    pub minutes: Option<u64>,
}

/// A workload in a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Target {
    /// The kubeconfig's context; the current one where it isn't set.
    #[serde(default)]
    pub context: Option<String>,
    /// Its namespace.
    pub namespace: String,
    /// What it is.
    #[serde(default)]
    pub kind: TargetKind,
    /// Its name; `{sha8}` stands for the commit's first eight digits.
    pub name: String,
    /// The container whose image tells the commit; any where it isn't set.
    #[serde(default)]
    pub container: Option<String>,
    /// The image's tag or digest: `{sha}`, `{sha8}` or `{sha7}` stand for the commit.
    #[serde(default = "sha8")]
    pub tag: String,
}

fn sha8() -> String {
    "{sha8}".into()
}

/// Kinds of workloads.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TargetKind {
    /// A Deployment.
    #[default]
    Deployment,
    /// A `StatefulSet`.
    StatefulSet,
    /// A `DaemonSet`.
    DaemonSet,
    /// A Job.
    Job,
}

impl Target {
    /// The tag that a commit's image has.
    #[must_use]
    pub fn tag(&self, sha: &crate::core::model::id::Sha) -> String {
        let first = |count: usize| sha.0.get(..count).unwrap_or(&sha.0);
        self.tag.replace("{sha8}", first(8)).replace("{sha7}", first(7)).replace("{sha}", &sha.0)
    }

    /// `context/namespace/name`.
    #[must_use]
    pub fn summary(&self) -> String {
        let context = self.context.as_ref().map(|context| format!("{context}/"));
        format!("{}{}/{}", context.unwrap_or_default(), self.namespace, self.name)
    }
}

/// How a deploy is known to be healthy.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Probe {
    /// An address that should answer 2xx.
    #[serde(default)]
    pub http: Option<String>,
    /// Text that the answer must contain; `{sha}` stands for the commit.
    #[serde(default)]
    pub expect: Option<String>,
    /// A command that should end with 0.
    #[serde(default)]
    pub command: Option<String>,
    /// Milliseconds between two samples.
    #[serde(default = "interval")]
    pub interval_ms: u64,
    /// How long every sample must be good, in milliseconds.
    #[serde(default = "soak")]
    pub soak_ms: u64,
    /// How long the first good sample may take to come, in milliseconds.
    #[serde(default = "settle")]
    pub settle_ms: u64,
}

const fn interval() -> u64 {
    1_000
}
const fn soak() -> u64 {
    60_000
}
const fn settle() -> u64 {
    120_000
}

impl RepositoryRules {
    /// Reads the file's text.
    ///
    /// # Errors
    /// [`ConfigError`] with the line and the key.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        let rules: Self = super::parse(FILE, text)?;
        let wrong = |key: &str, message: &str| {
            Err(ConfigError::Meaning { key: format!("{FILE}: {key}"), message: message.into() })
        };
        if rules.test.trim().is_empty() {
            return wrong("test", "is empty");
        }
        if let Some(ci) = &rules.ci {
            let ways = [ci.command.is_some(), ci.github, ci.woodpecker.is_some()];
            if ways.iter().filter(|way| **way).count() != 1 {
                return wrong("ci", "needs one of `command`, `github = true` and `woodpecker`");
            }
        }
        if let Some(deploy) = &rules.deploy
            && deploy.command.is_none()
            && deploy.woodpecker.is_none()
            && deploy.kubernetes.is_empty()
        {
            return wrong("deploy", "needs a `command`, `woodpecker` or [[deploy.kubernetes]]");
        }
        if let Some(probe) = &rules.probe {
            if probe.http.is_some() == probe.command.is_some() {
                return wrong("probe", "needs either `http` or `command`");
            }
            if probe.interval_ms == 0 {
                return wrong("probe.interval_ms", "must be at least 1");
            }
        }
        for (key, globs) in [("gate.tests", &rules.gate.tests), ("gate.exempt", &rules.gate.exempt)]
        {
            if let Some(bad) = globs.iter().find(|glob| globset::Glob::new(glob).is_err()) {
                return wrong(key, &format!("{bad:?} is no glob"));
            }
        }
        Ok(rules)
    }

    /// The stages that a run in this repository must pass.
    #[must_use]
    pub fn stages(&self) -> Stages {
        let has = |stage: &Stage| match stage {
            Stage::Ci => self.ci.is_some(),
            Stage::Deploy => self.deploy.is_some(),
            Stage::Probe => self.probe.is_some(),
        };
        Stage::all().filter(has).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_test_command_is_all_it_needs() {
        let rules = RepositoryRules::parse("test = './test.sh'").unwrap();
        assert_eq!(rules.stages(), Stages::default());
    }

    #[test]
    fn a_rollouts_image_is_named_by_its_commit() {
        let text = "test = 'x'\n[ci]\ngithub = true\n[[deploy.kubernetes]]\nnamespace = 'web'\nname = 'app'";
        let rules = RepositoryRules::parse(text).unwrap();
        let target = &rules.deploy.as_ref().unwrap().kubernetes[0];
        let sha = crate::core::model::id::Sha("0123456789abcdef".into());
        assert_eq!((target.tag(&sha).as_str(), target.summary().as_str()), ("01234567", "web/app"));
        let named = Target { tag: "v1-{sha7}".into(), ..target.clone() };
        assert_eq!(named.tag(&sha), "v1-0123456");
    }

    #[test]
    fn mistakes_are_told_in_a_line() {
        for (text, error) in [
            ("", ".afk.toml:1: missing field `test`"),
            ("test = ' '", ".afk.toml: test: is empty"),
            ("test = 'x'\n[ci]\ncmd = 'y'", ".afk.toml:3: ci.cmd: unknown field"),
            ("test = 'x'\n[ci]\nrequired = ['a']", ".afk.toml: ci: needs one of"),
            ("test = 'x'\n[deploy]\nminutes = 3", ".afk.toml: deploy: needs a `command`"),
            ("test = 'x'\n[probe]\nsoak_ms = 1", ".afk.toml: probe: needs either"),
            ("test = 'x'\n[gate]\ntests = ['[']", ".afk.toml: gate.tests: \"[\" is no glob"),
        ] {
            let said = RepositoryRules::parse(text).unwrap_err().to_string();
            assert!(said.starts_with(error), "{text:?} gave {said:?}");
        }
    }
}
