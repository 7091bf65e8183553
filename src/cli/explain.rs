//! `afk explain`: the reasons for the state of an issue or a run, from the journal alone.

use std::collections::BTreeSet;

use clap::Args;

use super::instance::InstanceArgs;
use super::run_arg;
use super::terminal::print_line;
use crate::core::fleet::Fleet;
use crate::core::model::id::{IssueKey, RunId};
use crate::core::query::explain;
use crate::error::{Failure, FailureKind};

#[derive(Debug, Args)]
pub(super) struct ExplainArgs {
    /// owner/name#number, a number that only one repository has, or a run like r4
    subject: String,
}

pub(super) fn run(args: &ExplainArgs, instance: &InstanceArgs) -> Result<(), Failure> {
    let fleet = instance.fleet()?;
    let subject = args.subject.trim();
    let is_run = subject.strip_prefix('r').and_then(RunId::parse).is_some();
    let lines = if is_run {
        explain::run(&fleet, run_arg::find(&fleet, subject)?.id)
    } else {
        let key = find_issue(&fleet, subject)?;
        let mut lines = vec![key.to_string()];
        lines.extend(explain::issue(&fleet, &key));
        lines
    };
    for line in lines {
        print_line(&line);
    }
    Ok(())
}

fn find_issue(fleet: &Fleet, subject: &str) -> Result<IssueKey, Failure> {
    let unknown = || {
        Failure::new(
            FailureKind::Negative,
            format!("afk has seen no issue {subject} in its trackers"),
        )
        .hint("`afk status` lists the issues")
    };
    if let Ok(number) = subject.trim_start_matches('#').parse::<u64>() {
        let known: BTreeSet<&IssueKey> = fleet.issues.keys().chain(fleet.last_run.keys()).collect();
        let all: Vec<&IssueKey> = known.into_iter().filter(|k| k.number == number).collect();
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
    let key = IssueKey::parse(subject).map_err(|error| {
        Failure::new(FailureKind::Usage, error)
            .hint("write owner/name#number, a number, or a run like r4")
    })?;
    let known = fleet.issues.contains_key(&key) || fleet.last_run.contains_key(&key);
    if known { Ok(key) } else { Err(unknown()) }
}
