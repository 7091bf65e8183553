//! The ways forward from a journal that afk refuses: keep the records up to the first break, or begin
//! with an empty journal. Both keep the files as they were in `aside/`, and both turn the kill switch
//! on: issues whose records are lost look as if they had never run, and would run again.
//!
//! ```text
//! journal.sqlite ─ records up to the break ─▶ journal.sqlite.new ─ rename ─▶ journal.sqlite
//!     └─ copy, with its write-ahead log ─▶ aside/journal-<time>/
//! ```

use std::fs::File;
use std::path::{Path, PathBuf};

use rusqlite::{OpenFlags, params};

use super::completeness::{MARK, transcripts};
use super::{Journal, JournalError, chain, lock, place, schema};
use crate::config::paths::journal_in;
use crate::core::fleet::Fleet;
use crate::core::model::digest::Digest;
use crate::core::model::event::Event;
use crate::core::model::id::Actor;
use crate::core::model::time::Timestamp;
use crate::trusted_file;

/// The files that SQLite and afk keep beside the database.
const BESIDE: [&str; 3] = ["journal.sqlite-wal", "journal.sqlite-shm", MARK];

/// The result of a salvage.
#[derive(Debug)]
pub(crate) struct Salvage {
    /// The number of the last record that was kept.
    pub kept: i64,
    /// Whether a record after it was changed, or is missing before others.
    pub broken: bool,
    /// The folder with the files as they were.
    pub aside: PathBuf,
}

/// Rewrites the journal with the records up to the first break, and turns the kill switch on.
///
/// # Errors
/// afk runs, a file can't be written, or a newer afk has written a record: nothing has changed then.
pub(crate) fn salvage(state: &Path, by: Actor, now: Timestamp) -> Result<Salvage, JournalError> {
    trusted_file::check_folder(state)?;
    let _lock = lock::Lock::take(state)?;
    let path = journal_in(state);
    let source = Journal::connect(&path, OpenFlags::SQLITE_OPEN_READ_ONLY, None)?;
    schema::check(&source)?;
    let written = path.with_extension("sqlite.new");
    remove(&written)?;
    let mut target = new_journal(&written)?;
    copy_meta(&source, &target)?;
    let (fleet, broken) = copy_records(&source, &mut target)?;
    let kept = target.last();
    stop_pickup(&mut target, by, now.max(fleet.last_event))?;
    drop((source, target));
    let aside = folder_aside(state, now)?;
    for name in ["journal.sqlite"].into_iter().chain(BESIDE) {
        copy(&state.join(name), &aside.join(name))?;
    }
    // SQLite would read an old write-ahead log into the new database. After a crash from here on, the
    // mark has the next start refused, and the folder aside has everything.
    for name in ["journal.sqlite-wal", "journal.sqlite-shm"] {
        remove(&state.join(name))?;
    }
    rename(&written, &path)?;
    // A new run would take the number of a lost one, and append to its transcript.
    let next = fleet.next_run();
    let lost: Vec<_> = transcripts(state).filter(|(run, _)| *run >= next).collect();
    for (_, transcript) in lost {
        move_into(&transcript, &aside.join("transcripts"))?;
    }
    remove(&state.join(MARK))?;
    Ok(Salvage { kept, broken, aside })
}

/// Sets the journal and the transcripts aside, and begins a journal whose one record is the kill
/// switch. Returns the folder with the files as they were.
///
/// # Errors
/// afk runs, or a file can't be moved or written.
pub(crate) fn begin_anew(state: &Path, by: Actor, now: Timestamp) -> Result<PathBuf, JournalError> {
    trusted_file::check_folder(state)?;
    let _lock = lock::Lock::take(state)?;
    let path = journal_in(state);
    let id = id_to_keep(&path, state);
    let written = path.with_extension("sqlite.new");
    remove(&written)?;
    let mut target = new_journal(&written)?;
    if let Some(id) = id {
        target.query(|db| db.execute("UPDATE meta SET value = ? WHERE key = 'id'", [id]))?;
    }
    stop_pickup(&mut target, by, now)?;
    drop(target);
    let aside = folder_aside(state, now)?;
    for name in BESIDE.into_iter().chain(["transcripts", "journal.sqlite"]) {
        let from = state.join(name);
        if from.exists() {
            rename(&from, &aside.join(name))?;
        }
    }
    rename(&written, &path)?;
    Ok(aside)
}

/// The id by which the next start finds the processes that this folder's afk left. None in a copy, where
/// they are the original's.
fn id_to_keep(path: &Path, state: &Path) -> Option<String> {
    let old = Journal::connect(path, OpenFlags::SQLITE_OPEN_READ_ONLY, None).ok()?;
    let here = state.canonicalize().ok()?;
    if place::original(&old, &here).is_some() {
        return None;
    }
    old.id().ok()
}

/// An empty journal that is written as one file, without a write-ahead log.
fn new_journal(path: &Path) -> Result<Journal, JournalError> {
    let mut journal = Journal::connect(path, OpenFlags::default(), None)?;
    journal
        .query(|db| db.execute_batch("PRAGMA journal_mode = DELETE; PRAGMA synchronous = FULL;"))?;
    schema::migrate(&mut journal)?;
    Ok(journal)
}

/// Copies the id, the place and the term. Where they can't be read, the new ones stay.
fn copy_meta(source: &Journal, target: &Journal) -> Result<(), JournalError> {
    let read = source.query(|db| {
        let mut select = db.prepare("SELECT key, value FROM meta")?;
        let rows = select.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
        rows.collect::<rusqlite::Result<Vec<(String, String)>>>()
    });
    for (key, value) in read.unwrap_or_default() {
        let replace = "INSERT OR REPLACE INTO meta (key, value) VALUES (?, ?)";
        target.query(|db| db.execute(replace, [key, value]))?;
    }
    Ok(())
}

/// Copies the records up to the first break. Returns their fleet, and whether there was a break.
fn copy_records(source: &Journal, target: &mut Journal) -> Result<(Fleet, bool), JournalError> {
    let path = target.path.clone();
    let failed = |source| JournalError::Database { path: path.clone(), source };
    let (mut fleet, mut seq, mut hash) = (Fleet::default(), 0, Digest::ZERO);
    let (mut broken, mut unwritten) = (false, None);
    let transaction = target.db.transaction().map_err(failed)?;
    {
        let mut insert = transaction
            .prepare("INSERT INTO events (seq, at, body, hash) VALUES (?, ?, ?, ?)")
            .map_err(failed)?;
        let read = source.read(0, |record| {
            let expected = chain::record_hash(&hash, seq + 1, record.at, &record.body);
            if record.seq != seq + 1 || record.hash != expected {
                broken = true;
                return Ok(false);
            }
            // The record is as it was written, so a newer afk has written one that can't be decoded.
            let event = record.event()?;
            let row = params![record.seq, record.at.0, record.body, record.hash.bytes()];
            if let Err(error) = insert.execute(row) {
                unwritten = Some(failed(error));
                return Ok(false);
            }
            fleet.apply(record.at, &event);
            (seq, hash) = (record.seq, record.hash);
            Ok(true)
        });
        match read {
            // A page or a field that can't be read is a break, too.
            Err(JournalError::Database { .. }) => broken = true,
            other => other?,
        }
    }
    if let Some(error) = unwritten {
        return Err(error);
    }
    transaction.commit().map_err(failed)?;
    (target.seq, target.hash) = (seq, hash);
    Ok((fleet, broken))
}

pub(super) fn stop_pickup(
    journal: &mut Journal,
    by: Actor,
    at: Timestamp,
) -> Result<(), JournalError> {
    journal.append(&[(at, Event::KillSwitch { on: true, by })])
}

fn folder_aside(state: &Path, now: Timestamp) -> Result<PathBuf, JournalError> {
    let aside = state.join("aside").join(format!("journal-{}", now.0));
    trusted_file::create_folder(&aside).map_err(io(&aside))?;
    Ok(aside)
}

fn io(path: &Path) -> impl FnOnce(std::io::Error) -> JournalError {
    let path = path.to_owned();
    |source| JournalError::Io { path, source }
}

/// Copies a file and syncs the copy. A missing file needs no copy.
fn copy(from: &Path, to: &Path) -> Result<(), JournalError> {
    if !from.exists() {
        return Ok(());
    }
    std::fs::copy(from, to).map_err(io(from))?;
    File::open(to).and_then(|file| file.sync_all()).map_err(io(to))
}

pub(super) fn rename(from: &Path, to: &Path) -> Result<(), JournalError> {
    std::fs::rename(from, to).map_err(io(from))?;
    let folder = to.parent().unwrap_or(to);
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(io(folder))
}

fn move_into(path: &Path, folder: &Path) -> Result<(), JournalError> {
    trusted_file::create_folder(folder).map_err(io(folder))?;
    rename(path, &folder.join(path.file_name().unwrap_or_default()))
}

pub(super) fn remove(path: &Path) -> Result<(), JournalError> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(io(path)(error)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ana() -> Actor {
        Actor("ana".into())
    }

    /// A journal of four records, without the triggers that protect them.
    fn four(state: &Path) -> String {
        let mut journal = Journal::open(state).unwrap();
        let batch: Vec<_> =
            (1..=4).map(|n| (Timestamp(n), Event::Capacity { permits: 3, by: ana() })).collect();
        journal.append(&batch).unwrap();
        let unprotect = "DROP TRIGGER append_only_update; DROP TRIGGER append_only_delete";
        journal.db.execute_batch(unprotect).unwrap();
        journal.id().unwrap()
    }

    #[test]
    fn salvage_keeps_the_records_before_the_break_and_stops_pickup() {
        for (harm, kept) in [
            ("SELECT 1 FROM meta", 4),
            ("UPDATE events SET body = replace(body, 'ana', 'eve') WHERE seq = 3", 2),
            ("UPDATE events SET body = 'x' WHERE seq = 3", 2),
            ("UPDATE events SET body = CAST(x'ff' AS TEXT) WHERE seq = 3", 2),
            ("UPDATE events SET hash = x'00' WHERE seq = 4", 3),
            ("DELETE FROM events WHERE seq = 1", 0),
        ] {
            let state = tempfile::tempdir().unwrap();
            let id = four(state.path());
            let db = rusqlite::Connection::open(journal_in(state.path())).unwrap();
            db.execute_batch(harm).unwrap();
            drop(db);
            let before = std::fs::read(journal_in(state.path())).unwrap();
            let salvaged = salvage(state.path(), ana(), Timestamp(9)).unwrap();
            assert_eq!((salvaged.kept, salvaged.broken), (kept, kept < 4), "{harm}");
            let aside = std::fs::read(salvaged.aside.join("journal.sqlite")).unwrap();
            assert!(aside == before, "{harm}: the files as they were are kept");
            let journal = Journal::open(state.path()).unwrap();
            assert_eq!(journal.id().unwrap(), id);
            assert_eq!(chain::verify(&journal).unwrap(), Ok(kept + 1), "{harm}");
            assert!(journal.fold().unwrap().kill_switch(), "{harm}");
        }
    }

    #[test]
    fn salvage_changes_nothing_where_a_newer_afk_has_written() {
        let state = tempfile::tempdir().unwrap();
        let mut journal = Journal::open(state.path()).unwrap();
        let body = r#"{"not_known_yet":{}}"#;
        let hash = chain::record_hash(&Digest::ZERO, 1, Timestamp(1), body);
        let row = params![1, 1, body, hash.bytes()];
        journal.db.execute("INSERT INTO events VALUES (?, ?, ?, ?)", row).unwrap();
        journal.seq = 1;
        drop(journal);
        let refused = salvage(state.path(), ana(), Timestamp(9)).unwrap_err();
        assert!(matches!(refused, JournalError::Unreadable { seq: 1, .. }), "{refused}");
        assert_eq!(Journal::open(state.path()).unwrap().last(), 1);
    }

    #[test]
    fn salvage_sets_transcripts_of_lost_runs_aside() {
        let state = tempfile::tempdir().unwrap();
        four(state.path());
        let transcripts = state.path().join("transcripts");
        std::fs::create_dir(&transcripts).unwrap();
        std::fs::write(transcripts.join("r7.jsonl"), "lost").unwrap();
        let salvaged = salvage(state.path(), ana(), Timestamp(9)).unwrap();
        assert!(!transcripts.join("r7.jsonl").exists());
        let aside = salvaged.aside.join("transcripts/r7.jsonl");
        assert_eq!(std::fs::read_to_string(aside).unwrap(), "lost");
    }

    #[test]
    fn begin_anew_keeps_the_old_files_and_the_id() {
        let state = tempfile::tempdir().unwrap();
        let id = four(state.path());
        std::fs::create_dir(state.path().join("transcripts")).unwrap();
        std::fs::write(state.path().join("transcripts/r1.jsonl"), "old").unwrap();
        let aside = begin_anew(state.path(), ana(), Timestamp(9)).unwrap();
        assert!(aside.join("journal.sqlite").exists());
        assert!(aside.join("transcripts/r1.jsonl").exists());
        let journal = Journal::open(state.path()).unwrap();
        assert_eq!((journal.last(), journal.id().unwrap()), (1, id));
        assert!(journal.fold().unwrap().kill_switch());
    }
}
