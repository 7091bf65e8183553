//! Waits until files are on the disk, where a power cut must not take them: before a reference, a marker or
//! a key names what others rely on.

use std::fs::File;
use std::path::Path;

use super::WorkspaceError;

/// Returns once the names in a folder are on the disk.
///
/// # Errors
/// The folder can't be opened or synced.
pub(super) fn sync_folder(folder: &Path) -> Result<(), WorkspaceError> {
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(WorkspaceError::io(folder))
}

/// Returns once all that was written to the file system of a folder is on the disk. It may take long on a
/// busy disk, so call it on a thread that may block, and rarely.
///
/// # Errors
/// The folder can't be opened, or a file can't be written.
pub(super) fn sync_file_system(folder: &Path) -> Result<(), WorkspaceError> {
    let synced = File::open(folder).and_then(|folder| Ok(rustix::fs::syncfs(&folder)?));
    synced.map_err(WorkspaceError::io(folder))
}
