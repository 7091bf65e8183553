//! Opens the pool of each repository once, however many tasks wait for it.
//!
//! ```text
//! task ─┐
//! task ─┼─▶ Opening ◀── progress, then the pool or the error ── one task a repository:
//! warm ─┘                                                       first clone, recovery
//! ```
//!
//! A change of the remote or the branch in the configuration makes a new pool over the same folder, which
//! shares the workspaces of runs with the one before. It waits for a push or a fetch that is under way;
//! tasks that come to the remote with the old address after that fail, and are retried with the new one.
//!
//! The task belongs to none of the waiters: a retry, or the deadline of one, doesn't begin the clone
//! again. It ends when nobody waits any more, and with afk.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::config::repos::RepositoryConfig;
use crate::core::model::id::Repo;
use crate::lock::LockExt;
use crate::process::Supervisor;
use crate::workspace::base::{self, Base};
use crate::workspace::credential::Credentials;
use crate::workspace::first_clone::{CloneProgress, FirstClone};
use crate::workspace::git::Git;
use crate::workspace::pool::{Pool, Sandboxes};
use crate::workspace::{WorkspaceError, name, renewal};

/// How long an opening goes on without a waiter: a run that ended may soon be followed by another.
const ABANDONED: Duration = Duration::from_secs(5);

/// The pool, or the error that every waiter gets.
type Opened = Result<Arc<Pool>, Arc<WorkspaceError>>;

#[derive(Debug, Clone)]
enum OpeningState {
    /// The task works; how far the first clone is, if there is one.
    UnderWay(Option<CloneProgress>),
    Ended(Opened),
}

/// What a waiter learns of an opening.
enum OpeningStep {
    /// The first clone is so far.
    Progress(CloneProgress),
    Ended(Opened),
}

/// The opening of one repository, for one waiter.
#[derive(Debug)]
pub(super) struct Opening(watch::Receiver<OpeningState>);

impl Opening {
    /// Waits for the next step. The last one is `Ended`.
    async fn next(&mut self) -> OpeningStep {
        loop {
            match &*self.0.borrow_and_update() {
                OpeningState::Ended(opened) => return OpeningStep::Ended(opened.clone()),
                OpeningState::UnderWay(_) => {}
            }
            if self.0.changed().await.is_err() {
                return OpeningStep::Ended(Err(Arc::new(WorkspaceError::Stopped)));
            }
            if let OpeningState::UnderWay(Some(progress)) = *self.0.borrow() {
                return OpeningStep::Progress(progress);
            }
        }
    }

    /// Waits for the end, and passes on how far the first clone is; none once it has ended.
    pub(super) async fn shown<Shown: Future<Output = ()>>(
        mut self,
        show: impl Fn(Option<String>) -> Shown,
    ) -> Opened {
        let mut progress = self.progress();
        let mut is_shown = false;
        loop {
            if let Some(progress) = progress {
                show(Some(progress.to_string())).await;
                is_shown = true;
            }
            match self.next().await {
                OpeningStep::Progress(next) => progress = Some(next),
                OpeningStep::Ended(opened) => {
                    if is_shown {
                        show(None).await;
                    }
                    return opened;
                }
            }
        }
    }

    /// How far the first clone is now.
    fn progress(&self) -> Option<CloneProgress> {
        match *self.0.borrow() {
            OpeningState::UnderWay(progress) => progress,
            OpeningState::Ended(_) => None,
        }
    }

    /// Waits for the end.
    pub(super) async fn end(mut self) -> Opened {
        loop {
            if let OpeningStep::Ended(opened) = self.next().await {
                return opened;
            }
        }
    }
}

/// The openings of all repositories.
#[derive(Debug)]
pub(super) struct Openings {
    opener: Arc<Opener>,
    by_repo: Mutex<BTreeMap<Repo, KnownOpening>>,
}

/// An opening that has begun, and the way to end it.
#[derive(Debug)]
struct KnownOpening {
    state: Arc<watch::Sender<OpeningState>>,
    cancel: CancellationToken,
    /// The remote and the branch that the configuration named at the beginning.
    place: Option<(String, String)>,
    /// The pool that was open before, whose workspaces runs may have.
    before: Option<Arc<Pool>>,
}

/// The remote and the branch of a repository in the configuration.
fn place(config: &Config, repo: &Repo) -> Option<(String, String)> {
    config.repos.get(repo).map(|known| (known.remote.clone(), known.branch.clone()))
}

impl Openings {
    pub(super) fn new(opener: Opener) -> Self {
        Self { opener: Arc::new(opener), by_repo: Mutex::default() }
    }

    /// The means by which repositories are opened.
    pub(super) fn opener(&self) -> &Opener {
        &self.opener
    }

    /// Ends an opening that is under way, and waits until its git is gone.
    pub(super) async fn abandon(&self, repo: &Repo) {
        let opening = self.by_repo.locked().get(repo).map(|known| {
            let is_under_way = matches!(*known.state.borrow(), OpeningState::UnderWay(_));
            if is_under_way {
                known.cancel.cancel();
            }
            Opening(known.state.subscribe())
        });
        if let Some(opening) = opening {
            // Its waiters meet the same end.
            let _ = opening.end().await;
        }
    }

    /// The opening of a repository. Begins it if there is none, if the last one failed, or if the
    /// configuration names another remote or branch since.
    pub(super) fn of(
        &self,
        repo: &Repo,
        config: &Arc<Config>,
        supervisor: &Supervisor,
        cancel: &CancellationToken,
    ) -> Opening {
        let mut all = self.by_repo.locked();
        let place = place(config, repo);
        let mut before = None;
        if let Some(known) = all.get(repo) {
            // Subscribing first keeps the task from counting this waiter as gone.
            let opening = Opening(known.state.subscribe());
            let state = known.state.borrow().clone();
            match state {
                OpeningState::UnderWay(_) => return opening,
                OpeningState::Ended(Ok(pool)) if place.is_none() || known.place == place => {
                    pool.require_free(config.limits.disk_free_mib);
                    return opening;
                }
                OpeningState::Ended(Ok(pool)) => before = Some(pool),
                OpeningState::Ended(Err(_)) => before.clone_from(&known.before),
            }
        }
        let (sender, receiver) = watch::channel(OpeningState::UnderWay(None));
        let sender = Arc::new(sender);
        let cancel = cancel.child_token();
        let known = KnownOpening {
            state: sender.clone(),
            cancel: cancel.clone(),
            place,
            before: before.clone(),
        };
        all.insert(repo.clone(), known);
        let (opener, repo) = (self.opener.clone(), repo.clone());
        let (config, supervisor) = (config.clone(), supervisor.clone());
        tokio::spawn(async move {
            let unfinished = Unfinished(&sender);
            let owner = format!("clone-{}", name::folder(&repo));
            let seen = |progress| {
                sender.send_replace(OpeningState::UnderWay(Some(progress)));
            };
            let opening = async {
                match &before {
                    Some(before) => opener.reopen(&repo, &config, before).await,
                    None => opener.open(&repo, &config, &supervisor, &owner, &seen).await,
                }
            };
            let opened = tokio::select! {
                opened = opening => opened,
                () = abandoned(&sender) => Err(WorkspaceError::Stopped),
                () = cancel.cancelled() => Err(WorkspaceError::Stopped),
            };
            if opened.is_err() {
                // git's helpers (ssh, index-pack) don't always end with it.
                supervisor.end(&owner).await;
            }
            unfinished.0.send_replace(OpeningState::Ended(opened.map_err(Arc::new)));
        });
        Opening(receiver)
    }
}

/// Resolves once nobody has waited for some time.
async fn abandoned(sender: &watch::Sender<OpeningState>) {
    loop {
        sender.closed().await;
        sleep(ABANDONED).await;
        if sender.is_closed() {
            return;
        }
    }
}

/// Ends an opening whose task panicked.
struct Unfinished<'a>(&'a watch::Sender<OpeningState>);

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        self.0.send_if_modified(|state| {
            let unfinished = matches!(state, OpeningState::UnderWay(_));
            if unfinished {
                *state = OpeningState::Ended(Err(Arc::new(WorkspaceError::Stopped)));
            }
            unfinished
        });
    }
}

/// What opening a pool needs beside the configuration.
#[derive(Debug)]
pub(super) struct Opener {
    /// The folder with one folder a repository.
    pub root: PathBuf,
    /// Worktrees that belong to runs from before the start.
    pub kept: BTreeSet<PathBuf>,
    pub credentials: Arc<dyn Credentials>,
    pub sandboxes: Arc<dyn Sandboxes>,
    /// A line about each base clone that was damaged and made anew since the start.
    pub renewals: Mutex<Vec<String>>,
}

impl Opener {
    /// Whether the remote of a repository answers, and accepts the login.
    pub(super) async fn remote_answers(
        &self,
        repo: &Repo,
        config: &Config,
        supervisor: &Supervisor,
    ) -> Result<(), WorkspaceError> {
        let Some(known) = config.repos.get(repo) else { return Ok(()) };
        let dir = self.root.join(name::folder(repo));
        std::fs::create_dir_all(&dir)
            .map_err(|source| WorkspaceError::Io { path: dir.clone(), source })?;
        let deadline = Duration::from_secs(config.limits.git_seconds);
        let git = Git::new(&dir, supervisor, "outage", deadline).reaching(
            &known.remote,
            self.credentials.clone(),
            &dir,
        );
        Base::answers(&git, &dir, &known.remote).await
    }

    /// A pool over the workspaces of an open one, with the remote and the branch of the configuration.
    /// Nothing is recovered: runs work in these workspaces.
    async fn reopen(
        &self,
        repo: &Repo,
        config: &Config,
        before: &Pool,
    ) -> Result<Arc<Pool>, WorkspaceError> {
        let known = known(repo, config)?;
        let base = before.base().toward(&known.remote, &known.branch).await?;
        let pool = before.over(base).await?;
        pool.require_free(config.limits.disk_free_mib);
        tracing::info!(%repo, "the remote or the branch has changed");
        Ok(Arc::new(pool))
    }

    async fn open(
        &self,
        repo: &Repo,
        config: &Config,
        supervisor: &Supervisor,
        owner: &str,
        seen: &(dyn Fn(CloneProgress) + Send + Sync),
    ) -> Result<Arc<Pool>, WorkspaceError> {
        let known = known(repo, config)?;
        let dir = self.root.join(name::folder(repo));
        let deadline = Duration::from_secs(config.limits.git_seconds);
        let base = dir.join(base::FOLDER);
        std::fs::create_dir_all(&dir)
            .map_err(|source| WorkspaceError::Io { path: dir.clone(), source })?;
        let git = Git::new(&base, supervisor, owner, deadline).reaching(
            &known.remote,
            self.credentials.clone(),
            &dir,
        );
        if let Some(why) = renewal::damage_of(&base, &git).await? {
            let aside = renewal::set_aside(&base)?;
            tracing::warn!(%repo, why, aside = %aside.display(), "the base clone is damaged");
        }
        let limit = Duration::from_secs(60 * config.limits.clone_minutes);
        let first_clone = FirstClone { limit, seen };
        let base = Base::open(&base, &known.remote, &known.branch, &git, first_clone).await?;
        let base = base.owned_by("afk");
        base.break_stale_locks();
        let renewed = renewal::adopt_references(&base).await?;
        self.renewals.locked().extend(renewed.iter().map(|line| format!("{repo}: {line}")));
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

/// The section of a repository in the configuration.
fn known<'a>(repo: &Repo, config: &'a Config) -> Result<&'a RepositoryConfig, WorkspaceError> {
    config.repos.get(repo).ok_or_else(|| WorkspaceError::Git {
        subcommand: "remote".into(),
        message: format!("{repo} has no [repos.\"{repo}\"] in the configuration"),
    })
}
