//! `afk brief`: what happened since a time, from the journal alone. The cockpit shows the same (`b`).
//! docs/commands.md describes the JSON.

use clap::Args;
use serde_json::{Value, json};

use super::instance::InstanceArgs;
use super::moment_arg;
use super::status::spend_json;
use super::terminal::{print_json, print_line};
use crate::core::query::brief::{EndedRun, FleetBrief, OpenQuestion, Standstill};
use crate::error::Failure;
use crate::journal::{Journal, completeness};
use crate::runtime::clock::wall;

#[derive(Debug, Args)]
pub(super) struct BriefArgs {
    /// The begin: a time of day that has passed last, a duration back, or a date: 18:00, 2h, 2026-11-29
    #[arg(long, value_name = "TIME", default_value = "12h")]
    since: String,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &BriefArgs, instance: &InstanceArgs) -> Result<(), Failure> {
    let state = instance.paths()?.state;
    completeness::check(&state)?;
    let since = moment_arg::parse_time(&args.since)?;
    let brief = Journal::open_read_only(&state)?.brief(since, wall())?;
    if args.json {
        print_json(&describe(&brief));
    } else {
        for (_, line) in brief.lines() {
            print_line(&line);
        }
    }
    Ok(())
}

fn describe(brief: &FleetBrief) -> Value {
    let runs = |runs: &[EndedRun]| runs.iter().map(describe_run).collect::<Vec<_>>();
    let by_repo: Vec<Value> = brief
        .spent_by_repo
        .iter()
        .map(|(repo, spend)| json!({ "repo": repo, "spend": spend_json(spend) }))
        .collect();
    json!({
        "since": brief.since,
        "until": brief.until,
        "landed": runs(&brief.landed),
        "frozen": runs(&brief.frozen),
        "stopped": runs(&brief.stopped),
        "waiting": brief.waiting.iter().map(describe_question).collect::<Vec<_>>(),
        "claimed": brief.claimed,
        "asked": brief.asked,
        "answered": brief.answered,
        "spend": spend_json(&brief.spent),
        "spend_by_repo": by_repo,
        "stood_still": brief.stood_still.iter().map(describe_standstill).collect::<Vec<_>>(),
    })
}

fn describe_run(run: &EndedRun) -> Value {
    json!({
        "run": run.run,
        "issue": run.issue,
        "repo": run.repo,
        "title": run.title,
        "at": run.at,
        "outcome": run.outcome,
        "why": run.why,
        "commit": run.commit,
        "spend": spend_json(&run.spend),
    })
}

fn describe_question(question: &OpenQuestion) -> Value {
    json!({
        "escalation": question.escalation,
        "subject": question.subject,
        "kind": question.kind,
        "title": question.title,
        "raised": question.raised,
        "holds_permit": question.holds_permit,
    })
}

fn describe_standstill(stop: &Standstill) -> Value {
    json!({
        "from": stop.from,
        "to": stop.to,
        "ongoing": stop.ongoing,
        "condition": stop.word,
        "why": stop.why,
    })
}
