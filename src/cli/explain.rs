//! `afk explain`: why an issue or a run stands where it stands.

use clap::Args;

use super::place::PlaceArgs;
use crate::core::model::id::{IssueKey, RunId};
use crate::core::query::explain;
use crate::error::{Failure, FailureKind};
use crate::journal::Journal;

/// Arguments of `afk explain`.
#[derive(Debug, Args)]
pub struct ExplainArgs {
    /// owner/name#number, a number that only one repository has, or a run like r4
    what: String,
}

/// Runs the command; afk need not run.
///
/// # Errors
/// [`Failure`].
pub fn run(args: &ExplainArgs, place: &PlaceArgs) -> Result<(), Failure> {
    let fleet = Journal::open_read_only(&place.paths()?.state)?.fold()?;
    let what = args.what.trim();
    let lines = if let Some(run) = what.strip_prefix('r').and_then(RunId::parse) {
        if !fleet.runs.contains_key(&run) {
            return Err(Failure::new(FailureKind::Negative, format!("there is no run {run}")));
        }
        explain::run(&fleet, run)
    } else {
        let key = find(&fleet, what)?;
        let mut lines = vec![key.to_string()];
        lines.extend(explain::issue(&fleet, &key));
        lines
    };
    for line in lines {
        super::say(&line);
    }
    Ok(())
}

fn find(fleet: &crate::core::fleet::Fleet, what: &str) -> Result<IssueKey, Failure> {
    let unknown = || {
        Failure::new(FailureKind::Negative, format!("{what} is in no tracker that afk has seen"))
            .hint("`afk status` lists what it has seen")
    };
    if let Ok(number) = what.trim_start_matches('#').parse::<u64>() {
        let all: Vec<&IssueKey> = fleet.issues.keys().filter(|k| k.number == number).collect();
        return match all[..] {
            [key] => Ok(key.clone()),
            [] => Err(unknown()),
            _ => Err(Failure::new(
                FailureKind::Usage,
                format!("several repositories have #{number}"),
            )
            .hint("write owner/name#number")),
        };
    }
    let key = IssueKey::parse(what).map_err(|error| {
        Failure::new(FailureKind::Usage, error)
            .hint("write owner/name#number, a number, or a run like r4")
    })?;
    if fleet.issues.contains_key(&key) { Ok(key) } else { Err(unknown()) }
}
