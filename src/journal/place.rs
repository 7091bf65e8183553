//! The place of a state folder. A copy of it has the same journal and the same id, so that its afk would
//! end the other's agents and continue its runs in the other's workspaces. The journal therefore
//! records its path, and a copy is refused while the original is still there. A folder that was moved,
//! or restored on another machine, is no copy.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rusqlite::{OpenFlags, OptionalExtension};

use super::{Journal, JournalError};
use crate::config::paths::journal_in;

/// The key of the path in the journal's table of facts about itself.
const PLACE: &str = "place";

/// Refuses a copy, and records the path otherwise.
///
/// # Errors
/// [`JournalError::Copied`].
pub(super) fn claim(journal: &Journal, state: &Path) -> Result<(), JournalError> {
    // A path that isn't text, or can't be resolved, is not recorded.
    let Ok(here) = state.canonicalize() else { return Ok(()) };
    let Some(text) = here.to_str() else { return Ok(()) };
    if let Some(original) = original(journal, &here) {
        return Err(JournalError::Copied { state: state.to_owned(), original });
    }
    if recorded(journal).as_deref() != Some(text) {
        // A journal that can't be written shows that at its first batch.
        let _ = journal.query(|db| {
            db.execute(
                "INSERT INTO meta (key, value) VALUES (?1, ?2) \
                 ON CONFLICT (key) DO UPDATE SET value = ?2",
                [PLACE, text],
            )
        });
    }
    Ok(())
}

/// The state folder that the one at `here` is a copy of.
pub(super) fn original(journal: &Journal, here: &Path) -> Option<PathBuf> {
    let original = PathBuf::from(recorded(journal)?);
    let (there, this) = (original.metadata().ok()?, here.metadata().ok()?);
    // Another mount of the same folder is the same folder.
    if original == here || (there.dev(), there.ino()) == (this.dev(), this.ino()) {
        return None;
    }
    let other = journal_in(&original);
    let other = Journal::connect(&other, OpenFlags::SQLITE_OPEN_READ_ONLY, None).ok()?;
    (other.id().ok()? == journal.id().ok()?).then_some(original)
}

/// The path that the journal has recorded; none in a journal of an earlier afk.
fn recorded(journal: &Journal) -> Option<String> {
    let found = journal.query(|db| {
        db.query_row("SELECT value FROM meta WHERE key = ?", [PLACE], |row| row.get(0)).optional()
    });
    found.ok().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn copy(from: &Path, to: &Path) {
        std::fs::create_dir(to).unwrap();
        for entry in std::fs::read_dir(from).unwrap().flatten() {
            std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }

    #[test]
    fn copy_is_refused_while_the_original_is_there() {
        let dir = tempfile::tempdir().unwrap();
        let (state, other) = (dir.path().join("state"), dir.path().join("other"));
        let live = Journal::open(&state).unwrap();
        copy(&state, &other);
        let refused = Journal::open(&other).unwrap_err().to_string();
        let original = state.canonicalize().unwrap();
        assert!(refused.contains(&format!("a copy of {}", original.display())), "{refused}");
        drop(live);
        assert!(Journal::open(&other).is_err(), "the original can start again");
        Journal::open(&state).unwrap();
        std::fs::remove_dir_all(&state).unwrap();
        Journal::open(&other).unwrap();
    }

    #[test]
    fn folder_that_was_moved_is_no_copy() {
        let dir = tempfile::tempdir().unwrap();
        let (state, other) = (dir.path().join("state"), dir.path().join("other"));
        drop(Journal::open(&state).unwrap());
        std::fs::rename(&state, &other).unwrap();
        drop(Journal::open(&other).unwrap());
        // A new folder takes the old path; its journal has another id.
        drop(Journal::open(&state).unwrap());
        Journal::open(&other).unwrap();
    }

    #[test]
    fn link_to_the_folder_is_no_copy() {
        let dir = tempfile::tempdir().unwrap();
        let (state, link) = (dir.path().join("state"), dir.path().join("link"));
        drop(Journal::open(&state).unwrap());
        std::os::unix::fs::symlink(&state, &link).unwrap();
        let journal = Journal::connect(&journal_in(&link), OpenFlags::default(), None).unwrap();
        claim(&journal, &link).unwrap();
    }
}
