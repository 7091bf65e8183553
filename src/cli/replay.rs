//! `afk replay --at`: the fleet as it was at a record or a time, from a prefix of the journal. The cockpit
//! shows the same in all of its panes (`t`).

use clap::Args;
use serde_json::json;

use super::instance::InstanceArgs;
use super::moment_arg;
use super::status;
use super::terminal::{print_json, print_line};
use crate::error::{Failure, FailureKind};
use crate::journal::history::PastFleet;
use crate::journal::{Journal, completeness};

#[derive(Debug, Args)]
pub(super) struct ReplayArgs {
    /// The moment: the number of a journal record, a time of day that has passed last, a duration back, or
    /// a date: 1042, 18:00, 2h, 2026-11-29T18:00
    #[arg(long, value_name = "MOMENT")]
    at: String,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &ReplayArgs, instance: &InstanceArgs) -> Result<(), Failure> {
    let state = instance.paths()?.state;
    completeness::check(&state)?;
    let journal = Journal::open_read_only(&state)?;
    let PastFleet { fleet, seq, at } = journal.fold_until(moment_arg::parse(&args.at)?)?;
    if seq == 0 {
        return Err(Failure::new(
            FailureKind::Negative,
            format!("nothing was recorded before {}", args.at),
        )
        .hint("`afk log` prints the records"));
    }
    if args.json {
        let mut value = status::describe(&fleet, seq, None, at);
        value["at"] = json!(at);
        print_json(&value);
        return Ok(());
    }
    let last = journal.last();
    let time = jiff::Timestamp::from_millisecond(at.0).unwrap_or_default();
    let time = time.to_zoned(jiff::tz::TimeZone::system()).strftime("%F %T");
    print_line(&format!("THE PAST: {time}, record {seq} of {last}"));
    status::print(&fleet, at);
    Ok(())
}
