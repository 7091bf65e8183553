//! What must hold after every step (docs/architecture.md, "Invariants").

use crate::fleet::Fleet;
use crate::model::run::{Activity, Outcome};

/// The first invariant that does not hold, in words.
///
/// # Errors
/// Which one, and where.
pub fn check(fleet: &Fleet) -> Result<(), String> {
    for run in fleet.runs.values() {
        let id = run.id;
        let live = fleet.live.contains(&id);
        if live != run.live() || live == matches!(run.activity, Activity::Ended) {
            return Err(format!("7: {id} is both live and ended"));
        }
        if run.has_permit() != fleet.at_work.contains(&id) {
            return Err(format!("1: {id} holds a permit that is not counted, or none that is"));
        }
        let timed = matches!(run.activity, Activity::Backoff { .. });
        if fleet.queue.has(run) != (live && !run.has_permit()) {
            return Err(format!(
                "1: {id} waits for a permit and is not in the queue, or is and does not"
            ));
        }
        if live && (run.busy() || timed) && !run.has_permit() {
            return Err(format!("1: {id} works without a permit"));
        }
        if run.pushed.is_some() && run.gated.is_none() {
            return Err(format!("4: {id} was pushed and no gate opened for it"));
        }
        if matches!(run.activity, Activity::Push) && run.gated.is_none() {
            return Err(format!("4: {id} is to be pushed and no gate opened for it"));
        }
        if let Some(key) = run.work.issue() {
            let holder = fleet.locks.get(&key.repo);
            if live && holder != Some(&id) {
                return Err(format!("2: {id} runs without the lock of {}", key.repo));
            }
            if run.outcome == Some(Outcome::Done) && holder == Some(&id) {
                return Err(format!("2: {id} is done and keeps the lock of {}", key.repo));
            }
        }
    }
    if let Some(lost) = fleet.locks.values().find(|run| !fleet.runs.contains_key(run)) {
        return Err(format!("2: {lost} holds a lock and is not known"));
    }
    let mutating = fleet.breakglass.under_way.values().filter(|run| run.verb.mutates()).count();
    if mutating > 1 {
        return Err(format!("11: {mutating} mutating verbs are under way"));
    }
    for escalation in fleet.escalations.values() {
        if escalation.digest != escalation.digest_of() {
            return Err(format!("9: {} is not bound to what it shows", escalation.id));
        }
    }
    Ok(())
}
