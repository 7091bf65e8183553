//! The command line: one file a subcommand.

pub mod demo;
pub mod timeline;
pub mod up;

use std::io::Write;
use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::error::{Failure, Kind};

/// Terminal cockpit for coding agents that work while you are away from the keyboard.
#[derive(Debug, Parser)]
#[command(version, about, propagate_version = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Option<Verb>,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Watch the whole loop on sample repositories, for real
    Demo(demo::DemoArgs),
    /// The demo's scripted agent
    #[command(name = "__demo-agent", hide = true)]
    DemoAgent,
}

/// Runs a command line.
///
/// # Errors
/// [`Failure`].
pub fn run(cli: Cli) -> Result<(), Failure> {
    let runtime = || {
        tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()
            .map_err(|error| Failure::new(Kind::System, error))
    };
    match cli.command {
        Some(Verb::DemoAgent) => demo::agent::play().map_err(|why| Failure::new(Kind::No, why)),
        Some(Verb::Demo(args)) => runtime()?.block_on(demo::run(args)),
        None => Ok(()),
    }
}

/// One line to standard output. A reader that went away is no error.
pub(crate) fn say(line: &str) {
    let _ = writeln!(std::io::stdout().lock(), "{line}");
}

/// The path of this program, for children that are begun through it.
fn own_program() -> Result<PathBuf, Failure> {
    std::env::current_exe().map_err(|error| Failure::new(Kind::System, error))
}
