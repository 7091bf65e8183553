//! Backups of a state folder: a copy of the journal that is consistent while afk writes, with the
//! transcripts and the evidence beside it, and the way back.
//!
//! ```text
//! state ─ files, then the journal ─▶ DIR/{transcripts,raw,logs,capsules,breakglass}, journal.sqlite
//!                                    DIR/backup.json: each file with its SHA-256, the end of the chain
//! DIR ─ check ─▶ files, then the journal with the kill switch on ─▶ a state folder without a journal
//! ```
//!
//! The journal comes last in both directions: each run that has a file is in it, and a restore that was
//! cut short leaves no journal that a start would use.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Component, Path, PathBuf};

use rusqlite::backup::Backup;
use rusqlite::{Connection, OpenFlags};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::chain::{self, ChainBreak};
use super::salvage::stop_pickup;
use super::{Journal, JournalError, completeness, lock};
use crate::config::paths::journal_in;
use crate::core::model::digest::Digest;
use crate::core::model::id::Actor;
use crate::core::model::time::Timestamp;
use crate::trusted_file;

/// The folders of a state folder that a backup has. Workspaces and base clones are made anew from the
/// remotes.
const FOLDERS: [&str; 5] = ["transcripts", "raw", "logs", "capsules", "breakglass"];
/// The list of a backup's files.
const LIST: &str = "backup.json";
/// The name of the journal in a backup, which is its name in the state folder.
const JOURNAL: &str = "journal.sqlite";

/// Why a backup can't be made, or isn't one.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BackupError {
    /// The journal can't be read.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// A file can't be read or written.
    #[error("{}", path.display())]
    Io { path: PathBuf, source: io::Error },
    /// The copy of the database failed.
    #[error("copy the journal to {}", path.display())]
    Database { path: PathBuf, source: rusqlite::Error },
    /// The chain of the journal is broken.
    #[error("the chain of the journal is broken")]
    Broken(#[source] ChainBreak),
    /// The target of a backup has files already.
    #[error("{} is not empty", .0.display())]
    NotEmpty(PathBuf),
    /// The target lies in the state folder, or the other way round.
    #[error("{} lies in the state folder", .0.display())]
    InState(PathBuf),
    /// The folder has no list of files.
    #[error("{} is no backup of afk: it has no {LIST}", .0.display())]
    NoBackup(PathBuf),
    /// The list can't be read, or names a file outside of the backup.
    #[error("{} can't be read as the list of a backup: {why}", path.display())]
    List { path: PathBuf, why: String },
    /// A file differs from what was backed up.
    #[error("{} is not as it was backed up", .0.display())]
    Changed(PathBuf),
    /// The state folder has a journal, which a restore would replace.
    #[error("{} has a journal already", .0.display())]
    Occupied(PathBuf),
}

/// A backup, as its list describes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct BackupList {
    /// The version of this format.
    pub schema: u32,
    /// The version of the afk that made it.
    pub afk: String,
    /// When it was made.
    pub taken: Timestamp,
    /// The number of the journal's records.
    pub records: i64,
    /// The hash of the last record.
    pub head: Digest,
    pub files: Vec<BackedUpFile>,
}

/// A file of a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct BackedUpFile {
    /// Its path below the backup and below the state folder.
    pub path: String,
    pub bytes: u64,
    pub sha256: String,
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> BackupError {
    let path = path.to_owned();
    |source| BackupError::Io { path, source }
}

/// Copies a state folder, also while afk runs, and verifies the copy.
pub(crate) fn backup(
    state: &Path,
    target: &Path,
    version: &str,
    now: Timestamp,
) -> Result<BackupList, BackupError> {
    completeness::check(state)?;
    drop(Journal::open_read_only(state)?);
    if std::fs::read_dir(target).is_ok_and(|mut entries| entries.next().is_some()) {
        return Err(BackupError::NotEmpty(target.to_owned()));
    }
    let here = state.canonicalize().map_err(at(state))?;
    trusted_file::create_folder(target).map_err(at(target))?;
    if target.canonicalize().map_err(at(target))?.starts_with(here) {
        return Err(BackupError::InState(target.to_owned()));
    }
    let mut files = Vec::new();
    for folder in FOLDERS {
        copy_folder(state, target, Path::new(folder), &mut files)?;
    }
    copy_journal(&journal_in(state), &target.join(JOURNAL))?;
    let copy = Journal::open_read_only(target)?;
    let records = chain::verify(&copy)?.map_err(BackupError::Broken)?;
    let head = copy.hash_of(records)?.unwrap_or(Digest::ZERO);
    drop(copy);
    files.push(describe(target, JOURNAL)?);
    let list = BackupList { schema: 1, afk: version.into(), taken: now, records, head, files };
    let path = target.join(LIST);
    let text = serde_json::to_string_pretty(&list).map_err(io::Error::other).map_err(at(&path))?;
    write_new(&path, &mut text.as_bytes()).map_err(at(&path))?;
    sync_folder(target)?;
    check(target)
}

/// Reads the list of a backup, and compares each file and the chain of the journal with it.
pub(crate) fn check(backup: &Path) -> Result<BackupList, BackupError> {
    let path = backup.join(LIST);
    let text = match std::fs::read_to_string(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(BackupError::NoBackup(backup.to_owned()));
        }
        other => other.map_err(at(&path))?,
    };
    let wrong = |why: String| BackupError::List { path: path.clone(), why };
    let list: BackupList = serde_json::from_str(&text).map_err(|error| wrong(error.to_string()))?;
    if list.schema != 1 {
        return Err(wrong(format!("it has the format {}, and this afk knows 1", list.schema)));
    }
    for file in &list.files {
        let is_below =
            Path::new(&file.path).components().all(|c| matches!(c, Component::Normal(_)));
        if !is_below {
            return Err(wrong(format!("it names {:?}", file.path)));
        }
        if describe(backup, &file.path)? != *file {
            return Err(BackupError::Changed(backup.join(&file.path)));
        }
    }
    let journal = Journal::open_read_only(backup)?;
    let records = chain::verify(&journal)?.map_err(BackupError::Broken)?;
    if records != list.records || journal.hash_of(records)?.unwrap_or(Digest::ZERO) != list.head {
        return Err(BackupError::Changed(backup.join(JOURNAL)));
    }
    Ok(list)
}

/// Copies a backup into a state folder without a journal, and turns the kill switch on there: issues that
/// have run since the backup look as if they had not.
pub(crate) fn restore(
    backup: &Path,
    state: &Path,
    by: Actor,
    now: Timestamp,
) -> Result<BackupList, BackupError> {
    let list = check(backup)?;
    trusted_file::create_folder(state).map_err(at(state))?;
    trusted_file::check_folder(state).map_err(JournalError::from)?;
    let _lock = lock::Lock::take(state)?;
    let path = journal_in(state);
    if path.exists() {
        return Err(BackupError::Occupied(state.to_owned()));
    }
    for file in list.files.iter().filter(|file| file.path != JOURNAL) {
        let target = state.join(&file.path);
        let folder = target.parent().unwrap_or(state);
        trusted_file::create_folder(folder).map_err(at(folder))?;
        copy_file(&backup.join(&file.path), &target, false).map_err(at(&target))?;
        if describe(state, &file.path)? != *file {
            return Err(BackupError::Changed(target));
        }
    }
    // The traces of an afk that was killed belong to the journal that is gone.
    for name in ["journal.sqlite-wal", "journal.sqlite-shm", completeness::MARK] {
        let old = state.join(name);
        match std::fs::remove_file(&old) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(at(&old)(error)),
            _ => {}
        }
    }
    let unfinished = path.with_extension("sqlite.new");
    copy_file(&backup.join(JOURNAL), &unfinished, false).map_err(at(&unfinished))?;
    let mut journal = Journal::connect(&unfinished, OpenFlags::default(), None)?;
    journal.query(|db| db.execute_batch("PRAGMA synchronous = FULL;"))?;
    journal.find_end()?;
    let last = journal.fold()?.last_event;
    stop_pickup(&mut journal, by, now.max(last))?;
    chain::verify(&journal)?.map_err(BackupError::Broken)?;
    drop(journal);
    std::fs::rename(&unfinished, &path).map_err(at(&path))?;
    sync_folder(state)?;
    Ok(list)
}

/// Copies the database as of one moment, without the write-ahead log beside it.
fn copy_journal(from: &Path, to: &Path) -> Result<(), BackupError> {
    let failed = |source| BackupError::Database { path: to.to_owned(), source };
    let source = Connection::open_with_flags(from, OpenFlags::SQLITE_OPEN_READ_ONLY);
    let source = source.map_err(failed)?;
    source.execute_batch("PRAGMA busy_timeout = 5000;").map_err(failed)?;
    File::options().write(true).create_new(true).mode(0o600).open(to).map_err(at(to))?;
    let mut target = Connection::open(to).map_err(failed)?;
    {
        // All pages in one step: it reads one state, and in WAL mode it delays no writer.
        let backup = Backup::new(&source, &mut target).map_err(failed)?;
        backup.step(-1).map_err(failed)?;
    }
    target
        .execute_batch("PRAGMA journal_mode = DELETE; PRAGMA synchronous = FULL;")
        .map_err(failed)?;
    target.close().map_err(|(_, source)| failed(source))?;
    File::open(to).and_then(|file| file.sync_all()).map_err(at(to))
}

/// Copies the regular files of a folder. A file that disappears meanwhile, as that of a forgotten job,
/// is left out.
fn copy_folder(
    state: &Path,
    target: &Path,
    folder: &Path,
    files: &mut Vec<BackedUpFile>,
) -> Result<(), BackupError> {
    let from = state.join(folder);
    let entries = match std::fs::read_dir(&from) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other.map_err(at(&from))?,
    };
    for entry in entries {
        let entry = entry.map_err(at(&from))?;
        let path = folder.join(entry.file_name());
        let (old, new) = (state.join(&path), target.join(&path));
        let Ok(kind) = entry.file_type() else { continue };
        if kind.is_dir() {
            copy_folder(state, target, &path, files)?;
            continue;
        }
        // A link may lead anywhere, and the name of a file must fit into the list.
        let (true, Some(name)) = (kind.is_file(), path.to_str()) else { continue };
        let into = new.parent().unwrap_or(target);
        trusted_file::create_folder(into).map_err(at(into))?;
        let is_appended = path.extension().is_some_and(|extension| extension == "jsonl");
        match copy_file(&old, &new, is_appended) {
            Err(error) if error.kind() == io::ErrorKind::NotFound && !old.exists() => {}
            other => {
                other.map_err(at(&old))?;
                files.push(describe(target, name)?);
            }
        }
    }
    Ok(())
}

/// Copies a file and syncs the copy. Of a file of lines that is being appended to, only whole lines.
fn copy_file(from: &Path, to: &Path, whole_lines: bool) -> io::Result<()> {
    let source = File::open(from)?;
    if !whole_lines {
        return write_new(to, &mut { source });
    }
    // A fixed length: the file grows meanwhile.
    let length = source.metadata()?.len();
    let mut text = Vec::new();
    source.take(length).read_to_end(&mut text)?;
    text.truncate(text.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1));
    write_new(to, &mut text.as_slice())
}

fn write_new(path: &Path, content: &mut impl Read) -> io::Result<()> {
    let mut options = File::options();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(path)?;
    io::copy(content, &mut file)?;
    file.flush()?;
    file.sync_all()
}

fn sync_folder(folder: &Path) -> Result<(), BackupError> {
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(at(folder))
}

/// The size and the digest of a file below a folder.
fn describe(folder: &Path, path: &str) -> Result<BackedUpFile, BackupError> {
    let whole = folder.join(path);
    let mut file = match File::open(&whole) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(BackupError::Changed(whole));
        }
        other => other.map_err(at(&whole))?,
    };
    let (mut digest, mut buffer, mut bytes) = (Sha256::new(), vec![0; 64 * 1024], 0);
    loop {
        let read = file.read(&mut buffer).map_err(at(&whole))?;
        if read == 0 {
            break;
        }
        digest.update(&buffer[..read]);
        bytes += read as u64;
    }
    let sha256: Vec<String> = digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    let sha256 = sha256.concat();
    Ok(BackedUpFile { path: path.to_owned(), bytes, sha256 })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::model::event::Event;

    fn kill(on: bool) -> Event {
        Event::KillSwitch { on, by: Actor("ana".into()) }
    }

    fn by() -> Actor {
        Actor("ana".into())
    }

    /// A state folder whose journal is open, with a transcript whose last line is half written.
    fn state(dir: &Path) -> (PathBuf, Journal) {
        let state = dir.join("state");
        let mut journal = Journal::open(&state).unwrap();
        journal.append(&[(Timestamp(1), kill(true)), (Timestamp(2), kill(false))]).unwrap();
        std::fs::create_dir_all(state.join("capsules/r1/tree")).unwrap();
        std::fs::write(state.join("capsules/r1/tree/a.txt"), "evidence").unwrap();
        std::fs::create_dir_all(state.join("transcripts")).unwrap();
        std::fs::write(state.join("transcripts/r1.jsonl"), "{\"a\":1}\n{\"b\"").unwrap();
        std::os::unix::fs::symlink("/etc/passwd", state.join("capsules/link")).unwrap();
        (state, journal)
    }

    #[test]
    fn backup_of_an_open_journal_is_restored_elsewhere() {
        let dir = tempfile::tempdir().unwrap();
        let (state, mut journal) = state(dir.path());
        let (target, other) = (dir.path().join("backup"), dir.path().join("other"));
        let list = backup(&state, &target, "0", Timestamp(9)).unwrap();
        assert_eq!((list.records, list.files.len()), (2, 3));
        assert!(!target.join("journal.sqlite-wal").exists());
        assert!(!target.join("capsules/link").exists(), "links are not followed");
        // What is written afterwards is not in it.
        journal.append(&[(Timestamp(3), kill(true))]).unwrap();
        assert_eq!(check(&target).unwrap(), list);
        assert_eq!(restore(&target, &other, by(), Timestamp(10)).unwrap(), list);
        let copy = Journal::open_read_only(&other).unwrap();
        assert_eq!(chain::verify(&copy).unwrap(), Ok(3));
        assert!(copy.fold().unwrap().operator_kill, "issues may have run since the backup");
        let read = |path: &str| std::fs::read_to_string(other.join(path)).unwrap();
        assert_eq!(read("transcripts/r1.jsonl"), "{\"a\":1}\n");
        assert_eq!(read("capsules/r1/tree/a.txt"), "evidence");
        drop((copy, journal));
        std::fs::remove_dir_all(&state).unwrap();
        assert_eq!(Journal::open(&other).unwrap().last(), 3);
    }

    #[test]
    fn changed_backup_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let (state, _journal) = state(dir.path());
        let target = dir.path().join("backup");
        backup(&state, &target, "0", Timestamp(9)).unwrap();
        std::fs::write(target.join("transcripts/r1.jsonl"), "{\"a\":2}\n").unwrap();
        let refused = restore(&target, &dir.path().join("other"), by(), Timestamp(10)).unwrap_err();
        assert!(refused.to_string().ends_with("r1.jsonl is not as it was backed up"), "{refused}");
        assert!(!dir.path().join("other").exists(), "nothing was restored");
        std::fs::remove_file(target.join("transcripts/r1.jsonl")).unwrap();
        assert!(matches!(check(&target), Err(BackupError::Changed(_))));
        std::fs::remove_file(target.join(LIST)).unwrap();
        assert!(matches!(check(&target), Err(BackupError::NoBackup(_))));
    }

    #[test]
    fn list_that_leads_out_of_the_backup_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let (state, _journal) = state(dir.path());
        let target = dir.path().join("backup");
        backup(&state, &target, "0", Timestamp(9)).unwrap();
        let text = std::fs::read_to_string(target.join(LIST)).unwrap();
        std::fs::write(target.join(LIST), text.replace("transcripts/", "../")).unwrap();
        assert!(matches!(check(&target), Err(BackupError::List { .. })));
    }

    #[test]
    fn nothing_is_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let (state, journal) = state(dir.path());
        let target = dir.path().join("backup");
        backup(&state, &target, "0", Timestamp(9)).unwrap();
        let again = backup(&state, &target, "0", Timestamp(9));
        assert!(matches!(again, Err(BackupError::NotEmpty(_))));
        let inside = backup(&state, &state.join("backup"), "0", Timestamp(9));
        assert!(matches!(inside, Err(BackupError::InState(_))));
        let held = restore(&target, &state, by(), Timestamp(9));
        assert!(held.is_err(), "afk runs there");
        drop(journal);
        let occupied = restore(&target, &state, by(), Timestamp(9));
        assert!(matches!(occupied, Err(BackupError::Occupied(_))));
    }
}
