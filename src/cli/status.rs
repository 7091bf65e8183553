//! `afk status`: the fleet in a few lines, or as JSON, from the journal alone. docs/commands.md describes
//! the JSON.

use clap::Args;
use serde_json::json;

use super::instance::InstanceArgs;
use super::terminal::print_line;
use crate::core::fleet::Fleet;
use crate::core::query::explain;
use crate::error::Failure;
use crate::journal::Journal;
use crate::runtime::clock::wall;

#[derive(Debug, Args)]
pub(super) struct StatusArgs {
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &StatusArgs, instance: &InstanceArgs) -> Result<(), Failure> {
    let state = instance.paths()?.state;
    let journal = Journal::open_read_only(&state)?;
    let mut fleet = journal.fold()?;
    let owner = crate::journal::lock::owner(&state);
    // A drain ends with the process that drains.
    fleet.draining &= owner.is_some();
    if args.json {
        print_line(&describe(&fleet, journal.last(), owner.as_deref()).to_string());
        return Ok(());
    }
    let process = owner.map_or_else(
        || "no afk runs; its runs continue at the next start".to_owned(),
        |pid| format!("afk runs as process {pid}"),
    );
    print_line(&process);
    print_line(&format!(
        "{}, permits {}/{}, queue {}, inbox {}, {} today",
        if fleet.kill_switch() { "KILL SWITCH" } else { "armed" },
        fleet.permits_used(),
        fleet.capacity(),
        fleet.queue.len(),
        fleet.inbox().len(),
        fleet.books.day(wall()).usd
    ));
    for line in explain::outages(&fleet) {
        print_line(&format!("  {line}"));
    }
    for (key, entry) in &fleet.ledger {
        print_line(&format!("  {key:<24} {}", entry.reason.summary()));
    }
    for escalation in fleet.inbox() {
        print_line(&format!(
            "  {} {} {}: {}",
            escalation.id,
            escalation.subject(),
            escalation.kind.as_str(),
            escalation.title.clean_line()
        ));
    }
    Ok(())
}

fn describe(fleet: &Fleet, seq: i64, owner: Option<&str>) -> serde_json::Value {
    let issues: Vec<_> = fleet
        .issues
        .values()
        .map(|issue| {
            let entry = fleet.ledger.get(&issue.key);
            json!({
                "issue": issue.key,
                "title": issue.title.clean_line(),
                "priority": issue.priority,
                "open": issue.open,
                "run": fleet.last_run.get(&issue.key),
                "reason": entry.map(|e| &e.reason),
                "line": entry.map(|e| e.reason.summary()),
                "since": entry.map(|e| e.since),
            })
        })
        .collect();
    let runs: Vec<_> = fleet
        .runs
        .values()
        .map(|run| {
            json!({
                "run": run.id,
                "issue": run.work.issue(),
                "repo": run.work.repo(),
                "title": run.work.title().clean_line(),
                "phase": run.progress.phase,
                "doing": run.doing(fleet.last_event),
                "agent": run.agent.equipment,
                "outcome": run.progress.outcome,
                "why": run.progress.why.clean_line(),
                "attempts": run.progress.attempts,
                "turns": run.agent.turns,
                "pushed": run.workspace.pushed,
                "spend": run.spend.total,
                "claimed": run.progress.claimed,
                "ended": run.progress.ended,
            })
        })
        .collect();
    let inbox: Vec<_> = fleet
        .inbox()
        .into_iter()
        .map(|e| {
            json!({
                "escalation": e.id,
                "run": e.run,
                "issue": e.issue,
                "kind": e.kind,
                "title": e.title.clean_line(),
                "digest": e.digest,
                "raised": e.raised,
                "expires": e.expires,
            })
        })
        .collect();
    let outbox: Vec<_> = fleet
        .outbox
        .values()
        .map(|e| {
            json!({
                "entry": e.id,
                "step": e.step.summary(),
                "failures": e.failures,
                "error": e.error,
                "held": e.held,
                "next_try": (!e.held).then_some(e.not_before),
            })
        })
        .collect();
    json!({
        "schema": 1,
        "process": owner,
        "seq": seq,
        "kill_switch": fleet.kill_switch(),
        "outages": fleet.outages.all().collect::<Vec<_>>(),
        "paused_for": fleet.breaker.open().map(|(cause, _)| &cause.0),
        "permits": {"used": fleet.permits_used(), "all": fleet.capacity()},
        "queue": fleet.waiting(wall()).map(|run| run.id).collect::<Vec<_>>(),
        "spend_today": fleet.books.day(wall()),
        "locks": fleet.locks,
        "last_good": fleet.last_good,
        "issues": issues,
        "runs": runs,
        "inbox": inbox,
        "outbox": outbox,
    })
}
