//! The workspaces of all repositories: their base clones, pools of worktrees and parsed rules.
//!
//! Tasks ask for a [`Pool`](crate::workspace::pool::Pool); [`pool_opening`](super::pool_opening)
//! opens each of them once.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, OwnedMutexGuard};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::pool_opening::{Opener, Opening, Openings};
use super::ports::Ports;
use crate::config::Config;
use crate::config::repository::RepositoryRules;
use crate::core::fleet::Fleet;
use crate::core::model::id::{Repo, Sha};
use crate::lock::LockExt;
use crate::process::Supervisor;
use crate::workspace::base::{self, Base, is_clone};
use crate::workspace::credential::Credentials;
use crate::workspace::pool::Sandboxes;
use crate::workspace::{WorkspaceError, name};

/// The workspaces below one folder; see the module.
#[derive(Debug)]
pub(crate) struct Workspaces {
    root: PathBuf,
    openings: Openings,
    /// The last fetch of each repository for a job.
    last_fetches: Mutex<BTreeMap<Repo, Arc<Mutex<LastFetch>>>>,
    /// Rules by the commit that they were read from. A commit never changes, so they never expire.
    rules: std::sync::Mutex<BTreeMap<(Repo, Sha), Arc<RepositoryRules>>>,
    ports: Ports,
    /// The workspaces of runs that this life of afk has made, or found sound.
    sound: std::sync::Mutex<BTreeSet<PathBuf>>,
    /// Held while the baseline of a repository is made, so that nobody makes it twice.
    baselines: std::sync::Mutex<BTreeMap<Repo, Arc<Mutex<()>>>>,
}

/// When a repository was last fetched for a job, and the result.
type LastFetch = Option<JobFetch>;

/// A fetch for a job.
#[derive(Debug)]
pub(super) struct JobFetch {
    at: Instant,
    /// The address that it fetched from, and the branch.
    remote: String,
    branch: String,
    base: JobBase,
}

/// The commit that a job begins from.
#[derive(Debug, Clone)]
pub(super) struct JobBase {
    /// The newest commit of the branch, as of the last fetch that succeeded.
    pub sha: Sha,
    /// The error of a later fetch, which failed.
    pub stale: Option<String>,
}

/// The largest number of commits whose rules are kept.
const RULES_KEPT: usize = 64;

impl Workspaces {
    pub(super) fn new(
        root: PathBuf,
        fleet: &Fleet,
        credentials: Arc<dyn Credentials>,
        sandboxes: Arc<dyn Sandboxes>,
    ) -> Self {
        let kept =
            fleet.runs.values().filter_map(|run| run.own_worktree().map(PathBuf::from)).collect();
        let renewals = std::sync::Mutex::default();
        let opener = Opener { root: root.clone(), kept, credentials, sandboxes, renewals };
        Self {
            root,
            openings: Openings::new(opener),
            last_fetches: Mutex::default(),
            rules: std::sync::Mutex::default(),
            ports: Ports::default(),
            sound: std::sync::Mutex::default(),
            baselines: std::sync::Mutex::default(),
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

    /// Whether this life of afk has made a workspace, or found it sound.
    pub(super) fn is_sound(&self, workspace: &Path) -> bool {
        self.sound.locked().contains(workspace)
    }

    /// Notes that a workspace needs no look for damage in this life of afk.
    pub(super) fn note_sound(&self, workspace: &Path) {
        self.sound.locked().insert(workspace.to_owned());
    }

    /// The ports of the checkouts.
    pub(super) const fn ports(&self) -> &Ports {
        &self.ports
    }

    /// The turn of whoever makes the baseline of a repository.
    pub(super) fn baseline_turn(&self, repo: &Repo) -> Arc<Mutex<()>> {
        self.baselines.locked().entry(repo.clone()).or_default().clone()
    }

    /// The folder of a repository's clones, worktrees and caches.
    pub(super) fn folder(&self, repo: &Repo) -> PathBuf {
        self.root.join(name::folder(repo))
    }

    /// The folder of a repository's base clone.
    pub(super) fn base_clone(&self, repo: &Repo) -> PathBuf {
        self.folder(repo).join(base::FOLDER)
    }

    /// Whether a repository was cloned before.
    pub(super) fn has_clone(&self, repo: &Repo) -> bool {
        is_clone(&self.base_clone(repo))
    }

    /// The folder of all clones, worktrees and caches.
    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// Whether the remote of a repository answers, and accepts the login. Needs no clone.
    pub(super) async fn remote_answers(
        &self,
        repo: &Repo,
        config: &Config,
        supervisor: &Supervisor,
    ) -> Result<(), WorkspaceError> {
        self.openings.opener().remote_answers(repo, config, supervisor).await
    }

    /// The path of the throwaway clone of a run or a conversation.
    pub(super) fn throwaway(&self, owner: &str) -> PathBuf {
        self.root.join("throwaway").join(owner)
    }

    /// The newest commit of a repository. Calls within `debounce` share one fetch. If the remote can't
    /// be fetched from, it is the commit of the last fetch that succeeded.
    pub(super) async fn upstream(
        &self,
        repo: &Repo,
        base: &Base,
        debounce: Duration,
    ) -> Result<JobBase, WorkspaceError> {
        let mut last = self.fetch_turn(repo).await;
        if let Some(known) = last.as_ref()
            && known.at.elapsed() < debounce
            && known.remote == base.remote()
            && known.branch == base.branch()
        {
            return Ok(known.base.clone());
        }
        let newest = match base.fetch().await {
            Ok(sha) => JobBase { sha, stale: None },
            // The remote has answered: its branch is gone.
            Err(error @ WorkspaceError::Upstream { .. }) => return Err(error),
            Err(error) => match base.head().await {
                Ok(sha) => JobBase { sha, stale: Some(error.to_string()) },
                Err(_) => return Err(error),
            },
        };
        // A failed fetch counts too: a burst of jobs must not wait for one timeout after the other.
        *last = Some(JobFetch {
            at: Instant::now(),
            remote: base.remote().to_owned(),
            branch: base.branch().to_owned(),
            base: newest.clone(),
        });
        Ok(newest)
    }

    /// Waits until no other job fetches from a repository or pushes to it; dropping the turn lets the
    /// next one go on.
    pub(super) async fn fetch_turn(&self, repo: &Repo) -> OwnedMutexGuard<LastFetch> {
        let known = self.last_fetches.lock().await.entry(repo.clone()).or_default().clone();
        known.lock_owned().await
    }

    /// Ends the opening of a repository, and waits until its git is gone.
    pub(super) async fn abandon(&self, repo: &Repo) {
        self.openings.abandon(repo).await;
    }

    /// A line about each base clone that was damaged and made anew since the start.
    pub(super) fn renewals(&self) -> Vec<String> {
        self.openings.opener().renewals.locked().clone()
    }

    /// The opening of a repository's pool, which every caller shares.
    pub(super) fn opening(
        &self,
        repo: &Repo,
        config: &Arc<Config>,
        supervisor: &Supervisor,
        cancel: &CancellationToken,
    ) -> Opening {
        self.openings.of(repo, config, supervisor, cancel)
    }
}
