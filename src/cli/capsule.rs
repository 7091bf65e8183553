//! `afk capsule`: checks and copies a capsule, the folder of evidence that afk keeps of a run that froze
//! or needs a human. The manifest `SHA256SUMS` has the digest of each file.

use std::path::{Path, PathBuf};

use clap::Args;

use super::instance::InstanceArgs;
use super::run_arg;
use super::terminal::print_line;
use crate::core::model::digest::Digest;
use crate::core::model::plural::plural;
use crate::error::{Failure, FailureKind};

#[derive(Debug, Args)]
pub(super) struct CapsuleArgs {
    /// The run, for example r4
    run: String,
    /// The new folder [default: capsule-RUN]
    #[arg(long)]
    to: Option<PathBuf>,
}

pub(super) fn run(args: &CapsuleArgs, instance: &InstanceArgs) -> Result<(), Failure> {
    let fleet = instance.fleet()?;
    let run = run_arg::find(&fleet, &args.run)?;
    let capsule = run.progress.capsule.as_ref().map(PathBuf::from).ok_or_else(|| {
        Failure::new(FailureKind::Negative, format!("{} has no capsule", run.id))
            .hint("afk keeps the evidence of runs that froze or need a human")
    })?;
    let to = args.to.clone().unwrap_or_else(|| PathBuf::from(format!("capsule-{}", run.id)));
    let files = verified_files(&capsule)?;
    std::fs::create_dir(&to).map_err(|error| {
        Failure::new(FailureKind::System, to.display())
            .because(error)
            .hint("name another folder with --to")
    })?;
    for name in files.iter().map(String::as_str).chain(["SHA256SUMS"]) {
        std::fs::copy(capsule.join(name), to.join(name))?;
    }
    let count = plural(files.len(), "file");
    print_line(&format!("{count} copied to {}, unchanged since it was kept", to.display()));
    let folder = to.display();
    print_line(&format!("check them with: cd {folder} && sha256sum --check SHA256SUMS"));
    Ok(())
}

/// Returns the files that the manifest names; an error if one of them is missing or has changed.
fn verified_files(folder: &Path) -> Result<Vec<String>, Failure> {
    let manifest = std::fs::read_to_string(folder.join("SHA256SUMS"))
        .map_err(|error| Failure::new(FailureKind::System, folder.display()).because(error))?;
    let mut files = Vec::new();
    for line in manifest.lines() {
        let Some((digest, name)) = line.split_once("  ") else { continue };
        let bytes = std::fs::read(folder.join(name)).map_err(|error| {
            Failure::new(
                FailureKind::Negative,
                format!("{name} is no longer in {}", folder.display()),
            )
            .because(error)
        })?;
        if Digest::of_bytes(&bytes).to_string() != digest {
            let text = format!("{name} in {} has changed since it was kept", folder.display());
            return Err(Failure::new(FailureKind::Negative, text));
        }
        files.push(name.to_owned());
    }
    Ok(files)
}
