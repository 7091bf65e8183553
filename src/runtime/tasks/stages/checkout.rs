//! A clean checkout of the pushed commit, for stages that run a command of the repository.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{TaskContext, TaskError};
use crate::config::repository::RepositoryRules;
use crate::core::model::id::Sha;
use crate::process::Spec;
use crate::runtime::wall::Grants;

/// Checks the commit out and returns the folder with the rules of the run's base commit.
pub(super) async fn checkout(
    task: &TaskContext,
    sha: &Sha,
) -> Result<(Arc<RepositoryRules>, PathBuf), TaskError> {
    let pool = task.pool().await?;
    let rules = task.rules(&pool, &task.base()?).await?;
    let commands = &task.commands;
    let tree = commands.check_out(&pool, &rules, &commands.proving_tree(), sha).await?;
    commands.fill_caches(&pool, &rules, &tree).await?;
    Ok((rules, tree.path().to_owned()))
}

/// A command of the repository in that checkout, with the commit in `AFK_SHA` and with what the
/// command alone needs.
pub(super) fn command(
    task: &TaskContext,
    line: &str,
    folder: &Path,
    sha: &Sha,
    needs: Grants,
) -> Result<Spec, TaskError> {
    let mut spec = Spec::shell(&task.owner(), line, folder);
    spec.env = task.commands.environment(Some(folder));
    spec.env.insert("AFK_SHA".into(), sha.0.clone());
    spec.sandbox = task.commands.command_sandbox(folder, needs)?;
    Ok(spec)
}
