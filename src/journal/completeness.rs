//! Whether the journal of a state folder still has every record that was durable once.
//!
//! SQLite keeps the newest records in `journal.sqlite-wal` until it is closed. If that file is gone, the
//! database opens without an error and with fewer records, even with none, and afk would run every
//! armed issue again. Two things beside the journal show it:
//!
//! ```text
//! journal.open   while afk has the journal open: the number of its last durable record
//! transcripts/, workspaces/*/wt-*   the traces of runs, which a journal without records can't have
//! ```
//!
//! A clean end removes `journal.open`. Each opening and `afk verify` call [`check`].

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use rusqlite::OpenFlags;

use super::{Journal, JournalError};
use crate::config::paths::journal_in;
use crate::core::fleet::Fleet;
use crate::core::model::id::RunId;

/// The name of the file that exists while the journal is open.
pub(super) const MARK: &str = "journal.open";

/// The file with the number of the last durable record. Dropping it removes the file.
#[derive(Debug)]
pub(super) struct OpenMark {
    file: File,
    path: PathBuf,
}

impl OpenMark {
    /// Creates the file. `None` where it can't be written: it is a second line of defence, and a
    /// journal that can be opened is of use without it.
    pub(super) fn create(state: &Path, last: i64) -> Option<Self> {
        let path = state.join(MARK);
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false).mode(0o600);
        let mark = Self { file: options.open(&path).ok()?, path };
        mark.advance(last);
        Some(mark)
    }

    /// Writes the number of the last durable record, without a sync: after a power cut the file may be
    /// older than the journal, and never newer.
    pub(super) fn advance(&self, last: i64) {
        // A number that can't be written leaves the one before, which proves less.
        let _ = self.file.write_all_at(format!("{last:020}\n").as_bytes(), 0);
    }
}

impl Drop for OpenMark {
    fn drop(&mut self) {
        // A file that stays is compared with the journal at the next start, which agrees with it.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// The number in the file of an afk that runs or was killed; `None` without the file.
fn marked(state: &Path) -> Option<i64> {
    std::fs::read_to_string(state.join(MARK)).ok()?.trim().parse().ok()
}

/// Refuses a journal that lacks records; see the module. Changes nothing.
///
/// # Errors
/// [`JournalError::Incomplete`]. A journal that can't be read at all is left to its opening.
pub(crate) fn check(state: &Path) -> Result<(), JournalError> {
    // The mark first, because a running afk advances it after the record.
    let marked = marked(state);
    let Some(last) = last_record(state) else { return Ok(()) };
    if let Some(marked) = marked.filter(|marked| *marked > last) {
        let evidence = format!("it ends at record {last}, and record {marked} was written");
        return Err(JournalError::Incomplete { state: state.to_owned(), evidence });
    }
    if last == 0
        && let Some(trace) = trace_of_runs(state)
    {
        let evidence = format!("it has no record, and {trace} is there");
        return Err(JournalError::Incomplete { state: state.to_owned(), evidence });
    }
    Ok(())
}

/// Refuses a journal whose end is missing: a run that it doesn't know has written a transcript since its
/// last record.
///
/// # Errors
/// [`JournalError::Incomplete`].
pub(crate) fn check_runs(state: &Path, fleet: &Fleet) -> Result<(), JournalError> {
    let next = fleet.next_run();
    let unknown = transcripts(state).filter(|(run, path)| *run >= next && is_newer(path, fleet));
    match unknown.map(|(run, _)| run).max() {
        None => Ok(()),
        Some(run) => {
            let newest = RunId(next.0.saturating_sub(1));
            let evidence = format!("its newest run is {newest}, and {run} has a transcript");
            Err(JournalError::Incomplete { state: state.to_owned(), evidence })
        }
    }
}

/// Whether a file was written after the last record. Older ones belong to a journal that somebody
/// replaced on purpose.
fn is_newer(path: &Path, fleet: &Fleet) -> bool {
    let written = std::fs::metadata(path).and_then(|meta| meta.modified()).ok();
    let since = written.and_then(|at| at.duration_since(UNIX_EPOCH).ok()).unwrap_or_default();
    i64::try_from(since.as_millis()).is_ok_and(|at| at > fleet.last_event.0)
}

/// The number of the last record; 0 for a journal without any, `None` for one that can't be read.
fn last_record(state: &Path) -> Option<i64> {
    let path = journal_in(state);
    if !path.exists() {
        return Some(0);
    }
    let journal = Journal::connect(&path, OpenFlags::SQLITE_OPEN_READ_ONLY, None).ok()?;
    let last = journal.query(|db| {
        let tables = "SELECT count(*) FROM sqlite_master WHERE name = 'events'";
        if db.query_row(tables, [], |row| row.get::<_, i64>(0))? == 0 {
            return Ok(0);
        }
        db.query_row("SELECT coalesce(max(seq), 0) FROM events", [], |row| row.get(0))
    });
    last.ok()
}

/// Something that only a run leaves behind.
fn trace_of_runs(state: &Path) -> Option<String> {
    if let Some(run) = transcripts(state).map(|(run, _)| run).max() {
        return Some(format!("the transcript of {run}"));
    }
    let mut folders = entries(&state.join("workspaces")).flat_map(|folder| entries(&folder));
    let is_workspace = |path: &PathBuf| {
        path.is_dir() && path.file_name().is_some_and(|n| n.to_string_lossy().starts_with("wt-"))
    };
    let found = folders.find(is_workspace)?;
    Some(format!("the workspace {}", found.display()))
}

/// The transcripts of a state folder, by run.
pub(super) fn transcripts(state: &Path) -> impl Iterator<Item = (RunId, PathBuf)> {
    entries(&state.join("transcripts")).filter_map(|path| {
        let name = path.file_name()?.to_str()?.strip_suffix(".jsonl")?;
        Some((RunId::parse(name)?, path))
    })
}

fn entries(folder: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::model::event::Event;
    use crate::core::model::id::Actor;
    use crate::core::model::time::Timestamp;

    /// Two records, of which only the write-ahead log has the second one.
    fn killed(state: &Path) {
        let kill = |on| Event::KillSwitch { on, by: Actor("ana".into()) };
        let mut journal = Journal::open(state).unwrap();
        journal.append(&[(Timestamp(1), kill(true))]).unwrap();
        drop(journal);
        let mut journal = Journal::open(state).unwrap();
        journal.append(&[(Timestamp(2), kill(false))]).unwrap();
        // What kill -9 leaves, copied while the journal is open.
        let left = state.with_extension("killed");
        std::fs::create_dir(&left).unwrap();
        for name in ["journal.sqlite", "journal.sqlite-wal", MARK] {
            std::fs::copy(state.join(name), left.join(name)).unwrap();
        }
        drop(journal);
        std::fs::remove_dir_all(state).unwrap();
        std::fs::rename(left, state).unwrap();
    }

    #[test]
    fn journal_after_a_kill_is_complete_until_its_log_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("state");
        killed(&state);
        check(&state).unwrap();
        std::fs::remove_file(state.join("journal.sqlite-wal")).unwrap();
        for _ in 0..2 {
            let refused = Journal::open(&state).unwrap_err().to_string();
            assert!(refused.contains("ends at record 1, and record 2 was written"), "{refused}");
        }
        assert!(check(&state).is_err());
    }

    #[test]
    fn journal_that_another_program_folded_its_log_into_is_complete() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("state");
        killed(&state);
        let db = rusqlite::Connection::open(journal_in(&state)).unwrap();
        db.query_row("SELECT count(*) FROM events", [], |row| row.get::<_, i64>(0)).unwrap();
        drop(db);
        assert!(!state.join("journal.sqlite-wal").exists());
        assert_eq!(Journal::open(&state).unwrap().last(), 2);
        assert!(!state.join(MARK).exists(), "a clean end removes the mark");
    }

    #[test]
    fn empty_journal_beside_traces_of_runs_is_refused() {
        for trace in ["transcripts/r3.jsonl", "workspaces/acme-thing-1/wt-1/file"] {
            let state = tempfile::tempdir().unwrap();
            let path = state.path().join(trace);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, "").unwrap();
            for content in [None, Some("")] {
                if let Some(content) = content {
                    std::fs::write(journal_in(state.path()), content).unwrap();
                }
                let refused = Journal::open(state.path()).unwrap_err();
                assert!(matches!(refused, JournalError::Incomplete { .. }), "{trace}: {refused}");
                let size = std::fs::metadata(journal_in(state.path())).map_or(0, |m| m.len());
                assert_eq!(size, 0, "a refusal changes nothing");
            }
        }
    }

    #[test]
    fn state_folder_without_a_run_is_new() {
        let state = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(state.path().join("workspaces/acme-thing-1/base.git")).unwrap();
        std::fs::create_dir(state.path().join("transcripts")).unwrap();
        assert_eq!(Journal::open(state.path()).unwrap().last(), 0);
    }

    #[test]
    fn transcript_of_an_unknown_run_shows_a_missing_end() {
        let state = tempfile::tempdir().unwrap();
        std::fs::create_dir(state.path().join("transcripts")).unwrap();
        std::fs::write(state.path().join("transcripts/r9.jsonl"), "").unwrap();
        let mut fleet = Fleet::default();
        let refused = check_runs(state.path(), &fleet).unwrap_err().to_string();
        assert!(refused.contains("its newest run is r0, and r9 has a transcript"), "{refused}");
        // A record that is newer than the transcript: somebody replaced the journal on purpose.
        fleet.last_event = Timestamp(i64::MAX);
        check_runs(state.path(), &fleet).unwrap();
    }
}
