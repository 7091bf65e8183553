//! `afk proof`: the proof chain of a run as JSON: for each stage that the run reached its verdict, the
//! commit and the facts behind it. docs/commands.md describes the shape.

use clap::Args;
use serde_json::{Value, json};

use super::instance::InstanceArgs;
use super::run_arg;
use super::terminal::print_json_text;
use crate::core::model::run::{Outcome, Run};
use crate::core::model::untrusted::{Untrusted, clean_line};
use crate::core::model::verdict::{Evidence, Verdict};
use crate::error::Failure;

#[derive(Debug, Args)]
pub(super) struct ProofArgs {
    /// The run, for example r4
    run: String,
}

pub(super) fn run(args: &ProofArgs, instance: &InstanceArgs) -> Result<(), Failure> {
    let fleet = instance.fleet()?;
    let run = run_arg::find(&fleet, &args.run)?;
    let link = run.work.issue().and_then(|key| fleet.issues.get(key)?.link.clone());
    let mut proof = describe(run);
    proof["issue_link"] = json!(link.map(|link| clean_line(link.as_received())));
    print_json_text(&format!("{proof:#}"));
    Ok(())
}

/// The links that the run has. The run is healthy if it is done and every link is green.
fn describe(run: &Run) -> Value {
    let links = || run.proof.chain().filter_map(|(link, seen)| Some((link.as_str(), seen?)));
    let green = links().all(|(_, link)| link.verdict == Verdict::Green);
    json!({
        "version": 1,
        "run": run.id.to_string(),
        "repo": run.work.repo().to_string(),
        "issue": run.work.issue().map(|key| key.number),
        "outcome": run.progress.outcome.map(Outcome::as_str),
        "healthy": run.progress.outcome == Some(Outcome::Done) && run.workspace.pushed.is_some() && green,
        "attempts": run.progress.attempts,
        "leaks": run.progress.leaks.iter().map(Untrusted::clean_line).collect::<Vec<_>>(),
        "chain": links().map(|(name, link)| describe_link(name, link)).collect::<Vec<_>>(),
    })
}

fn describe_link(name: &str, link: &Evidence) -> Value {
    let at = jiff::Timestamp::from_millisecond(link.at.0).map(|at| at.to_string());
    let facts: Vec<Value> = link
        .facts
        .iter()
        .map(|fact| {
            let link = fact.link.as_ref().map(|link| clean_line(link.as_received()));
            json!({"name": fact.kind.as_str(), "value": clean_line(fact.value.as_received()), "link": link})
        })
        .collect();
    json!({
        "link": name,
        "verdict": link.verdict.as_str(),
        "sha": link.sha.0,
        "at": at.unwrap_or_default(),
        "detail": link.detail.clean_line(),
        "facts": facts,
    })
}
