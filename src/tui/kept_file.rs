//! The files in which a cockpit keeps what is a convenience to its operator: drafts, the last look, layouts.

use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::core::model::digest::Digest;
use crate::core::model::id::Actor;

/// The file of an operator in a folder. A name may hold any character, so the file has the digest of it.
pub(super) fn of_operator(folder: &Path, actor: &Actor) -> PathBuf {
    let name = Digest::of(&[actor.0.as_bytes()]).to_string();
    folder.join(name.get(..16).unwrap_or_default())
}

/// Writes a file whole, for its user alone. Another cockpit may write at the same time: the rename never
/// shows half a file.
///
/// # Errors
/// The folder can't be made, or the file can't be written.
pub(super) fn replace(file: &Path, bytes: &[u8]) -> io::Result<()> {
    if let Some(folder) = file.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let new = file.with_extension(std::process::id().to_string());
    let mut options = std::fs::OpenOptions::new();
    let mut out = options.write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    out.write_all(bytes)?;
    std::fs::rename(&new, file)
}
