//! `afk stop`: ends the running afk, at once, after a drain, or after it has cancelled every run.

use std::time::Duration;

use clap::Args;

use super::instance::InstanceArgs;
use super::terminal::print_line;
use crate::core::model::command::{Command, Role};
use crate::core::model::plural::plural;
use crate::error::{Failure, FailureKind};
use crate::runtime::client::Client;
use crate::serve::attach::client;
use crate::serve::attach::connection::AttachError;

/// The time within which a runtime must end.
const STOP: Duration = Duration::from_secs(120);

#[derive(Debug, Args)]
pub(super) struct StopArgs {
    /// Stop pickup, and wait until no run is at work
    #[arg(long, conflicts_with = "cancel")]
    drain: bool,
    /// Cancel every run first; work that is not pushed is kept as a commit
    #[arg(long)]
    cancel: bool,
}

pub(super) async fn run(args: &StopArgs, instance: &InstanceArgs) -> Result<(), Failure> {
    let (config, paths) = instance.load()?;
    let hello = || client::hello(&config, Role::Operator, "cli", (0, 0));
    if args.cancel || args.drain {
        let client = client::attach(&paths.state, config.clone(), hello()).await?;
        if args.cancel {
            cancel_all(&client).await;
        } else {
            drain(&client).await?;
        }
    }
    if client::stop(&paths.state, hello(), STOP).await? {
        print_line("afk has ended; its runs continue at the next start");
        Ok(())
    } else {
        Err(AttachError::NotRunning(paths.state).into())
    }
}

async fn cancel_all(client: &Client) {
    let live = client.snapshots.borrow().fleet.live.clone();
    for run in live {
        if let Err(refusal) = client.command(Command::Cancel { run }).await {
            print_line(&format!("{run}: {refusal}"));
        }
    }
}

/// Stops pickup, and waits until no run is at work. A drain is not durable: the next start picks up
/// again.
async fn drain(client: &Client) -> Result<(), Failure> {
    client
        .command(Command::Drain)
        .await
        .map_err(|refusal| Failure::new(FailureKind::Negative, refusal))?;
    let mut snapshots = client.snapshots.clone();
    let mut printed = usize::MAX;
    loop {
        let working = snapshots.borrow_and_update().fleet.permits_used();
        if working == 0 {
            return Ok(());
        }
        if working != printed {
            print_line(&format!("waiting for {} at work", plural(working, "run")));
            printed = working;
        }
        if snapshots.changed().await.is_err() {
            return Err(Failure::new(FailureKind::System, "the connection to afk is lost"));
        }
    }
}
