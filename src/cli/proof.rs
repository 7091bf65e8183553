//! `afk proof`: the proof chain of a run as JSON.

use clap::Args;
use serde_json::{Value, json};

use super::place::PlaceArgs;
use crate::core::model::id::RunId;
use crate::core::model::run::{Outcome, Run};
use crate::core::model::untrusted::clean_line;
use crate::core::model::verdict::Evidence;
use crate::error::{Failure, FailureKind};
use crate::journal::Journal;

/// Arguments of `afk proof`.
#[derive(Debug, Args)]
pub struct ProofArgs {
    /// A run like r4
    run: String,
}

/// Runs the command; afk need not run.
///
/// # Errors
/// [`Failure`].
pub fn run(args: &ProofArgs, place: &PlaceArgs) -> Result<(), Failure> {
    let fleet = Journal::open_read_only(&place.paths()?.state)?.fold()?;
    let run = find(&args.run).and_then(|id| fleet.runs.get(&id));
    let run = run.ok_or_else(|| no_run(&args.run))?;
    let link = run.work.issue().and_then(|key| fleet.issues.get(key)?.link.clone());
    let mut whole = of(run);
    whole["issue_link"] = json!(link.map(|link| clean_line(link.as_received())));
    super::say(&serde_json::to_string_pretty(&whole).unwrap_or_default());
    Ok(())
}

/// A run's number as it is written everywhere.
pub(super) fn find(text: &str) -> Option<RunId> {
    RunId::parse(text.trim().trim_start_matches('r'))
}

pub(super) fn no_run(text: &str) -> Failure {
    Failure::new(FailureKind::Negative, format!("there is no run {text}"))
        .hint("`afk status` lists them")
}

/// The chain: only the links that the run has. Healthy is a run that ended well with every one of
/// them green.
#[must_use]
pub fn of(run: &Run) -> Value {
    let links = || run.proof.chain().filter_map(|(link, seen)| Some((link.as_str(), seen?)));
    let green =
        links().all(|(_, link)| link.verdict == crate::core::model::verdict::Verdict::Green);
    json!({
        "version": 1,
        "run": run.id.to_string(),
        "repo": run.work.repo().to_string(),
        "issue": run.work.issue().map(|key| key.number),
        "outcome": run.outcome.map(Outcome::as_str),
        "healthy": run.outcome == Some(Outcome::Done) && run.pushed.is_some() && green,
        "attempts": run.attempts,
        "chain": links().map(|(name, link)| of_link(name, link)).collect::<Vec<_>>(),
    })
}

fn of_link(name: &str, link: &Evidence) -> Value {
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
