//! `afk backup` and `afk restore`: a copy of the state folder, also while afk runs, and the way back.

use std::path::PathBuf;

use clap::Args;

use super::instance::InstanceArgs;
use super::terminal::print_line;
use crate::core::model::id::Actor;
use crate::core::model::plural::plural;
use crate::error::{Failure, FailureKind};
use crate::journal::backup::{self, BackupError, BackupList};
use crate::runtime::clock::wall;
use crate::version;

#[derive(Debug, Args)]
pub(super) struct BackupArgs {
    /// An empty or new folder for the backup
    dir: PathBuf,
    /// Only compare an existing backup with its list and its chain
    #[arg(long)]
    check: bool,
}

#[derive(Debug, Args)]
pub(super) struct RestoreArgs {
    /// The folder of the backup
    dir: PathBuf,
}

pub(super) fn run(args: &BackupArgs, instance: &InstanceArgs) -> Result<(), Failure> {
    let dir = std::path::absolute(&args.dir)?;
    let list = if args.check {
        backup::check(&dir)?
    } else {
        backup::backup(&instance.paths()?.state, &dir, version::WHOLE, wall())?
    };
    print_line(&format!("{}: {}, verified", dir.display(), summary(&list)));
    Ok(())
}

pub(super) fn restore(args: &RestoreArgs, instance: &InstanceArgs) -> Result<(), Failure> {
    let state = instance.paths()?.state;
    // A configuration that can't be read must not keep the state from being restored.
    let by = instance.load().map_or_else(|_| Actor("operator".into()), |(c, _)| c.operator());
    let list = backup::restore(&std::path::absolute(&args.dir)?, &state, by, wall())?;
    print_line(&format!("{}: {}, verified", state.display(), summary(&list)));
    print_line(
        "the kill switch is on: issues that have run since the backup look as if they had not. Look at \
         the tracker first, then lift the switch in the cockpit with p",
    );
    Ok(())
}

fn summary(list: &BackupList) -> String {
    let bytes: u64 = list.files.iter().map(|file| file.bytes).sum();
    format!(
        "{}, {}, {} MiB",
        plural(list.records, "record"),
        plural(list.files.len(), "file"),
        bytes.div_ceil(1024 * 1024)
    )
}

impl From<BackupError> for Failure {
    fn from(error: BackupError) -> Self {
        let (kind, hint) = match error {
            BackupError::Journal(error) => return error.into(),
            BackupError::NotEmpty(_) => (FailureKind::Usage, Some("name a new folder")),
            BackupError::InState(_) => {
                (FailureKind::Usage, Some("name a folder outside, better on another disk"))
            }
            BackupError::NoBackup(_) => {
                (FailureKind::Usage, Some("name the folder that `afk backup` wrote"))
            }
            BackupError::Occupied(_) => (
                FailureKind::Usage,
                Some("move the state folder away first, or name another one with --state"),
            ),
            BackupError::Changed(_) | BackupError::Broken(_) | BackupError::List { .. } => {
                (FailureKind::Negative, Some("use another backup"))
            }
            BackupError::Io { .. } | BackupError::Database { .. } => (FailureKind::System, None),
        };
        let failure = Self::from_error(kind, error);
        match hint {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    }
}
