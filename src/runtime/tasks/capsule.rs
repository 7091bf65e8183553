//! The capsule: the evidence of a run that a human must look at, in one folder with a digest of
//! each file. It holds the names of git refs of the tree and its index, the diffs, the run and its
//! proof, the transcript, and the logs of tests, CI and rollout.

use super::{TaskContext, TaskError};
use crate::core::model::id::Sha;
use crate::core::model::input::Input;
use crate::redact::Redactor;
use crate::workspace::{WorkspaceError, capsule, import};

/// Writes the capsule and reports its folder to the core. If the worktree can't be read, the
/// capsule says so in place of the tree.
pub(in crate::runtime) async fn keep(task: &TaskContext) {
    let run = task.run.id;
    let mut files: Vec<File> = Vec::new();
    let name = format!("refs/afk/capsules/{run}");
    let kept = match keep_tree(task, &name).await {
        Ok((kept, diffs)) => {
            files.extend(diffs);
            kept
        }
        Err(why) => format!("the worktree can't be kept: {why}\n"),
    };
    // An agent or a git that ignored its end must not outlive the run.
    task.runtime.supervisor.end_rest(&task.owner()).await;
    files.push(("tree".into(), kept.into_bytes()));
    if let Ok(bytes) = serde_json::to_vec_pretty(task.run.as_ref()) {
        files.push(("run.json".into(), bytes));
    }
    if let Ok(bytes) = serde_json::to_vec_pretty(&task.run.proof) {
        files.push(("proof.json".into(), bytes));
    }
    if let Ok(bytes) = std::fs::read(task.runtime.store.path(run)) {
        files.push(("transcript.jsonl".into(), bytes));
    }
    let logs = std::fs::read_dir(task.runtime.state.join("logs"));
    for entry in logs.into_iter().flatten().flatten() {
        let log = entry.file_name().to_string_lossy().into_owned();
        if log.starts_with(&format!("{run}-"))
            && let Ok(bytes) = std::fs::read(entry.path())
        {
            files.push((log, bytes));
        }
    }
    let folder = task.runtime.state.join("capsules").join(run.to_string());
    // The commits under the references hold what the worktree had; the files are for people.
    let redactor = Redactor::default();
    let named: Vec<(&str, Vec<u8>)> = files
        .iter()
        .map(|(name, bytes)| (name.as_str(), redactor.clean_bytes(bytes).into_owned()))
        .collect();
    match capsule::write(&folder, &named) {
        Ok(digest) => {
            task.note(format!("evidence kept in {} ({})", folder.display(), digest.short()));
            let path = folder.display().to_string();
            task.runtime.send(Input::Capsule { run, path }).await;
        }
        Err(error) => {
            tracing::error!(%run, %error, "the capsule can't be written");
            task.note(format!("the evidence can't be kept: {error}"));
        }
    }
}

/// A named file of the capsule.
type File = (String, Vec<u8>);

/// Imports the files and the index of the workspace, and returns the references with the diffs.
async fn keep_tree(task: &TaskContext, name: &str) -> Result<(String, Vec<File>), TaskError> {
    let text = |error: WorkspaceError| TaskError::from(error);
    let pool = task.pool().await?;
    let base = pool.base();
    let upstream = base.head().await.map_err(text)?;
    let git = pool.walled(&task.worktree()?).owned_by(&task.owner());
    let tree = capsule::snapshot(&git).await.map_err(text)?;
    import::import(base, &git, &tree.commit, &upstream, name).await.map_err(text)?;
    let diff = async |from: &Sha, to: &Sha| {
        let args = ["diff", "--no-ext-diff", "--no-textconv", &from.0, &to.0];
        base.git().call_bytes(&args).await.map_err(text)
    };
    let mut kept = format!("{name} {}\n", tree.commit);
    let mut diffs = vec![("changes.diff".to_owned(), diff(&task.base()?, &tree.commit).await?)];
    // An index with conflicts has no tree; the files above have the conflicts.
    match capsule::index(&git).await {
        Ok(index) => {
            let name = format!("{name}-index");
            import::import(base, &git, &index, &upstream, &name).await.map_err(text)?;
            kept.push_str(&format!("{name} {index}\n"));
            let staged = diff(tree.head.as_ref().unwrap_or(&upstream), &index).await?;
            diffs.push(("staged.diff".to_owned(), staged));
        }
        Err(error) => kept.push_str(&format!("the index can't be kept: {error}\n")),
    }
    Ok((kept, diffs))
}
