//! A repository's own `.afk.toml`: how afk tests, builds, deploys and probes it.
//!
//! The runtime always reads it from the commit that a run starts from, so that an agent can't loosen
//! its own gate.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::ConfigError;
use super::report::ReportFormat;
use super::setup::{self, SetupConfig};
use crate::core::model::permission::Permissions;
use crate::core::model::stage::{Stage, Stages};
use crate::core::tables::image::ExpectedImage;

/// The file's name at the top of a repository.
pub const FILE: &str = ".afk.toml";

/// The content of `.afk.toml`; docs/configuration.md explains each key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RepositoryRules {
    /// The test command, which `sh -c` runs at the top of a checkout.
    pub test: String,
    /// What a fresh checkout needs before an agent or a test works in it.
    #[serde(default)]
    pub setup: SetupConfig,
    /// Variables of the setup and the test command: a value, or a reference to a secret that the
    /// owner allows.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// The file patterns of the red-first gate.
    #[serde(default)]
    pub gate: GateConfig,
    /// The path of the first prompt's template in the repository; afk's own by default.
    #[serde(default)]
    pub prompt: Option<String>,
    /// The permissions that agents have without asking.
    #[serde(default)]
    #[schemars(with = "super::schema::PermissionRules")]
    pub permissions: Permissions,
    /// CI of a pushed commit; afk skips the stage without it.
    #[serde(default)]
    pub ci: Option<CiConfig>,
    /// The deploy of a green commit; afk skips the stage without it.
    #[serde(default)]
    pub deploy: Option<DeployConfig>,
    /// The probe after the deploy; afk skips the stage without it.
    #[serde(default)]
    pub probe: Option<ProbeConfig>,
}

/// `[gate]`: the files that count as tests, the files that need none, and what may be pushed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct GateConfig {
    /// Globs of the test files.
    pub tests: Vec<String>,
    /// Globs of files that may change without a test.
    pub exempt: Vec<String>,
    /// The place of the names and results of the tests.
    pub report: ReportFormat,
    /// Whether the tests reach the network while afk proves a commit.
    pub network: bool,
    /// Globs of files that may hold keys, be large, or be links out of the repository. Secrets that
    /// afk knows are never allowed.
    pub scan_exempt: Vec<String>,
    /// The size of the largest file that a run may add, in MiB.
    pub max_file_mib: u64,
    /// Globs of files that decide what the test command does; a human approves their change.
    pub protected: Vec<String>,
    /// Beginnings of a line that open a test inside a source file, for languages that afk doesn't
    /// know.
    pub inline_tests: Vec<String>,
    /// Names of tests, with `*` for any text, that a change may remove.
    pub allow_removed: Vec<String>,
    /// How often a run that disagrees with what is expected is repeated.
    pub reruns: u32,
    /// Whether the proof names the parts of a change that no test needs.
    pub needed: Needed,
}

/// What the gate does with parts of a change that no test needs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Needed {
    /// The proof names them.
    #[default]
    Report,
    /// The gate doesn't look for them.
    Off,
}

impl GateConfig {
    /// The most repetitions of one run.
    pub const MAX_RERUNS: u32 = 10;
}

impl Default for GateConfig {
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
                "**/*_spec.*",
                "**/tests.{py,rs}",
                "**/*Tests.*",
                "**/*.bats",
                "t/**",
                "**/__snapshots__/**",
                "spec/**",
                "test.{js,mjs,py,ts}",
            ]),
            exempt: list(&[
                "docs/**/*.{md,rst,txt,adoc,png,jpg,gif,svg}",
                "**/*.{md,rst}",
                "{CHANGES,CHANGELOG,HISTORY,NEWS,LICENSE,NOTICE,README}",
                "{CHANGES,CHANGELOG,HISTORY,NEWS,LICENSE,NOTICE,README}.txt",
            ]),
            report: ReportFormat::Auto,
            network: true,
            scan_exempt: Vec::new(),
            max_file_mib: 10,
            protected: list(&[
                ".afk.toml",
                ".github/workflows/**",
                ".github/actions/**",
                ".gitlab-ci.yml",
                ".woodpecker.y*ml",
                ".woodpecker/**",
                ".circleci/**",
                "Jenkinsfile",
                ".forgejo/workflows/**",
                ".gitea/workflows/**",
                "**/.cargo/config*",
                "**/build.rs",
                "rust-toolchain*",
                "**/.npmrc",
                "**/.pytest.ini",
                "**/pytest.toml",
                "**/sitecustomize.py",
                "**/usercustomize.py",
                "**/*.pth",
                "**/*.dist-info/entry_points.txt",
                "**/*.egg-info/entry_points.txt",
                "**/vite.config.*",
                "**/jest.setup.*",
                "**/babel.config.*",
                "**/.babelrc*",
                "**/tsconfig*.json",
                "**/.tool-versions",
                "**/.python-version",
                "**/.envrc",
                "**/AGENTS.md",
                "**/CLAUDE.md",
                "**/GEMINI.md",
                ".afk/**",
                "**/.claude/**",
                "**/.codex/**",
                "**/.cursor/**",
                "**/.mcp.json",
                ".husky/**",
                "**/CODEOWNERS",
                "**/.config/nextest.toml",
                "**/conftest.py",
                "**/pytest.ini",
                "**/tox.ini",
                "**/jest.config.*",
                "**/vitest.config.*",
                "**/.mocharc*",
            ]),
            inline_tests: Vec::new(),
            allow_removed: Vec::new(),
            reruns: 2,
            needed: Needed::Report,
        }
    }
}

/// `[ci]`: the judge of a pushed commit; exactly one of `command`, `github` and `woodpecker`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CiConfig {
    /// A command that `sh -c` runs at the top of a clean checkout of the pushed commit.
    pub command: Option<String>,
    /// GitHub's checks of the commit decide.
    pub github: bool,
    /// The repository in Woodpecker, `owner/name`, whose pipeline decides.
    pub woodpecker: Option<String>,
    /// The checks that must pass, beside those that the branch's rules require; if there are none,
    /// every check must pass.
    pub required: Vec<String>,
    /// Minutes within which a check must appear; 10 by default.
    pub appear_minutes: Option<u32>,
    /// Minutes within which all must end; the owner's `limits.ci_minutes` by default.
    pub run_minutes: Option<u32>,
    /// Milliseconds between two polls; 10,000 by default.
    pub poll_ms: Option<u64>,
    /// Seconds without a new suite or an ended check before a commit is green; 30 by default.
    pub quiet_seconds: Option<u32>,
}

/// `[deploy]`: the ways to roll a commit out; afk takes those that are set in the order below.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DeployConfig {
    /// A command that `sh -c` runs at the top of a clean checkout of the pushed commit.
    pub command: Option<String>,
    /// The repository in Woodpecker whose deploy pipeline (`manual`, with `IMAGE_TAG`) afk awaits.
    pub woodpecker: Option<String>,
    /// The workloads in clusters whose rollouts afk watches, all at once.
    pub kubernetes: Vec<RolloutTarget>,
    /// Seconds that a complete rollout must last without a restart; 60 by default.
    pub soak_seconds: Option<u64>,
    /// Minutes that the whole deploy may take; the owner's `limits.deploy_minutes` by default.
    pub minutes: Option<u64>,
}

/// `[[deploy.kubernetes]]`: a workload in a cluster, and how its image names the commit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RolloutTarget {
    /// The context of the kubeconfig; the current context by default.
    #[serde(default)]
    pub context: Option<String>,
    /// The namespace of the workload.
    pub namespace: String,
    /// The kind of the workload.
    #[serde(default)]
    pub kind: WorkloadKind,
    /// The workload's name; `{sha8}` stands for the first eight digits of the commit.
    pub name: String,
    /// The container whose image names the commit; by default all of them, init containers aside.
    #[serde(default)]
    pub container: Option<String>,
    /// The image's tag or digest: `{sha}`, `{sha8}` or `{sha7}` stand for the commit.
    #[serde(default = "sha8")]
    pub tag: String,
}

fn sha8() -> String {
    "{sha8}".into()
}

/// The kinds of workloads that afk can watch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum WorkloadKind {
    /// A Deployment of the group `apps`.
    #[default]
    Deployment,
    /// A `StatefulSet` of the group `apps`.
    StatefulSet,
    /// A `DaemonSet` of the group `apps`.
    DaemonSet,
    /// A Job of the group `batch`.
    Job,
}

impl RolloutTarget {
    /// The tag or digest that a commit's image has.
    #[must_use]
    pub fn tag(&self, sha: &crate::core::model::id::Sha) -> String {
        let first = |count: usize| sha.0.get(..count).unwrap_or(&sha.0);
        self.tag.replace("{sha8}", first(8)).replace("{sha7}", first(7)).replace("{sha}", &sha.0)
    }

    /// The image that a rollout of the workload must have.
    #[must_use]
    pub fn expected(&self) -> ExpectedImage<'_> {
        ExpectedImage { tag: &self.tag, container: self.container.as_deref() }
    }

    /// The workload as `context/namespace/name`, for the screen.
    #[must_use]
    pub fn summary(&self) -> String {
        let context = self.context.as_ref().map(|context| format!("{context}/"));
        format!("{}{}/{}", context.unwrap_or_default(), self.namespace, self.name)
    }
}

/// `[probe]`: the proof that a deployed commit is healthy; either `http` or `command`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ProbeConfig {
    /// An address that must answer with a status 2xx.
    #[serde(default)]
    pub http: Option<String>,
    /// Text that the answer must contain; `{sha}` stands for the commit.
    #[serde(default)]
    pub expect: Option<String>,
    /// A command that must exit with 0.
    #[serde(default)]
    pub command: Option<String>,
    /// Milliseconds between two samples.
    #[serde(default = "interval")]
    pub interval_ms: u64,
    /// Milliseconds during which every sample must be good.
    #[serde(default = "soak")]
    pub soak_ms: u64,
    /// Milliseconds within which the first good sample must come.
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
    /// Parses the file's text and checks that its values fit together.
    ///
    /// # Errors
    /// Returns a [`ConfigError`] that names the line and the key.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        let rules: Self = super::parse(FILE, text)?;
        rules.check().map_err(|error| error.located(FILE, text).in_file(FILE))?;
        Ok(rules)
    }

    /// Checks the values that no type can exclude.
    fn check(&self) -> Result<(), ConfigError> {
        let rules = self;
        let wrong = |key: &str, message: &str| Err(ConfigError::meaning(key, message));
        if rules.test.trim().is_empty() {
            return wrong("test", "is empty");
        }
        if let Some((key, message)) = rules.setup.problem() {
            return wrong(&format!("setup.{key}"), &message);
        }
        if let Some((name, message)) = setup::problem_of_env(&rules.env) {
            return wrong(&format!("env.{name}"), message);
        }
        if let Some(ci) = &rules.ci {
            let judges = [ci.command.is_some(), ci.github, ci.woodpecker.is_some()];
            if judges.iter().filter(|is_set| **is_set).count() != 1 {
                return wrong(
                    "ci",
                    "needs exactly one of `command`, `github = true` and `woodpecker`",
                );
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
        if rules.gate.max_file_mib == 0 {
            return wrong("gate.max_file_mib", "must be at least 1");
        }
        if rules.gate.reruns > GateConfig::MAX_RERUNS {
            let most = format!("must be at most {}", GateConfig::MAX_RERUNS);
            return wrong("gate.reruns", &most);
        }
        if rules.gate.inline_tests.iter().any(|mark| mark.trim().is_empty()) {
            return wrong("gate.inline_tests", "has an empty text, which would begin every line");
        }
        for (key, globs) in [
            ("gate.tests", &rules.gate.tests),
            ("gate.exempt", &rules.gate.exempt),
            ("gate.scan_exempt", &rules.gate.scan_exempt),
            ("gate.protected", &rules.gate.protected),
        ] {
            if let Some(bad) = globs.iter().find(|glob| globset::Glob::new(glob).is_err()) {
                return wrong(key, &format!("{bad:?} is not a valid glob"));
            }
        }
        Ok(())
    }

    /// Why the deploy or the probe can't prove that the commit runs, a line for each part of the file.
    /// Such a rollout never becomes green, and such a probe only with a reservation.
    #[must_use]
    pub fn doubts(&self) -> Vec<String> {
        let targets = self.deploy.iter().flat_map(|deploy| &deploy.kubernetes);
        let names_none = targets.filter(|target| !target.expected().names_a_commit());
        let of_target = |target: &RolloutTarget| {
            format!(
                "deploy.kubernetes {}: the tag {} names no commit: use {{sha}}, {{sha8}} or {{sha7}}",
                target.summary(),
                target.tag
            )
        };
        let probe = self.probe_doubt().map(|doubt| format!("probe: {doubt}"));
        names_none.map(of_target).chain(probe).collect()
    }

    /// Why a good probe may be the answer of an older version, where nothing else proves which one runs.
    #[must_use]
    pub fn probe_doubt(&self) -> Option<String> {
        let probe = self.probe.as_ref()?;
        let rollouts = self.deploy.as_ref().is_some_and(|deploy| !deploy.kubernetes.is_empty());
        let named =
            |text: &Option<String>| text.as_ref().is_some_and(|text| text.contains("{sha}"));
        // A command has the commit in its environment.
        let names_it = probe.command.is_some() || named(&probe.http) || named(&probe.expect);
        (!names_it && !rollouts).then(|| {
            "no answer names the commit, so that an older version may have given it: use {sha} in \
             `expect` or `http`"
                .to_owned()
        })
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
    fn test_command_alone_suffices() {
        let rules = RepositoryRules::parse("test = './test.sh'").unwrap();
        assert_eq!(rules.stages(), Stages::default());
    }

    #[test]
    fn rules_that_prove_no_commit_are_named() {
        let target = |more: &str| {
            format!("test = 'x'\n[[deploy.kubernetes]]\nnamespace = 'web'\nname = 'app'\n{more}")
        };
        let doubts = |text: &str| RepositoryRules::parse(text).unwrap().doubts();
        assert_eq!(doubts(&target("")), Vec::<String>::new());
        assert_eq!(doubts(&target("tag = 'v-{sha7}'")), Vec::<String>::new());
        let found = doubts(&target("tag = 'main'"));
        assert_eq!(found.len(), 1);
        assert!(found[0].starts_with("deploy.kubernetes web/app: the tag main names no commit"));
        let probe = "test = 'x'\n[probe]\nhttp = 'http://x/health'\n";
        assert!(doubts(probe)[0].starts_with("probe: no answer names the commit"));
        assert_eq!(doubts(&format!("{probe}expect = '{{sha}}'")), Vec::<String>::new());
        let with_rollout = target("[probe]\nhttp = 'http://x/health'");
        assert_eq!(doubts(&with_rollout), Vec::<String>::new(), "the rollout proves it");
        let cron = RepositoryRules::parse(&target("kind = 'cronjob'")).unwrap_err();
        assert!(cron.to_string().contains("cronjob"), "{cron}");
    }

    #[test]
    fn rollout_tag_names_the_commit() {
        let text = "test = 'x'\n[ci]\ngithub = true\n[[deploy.kubernetes]]\nnamespace = 'web'\nname = 'app'";
        let rules = RepositoryRules::parse(text).unwrap();
        let target = &rules.deploy.as_ref().unwrap().kubernetes[0];
        let sha = crate::core::model::id::Sha("0123456789abcdef".into());
        assert_eq!((target.tag(&sha).as_str(), target.summary().as_str()), ("01234567", "web/app"));
        let named = RolloutTarget { tag: "v1-{sha7}".into(), ..target.clone() };
        assert_eq!(named.tag(&sha), "v1-0123456");
    }

    #[test]
    fn parse_reports_mistakes_in_one_line() {
        for (text, error) in [
            ("", ".afk.toml:1:1: missing field `test`"),
            ("test = ' '", ".afk.toml:1:8: test: is empty"),
            ("test = 'x'\n[ci]\ncmd = 'y'", ".afk.toml:3:1: ci.cmd: unknown field"),
            ("test = 'x'\n[ci]\nrequired = ['a']", ".afk.toml:2:2: ci: needs exactly one of"),
            ("test = 'x'\n[deploy]\nminutes = 3", ".afk.toml:2:2: deploy: needs a `command`"),
            ("test = 'x'\n[probe]\nsoak_ms = 1", ".afk.toml:2:2: probe: needs either"),
            (
                "test = 'x'\n[gate]\ntests = ['[']",
                ".afk.toml:3:9: gate.tests: \"[\" is not a valid glob",
            ),
            (
                "test = 'x'\n[gate]\nscan_exempt = ['[']",
                ".afk.toml:3:15: gate.scan_exempt: \"[\" is not a valid glob",
            ),
            (
                "test = 'x'\n[gate]\nreport = 'junit'",
                ".afk.toml:3:10: gate.report: junit needs the path of the report",
            ),
            ("test = 'x'\n[gate]\nmax_file_mib = 0", ".afk.toml:3:16: gate.max_file_mib: must be"),
        ] {
            let message = RepositoryRules::parse(text).unwrap_err().to_string();
            assert!(message.starts_with(error), "{text:?} gave {message:?}");
        }
    }
}
