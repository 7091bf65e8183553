//! `afk status`: the fleet in a few lines, or as JSON, from the journal alone. docs/commands.md describes
//! the JSON.

use clap::Args;
use serde_json::{Value, json};

use super::instance::InstanceArgs;
use super::terminal::{print_json, print_line};
use crate::core::fleet::Fleet;
use crate::core::model::approval::Escalation;
use crate::core::model::budget::Spend;
use crate::core::model::issue::Issue;
use crate::core::model::run::Run;
use crate::core::model::time::Timestamp;
use crate::core::query::condition::{FleetCondition, condition};
use crate::core::query::explain;
use crate::error::Failure;
use crate::journal::{Journal, JournalError, completeness};
use crate::runtime::clock::wall;

#[derive(Debug, Args)]
pub(super) struct StatusArgs {
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &StatusArgs, instance: &InstanceArgs) -> Result<(), Failure> {
    let state = instance.paths()?.state;
    completeness::check(&state)?;
    let journal = match Journal::open_read_only(&state) {
        Err(missing @ JournalError::Missing { .. }) => {
            // Nothing is wrong: there is only nothing to show.
            if args.json {
                print_json(&describe(&Fleet::default(), 0, None, wall()));
            } else {
                print_line(&format!("{missing}; `afk` or `afk up` starts it"));
            }
            return Ok(());
        }
        other => other?,
    };
    let mut fleet = journal.fold()?;
    let owner = crate::journal::lock::owner(&state);
    // A drain ends with the process that drains.
    fleet.draining &= owner.is_some();
    if args.json {
        print_json(&describe(&fleet, journal.last(), owner.as_deref(), wall()));
        return Ok(());
    }
    let process = owner.map_or_else(
        || "no afk runs; its runs continue at the next start".to_owned(),
        |pid| format!("afk runs as process {pid}"),
    );
    print_line(&process);
    print(&fleet, wall());
    Ok(())
}

/// Prints a fleet as of `now` in a few lines.
pub(super) fn print(fleet: &Fleet, now: Timestamp) {
    let FleetCondition { word, text, .. } = condition(fleet, now);
    print_line(&format!("{word}: {text}"));
    print_line(&format!(
        "{}, permits {}/{}, queue {}, inbox {}, {} today",
        if fleet.kill_switch() { "KILL SWITCH" } else { "picking up" },
        fleet.permits_used(),
        fleet.capacity(),
        fleet.queue.len(),
        fleet.inbox().len(),
        fleet.books.day(now).usd
    ));
    for line in explain::outages(fleet) {
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
}

/// Money in US dollars. The journal has it in millionths, which a reader would take for dollars.
pub(super) fn spend_json(spend: &Spend) -> Value {
    json!({
        "usd": spend.usd.dollars(),
        "estimated_usd": spend.estimated.dollars(),
        "tokens_in": spend.tokens_in,
        "tokens_out": spend.tokens_out,
    })
}

pub(super) fn describe_issue(fleet: &Fleet, issue: &Issue) -> Value {
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
}

pub(super) fn describe_run(fleet: &Fleet, run: &Run) -> Value {
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
        "spend": spend_json(&run.spend.total),
        "claimed": run.progress.claimed,
        "ended": run.progress.ended,
    })
}

pub(super) fn describe_escalation(fleet: &Fleet, escalation: &Escalation) -> Value {
    json!({
        "escalation": escalation.id,
        "run": escalation.run,
        "issue": escalation.issue,
        "kind": escalation.kind,
        "title": escalation.title.clean_line(),
        "digest": escalation.digest,
        "raised": escalation.raised,
        "expires": escalation.expires,
        "holds_permit": fleet.holds_permit(escalation),
    })
}

/// A fleet as of `now`; `owner` is the process that serves it.
pub(super) fn describe(fleet: &Fleet, seq: i64, owner: Option<&str>, now: Timestamp) -> Value {
    let issues: Vec<_> = fleet.issues.values().map(|issue| describe_issue(fleet, issue)).collect();
    let runs: Vec<_> = fleet.runs.values().map(|run| describe_run(fleet, run)).collect();
    let inbox: Vec<_> =
        fleet.inbox().into_iter().map(|open| describe_escalation(fleet, open)).collect();
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
        "schema": 2,
        "process": owner,
        "seq": seq,
        "kill_switch": fleet.kill_switch(),
        "outages": fleet.outages.all().collect::<Vec<_>>(),
        "paused_for": fleet.breaker.open().map(|(cause, _)| &cause.0),
        "permits": {"used": fleet.permits_used(), "all": fleet.capacity()},
        "at_work": fleet.count_at_work(),
        "waiting_for_human": fleet.waiting_for_human().keys().collect::<Vec<_>>(),
        "condition": condition(fleet, now).word,
        "queue": fleet.waiting(now).map(|run| run.id).collect::<Vec<_>>(),
        "spend_today": spend_json(&fleet.books.day(now)),
        "locks": fleet.locks,
        "last_good": fleet.last_good,
        "issues": issues,
        "runs": runs,
        "inbox": inbox,
        "outbox": outbox,
    })
}
