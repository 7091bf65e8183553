//! `afk capsule`: the evidence of a freeze, copied to where it is wanted.

use std::path::{Path, PathBuf};

use clap::Args;

use super::place::PlaceArgs;
use super::proof::{find, no_run};
use crate::core::model::digest::Digest;
use crate::error::{Failure, FailureKind};
use crate::journal::Journal;

/// Arguments of `afk capsule`.
#[derive(Debug, Args)]
pub struct CapsuleArgs {
    /// A run like r4
    run: String,
    /// The folder that is made
    #[arg(long)]
    to: Option<PathBuf>,
}

/// Runs the command; afk need not run.
///
/// # Errors
/// [`Failure`]: no such run, no capsule, or one that was changed since it was kept.
pub fn run(args: &CapsuleArgs, place: &PlaceArgs) -> Result<(), Failure> {
    let fleet = Journal::open_read_only(&place.paths()?.state)?.fold()?;
    let run = find(&args.run).and_then(|id| fleet.runs.get(&id));
    let run = run.ok_or_else(|| no_run(&args.run))?;
    let kept = run.capsule.as_ref().map(PathBuf::from).ok_or_else(|| {
        Failure::new(FailureKind::Negative, format!("{} has no capsule", run.id))
            .hint("evidence is kept of runs that froze or need a human")
    })?;
    let to = args.to.clone().unwrap_or_else(|| PathBuf::from(format!("capsule-{}", run.id)));
    let files = check(&kept)?;
    std::fs::create_dir(&to).map_err(|error| {
        Failure::new(FailureKind::System, to.display())
            .because(error)
            .hint("name another folder with --to")
    })?;
    for name in files.iter().map(String::as_str).chain(["SHA256SUMS"]) {
        std::fs::copy(kept.join(name), to.join(name))?;
    }
    super::say(&format!("{} files in {}, as they were kept", files.len(), to.display()));
    super::say(&format!("check them there with: sha256sum --check SHA256SUMS ({})", to.display()));
    Ok(())
}

/// The files that the manifest names, each as it was when it was kept.
fn check(folder: &Path) -> Result<Vec<String>, Failure> {
    let manifest = std::fs::read_to_string(folder.join("SHA256SUMS"))
        .map_err(|error| Failure::new(FailureKind::System, folder.display()).because(error))?;
    let mut files = Vec::new();
    for line in manifest.lines() {
        let Some((digest, name)) = line.split_once("  ") else { continue };
        let bytes = std::fs::read(folder.join(name)).map_err(|error| {
            Failure::new(
                FailureKind::Negative,
                format!("{name} is no longer in {}: {error}", folder.display()),
            )
        })?;
        if Digest::of_bytes(&bytes).to_string() != digest {
            let text = format!("{name} in {} was changed since it was kept", folder.display());
            return Err(Failure::new(FailureKind::Negative, text));
        }
        files.push(name.to_owned());
    }
    Ok(files)
}
