//! The workspaces of all repositories, opened when they are first needed.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::config::Config;
use crate::config::repository::RepositoryRules;
use crate::core::fleet::Fleet;
use crate::core::model::id::{Repo, RunId, Sha};
use crate::core::model::run::Outcome;
use crate::process::Supervisor;
use crate::workspace::base::Base;
use crate::workspace::git::{Credentials, Git};
use crate::workspace::pool::Pool;
use crate::workspace::{WorkspaceError, name};

/// See the module.
#[derive(Debug)]
pub(crate) struct Workspaces {
    root: PathBuf,
    /// Worktrees that runs of an earlier life still have.
    kept: BTreeSet<PathBuf>,
    pools: Mutex<BTreeMap<Repo, Arc<Pool>>>,
    /// When each repository was fetched last for a job, and what was found.
    fetched: Mutex<BTreeMap<Repo, Arc<Mutex<Fetched>>>>,
    /// Rules by the commit that they were read from; a commit never changes.
    rules: std::sync::Mutex<BTreeMap<(Repo, Sha), Arc<RepositoryRules>>>,
    credentials: Arc<dyn Credentials>,
}

/// When a repository was fetched for a job, and what was found.
type Fetched = Option<(Instant, Sha)>;

/// Rules that are remembered.
const RULES_KEPT: usize = 64;

impl Workspaces {
    pub(super) fn new(root: PathBuf, fleet: &Fleet, credentials: Arc<dyn Credentials>) -> Self {
        let keeps = |outcome: Option<Outcome>| {
            !matches!(outcome, Some(Outcome::Done | Outcome::Cancelled | Outcome::Failed))
        };
        let kept = fleet
            .runs
            .values()
            .filter(|run| keeps(run.outcome))
            .filter_map(|run| run.worktree.as_ref().map(PathBuf::from))
            .collect();
        Self {
            root,
            kept,
            pools: Mutex::default(),
            fetched: Mutex::default(),
            rules: std::sync::Mutex::default(),
            credentials,
        }
    }

    /// The rules of a commit, if they were read before.
    pub(super) fn rules(&self, repo: &Repo, sha: &Sha) -> Option<Arc<RepositoryRules>> {
        let rules = self.rules.lock().unwrap_or_else(PoisonError::into_inner);
        rules.get(&(repo.clone(), sha.clone())).cloned()
    }

    /// Remembers the rules of a commit.
    pub(super) fn remember(&self, repo: &Repo, sha: &Sha, read: &Arc<RepositoryRules>) {
        let mut rules = self.rules.lock().unwrap_or_else(PoisonError::into_inner);
        if rules.len() >= RULES_KEPT {
            rules.clear();
        }
        rules.insert((repo.clone(), sha.clone()), read.clone());
    }

    /// The folder of a repository.
    pub(super) fn folder(&self, repo: &Repo) -> PathBuf {
        self.root.join(name::folder(repo))
    }

    /// The throwaway clone of a run.
    pub(super) fn throwaway(&self, run: RunId) -> PathBuf {
        self.root.join("throwaway").join(run.to_string())
    }

    /// The newest commit of a repository. Those that ask within `debounce` share one fetch.
    pub(super) async fn upstream(
        &self,
        repo: &Repo,
        base: &Base,
        debounce: Duration,
    ) -> Result<Sha, WorkspaceError> {
        let known = self.fetched.lock().await.entry(repo.clone()).or_default().clone();
        let mut last = known.lock().await;
        if let Some((at, sha)) = last.as_ref()
            && at.elapsed() < debounce
        {
            return Ok(sha.clone());
        }
        let sha = base.fetch().await?;
        *last = Some((Instant::now(), sha.clone()));
        Ok(sha)
    }

    /// The pool of a repository. The first time in a life, what an earlier one left is put right.
    pub(super) async fn pool(
        &self,
        repo: &Repo,
        config: &Config,
        supervisor: &Supervisor,
        owner: &str,
    ) -> Result<Arc<Pool>, WorkspaceError> {
        let mut pools = self.pools.lock().await;
        if let Some(pool) = pools.get(repo) {
            return Ok(pool.clone());
        }
        let known = config.repos.get(repo).ok_or_else(|| WorkspaceError::Git {
            what: "remote".into(),
            said: format!("{repo} has no [repos.\"{repo}\"] in the configuration"),
        })?;
        let dir = self.folder(repo);
        let deadline = Duration::from_secs(config.limits.git_seconds);
        let git = Git::new(Path::new("."), supervisor, owner, deadline)
            .reaching(&known.remote, self.credentials.clone());
        let base = dir.join("base.git");
        let base = Base::open(&base, &known.remote, &known.branch, &git).await?;
        base.break_stale_locks();
        let taken = self.kept.iter().filter(|path| path.starts_with(&dir)).cloned().collect();
        let pool = Pool::open(base, &dir, config.limits.disk_free_mib, taken).await?;
        let recovered = pool.recover().await?;
        if recovered > 0 {
            tracing::info!(%repo, recovered, "gave back worktrees of an earlier life");
        }
        let pool = Arc::new(pool);
        pools.insert(repo.clone(), pool.clone());
        Ok(pool)
    }
}
