//! `afk explain`: the reasons for the state of an issue or a run, from the journal alone.

use clap::Args;
use clap_complete::engine::ArgValueCompleter;

use super::instance::InstanceArgs;
use super::terminal::print_line;
use super::{complete, run_arg, subject_arg};
use crate::core::model::id::RunId;
use crate::core::query::explain;
use crate::error::Failure;

#[derive(Debug, Args)]
pub(super) struct ExplainArgs {
    /// owner/name#number, name#number or a number that only one repository has, or a run like r4
    #[arg(add = ArgValueCompleter::new(complete::subject))]
    subject: String,
}

pub(super) fn run(args: &ExplainArgs, instance: &InstanceArgs) -> Result<(), Failure> {
    let fleet = instance.fleet()?;
    let subject = args.subject.trim();
    let is_run = subject.strip_prefix('r').and_then(RunId::parse).is_some();
    let lines = if is_run {
        explain::run(&fleet, run_arg::find(&fleet, subject)?.id)
    } else {
        let key = subject_arg::find_issue(&fleet, subject)?;
        let mut lines = vec![key.to_string()];
        lines.extend(explain::issue(&fleet, &key));
        lines
    };
    for line in lines {
        print_line(&line);
    }
    Ok(())
}
