//! `afk log`: the events of the journal, a line each: all of them, or those of a run or an issue.

use std::collections::VecDeque;

use clap::Args;
use clap_complete::engine::ArgValueCompleter;
use serde_json::json;

use crate::cli::attach;
use crate::cli::complete;
use crate::cli::instance::InstanceArgs;
use crate::cli::journal_lines::{JournalLine, JournalLines};
use crate::cli::subject_arg::{self, SubjectArg};
use crate::cli::terminal::{print_json, print_line};
use crate::core::fleet::Fleet;
use crate::core::model::command::Role;
use crate::core::model::event::Event;
use crate::core::model::id::{IssueKey, RunId};
use crate::error::Failure;

/// The earlier events that are printed without a subject and without `--last`.
const LAST: usize = 50;

#[derive(Debug, Args)]
pub(in crate::cli) struct LogArgs {
    /// Only the events of a run or an issue: r2, owner/name#12, name#12 or #12
    #[arg(value_name = "ID", add = ArgValueCompleter::new(complete::subject))]
    subject: Option<String>,
    /// Go on with each new event; for a run until it has ended
    #[arg(short, long)]
    follow: bool,
    /// Print at most this many earlier events [default: 50, or all of a run or an issue]
    #[arg(long, value_name = "COUNT")]
    last: Option<usize>,
    /// Print each event as a JSON object on a line of its own
    #[arg(long)]
    json: bool,
}

/// The events that are printed.
enum EventFilter {
    All,
    Run(RunId),
    Issue(IssueKey),
}

pub(super) async fn run(args: &LogArgs, instance: &InstanceArgs) -> Result<(), Failure> {
    let state = instance.paths()?.state;
    let filter = match &args.subject {
        None => EventFilter::All,
        Some(text) => filter(&instance.fleet()?, text)?,
    };
    // Before the journal is read, so that no event falls between the two.
    let client = if args.follow {
        let (config, paths) = instance.load()?;
        Some(attach::connect(&config, &paths, Role::Viewer, "log").await?)
    } else {
        None
    };
    let most = args.last.unwrap_or(match filter {
        EventFilter::All => LAST,
        EventFilter::Run(_) | EventFilter::Issue(_) => usize::MAX,
    });
    let mut lines = JournalLines::open(&state)?;
    let mut earlier = VecDeque::new();
    lines.read(|fleet, line| {
        if filter.fits(fleet, &line.event) {
            earlier.push_back(line);
            if earlier.len() > most {
                earlier.pop_front();
            }
        }
    })?;
    for line in earlier {
        print(&line, args.json);
    }
    let Some(client) = client else { return Ok(()) };
    let mut snapshots = client.snapshots.clone();
    while !filter.is_over(&lines.fleet) && snapshots.changed().await.is_ok() {
        snapshots.borrow_and_update();
        lines.read(|fleet, line| {
            if filter.fits(fleet, &line.event) {
                print(&line, args.json);
            }
        })?;
    }
    Ok(())
}

fn print(line: &JournalLine, json: bool) {
    if json {
        let JournalLine { seq, at, event, text } = line;
        print_json(&json!({ "seq": seq, "at": at, "line": text, "event": event }));
    } else {
        print_line(&line.stamped());
    }
}

fn filter(fleet: &Fleet, text: &str) -> Result<EventFilter, Failure> {
    Ok(match subject_arg::find(fleet, text)? {
        SubjectArg::Run(run) => EventFilter::Run(run.id),
        SubjectArg::Issue(key) => EventFilter::Issue(key),
        SubjectArg::Escalation(_) => EventFilter::Run(subject_arg::find_run(fleet, text)?.id),
    })
}

impl EventFilter {
    fn fits(&self, fleet: &Fleet, event: &Event) -> bool {
        match self {
            Self::All => true,
            Self::Run(run) => run_of(fleet, event) == Some(*run),
            Self::Issue(key) => match event {
                Event::Considered { key: known, .. } => known == key,
                event => {
                    let run = run_of(fleet, event).and_then(|run| fleet.runs.get(&run));
                    run.is_some_and(|run| run.work.issue() == Some(key))
                }
            },
        }
    }

    /// Whether nothing more is to come: the one run has ended.
    fn is_over(&self, fleet: &Fleet) -> bool {
        let Self::Run(run) = self else { return false };
        fleet.runs.get(run).is_none_or(|run| !run.live())
    }
}

/// The run that an event is about, of the events that have a line.
fn run_of(fleet: &Fleet, event: &Event) -> Option<RunId> {
    match event {
        Event::Claimed { run, .. }
        | Event::Reached { run, .. }
        | Event::GateClosed { run, .. }
        | Event::Pushed { run, .. }
        | Event::PushRejected { run, .. }
        | Event::Judged { run, .. }
        | Event::Attempt { run, .. }
        | Event::Failed { run, .. }
        | Event::Ended { run, .. }
        | Event::LookedAgain { run, .. }
        | Event::Reopened { run, .. }
        | Event::LockReleased { run, .. }
        | Event::EditUnjudged { run, .. }
        | Event::IssueWithdrawn { run, .. } => Some(*run),
        Event::Escalated { escalation } => escalation.run,
        Event::Answered { escalation, .. } | Event::Expired { escalation } => {
            fleet.escalations.get(escalation)?.run
        }
        _ => None,
    }
}
