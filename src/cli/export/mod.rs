//! `afk export`: a run for people who have no afk: as one HTML page, or its transcript as an asciicast.
//!
//! ```text
//! journal ──────▶ timeline, proof ─┐
//! transcript file ─▶ entries ──────┼─▶ html ─▶ FILE
//! the running afk ─▶ diff ─────────┘    cast ─▶ FILE
//! ```
//!
//! afk removed the secrets that it knows before it stored any of this.

mod cast;
mod html;

use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use tokio::time::timeout;

use super::attach;
use super::instance::InstanceArgs;
use super::subject_arg::find_run;
use super::terminal::print_line;
use crate::core::model::command::Role;
use crate::core::model::id::RunId;
use crate::error::{Failure, FailureKind};
use crate::journal::transcript::Store;
use crate::redact::Redactor;
use crate::whole_file::WholeFile;

/// The time beyond git's own limit that the diff may take.
const MARGIN: Duration = Duration::from_secs(10);

#[derive(Debug, Args)]
pub(super) struct ExportArgs {
    /// The run, or the issue of the run: r2, owner/name#12, name#12 or #12
    #[arg(value_name = "ID")]
    run: String,
    /// Write one HTML page with the transcript, the diff, the proof and the timeline
    #[arg(long, value_name = "FILE", required_unless_present = "cast")]
    html: Option<PathBuf>,
    /// Write the transcript as an asciicast (version 2), for asciinema
    #[arg(long, value_name = "FILE")]
    cast: Option<PathBuf>,
}

pub(super) async fn run(args: &ExportArgs, instance: &InstanceArgs) -> Result<(), Failure> {
    let fleet = instance.fleet()?;
    let run = find_run(&fleet, &args.run)?;
    let mut reader = Store::open(&instance.paths()?.state)?.reader(run.id);
    reader.refresh()?;
    if let Some(path) = &args.html {
        let diff = diff(run.id, instance).await;
        write(path, |to| html::write(to, &fleet, run, &reader, &diff))?;
        print_line(&format!("wrote {} as a page to {}", run.id, path.display()));
    }
    if let Some(path) = &args.cast {
        write(path, |to| cast::write(to, run, &reader))?;
        print_line(&format!("wrote {} as an asciicast to {}", run.id, path.display()));
    }
    Ok(())
}

/// Writes a file as a whole or not at all: an earlier one stays until the new one is complete.
fn write(
    path: &Path,
    content: impl FnOnce(&mut dyn Write) -> std::io::Result<()>,
) -> Result<(), Failure> {
    let written = WholeFile::create(path, 0o666).and_then(|whole| {
        let mut to = BufWriter::new(&whole.file);
        content(&mut to)?;
        to.flush()?;
        drop(to);
        whole.put()
    });
    written.map_err(|error| {
        Failure::new(FailureKind::System, format!("write {}", path.display())).because(error)
    })
}

/// The changes of a run as the running afk reads them, or why there are none to show.
async fn diff(run: RunId, instance: &InstanceArgs) -> Result<String, String> {
    let read = async {
        let (config, paths) = instance.load().map_err(|error| error.to_string())?;
        let limit = Duration::from_secs(config.limits.git_seconds) + MARGIN;
        let client = attach::connect(&config, &paths, Role::Viewer, "export").await;
        let client = client.map_err(|error| error.to_string())?;
        let late = |_| format!("the diff did not come within {} s", limit.as_secs());
        let diff = timeout(limit, client.diff(run)).await.map_err(late)??;
        // It comes from the worktree as it is, and the page may leave this machine.
        Ok(Redactor::default().clean(&diff).into_owned())
    };
    read.await
}
