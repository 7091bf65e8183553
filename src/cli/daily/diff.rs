//! `afk diff`: the changes of a run since its base commit, as the running afk reads them from the worktree.

use std::io::IsTerminal;
use std::time::Duration;

use clap::Args;
use clap_complete::engine::ArgValueCompleter;
use serde_json::json;
use tokio::time::timeout;

use crate::cli::attach;
use crate::cli::complete;
use crate::cli::instance::InstanceArgs;
use crate::cli::subject_arg::find_run;
use crate::cli::terminal::{print_json, print_line};
use crate::core::model::command::Role;
use crate::core::model::untrusted::Untrusted;
use crate::error::{Failure, FailureKind};

/// The time beyond git's own limit that the answer may take.
const MARGIN: Duration = Duration::from_secs(10);

#[derive(Debug, Args)]
pub(in crate::cli) struct DiffArgs {
    /// The run, or the issue of the run: r2, owner/name#12, name#12 or #12
    #[arg(value_name = "ID", add = ArgValueCompleter::new(complete::run))]
    run: String,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(args: &DiffArgs, instance: &InstanceArgs) -> Result<(), Failure> {
    let fleet = instance.fleet()?;
    let run = find_run(&fleet, &args.run)?.id;
    let (config, paths) = instance.load()?;
    let limit = Duration::from_secs(config.limits.git_seconds) + MARGIN;
    let client = attach::connect(&config, &paths, Role::Viewer, "diff").await?;
    let read = timeout(limit, client.diff(run)).await.map_err(|_| {
        let why = format!("the diff of {run} did not come within {} s", limit.as_secs());
        Failure::new(FailureKind::System, why)
    })?;
    let diff = read.map_err(|why| Failure::new(FailureKind::Negative, why))?;
    if args.json {
        print_json(&json!({ "run": run, "diff": diff }));
    } else if std::io::stdout().is_terminal() {
        // Nothing in it may move the cursor, and a reviewer must see each character.
        Untrusted::from(diff).revealed().lines().for_each(print_line);
    } else if !diff.is_empty() {
        print_line(&diff);
    }
    Ok(())
}
