//! `afk completions` and `afk man`: the files that a package installs beside the program.

use std::path::{Path, PathBuf};

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::Cli;
use super::terminal::print_line;
use crate::error::{Failure, FailureKind};

#[derive(Debug, Args)]
pub(super) struct CompletionsArgs {
    /// The shell that reads them
    shell: Shell,
}

#[derive(Debug, Args)]
pub(super) struct ManArgs {
    /// The folder for the pages; it is created
    dir: PathBuf,
}

/// Prints the completions of a shell.
pub(super) fn completions(args: &CompletionsArgs) {
    let mut text = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "afk", &mut text);
    print_line(String::from_utf8_lossy(&text).trim_end());
}

/// Writes a page for afk and one for each subcommand.
pub(super) fn man(args: &ManArgs) -> Result<(), Failure> {
    write_pages(&args.dir).map_err(|error| {
        Failure::new(FailureKind::System, format!("write pages into {}", args.dir.display()))
            .because(error)
    })
}

fn write_pages(dir: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(dir)?;
    clap_mangen::generate_to(Cli::command(), dir)
}
