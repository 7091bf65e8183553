//! The workspaces of all repositories: their base clones, pools of worktrees and parsed rules.
//!
//! Tasks ask for a [`Pool`]; the first request for a repository opens it and recovers what an
//! earlier afk left half done.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, OnceCell};
use tokio::time::Instant;

use crate::config::Config;
use crate::config::repository::RepositoryRules;
use crate::core::fleet::Fleet;
use crate::core::model::id::{Repo, RunId, Sha};
use crate::core::model::run::Outcome;
use crate::lock::LockExt;
use crate::process::Supervisor;
use crate::workspace::base::Base;
use crate::workspace::credential::Credentials;
use crate::workspace::git::Git;
use crate::workspace::pool::{Pool, Sandboxes};
use crate::workspace::{WorkspaceError, name};

/// The workspaces below one folder; see the module.
#[derive(Debug)]
pub(crate) struct Workspaces {
    root: PathBuf,
    /// Worktrees that belong to runs from before the start.
    kept: BTreeSet<PathBuf>,
    /// A cell for each repository, so that a slow clone of one holds up no other.
    pools: Mutex<BTreeMap<Repo, Arc<OnceCell<Arc<Pool>>>>>,
    /// The last fetch of each repository for a job.
    last_fetches: Mutex<BTreeMap<Repo, Arc<Mutex<LastFetch>>>>,
    /// Rules by the commit that they were read from. A commit never changes, so they never expire.
    rules: std::sync::Mutex<BTreeMap<(Repo, Sha), Arc<RepositoryRules>>>,
    credentials: Arc<dyn Credentials>,
    sandboxes: Arc<dyn Sandboxes>,
}

/// When a repository was last fetched for a job, and its newest commit then.
type LastFetch = Option<(Instant, Sha)>;

/// The largest number of commits whose rules are kept.
const RULES_KEPT: usize = 64;

impl Workspaces {
    pub(super) fn new(
        root: PathBuf,
        fleet: &Fleet,
        credentials: Arc<dyn Credentials>,
        sandboxes: Arc<dyn Sandboxes>,
    ) -> Self {
        let keeps = |outcome: Option<Outcome>| {
            !matches!(outcome, Some(Outcome::Done | Outcome::Cancelled | Outcome::Failed))
        };
        let kept = fleet
            .runs
            .values()
            .filter(|run| keeps(run.progress.outcome))
            .filter_map(|run| run.workspace.worktree.as_ref().map(PathBuf::from))
            .collect();
        Self {
            root,
            kept,
            pools: Mutex::default(),
            last_fetches: Mutex::default(),
            rules: std::sync::Mutex::default(),
            credentials,
            sandboxes,
        }
    }

    /// The rules of a commit, if they are cached.
    pub(super) fn rules(&self, repo: &Repo, sha: &Sha) -> Option<Arc<RepositoryRules>> {
        let rules = self.rules.locked();
        rules.get(&(repo.clone(), sha.clone())).cloned()
    }

    /// Caches the rules of a commit.
    pub(super) fn remember(&self, repo: &Repo, sha: &Sha, read: &Arc<RepositoryRules>) {
        let mut rules = self.rules.locked();
        if rules.len() >= RULES_KEPT {
            rules.clear();
        }
        rules.insert((repo.clone(), sha.clone()), read.clone());
    }

    /// The folder of a repository's clones, worktrees and caches.
    pub(super) fn folder(&self, repo: &Repo) -> PathBuf {
        self.root.join(name::folder(repo))
    }

    /// The path of a run's throwaway clone.
    pub(super) fn throwaway(&self, run: RunId) -> PathBuf {
        self.root.join("throwaway").join(run.to_string())
    }

    /// The newest commit of a repository. Calls within `debounce` share one fetch.
    pub(super) async fn upstream(
        &self,
        repo: &Repo,
        base: &Base,
        debounce: Duration,
    ) -> Result<Sha, WorkspaceError> {
        let known = self.last_fetches.lock().await.entry(repo.clone()).or_default().clone();
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

    /// The pool of a repository. The first call opens it and recovers what an earlier afk left.
    pub(super) async fn pool(
        &self,
        repo: &Repo,
        config: &Config,
        supervisor: &Supervisor,
        owner: &str,
    ) -> Result<Arc<Pool>, WorkspaceError> {
        let cell = self.pools.lock().await.entry(repo.clone()).or_default().clone();
        let opened = cell.get_or_try_init(|| self.open(repo, config, supervisor, owner));
        opened.await.cloned()
    }

    async fn open(
        &self,
        repo: &Repo,
        config: &Config,
        supervisor: &Supervisor,
        owner: &str,
    ) -> Result<Arc<Pool>, WorkspaceError> {
        let known = config.repos.get(repo).ok_or_else(|| WorkspaceError::Git {
            subcommand: "remote".into(),
            message: format!("{repo} has no [repos.\"{repo}\"] in the configuration"),
        })?;
        let dir = self.folder(repo);
        let deadline = Duration::from_secs(config.limits.git_seconds);
        let base = dir.join("base.git");
        std::fs::create_dir_all(&dir)
            .map_err(|source| WorkspaceError::Io { path: dir.clone(), source })?;
        let git = Git::new(&base, supervisor, owner, deadline).reaching(
            &known.remote,
            self.credentials.clone(),
            &dir,
        );
        let base = Base::open(&base, &known.remote, &known.branch, &git).await?;
        base.break_stale_locks();
        let taken = self.kept.iter().filter(|path| path.starts_with(&dir)).cloned().collect();
        let (limit, sandboxes) = (config.limits.disk_free_mib, self.sandboxes.clone());
        let pool = Pool::open(base, &dir, limit, sandboxes, taken).await?;
        let recovered = pool.recover().await?;
        if recovered > 0 {
            tracing::info!(%repo, recovered, "gave back worktrees that an earlier afk left");
        }
        Ok(Arc::new(pool))
    }
}
