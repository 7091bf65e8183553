//! A run's folder: taken before its first turn, given back after its end.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use base64::Engine;
use secrecy::ExposeSecret;

use super::super::Shell;
use super::{Failure, Job};
use crate::core::model::id::Repo;
use crate::core::model::input::RunFact;
use crate::core::model::run::{Outcome, Work};
use crate::core::model::stage::Stages;
use crate::workspace::pool::Pool;
use crate::workspace::{WorkspaceError, name, throwaway};

pub(super) async fn prepare(job: &Job) -> Result<RunFact, Failure> {
    let pool = job.pool().await?;
    let text = |error: WorkspaceError| error.to_string();
    match &job.run.work {
        Work::Issue { key, title } => {
            // A worktree that an older run of this issue kept has the branch; its work is kept
            // as a commit.
            for (run, path) in &job.older {
                let keep = format!("refs/afk/kept/{run}");
                pool.give_back(path, Some(&keep)).await.map_err(text)?;
            }
            let branch = name::branch(key, &title.clean_line());
            let taken =
                pool.take(&branch, job.run.home.as_deref().map(Path::new)).await.map_err(text)?;
            let rules = match job.rules(&pool, &taken.base).await {
                Ok(rules) => rules,
                Err(why) => {
                    pool.give_back(&taken.path, None).await.map_err(text)?;
                    return Err(why);
                }
            };
            job.note(format!("{branch} begins at {}", taken.base.short()));
            Ok(RunFact::WorktreeReady {
                path: taken.path.display().to_string(),
                branch,
                base: taken.base,
                stages: rules.stages(),
                permissions: Box::new(rules.permissions.clone()),
            })
        }
        Work::Prompt { repo, job: asked, .. } => {
            let service = asked.as_ref().and(job.config.service.as_ref());
            let jobs = service.and_then(|service| service.jobs_dir.as_ref());
            let dir = match (jobs, asked) {
                (Some(jobs), Some(asked)) => jobs.join(asked.id.to_string()),
                _ => job.shell.workspaces.throwaway(job.run.id),
            };
            let remote = job.config.repos.get(repo).map(|r| r.remote.clone()).unwrap_or_default();
            let debounce = service.map_or(0, |service| service.fetch_debounce_seconds);
            let (workspaces, debounce) = (&job.shell.workspaces, Duration::from_secs(debounce));
            let base = workspaces.upstream(repo, pool.base(), debounce).await.map_err(text)?;
            throwaway::make(pool.base(), &dir, &remote, &base).await.map_err(text)?;
            if let Some(key) = service.and_then(|service| service.git_crypt_key.as_ref()) {
                unlock(job, &pool, &dir, key).await?;
            }
            Ok(RunFact::WorktreeReady {
                path: dir.display().to_string(),
                branch: "HEAD".into(),
                base,
                stages: Stages::default(),
                permissions: Box::default(),
            })
        }
    }
}

/// Unlocks a clone with the key of the configuration: the path of a key, or the key in base64.
async fn unlock(job: &Job, pool: &Pool, dir: &Path, reference: &str) -> Result<(), Failure> {
    let secret = job.shell.outside().secrets.get(reference).await;
    let secret = secret
        .map_err(|error| format!("service.git_crypt_key: {}", crate::error::chain(&error)))?;
    let value = secret.expose_secret().trim();
    let text = |error: WorkspaceError| error.to_string();
    if Path::new(value).is_file() {
        return throwaway::unlock(pool.base(), dir, Path::new(value)).await.map_err(text);
    }
    let key = base64::engine::general_purpose::STANDARD.decode(value).map_err(|_| {
        "service.git_crypt_key: is neither the path of a key nor a key in base64".to_owned()
    })?;
    let file = job.shell.state.join(format!("git-crypt-{}", job.run.id));
    let write = || {
        let mut options = std::fs::OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600);
        options.open(&file)?.write_all(&key)
    };
    let done = match write() {
        Ok(()) => throwaway::unlock(pool.base(), dir, &file).await.map_err(text),
        Err(error) => Err(format!("{}: {error}", file.display())),
    };
    // It is in the clone from now on, for as long as that lives.
    let _ = std::fs::remove_file(&file);
    done
}

/// Gives the folder of an ended run back. What a cancelled run had not pushed is kept as a commit
/// under `refs/afk/kept/<run>` in the base clone.
pub(crate) async fn give_back(job: &Job) {
    if let Some(asked) = job.run.work.job() {
        job.shell.stop_telling(asked.id);
    }
    let Some(path) = job.run.worktree.as_deref().map(Path::new) else {
        if job.run.work.issue().is_none() {
            let (owner, before) = super::turn::empty(job);
            job.shell.folders.give_back(&owner, before.as_deref());
        }
        return;
    };
    let given = match &job.run.work {
        Work::Prompt { .. } => throwaway::remove(path).map_err(|e| e.to_string()),
        Work::Issue { .. } => match job.pool().await {
            Err(why) => Err(why),
            Ok(pool) => {
                let keep = (job.run.outcome != Some(Outcome::Done))
                    .then(|| format!("refs/afk/kept/{}", job.run.id));
                let given = pool.give_back(path, keep.as_deref()).await;
                given.map_err(|e| e.to_string())
            }
        },
    };
    if let Err(why) = given {
        // Put right at the next start; nothing is lost.
        tracing::warn!(run = %job.run.id, why, "the worktree was not given back");
    }
}

/// Makes a clean worktree ahead of need, where a repository has none ready. A failure shows itself
/// when a run needs one.
pub(crate) async fn warm(shell: &Shell, repo: &Repo) {
    let config = shell.config();
    let made = async {
        let pool = shell.workspaces.pool(repo, &config, &shell.supervisor, "afk").await?;
        pool.warm().await
    };
    if let Err(error) = made.await {
        tracing::warn!(%repo, %error, "no worktree was made ahead of need");
    }
}
