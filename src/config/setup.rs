//! `[setup]` and `[env]` of a repository's `.afk.toml`: what a fresh checkout needs before an agent
//! or a test works in it.

use std::collections::BTreeMap;
use std::path::{Component, Path};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The most ports that a checkout gets.
const PORTS_LIMIT: u16 = 32;

/// `[setup]`: how a fresh checkout gets ready.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SetupConfig {
    /// A command that `sh -c` runs in each fresh checkout, in `dir`.
    pub command: Option<String>,
    /// Files that decide, with the command, whether an earlier result in the caches may be used;
    /// without them every file does.
    pub key: Vec<String>,
    /// Files or folders to copy before the command, each as `from:to`.
    pub copy: Vec<String>,
    /// The number of free ports that the checkout gets, as `AFK_PORT_1` and so on.
    pub ports: u16,
    /// The folder of the repository that agents, the setup and the tests work in.
    pub dir: Option<String>,
    /// The sparse patterns of the checkout, as git's sparse-checkout file has them; everything if
    /// there are none.
    pub sparse: Vec<String>,
    /// Whether the files of Git LFS are fetched.
    pub lfs: bool,
    /// Whether the submodules are fetched.
    pub submodules: bool,
}

impl Default for SetupConfig {
    fn default() -> Self {
        Self {
            command: None,
            key: Vec::new(),
            copy: Vec::new(),
            ports: 0,
            dir: None,
            sparse: Vec::new(),
            lfs: true,
            submodules: true,
        }
    }
}

impl SetupConfig {
    /// The files to copy, as source and target.
    pub(crate) fn copies(&self) -> impl Iterator<Item = (&str, &str)> {
        self.copy.iter().filter_map(|pair| pair.split_once(':'))
    }

    /// The first key with a value that can't be used, and why not.
    pub(super) fn problem(&self) -> Option<(&'static str, String)> {
        if self.command.as_ref().is_some_and(|command| command.trim().is_empty()) {
            return Some(("command", "is empty".into()));
        }
        let outside = |path: &&String| !is_inside(path);
        if let Some(path) = self.key.iter().find(outside) {
            return Some(("key", format!("{path:?} is not a path in the repository")));
        }
        if let Some(path) = self.dir.iter().find(outside) {
            return Some(("dir", format!("{path:?} is not a path in the repository")));
        }
        let is_pair = |pair: &&String| {
            pair.split_once(':').is_some_and(|(from, to)| is_inside(from) && is_inside(to))
        };
        if let Some(pair) = self.copy.iter().find(|pair| !is_pair(pair)) {
            return Some((
                "copy",
                format!("{pair:?} is not \"from:to\" with paths in the repository"),
            ));
        }
        if self.ports > PORTS_LIMIT {
            return Some(("ports", format!("is more than {PORTS_LIMIT}")));
        }
        let bad = |pattern: &&String| pattern.trim().is_empty() || pattern.contains('\n');
        self.sparse.iter().find(bad).map(|pattern| ("sparse", format!("{pattern:?} is no pattern")))
    }
}

/// Whether a path stays in the repository, and out of git's own folder.
pub(crate) fn is_inside(path: &str) -> bool {
    let ordinary = |part: Component<'_>| match part {
        Component::Normal(name) => !name.eq_ignore_ascii_case(".git"),
        _ => false,
    };
    !path.is_empty() && !path.contains('\0') && Path::new(path).components().all(ordinary)
}

/// The first name of `[env]` that a program of afk's own, or the wall, obeys, and why it is refused.
pub(super) fn problem_of_env(env: &BTreeMap<String, String>) -> Option<(String, &'static str)> {
    let is_word = |name: &str| {
        let first = name.bytes().next().is_some_and(|byte| !byte.is_ascii_digit());
        first && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    };
    // The loader of afk's own launcher reads them before the wall stands.
    let refused = ["LD_", "GLIBC_", "DYLD_", "AFK_", "GIT_"];
    let ours = ["PATH", "HOME", "TMPDIR", "RUST_LOG", "RUST_BACKTRACE"];
    env.iter().find_map(|(name, value)| {
        let why = if !is_word(name) {
            "is not a name of a variable"
        } else if ours.contains(&name.as_str())
            || refused.iter().any(|start| name.starts_with(start))
        {
            "is a variable that afk decides on; set it in the command"
        } else if value.contains('\0') {
            "has a value with a zero byte"
        } else {
            return None;
        };
        Some((name.clone(), why))
    })
}

/// Whether a value of `[env]` is a reference to a secret, which the owner must have allowed.
pub(crate) fn is_reference(value: &str) -> bool {
    ["env:", "file:", "vault:"].iter().any(|scheme| value.starts_with(scheme))
}

#[cfg(test)]
mod tests {
    use super::super::repository::RepositoryRules;

    #[test]
    fn setup_refuses_what_leaves_the_repository() {
        for (line, error) in [
            ("command = ' '", "setup.command: is empty"),
            ("dir = '../web'", "setup.dir: \"../web\" is not a path in the repository"),
            ("dir = '/etc'", "setup.dir: "),
            ("key = ['a/.git/config']", "setup.key: "),
            ("copy = ['.env.example']", "setup.copy: "),
            ("copy = ['/etc/passwd:x']", "setup.copy: "),
            ("copy = ['x:.git/hooks/post-commit']", "setup.copy: "),
            ("ports = 33", "setup.ports: is more than 32"),
            ("sparse = ['']", "setup.sparse: "),
        ] {
            let text = format!("test = 'x'\n[setup]\n{line}");
            let message = RepositoryRules::parse(&text).unwrap_err().to_string();
            assert!(message.starts_with(".afk.toml:3:"), "{line} gave {message:?}");
            assert!(message.contains(&format!(": {error}")), "{line} gave {message:?}");
        }
        let text = "test = 'x'\n[setup]\ncommand = 'npm ci'\nkey = ['package-lock.json']\n\
                    copy = ['.env.example:.env']\nports = 2\ndir = 'packages/web'\nsparse = ['/web/']";
        let setup = RepositoryRules::parse(text).unwrap().setup;
        assert_eq!(setup.copies().collect::<Vec<_>>(), [(".env.example", ".env")]);
    }

    #[test]
    fn env_refuses_names_that_reach_the_launcher() {
        for name in ["LD_PRELOAD", "PATH", "HOME", "AFK_RUN", "GIT_DIR", "1A", "'A-B'"] {
            let text = format!("test = 'x'\n[env]\n{name} = 'y'");
            let message = RepositoryRules::parse(&text).unwrap_err().to_string();
            assert!(message.starts_with(".afk.toml:3:"), "{name} gave {message:?}");
            assert!(message.contains(": env."), "{name} gave {message:?}");
        }
        assert!(RepositoryRules::parse("test = 'x'\n[env]\nDATABASE_URL = 'env:TEST_URL'").is_ok());
    }
}
