//! The capsule: the evidence of a run that a human must look at, in one folder with a digest of
//! each file. It holds the names of git refs of the tree and its index, the diffs, the run and its
//! proof, the transcript, and the logs of tests, CI and rollout.

use super::TaskContext;
use crate::core::model::input::Input;
use crate::redact::Redactor;
use crate::workspace::capsule;

/// Writes the capsule and reports its folder to the core. If the worktree can't be read, the
/// capsule says so in place of the tree.
pub(in crate::runtime) async fn keep(task: &TaskContext) {
    let run = task.run.id;
    let mut files: Vec<(String, Vec<u8>)> = Vec::new();
    let name = format!("refs/afk/capsules/{run}");
    let tree = async {
        let pool = task.pool().await?;
        let git = pool.base().git().at(&task.worktree()?).owned_by("afk");
        let sha = capsule::snapshot(&git, &name).await.map_err(|e| e.to_string())?;
        let index = capsule::index(&git, &format!("{name}-index")).await;
        let index = index.map_err(|e| e.to_string())?;
        let range = task.base()?;
        let diff = git
            .call(&["diff", "--no-ext-diff", "--no-textconv", &range.0, &sha.0])
            .await
            .map_err(|e| e.to_string())?;
        let staged = git.call(&["diff", "--no-ext-diff", "--no-textconv", "--cached"]).await;
        let staged = staged.map_err(|e| e.to_string())?;
        Ok::<_, String>((sha, index, diff, staged))
    };
    let kept = match tree.await {
        Ok((sha, index, diff, staged)) => {
            files.push(("changes.diff".into(), diff.into_bytes()));
            files.push(("staged.diff".into(), staged.into_bytes()));
            format!("{name} {sha}\n{name}-index {index}\n")
        }
        Err(why) => format!("the worktree can't be kept: {why}\n"),
    };
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
