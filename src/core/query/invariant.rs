//! The invariants that hold after every step (docs/architecture.md, "Invariants"). Debug builds check
//! them after each step, and the simulation does after each schedule's steps.

use crate::fleet::Fleet;
use crate::model::activity::Activity;
use crate::model::run::Outcome;

/// Checks every invariant that a fleet alone can break.
///
/// # Errors
/// The number of the first broken invariant, and the run or escalation that breaks it.
pub fn check(fleet: &Fleet) -> Result<(), String> {
    for run in fleet.runs.values() {
        let id = run.id;
        let live = fleet.live.contains(&id);
        if live != run.live() || live == matches!(run.progress.activity, Activity::Ended) {
            return Err(format!("7: {id} is both live and ended"));
        }
        if run.has_permit() != fleet.at_work.contains(&id) {
            return Err(format!("1: {id} disagrees with the count of permits"));
        }
        let timed = matches!(run.progress.activity, Activity::Backoff { .. });
        if fleet.queue.has(run) != (live && !run.has_permit()) {
            return Err(format!("1: {id} disagrees with the queue about waiting for a permit"));
        }
        if live && (run.busy() || timed) && !run.has_permit() {
            return Err(format!("1: {id} works without a permit"));
        }
        if let Activity::Held { cause, .. } = &run.progress.activity
            && fleet.outages.of(cause).is_none()
            && run.has_permit()
        {
            return Err(format!("12: {id} waits for an outage that is over"));
        }
        if run.workspace.pushed.is_some() && run.workspace.gated.is_none() {
            return Err(format!("4: {id} was pushed, but no gate opened for it"));
        }
        if matches!(run.progress.activity, Activity::Push) && run.workspace.gated.is_none() {
            return Err(format!("4: {id} is being pushed, but no gate opened for it"));
        }
        if let Some(key) = run.work.issue() {
            let holder = fleet.locks.get(&key.repo);
            if live && holder != Some(&id) {
                return Err(format!("2: {id} runs without the lock of {}", key.repo));
            }
            if run.progress.outcome == Some(Outcome::Done) && holder == Some(&id) {
                return Err(format!("2: {id} is done and keeps the lock of {}", key.repo));
            }
        }
    }
    if let Some(unknown) = fleet.locks.values().find(|run| !fleet.runs.contains_key(*run)) {
        return Err(format!("2: {unknown} holds a lock, but there is no such run"));
    }
    let mutating = fleet.breakglass.under_way.values().filter(|run| run.verb.mutates()).count();
    if mutating > 1 {
        return Err(format!("11: {mutating} mutating verbs are in progress"));
    }
    for escalation in fleet.escalations.values() {
        if escalation.digest != escalation.digest_of() {
            return Err(format!(
                "9: {} has a digest that doesn't match its content",
                escalation.id
            ));
        }
    }
    Ok(())
}
