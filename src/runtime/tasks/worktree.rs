//! The folder of a run: a worktree of the pool for an issue, a throwaway clone for a prompt with a
//! repository. A run takes it before its first turn and gives it back after its end.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use secrecy::ExposeSecret;

use super::command_context::commands_owner;
use super::setup::{SetupFailure, TreeUse};
use super::{TaskContext, TaskError, baseline, collect};
use crate::config::repository::RepositoryRules;
use crate::core::model::id::{Repo, Sha};
use crate::core::model::input::RunFact;
use crate::core::model::run::{Outcome, Work};
use crate::core::model::stage::Stages;
use crate::core::model::worktree::PreparedWorktree;
use crate::runtime::workspaces::JobBase;
use crate::runtime::{Context, outages};
use crate::workspace::fitness::Question;
use crate::workspace::pool::{FreshTree, Pool};
use crate::workspace::workspace_renewal::RenewalStart;
use crate::workspace::{WorkspaceError, base, lfs, name, throwaway};

/// Takes the folder, on a new branch at the newest commit of the repository.
pub(super) async fn prepare(task: &TaskContext) -> Result<RunFact, TaskError> {
    let pool = match task.commands.opened_pool().await {
        Ok(pool) => pool,
        Err(error) => {
            return match &*error {
                WorkspaceError::Upstream { why } => Ok(task.ask_human(Question::line(why))),
                error => Err(error.into()),
            };
        }
    };
    let text = |error: WorkspaceError| TaskError::from(error);
    match &task.run.work {
        Work::Issue { key, title } => {
            // An older run of this issue may still have the branch in its worktree. Keep its work
            // as a commit, and free the branch.
            for (run, path) in &task.older {
                let keep = base::kept(&run.to_string());
                give_back_path(task, &pool, path, Some(&keep)).await.map_err(text)?;
            }
            let branch = name::branch(key, &title.clean_line());
            let home = task.run.workspace.home.as_deref().map(Path::new);
            let taken = match pool.take(&branch, home).await {
                Ok(taken) => taken,
                Err(error) => return task.failed(error),
            };
            let mut unused = Unused { task, pool: &pool, path: Some(taken.path.clone()) };
            if let Some(line) = lfs::missing(pool.base(), &taken.base).await.map_err(text)? {
                unused.give_back().await?;
                let detail = "Install git-lfs and retry the run.".into();
                return Ok(task.ask_human(Question { line, detail }));
            }
            // The next checkout finds a fresh tree; this run need not wait for it.
            warm_after(task);
            let rules = match task.rules(&pool, &taken.base).await {
                Ok(rules) => rules,
                Err(why) => {
                    unused.give_back().await?;
                    return Err(why);
                }
            };
            let tree = pool.fresh_workspace(&taken.path, &task.owner());
            let ready = make_ready(task, &pool, &rules, tree, &taken.base, &taken.base);
            if let Err(failure) = ready.await {
                unused.give_back().await?;
                if failure.outage.is_some() {
                    return Err(failure.into());
                }
                return Ok(RunFact::SetupFailed { why: failure.why.into(), log: failure.log });
            }
            if let Some(why) = baseline::unfit(&task.commands, &pool, &rules, &taken.base).await? {
                unused.give_back().await?;
                return Ok(RunFact::BaseUnfit { why });
            }
            unused.path = None;
            task.runtime.workspaces.note_sound(&taken.path);
            task.note(format!("branch {branch} starts at {}", taken.base.short()));
            Ok(RunFact::WorktreeReady(PreparedWorktree {
                path: taken.path.display().to_string(),
                branch,
                base: taken.base,
                stages: rules.stages(),
                permissions: Box::new(rules.permissions.clone()),
            }))
        }
        Work::Prompt { repo, job, .. } => {
            let service = job.as_ref().and(task.config.service.as_ref());
            let jobs = service.and_then(|service| service.jobs_dir.as_ref());
            // A conversation goes on in the folder that its agent knows.
            let (owner, _) = super::turn_spec::scratch_owner(task);
            let dir = match (jobs, job) {
                (Some(jobs), Some(job)) if owner == task.owner() => jobs.join(job.id.to_string()),
                (Some(jobs), _) => jobs.join(owner),
                (None, _) => task.runtime.workspaces.throwaway(&owner),
            };
            let debounce = service.map_or(0, |service| service.fetch_debounce_seconds);
            let (workspaces, debounce) = (&task.runtime.workspaces, Duration::from_secs(debounce));
            let JobBase { sha: base, stale } =
                workspaces.upstream(repo, pool.base(), debounce).await.map_err(text)?;
            if let Some(error) = stale {
                let why = format!("{error}; the job works on {}, the last good base", base.short());
                task.note(why.clone());
                task.report(RunFact::BaseStale { why: why.into() }).await;
            }
            let rules = task.rules_if_any(&pool, &base).await?;
            let permissions = rules.map(|rules| rules.permissions.clone()).unwrap_or_default();
            let pushes = service.is_some_and(|service| service.push);
            throwaway::make(pool.base(), &dir, &base, pushes).await.map_err(text)?;
            task.commands.fill_clone_cache(&pool, &dir, &base).await.map_err(text)?;
            if let Some(key) = service.and_then(|service| service.git_crypt_key.as_ref()) {
                unlock(task, &pool, &dir, key).await?;
            }
            Ok(RunFact::WorktreeReady(PreparedWorktree {
                path: dir.display().to_string(),
                branch: pool.base().branch().to_owned(),
                base,
                stages: Stages::default(),
                permissions: Box::new(permissions),
            }))
        }
    }
}

/// Completes a fresh workspace, which is at `commit`, and runs the setup of its repository. The rules and
/// addresses are those of the commit that the run began from, `base`.
async fn make_ready(
    task: &TaskContext,
    pool: &Pool,
    rules: &RepositoryRules,
    tree: FreshTree,
    commit: &Sha,
    base: &Sha,
) -> Result<(), SetupFailure> {
    task.commands.prepare_caches(pool, rules, base).await?;
    task.commands.complete(pool, rules, &tree, commit, base).await?;
    task.commands.get_ready(pool, rules, tree, commit, TreeUse::Workspace).await?;
    Ok(())
}

/// Makes the workspace of a run anew where git can't read it any more: a power cut takes what was not synced.
/// Looks in each life of afk until one look at a workspace that is older than it succeeds, and until the
/// renewal that follows does.
pub(super) async fn renew_if_damaged(task: &TaskContext) -> Result<(), TaskError> {
    let (work, run) = (&task.run.work, &task.run.workspace);
    let (Work::Issue { .. }, Some(path), Some(branch)) = (work, &run.worktree, &run.branch) else {
        return Ok(());
    };
    let (path, workspaces) = (Path::new(path), &task.runtime.workspaces);
    if workspaces.is_sound(path) {
        return Ok(());
    }
    let pool = task.commands.opened_pool().await.map_err(|error| TaskError::from(&*error))?;
    let base = task.base()?;
    if let Some(why) = pool.damage(path, &base, &task.owner()).await? {
        // The agent's own commit must not choose the setup that runs, nor where files come from.
        let rules = task.rules(&pool, &base).await?;
        let commit = newest_taken_in(task, &pool).await?.unwrap_or_else(|| base.clone());
        let start = RenewalStart { commit: &commit, base: &base };
        let (tree, aside) = pool.renew(path, branch, start, &task.owner()).await?;
        let moved = aside.map(|aside| format!("set aside as {}, and ", aside.display()));
        let moved = moved.unwrap_or_default();
        let at = commit.short();
        let line = format!("the workspace was damaged ({why}): it was {moved}made anew at {at}");
        tracing::warn!(run = %task.run.id, "{line}");
        task.note(line);
        make_ready(task, &pool, &rules, tree, &commit, &base).await?;
        pool.end_renewal(path).await?;
    }
    workspaces.note_sound(path);
    Ok(())
}

/// The newest commit of the run that the base clone has: one that the gate took in, or the pushed one.
async fn newest_taken_in(task: &TaskContext, pool: &Pool) -> Result<Option<Sha>, TaskError> {
    let git = pool.base().git();
    let taken_in = format!("{}^{{commit}}", base::imports(task.run.id));
    let found = git.ask(&["rev-parse", "--verify", "--quiet", &taken_in]).await?;
    if found.ok {
        return Ok(Some(Sha(found.text().trim().to_owned())));
    }
    let Some(pushed) = &task.run.workspace.pushed else { return Ok(None) };
    Ok(pool.base().knows(pushed).await?.then(|| pushed.clone()))
}

/// A workspace that its run doesn't use yet. It goes back to the pool if the task is cancelled.
struct Unused<'a> {
    task: &'a TaskContext,
    pool: &'a Arc<Pool>,
    path: Option<PathBuf>,
}

impl Unused<'_> {
    async fn give_back(&mut self) -> Result<(), TaskError> {
        let Some(path) = self.path.take() else { return Ok(()) };
        self.task.runtime.workspaces.ports().release(&path);
        let given = self.pool.give_back(&path, None, &self.task.owner()).await;
        Ok(given.map(|_| ())?)
    }
}

impl Drop for Unused<'_> {
    fn drop(&mut self) {
        let Some(path) = self.path.take() else { return };
        self.task.runtime.workspaces.ports().release(&path);
        let (pool, owner) = (self.pool.clone(), self.task.owner());
        tokio::spawn(async move {
            if let Err(error) = pool.give_back(&path, None, &owner).await {
                tracing::warn!(path = %path.display(), %error, "the workspace stays");
            }
        });
    }
}

/// Unlocks the git-crypt files of a clone. The secret is either the path of a key or the key itself
/// in base64.
async fn unlock(
    task: &TaskContext,
    pool: &Pool,
    dir: &Path,
    reference: &str,
) -> Result<(), TaskError> {
    let text = |error: WorkspaceError| TaskError::from(error);
    if Path::new(reference).is_absolute() {
        return throwaway::unlock(pool.base(), dir, Path::new(reference)).await.map_err(text);
    }
    let secret = outages::secret(&task.runtime, reference).await;
    let secret = secret.map_err(|error| error.about("service.git_crypt_key"))?;
    let value = secret.expose_secret().trim();
    if Path::new(value).is_file() {
        return throwaway::unlock(pool.base(), dir, Path::new(value)).await.map_err(text);
    }
    let key = base64::engine::general_purpose::STANDARD.decode(value).map_err(|_| {
        "service.git_crypt_key is neither the path of a key nor a key in base64".to_owned()
    })?;
    let file = task.runtime.state.join(format!("git-crypt-{}", task.run.id));
    let write = || {
        let mut options = std::fs::OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600);
        options.open(&file)?.write_all(&key)
    };
    let done = match write() {
        Ok(()) => throwaway::unlock(pool.base(), dir, &file).await.map_err(text),
        Err(error) => Err(format!("{}: {error}", file.display()).into()),
    };
    // The clone has a copy of the key from now on, and is deleted with it.
    let _ = std::fs::remove_file(&file);
    done
}

/// Gives the folder of an ended run back. Unpushed work of a run that is not done stays as a commit
/// under `refs/afk/kept/<run>` in the base clone.
pub(in crate::runtime) async fn give_back(task: &TaskContext) {
    if let Some(job) = task.run.work.job() {
        task.runtime.job_listeners.close(job.id);
    }
    // A conversation keeps its home, as it keeps its folder.
    let (owner, _) = super::turn_spec::scratch_owner(task);
    if owner == task.owner() {
        for owner in [commands_owner(&owner), owner] {
            if let Err(error) = task.runtime.wall.forget(&owner) {
                tracing::warn!(owner, %error, "a private folder can't be deleted");
            }
        }
    }
    let Some(path) = task.run.workspace.worktree.as_deref().map(Path::new) else {
        if task.run.work.issue().is_none() {
            let (owner, before) = super::turn_spec::scratch_owner(task);
            task.runtime.scratch_dirs.give_back(&owner, before.as_deref());
        }
        return;
    };
    let given = match &task.run.work {
        Work::Prompt { .. } => {
            keep_commits(task, path).await;
            if task.commands.has_caches()
                && let Ok(pool) = task.pool().await
                && let Err(error) = pool.caches().discard(path)
            {
                tracing::warn!(run = %task.run.id, %error, "the cache of the clone stays");
            }
            throwaway::remove(path).map_err(|e| e.to_string())
        }
        Work::Issue { .. } => match task.pool().await {
            Err(error) => Err(error.to_string()),
            Ok(pool) => {
                let keep = (task.run.progress.outcome != Some(Outcome::Done))
                    .then(|| base::kept(&task.run.id.to_string()));
                let given = give_back_path(task, &pool, path, keep.as_deref()).await;
                given.map_err(|e| e.to_string())
            }
        },
    };
    if let Err(why) = given {
        // The next start gives it back; nothing is lost.
        tracing::warn!(run = %task.run.id, why, "the worktree can't be given back");
    }
}

/// Keeps the commits of a prompt whose clone goes away, where no task has done so: an operator's own
/// prompt, and a job that was cut off.
async fn keep_commits(task: &TaskContext, clone: &Path) {
    // An outage may have held a job before its commits were taken in.
    let cut_off = task.run.progress.outcome == Some(Outcome::Cancelled)
        || task.run.agent.turn_end.is_none()
        || (task.run.progress.due.is_some() && task.run.workspace.collected.is_none());
    let begun = task.run.agent.turns > 0 && std::fs::symlink_metadata(clone.join(".git")).is_ok();
    if !begun || (task.run.work.job().is_some() && !cut_off) {
        return;
    }
    let kept = async { collect::keep(task, &*task.pool().await?, clone).await };
    match kept.await {
        Ok(None) => {}
        Ok(Some(kept)) => task.note(collect::summary(&kept.commits)),
        Err(why) => task.note(format!("its commits can't be kept: {why}")),
    }
}

/// Gives a workspace back, and notes in the transcript where its work can't become a commit.
async fn give_back_path(
    task: &TaskContext,
    pool: &Pool,
    path: &Path,
    keep: Option<&str>,
) -> Result<(), WorkspaceError> {
    task.runtime.workspaces.ports().release(path);
    if let Some(aside) = pool.give_back(path, keep, &task.owner()).await? {
        task.note(format!("git can't read the worktree; its files are in {}", aside.display()));
    }
    Ok(())
}

/// Prepares a clean worktree in the background once a run of an issue has used one up, or its gate
/// has.
pub(in crate::runtime) fn warm_after(task: &TaskContext) {
    let Some(key) = task.run.work.issue() else { return };
    let (runtime, repo) = (task.runtime.clone(), key.repo.clone());
    tokio::spawn(async move {
        tokio::select! {
            () = warm(&runtime, &repo) => {}
            () = runtime.cancel.cancelled() => {}
        }
    });
}

/// Prepares a clean worktree for the next run of a repository that has none. A failure is only
/// logged: the run that needs the worktree reports it.
pub(in crate::runtime) async fn warm(runtime: &Context, repo: &Repo) {
    let config = runtime.config();
    let prepared = async {
        let opening =
            runtime.workspaces.opening(repo, &config, &runtime.supervisor, &runtime.cancel);
        let pool = opening.end().await?;
        runtime.report_renewals().await;
        pool.warm().await.map_err(Arc::new)
    };
    if let Err(error) = prepared.await {
        tracing::warn!(%repo, %error, "no worktree could be prepared");
    }
}
