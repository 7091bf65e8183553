//! The creation of a journal, at the first start on a state folder.
//!
//! The journal is complete before it gets its name: a power cut leaves none rather than a half of one. This
//! also needs two syncs where a creation in place needs ten, for which the first screen would wait.

use std::fs::{File, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rusqlite::OpenFlags;

use super::{Journal, JournalError, place, salvage, schema};
use crate::config::paths::journal_in;

/// Creates the journal of a state folder that has none, under the folder's lock.
///
/// # Errors
/// The folder can't be written.
pub(super) fn create(state: &Path) -> Result<(), JournalError> {
    let path = journal_in(state);
    // A log without its database would be taken for that of the new one; SQLite deletes it with a creation
    // in place.
    if path.exists() || path.with_extension("sqlite-wal").exists() {
        return Ok(());
    }
    let unfinished = path.with_extension("sqlite.new");
    for name in ["sqlite.new", "sqlite.new-wal", "sqlite.new-shm"] {
        // An afk that was killed at this point has left it.
        salvage::remove(&path.with_extension(name))?;
    }
    let mut journal = Journal::connect(&unfinished, OpenFlags::default(), None)?;
    journal.query(|db| db.execute_batch("PRAGMA synchronous = OFF; PRAGMA journal_mode = WAL;"))?;
    schema::migrate(&mut journal)?;
    place::claim(&journal, state)?;
    // Everything is in one file then.
    journal.query(|db| db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())))?;
    drop(journal);
    let synced = File::open(&unfinished).and_then(|file| file.sync_all());
    synced.map_err(|source| JournalError::Io { path: unfinished.clone(), source })?;
    salvage::rename(&unfinished, &path)
}

/// Creates the file of a new database for its owner alone: SQLite would let every user read it, and gives
/// the files beside it the same mode. A file that exists keeps its mode.
///
/// # Errors
/// The folder can't be written.
pub(super) fn create_private(path: &Path) -> Result<(), JournalError> {
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Err(source) if source.kind() != ErrorKind::AlreadyExists => {
            Err(JournalError::Io { path: path.to_owned(), source })
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn creation_that_was_killed_is_begun_again() {
        let state = tempfile::tempdir().unwrap();
        let unfinished = journal_in(state.path()).with_extension("sqlite.new");
        std::fs::write(&unfinished, "half of a database").unwrap();
        std::fs::write(unfinished.with_extension("new-wal"), "half of a log").unwrap();
        let journal = Journal::open(state.path()).unwrap();
        assert_eq!(journal.last(), 0);
        let left: Vec<_> = std::fs::read_dir(state.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name.contains(".new"))
            .collect();
        assert!(left.is_empty(), "{left:?}");
    }

    #[test]
    fn new_journal_is_complete_without_its_log() {
        let state = tempfile::tempdir().unwrap();
        create(state.path()).unwrap();
        let path = journal_in(state.path());
        assert!(!path.with_extension("sqlite-wal").exists());
        let journal = Journal::connect(&path, OpenFlags::SQLITE_OPEN_READ_ONLY, None).unwrap();
        assert_eq!(schema::check(&journal).unwrap(), 1);
        let id = journal.id().unwrap();
        drop(journal);
        assert_eq!(Journal::open(state.path()).unwrap().id().unwrap(), id);
    }
}
