//! The files in which a cockpit keeps what is a convenience to its operator: drafts, the last look, layouts.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};

use crate::core::model::digest::Digest;
use crate::core::model::id::Actor;
use crate::whole_file;

/// How often a cockpit tries to lock a folder, and the pause between two tries. Another one holds the lock for as
/// long as it writes one file.
const TRIES: u32 = 100;
const PAUSE: Duration = Duration::from_millis(10);

/// Creates a folder and locks it until the file is dropped, so that a cockpit can read what is there and write
/// it again with its own changes.
///
/// # Errors
/// The folder can't be made, or another process keeps it locked.
pub(super) fn lock(folder: &Path) -> io::Result<File> {
    std::fs::create_dir_all(folder)?;
    let folder = File::open(folder)?;
    for _ in 1..TRIES {
        if flock(&folder, FlockOperation::NonBlockingLockExclusive).is_ok() {
            return Ok(folder);
        }
        std::thread::sleep(PAUSE);
    }
    flock(&folder, FlockOperation::NonBlockingLockExclusive)?;
    Ok(folder)
}

/// The file of an operator in a folder. A name may hold any character, so the file has the digest of it.
pub(super) fn of_operator(folder: &Path, actor: &Actor) -> PathBuf {
    let name = Digest::of(&[actor.0.as_bytes()]).to_string();
    folder.join(name.get(..16).unwrap_or_default())
}

/// Writes a file whole, for its user alone. Another cockpit may write it at the same time.
///
/// # Errors
/// The folder can't be made, or the file can't be written.
pub(super) fn replace(file: &Path, bytes: &[u8]) -> io::Result<()> {
    if let Some(folder) = file.parent() {
        std::fs::create_dir_all(folder)?;
    }
    whole_file::replace(file, bytes, 0o600)
}
