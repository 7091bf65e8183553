//! Gets a fresh tree ready: the workspace of a run before its first turn, and each proving tree
//! before its tests.
//!
//! ```text
//! check_out ─▶ FreshTree ─ (the gate lays tests over it) ─▶ get_ready ─▶ Ready ─▶ agent, tests
//!                                                              │
//!     the cache of its own, ports, [env] ──────────────────────┤
//!     [setup] copy and command, behind the wall ───────────────┤
//!     on a commit of the upstream: keep what the caches hold ──┘
//! ```
//!
//! A setup that fails decides nothing about a commit: a human is asked.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use secrecy::ExposeSecret;

use super::TaskError;
use super::command_context::CommandContext;
use crate::config::repository::RepositoryRules;
use crate::config::setup::is_reference;
use crate::core::model::digest::Digest;
use crate::core::model::gate_report::TestExit;
use crate::core::model::id::Sha;
use crate::core::model::outage::OutageCause;
use crate::core::model::untrusted::Untrusted;
use crate::process::Spec;
use crate::runtime::outages;
use crate::runtime::wall::{Grants, Owner};
use crate::sandbox::Sandbox;
use crate::workspace::git::Git;
use crate::workspace::pool::{FreshTree, Pool};
use crate::workspace::{WorkspaceError, lfs_checkout, submodules};

/// The version of the caches' keys; another one drops what an earlier afk kept.
const KEY_VERSION: &[u8] = b"1";
/// Copies a file or a folder unless the target exists. The wall is around it, because the tree's
/// commit may have a link in place of either.
const COPY: &str = "[ -e \"$2\" ] && exit 0\ncase $2 in */*) mkdir -p -- \"${2%/*}\" || exit 1;; esac\n\
                    exec cp -Rp -- \"$1\" \"$2\"";

/// A tree in which the commands of the repository can run.
#[derive(Debug, Clone)]
pub(super) struct Ready {
    /// The top of the tree.
    pub tree: PathBuf,
    /// The folder that commands run in.
    pub folder: PathBuf,
    /// Their environment.
    pub env: BTreeMap<String, String>,
}

/// Why a tree is not ready.
#[derive(Debug, Clone)]
pub(super) struct SetupFailure {
    /// One line for a person.
    pub why: String,
    /// The end of the log; empty if nothing ran.
    pub log: Untrusted,
    /// The outage that explains the failure; none where the repository is at fault.
    pub outage: Option<OutageCause>,
    /// Whether the commit is at fault, which its agent can mend.
    by_commit: bool,
}

impl SetupFailure {
    fn new(why: impl Into<String>) -> Self {
        Self { why: why.into(), log: Untrusted::default(), outage: None, by_commit: false }
    }

    /// The failure as the end of a run of the tests; as an error, what the agent must change first.
    pub(super) fn into_test_exit(self) -> Result<TestExit, String> {
        if self.by_commit {
            return Err(self.why);
        }
        Ok(TestExit::Broken { why: format!("{}\n{}", self.why, self.log.as_received()).into() })
    }
}

impl From<TaskError> for SetupFailure {
    fn from(error: TaskError) -> Self {
        let why = error.to_string();
        Self { outage: error.into_outage(), ..Self::new(why) }
    }
}

impl From<WorkspaceError> for SetupFailure {
    fn from(error: WorkspaceError) -> Self {
        let by_commit =
            matches!(error, WorkspaceError::Unfit { .. } | WorkspaceError::Refused { .. });
        Self { by_commit, outage: error.outage(), ..Self::new(error.to_string()) }
    }
}

/// Whose programs use a tree that is being prepared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TreeUse {
    /// An agent's: its home, which it keeps.
    Workspace,
    /// The tests of a commit: a home that begins empty. A side of the gate by this name.
    Proof(&'static str),
}

impl CommandContext {
    /// Checks a commit out into `dir`, in place of whatever is there, and completes it.
    pub(super) async fn check_out(
        &self,
        pool: &Pool,
        rules: &RepositoryRules,
        dir: &Path,
        sha: &Sha,
    ) -> Result<FreshTree, SetupFailure> {
        let tree = pool.check_out(dir, sha, &self.owner).await?;
        let trusted = self.trusted.as_ref().unwrap_or(sha);
        self.complete(pool, rules, &tree, sha, trusted).await?;
        Ok(tree)
    }

    /// Brings a fresh tree to what the rules ask of git: sparse patterns, submodules, the files of
    /// LFS. Only `trusted` decides where these come from.
    pub(super) async fn complete(
        &self,
        pool: &Pool,
        rules: &RepositoryRules,
        tree: &FreshTree,
        commit: &Sha,
        trusted: &Sha,
    ) -> Result<(), SetupFailure> {
        let limit = Duration::from_secs(60 * self.config.limits.clone_minutes);
        if rules.setup.lfs {
            lfs_checkout::check_out(pool.base(), tree, commit, trusted, limit).await?;
        }
        tree.narrow(&rules.setup.sparse).await?;
        if rules.setup.submodules {
            submodules::check_out(pool.base(), tree, commit, trusted, limit).await?;
        }
        Ok(())
    }

    /// Gets a tree ready, at the commit that it was checked out at. From here on only git in the
    /// sandbox may work there.
    pub(super) async fn get_ready(
        &self,
        pool: &Pool,
        rules: &RepositoryRules,
        tree: FreshTree,
        commit: &Sha,
        of: TreeUse,
    ) -> Result<Ready, SetupFailure> {
        let mut key = self.fill_caches(pool, rules, &tree).await?;
        if of == TreeUse::Workspace {
            // What afk copies is no change of the agent's.
            tree.ignore(rules.setup.copies().map(|(_, to)| to))?;
        } else {
            // What an agent or an earlier command left proves nothing.
            self.forget_command_home()?;
        }
        let publishes = key.is_some()
            && of != TreeUse::Workspace
            && rules.setup.command.is_some()
            && is_of_upstream(pool, tree.git(), commit).await?;
        key = key.filter(|_| publishes);
        let path = tree.path().to_owned();
        drop(tree);
        let env = self.test_environment(rules, &path).await?;
        let folder = folder(rules, &path)?;
        let ready = Ready { tree: path, folder, env };
        if rules.setup.command.is_none() && rules.setup.copy.is_empty() {
            return Ok(ready);
        }
        self.show(Some("setting up")).await;
        let done = self.run_setup(rules, &ready, of).await;
        self.show(None).await;
        done?;
        if let Some(key) = key {
            let (caches, tree) = (pool.caches().clone(), ready.tree.clone());
            let kept = blocking(move || caches.publish(&tree, &key)).await;
            match kept {
                Ok(true) => tracing::info!(repo = %self.repo, %key, "keeps a cache"),
                Ok(false) => {}
                // The next setup takes longer; nothing else depends on it.
                Err(error) => tracing::warn!(%error, "the cache can't be kept"),
            }
        }
        Ok(ready)
    }

    /// Has the caches of a commit of the upstream filled by its setup, in a proving tree, unless
    /// they are: a workspace then starts with them.
    pub(super) async fn prepare_caches(
        &self,
        pool: &Pool,
        rules: &RepositoryRules,
        base: &Sha,
    ) -> Result<(), SetupFailure> {
        if rules.setup.command.is_none() || !self.has_caches() {
            return Ok(());
        }
        let key = key(rules, pool.base().git(), &format!("{base}^{{tree}}")).await?;
        if pool.caches().has(&key) {
            return Ok(());
        }
        let tree = self.check_out(pool, rules, &self.proving_tree(), base).await?;
        self.get_ready(pool, rules, tree, base, TreeUse::Proof("base")).await.map(|_| ())
    }

    /// Gives a tree a cache of its own and returns the key of what it may hold; none without caches.
    pub(super) async fn fill_caches(
        &self,
        pool: &Pool,
        rules: &RepositoryRules,
        tree: &FreshTree,
    ) -> Result<Option<Digest>, WorkspaceError> {
        if !self.has_caches() {
            return Ok(None);
        }
        let content = tree.git().call(&["write-tree"]).await?;
        let key = key(rules, tree.git(), &content).await?;
        self.fill_cache(pool, tree.path(), key).await?;
        Ok(Some(key))
    }

    pub(super) fn has_caches(&self) -> bool {
        let known = self.config.repos.get(&self.repo);
        known.is_some_and(|known| !known.caches.is_empty())
    }

    async fn fill_cache(
        &self,
        pool: &Pool,
        tree: &Path,
        key: Digest,
    ) -> Result<bool, WorkspaceError> {
        let Some(known) = self.config.repos.get(&self.repo) else { return Ok(false) };
        let (caches, folders) = (pool.caches().clone(), known.caches.clone());
        let tree = tree.to_owned();
        blocking(move || {
            let folders: BTreeSet<&str> = folders.values().map(String::as_str).collect();
            caches.fill(&tree, &key, &folders)
        })
        .await
    }

    /// Gives the clone of a job a cache of its own, if the repository has rules at this commit.
    pub(super) async fn fill_clone_cache(
        &self,
        pool: &Pool,
        clone: &Path,
        sha: &Sha,
    ) -> Result<(), WorkspaceError> {
        if !self.has_caches() {
            return Ok(());
        }
        let key = match self.rules(pool, sha).await {
            Ok(rules) => key(&rules, pool.base().git(), &format!("{sha}^{{tree}}")).await?,
            // A job needs no rules, and begins with empty caches without them.
            Err(_) => Digest::ZERO,
        };
        self.fill_cache(pool, clone, key).await.map(|_| ())
    }

    /// The environment of agents in a tree: that of every command, its ports, and the values of
    /// `[env]` that are no secrets.
    pub(super) fn tree_environment(
        &self,
        rules: &RepositoryRules,
        tree: &Path,
    ) -> Result<BTreeMap<String, String>, TaskError> {
        let mut env = self.environment(Some(tree));
        let plain = rules.env.iter().filter(|(_, value)| !is_reference(value));
        env.extend(plain.map(|(name, value)| (name.clone(), value.clone())));
        if rules.setup.ports > 0 {
            let ports = self.runtime.workspaces.ports().of(tree, rules.setup.ports)?;
            let named = ports.iter().enumerate();
            env.extend(named.map(|(n, port)| (format!("AFK_PORT_{}", n + 1), port.to_string())));
        }
        Ok(env)
    }

    /// The environment of the setup and the tests in a tree, secrets included.
    async fn test_environment(
        &self,
        rules: &RepositoryRules,
        tree: &Path,
    ) -> Result<BTreeMap<String, String>, TaskError> {
        let mut env = self.tree_environment(rules, tree)?;
        let repo = &self.repo;
        let known = self.config.repos.get(repo);
        let allowed = known.map(|known| known.test_secrets.as_slice()).unwrap_or_default();
        for (name, reference) in rules.env.iter().filter(|(_, value)| is_reference(value)) {
            if !allowed.contains(reference) {
                return Err(format!(
                    "[env] {name} of .afk.toml names {reference}, which tests of {repo} may not \
                     have: the owner allows it with `test_secrets` of [repos.\"{repo}\"]"
                )
                .into());
            }
            let secret = outages::secret(&self.runtime, reference).await;
            let secret = secret.map_err(|error| error.about(&format!("[env] {name}")))?;
            env.insert(name.clone(), secret.expose_secret().to_owned());
        }
        Ok(env)
    }

    async fn run_setup(
        &self,
        rules: &RepositoryRules,
        ready: &Ready,
        of: TreeUse,
    ) -> Result<(), SetupFailure> {
        let place = match of {
            TreeUse::Workspace => "in the workspace".to_owned(),
            TreeUse::Proof(side) => format!("before the tests of the {side}"),
        };
        let sandbox = match of {
            TreeUse::Workspace => {
                let grants = self.grants(&ready.tree);
                self.runtime
                    .wall
                    .sandbox(Owner::Named(&self.owner), grants)
                    .map_err(TaskError::from)
            }
            TreeUse::Proof(_) => self.ready_sandbox(ready, Grants::default()),
        };
        let sandbox = sandbox?;
        let limit = Duration::from_secs(60 * self.config.limits.setup_minutes);
        let log = |what: &str| {
            self.log(&match of {
                TreeUse::Workspace => what.to_owned(),
                TreeUse::Proof(side) => format!("gate-{side}-{what}"),
            })
        };
        for (number, (from, to)) in rules.setup.copies().enumerate() {
            let mut spec = Spec::shell(&self.owner, COPY, &ready.tree);
            spec.args.extend(["sh", from, to].map(OsString::from));
            spec.sandbox.clone_from(&sandbox);
            let log = log(&format!("copy-{number}"));
            let done = self.runtime.supervisor.run(&spec, &log, limit).await;
            let done = done.map_err(|error| SetupFailure::new(format!("copy {from}: {error}")))?;
            if done.code != Some(0) {
                let why = format!("`[setup] copy` of {from} to {to} {place}: {}", done.summary());
                return Err(SetupFailure { log: done.tail, ..SetupFailure::new(why) });
            }
        }
        let Some(command) = &rules.setup.command else { return Ok(()) };
        let mut spec = Spec::shell(&self.owner, command, &ready.folder);
        spec.env.clone_from(&ready.env);
        spec.sandbox = sandbox;
        let done = self.runtime.supervisor.run(&spec, &log("setup"), limit).await;
        let done =
            done.map_err(|error| SetupFailure::new(format!("the setup command: {error}")))?;
        if done.code == Some(0) {
            return Ok(());
        }
        let how = if done.timed_out {
            let minutes = self.config.limits.setup_minutes;
            format!("took longer than limits.setup_minutes ({minutes}) and was stopped")
        } else {
            done.summary()
        };
        let why = format!("the setup command `{command}` {place}: {how}");
        Err(SetupFailure { log: done.tail, ..SetupFailure::new(why) })
    }

    /// The sandbox of a command in a tree that is ready. Its home and temporary files are those that
    /// the setup of this tree left.
    pub(super) fn ready_sandbox(
        &self,
        ready: &Ready,
        needs: Grants,
    ) -> Result<Option<Sandbox>, TaskError> {
        self.next_command_sandbox(&ready.tree, needs)
    }
}

/// The folder of a tree that the repository works in.
pub(super) fn folder(rules: &RepositoryRules, tree: &Path) -> Result<PathBuf, TaskError> {
    let Some(dir) = &rules.setup.dir else { return Ok(tree.to_owned()) };
    let mut at = tree.to_owned();
    for part in Path::new(dir).components() {
        at.push(part);
        // A commit may have a link in its place.
        if !at.symlink_metadata().is_ok_and(|found| found.is_dir()) {
            let why = format!("`[setup] dir` names {dir}, and the commit has no such folder");
            return Err(why.into());
        }
    }
    Ok(at)
}

/// The key of what a setup leaves: its command, its folder, and the files that decide.
async fn key(rules: &RepositoryRules, git: &Git, tree: &str) -> Result<Digest, WorkspaceError> {
    let setup = &rules.setup;
    let mut args = vec!["ls-tree", "-r", "-z", "--full-tree", tree];
    let files = if setup.key.is_empty() {
        git.call(&["rev-parse", "--verify", tree]).await?.into_bytes()
    } else {
        args.push("--");
        args.extend(setup.key.iter().map(String::as_str));
        let literal = [("GIT_LITERAL_PATHSPECS", std::ffi::OsStr::new("1"))];
        git.call_with(&args, &literal).await?.into_bytes()
    };
    let command = setup.command.as_deref().unwrap_or_default();
    let dir = setup.dir.as_deref().unwrap_or_default();
    let place = std::env::consts::ARCH;
    Ok(Digest::of(&[
        KEY_VERSION,
        place.as_bytes(),
        command.as_bytes(),
        dir.as_bytes(),
        setup.copy.join("\0").as_bytes(),
        &files,
    ]))
}

/// Whether a tree has exactly the files of a commit that the upstream has: nothing of a run's.
async fn is_of_upstream(pool: &Pool, git: &Git, commit: &Sha) -> Result<bool, WorkspaceError> {
    Ok(pool.base().contains(commit).await?
        && git.ask(&["diff-index", "--quiet", &commit.0]).await?.ok)
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, WorkspaceError> + Send + 'static,
) -> Result<T, WorkspaceError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| {
        Err(WorkspaceError::Io { path: PathBuf::from("caches"), source: error.into() })
    })
}
