//! A run's folder: taken before its first turn, given back after its end.

use std::path::Path;

use super::super::Shell;
use super::{Failure, Job};
use crate::core::id::Repo;
use crate::core::input::RunFact;
use crate::core::run::{Outcome, Stages, Work};
use crate::workspace::{name, throwaway};

pub(super) async fn prepare(job: &Job) -> Result<RunFact, Failure> {
    let pool = job.pool().await?;
    let text = |error: crate::workspace::WorkspaceError| error.to_string();
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
        Work::Prompt { repo, .. } => {
            let dir = job.shell.workspaces.throwaway(job.run.id);
            let remote = job.config.repos.get(repo).map(|r| r.remote.clone()).unwrap_or_default();
            let base = throwaway::make(pool.base(), &dir, &remote).await.map_err(text)?;
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

/// Gives the folder of an ended run back. What a cancelled run had not pushed is kept as a commit
/// under `refs/afk/kept/<run>` in the base clone.
pub(crate) async fn give_back(job: &Job) {
    let Some(path) = job.run.worktree.as_deref().map(Path::new) else { return };
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
