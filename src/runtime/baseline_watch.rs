//! Looks whether the upstream of an idle repository moved, and tests its new commit before a run
//! needs it: the claim then finds the baseline, and the operator learns of a red one early.
//!
//! ```text
//!   every limits.baseline_seconds ── repositories without a live run, while a permit is free
//!        fetch ──▶ the newest commit was looked at? ── yes ──▶ nothing
//!                        no ──▶ tasks::baseline, in a checkout of its own ──▶ stored, or a problem
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::sleep;

use super::side_state::ProblemSource;
use super::{Context, Snapshot, tasks};
use crate::core::model::id::{Repo, Sha};
use crate::core::model::untrusted::first_sentence;

/// What a look at a repository showed.
#[derive(Debug)]
struct Looked {
    at: Sha,
    /// Why no run can begin on this commit; none if one can.
    unfit: Option<String>,
}

/// Looks at the repositories until the context is cancelled.
pub(super) fn start(context: &Arc<Context>, snapshots: watch::Receiver<Arc<Snapshot>>) {
    let context = context.clone();
    tokio::spawn(async move {
        tokio::select! {
            () = follow(&context, &snapshots) => {}
            () = context.cancel.cancelled() => {}
        }
    });
}

async fn follow(context: &Arc<Context>, snapshots: &watch::Receiver<Arc<Snapshot>>) {
    let mut known: BTreeMap<Repo, Looked> = BTreeMap::new();
    let mut changes = context.config_changes.subscribe();
    loop {
        // A start has work of its own, so the first look comes after the first pause.
        let pause = context.config().limits.baseline_seconds;
        tokio::select! {
            () = sleep(Duration::from_secs(pause)), if pause > 0 => {}
            changed = changes.changed() => match changed {
                Ok(()) => continue,
                Err(_) => return,
            },
        }
        let config = context.config();
        let repos = if config.kill_switch { BTreeSet::new() } else { config.allowlist.clone() };
        known.retain(|repo, _| repos.contains(repo));
        for repo in &repos {
            if !is_idle(&snapshots.borrow(), repo) {
                continue;
            }
            let before = known.get(repo).map(|looked| &looked.at);
            match tasks::baseline::look(context, repo, before).await {
                Ok(None) => {}
                Ok(Some((at, unfit))) => {
                    known.insert(repo.clone(), Looked { at, unfit });
                }
                // The run that needs the baseline tells what stands in its way.
                Err(why) => tracing::debug!(%repo, %why, "no look at the upstream"),
            }
        }
        let unfit = known.iter().filter_map(|(repo, looked)| {
            Some(format!("{repo}: {}", first_sentence(looked.unfit.as_deref()?)))
        });
        context.report_problems(ProblemSource::Baselines, unfit.collect()).await;
    }
}

/// Whether a baseline takes nothing away from a run: the repository has none, and a permit is free.
fn is_idle(snapshot: &Snapshot, repo: &Repo) -> bool {
    let fleet = &snapshot.fleet;
    let has_permit = fleet.permits_used() < fleet.capacity() as usize;
    has_permit && !fleet.live_runs().any(|run| run.work.repo() == repo)
}
