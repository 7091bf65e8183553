//! `afk dash`: a read-only dashboard for a spare monitor. It waits for an afk that isn't running yet, and
//! survives a lost network.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use tokio::time::{Instant, sleep};

use super::instance::InstanceArgs;
use super::terminal::{self, print_line};
use crate::core::model::command::Role;
use crate::error::{Failure, FailureKind};
use crate::process::end_signals::EndSignals;
use crate::serve::attach::client;

/// The longest pause between two ssh connections; a connection that lasted as long resets the pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// The exit code of a program that the user interrupted.
const INTERRUPTED: i32 = 130;

#[derive(Debug, Args)]
pub(super) struct DashArgs {
    /// The state folder of the afk to show, or its socket
    #[arg(long, value_name = "PATH", conflicts_with = "ssh")]
    attach: Option<PathBuf>,
    /// A host with an afk, reached with ssh
    #[arg(long, value_name = "HOST")]
    ssh: Option<String>,
}

pub(super) async fn run(args: &DashArgs, instance: &InstanceArgs) -> Result<(), Failure> {
    if let Some(host) = &args.ssh {
        return over_ssh(host).await;
    }
    let (config, state) = if let Some(path) = &args.attach {
        let is_socket = path.extension().is_some_and(|end| end == "sock");
        let state = if is_socket { path.parent() } else { Some(path.as_path()) };
        // A machine that only shows a dashboard needs no configuration.
        let config = instance.load().map(|(config, _)| config).unwrap_or_default();
        (config, state.unwrap_or(path).to_owned())
    } else {
        let (config, paths) = instance.load()?;
        (config, paths.state)
    };
    let hello = client::hello(&config, Role::Viewer, "dash", terminal::size());
    let client = client::attach_when_running(&state, config, hello)?;
    crate::tui::dash::run(&client).await
}

/// Runs the dashboard of another machine over ssh, and connects again until the user leaves it.
async fn over_ssh(host: &str) -> Result<(), Failure> {
    if host.starts_with('-') {
        return Err(Failure::new(FailureKind::Usage, format!("{host:?} is not a host name")));
    }
    let mut signals = EndSignals::listen()?;
    let mut pause = Duration::from_secs(1);
    loop {
        let keepalive = ["-t", "-o", "ServerAliveInterval=15", "-o", "ServerAliveCountMax=3", "--"];
        let mut ssh = tokio::process::Command::new("ssh");
        ssh.args(keepalive).args([host, "afk", "dash"]).kill_on_drop(true);
        let started = Instant::now();
        let ended = tokio::select! {
            ended = ssh.status() => ended,
            _ = signals.next() => return Ok(()),
        };
        let ended = ended.map_err(|error| {
            Failure::new(FailureKind::System, "start ssh")
                .because(error)
                .hint("install the OpenSSH client")
        })?;
        // Any other code means that the network or the machine failed.
        if ended.success() || ended.code() == Some(INTERRUPTED) {
            return Ok(());
        }
        if started.elapsed() > LONGEST_PAUSE {
            pause = Duration::from_secs(1);
        }
        print_line(&format!("{host} can't be reached; retrying in {} s", pause.as_secs()));
        tokio::select! {
            () = sleep(pause) => pause = (pause * 2).min(LONGEST_PAUSE),
            _ = signals.next() => return Ok(()),
        }
    }
}
