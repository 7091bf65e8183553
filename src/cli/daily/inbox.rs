//! `afk inbox`: the open questions, a line each, from the journal alone. `afk show` has the whole of one.

use clap::Args;
use serde_json::json;

use crate::cli::instance::InstanceArgs;
use crate::cli::status::describe_escalation;
use crate::cli::terminal::{print_json, print_line, print_remark};
use crate::core::fleet::Fleet;
use crate::core::model::approval::Escalation;
use crate::core::model::plural::plural;
use crate::core::model::time::{MINUTE, Timestamp};
use crate::error::Failure;
use crate::runtime::clock::wall;

#[derive(Debug, Args)]
pub(in crate::cli) struct InboxArgs {
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &InboxArgs, instance: &InstanceArgs) -> Result<(), Failure> {
    let fleet = instance.fleet()?;
    let open = fleet.inbox();
    if args.json {
        let inbox: Vec<_> = open.iter().map(|known| describe_escalation(&fleet, known)).collect();
        print_json(&json!({ "inbox": inbox }));
        return Ok(());
    }
    for escalation in &open {
        print_line(&row(&fleet, escalation, wall()));
    }
    match open.first() {
        Some(first) => print_remark(&format!("`afk show {}` shows it whole", first.id)),
        None => print_line("no open questions"),
    }
    let failed = fleet.outbox.values().filter(|entry| entry.held).count();
    if failed > 0 {
        print_remark(&format!("{} failed: `afk outbox`", plural(failed, "completion step")));
    }
    Ok(())
}

/// A question in one line: id, kind, run, issue, age and title.
pub(super) fn row(fleet: &Fleet, escalation: &Escalation, now: Timestamp) -> String {
    let (id, kind) = (escalation.id.to_string(), escalation.kind.as_str());
    let issue = escalation.issue.as_ref().map_or_else(|| "-".to_owned(), ToString::to_string);
    let subject = escalation.subject();
    let minutes = now.since(escalation.raised) / MINUTE;
    let age = match minutes {
        0..60 => format!("{minutes} min"),
        60..2880 => format!("{} h", minutes / 60),
        _ => format!("{} d", minutes / 1440),
    };
    let permit = if fleet.holds_permit(escalation) { "  (holds a permit)" } else { "" };
    let title = escalation.title.clean_line();
    format!("{id:<5} {kind:<12} {subject:<5} {issue:<20} {age:>6}  {title}{permit}")
}
