//! `afk journal`: the ways forward from a journal that afk refuses. Each keeps the files as they were, and
//! turns the kill switch on.

use clap::{Args, Subcommand};

use super::instance::InstanceArgs;
use super::terminal::print_line;
use crate::core::model::id::Actor;
use crate::core::model::plural::plural;
use crate::error::Failure;
use crate::journal::salvage;
use crate::runtime::clock::wall;

#[derive(Debug, Args)]
pub(super) struct JournalArgs {
    #[command(subcommand)]
    command: JournalCommand,
}

#[derive(Debug, Subcommand)]
enum JournalCommand {
    /// Keep the records up to the first one that was changed or is missing
    Salvage,
    /// Set the journal and the transcripts aside, and begin with none
    BeginAnew,
}

pub(super) fn run(args: &JournalArgs, instance: &InstanceArgs) -> Result<(), Failure> {
    let state = instance.paths()?.state;
    // A configuration that can't be read must not keep the journal from being repaired.
    let by = instance.load().map_or_else(|_| Actor("operator".into()), |(c, _)| c.operator());
    let aside = match args.command {
        JournalCommand::Salvage => {
            let salvaged = salvage::salvage(&state, by, wall())?;
            let kept = plural(salvaged.kept, "record");
            let next = salvaged.kept + 1;
            print_line(&if salvaged.broken {
                format!("kept {kept}; record {next} was changed or is missing")
            } else {
                format!("kept {kept}, which is all that the journal has")
            });
            salvaged.aside
        }
        JournalCommand::BeginAnew => salvage::begin_anew(&state, by, wall())?,
    };
    print_line(&format!("the files as they were are in {}", aside.display()));
    print_line(
        "the kill switch is on: afk may no longer know that an armed issue has run. Look at the \
         tracker first, then lift the switch in the cockpit with p",
    );
    Ok(())
}
