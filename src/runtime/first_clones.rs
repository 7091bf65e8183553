//! First clones of repositories. A run whose repository has no clone gets its permit only after it, so
//! that a slow clone keeps no other repository waiting.

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio::sync::broadcast;

use super::{Batch, Context};
use crate::core::model::event::Event;
use crate::core::model::id::{Repo, RunId};
use crate::core::model::input::{CloneEnd, Input};

/// The allowed repositories that have no clone.
pub(super) fn missing(context: &Context) -> BTreeSet<Repo> {
    let config = context.config();
    let lacks = |repo: &&Repo| !context.workspaces.has_clone(repo);
    config.allowlist.iter().filter(lacks).cloned().collect()
}

/// Clones a repository, shows on the row of `run` how far it is, and reports the end. It is given up
/// once the run has ended or the configuration names another address. If the clone fails, the run's own
/// task meets the error and reports it.
pub(super) async fn clone(context: Arc<Context>, repo: Repo, run: RunId) {
    let batches = context.batches.subscribe();
    let config = context.config();
    let opening = context.workspaces.opening(&repo, &config, &context.supervisor, &context.cancel);
    let shown = &context;
    let show = |progress: Option<String>| async move {
        shown.show_progress(run, progress.as_deref()).await;
    };
    show(Some("cloning".to_owned())).await;
    let end = tokio::select! {
        opened = opening.shown(show) => match opened {
            Ok(_) => CloneEnd::Done,
            Err(error) => {
                tracing::warn!(%repo, %error, "the first clone failed");
                CloneEnd::Failed
            }
        },
        () = ended(run, batches) => CloneEnd::Abandoned,
        () = readdressed(&context, &repo) => CloneEnd::Abandoned,
    };
    if end == CloneEnd::Abandoned {
        // What has arrived stays, and the next clone goes on from there.
        context.workspaces.abandon(&repo).await;
    }
    show(None).await;
    context.send(Input::Cloned { repo, end }).await;
}

/// Resolves once a run has ended.
async fn ended(run: RunId, mut batches: broadcast::Receiver<Batch>) {
    loop {
        match batches.recv().await {
            Ok(batch) => {
                let is_end = |event: &Event| matches!(event, Event::Ended { run: ended, .. } if *ended == run);
                if batch.events.iter().any(|(_, event)| is_end(event)) {
                    return;
                }
            }
            // The run may have ended in what was missed. If it has not, it begins the clone again.
            Err(broadcast::error::RecvError::Lagged(_)) => return,
            Err(broadcast::error::RecvError::Closed) => std::future::pending().await,
        }
    }
}

/// Resolves once the configuration names another address for a repository.
async fn readdressed(context: &Context, repo: &Repo) {
    let address = || context.config().repos.get(repo).map(|known| known.remote.clone());
    let (before, mut changes) = (address(), context.config_changes.subscribe());
    while address() == before {
        if changes.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}
