//! `afk watch`: a line for each event, for logs, `grep`, screen readers and terminals that can't show a
//! screen. It reads the journal, and an attached client wakes it.

use std::collections::VecDeque;

use clap::Args;

use super::attach;
use super::instance::InstanceArgs;
use super::journal_lines::JournalLines;
use super::terminal::print_line;
use crate::core::model::command::Role;
use crate::core::query::condition::{FleetCondition, condition};
use crate::error::Failure;
use crate::runtime::clock::wall;

#[derive(Debug, Args)]
pub(super) struct WatchArgs {
    /// Print this many earlier events first
    #[arg(long, value_name = "COUNT", default_value_t = 10)]
    last: usize,
}

pub(super) async fn run(args: &WatchArgs, instance: &InstanceArgs) -> Result<(), Failure> {
    let (config, paths) = instance.load()?;
    let client = attach::connect(&config, &paths, Role::Viewer, "watch").await?;
    let mut lines = JournalLines::open(&paths.state)?;
    let mut earlier = VecDeque::new();
    lines.read(|_, line| {
        earlier.push_back(line.stamped());
        if earlier.len() > args.last {
            earlier.pop_front();
        }
    })?;
    for line in earlier {
        print_line(&line);
    }
    let FleetCondition { word, text, .. } = condition(&lines.fleet, wall());
    print_line(&format!("{word}: {text}"));
    let mut snapshots = client.snapshots.clone();
    while snapshots.changed().await.is_ok() {
        snapshots.borrow_and_update();
        lines.read(|_, line| print_line(&line.stamped()))?;
    }
    print_line("afk is gone: nothing more to watch");
    Ok(())
}
