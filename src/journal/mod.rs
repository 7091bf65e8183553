//! The journal: the append-only, hash-chained record of every event. Folding it gives the fleet.
//!
//! It is an SQLite database with `synchronous = FULL`. A batch of events is one transaction, so
//! that they share one sync. Transcripts, which nobody folds, are files beside it ([`transcript`]).
//!
//! ```text
//! runtime ─ batch ─► writer (a thread) ─► Journal::append ─► journal.sqlite
//!         ◄─ durable ──────┘                                      │
//! start-up, followers, `afk explain`, `afk proof` ◄─ fold ────────┤
//! `afk verify` ◄─ chain::verify ──────────────────────────────────┘
//!              ◄─ anchor ◄─ heads of the chain, outside of the state folder
//! ```
//!
//! An opening refuses a journal that lacks records (`completeness`) and a copied state folder
//! (`place`); `salvage` has the ways forward.
//!
//! Exactly one process writes: it holds the lock of the state folder, or, with several replicas, it
//! has the newest leader's term.

pub mod anchor;
pub(crate) mod backup;
pub mod chain;
pub(crate) mod completeness;
mod creation;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
pub(crate) mod history;
pub(crate) mod job_output;
pub mod lock;
mod place;
pub(crate) mod salvage;
mod schema;
pub mod transcript;
pub mod writer;

use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags, params};

use crate::core::fleet::Fleet;
use crate::core::model::digest::Digest;
use crate::core::model::event::Event;
use crate::core::model::time::Timestamp;
use crate::trusted_file::{self, TrustedFileError};

/// The journal can't be opened, read or written.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// Another process holds the lock of the state folder.
    #[error("another afk uses {}: process {pid}", state.display())]
    Held {
        /// The path of the state folder.
        state: PathBuf,
        /// The pid of the other process.
        pid: String,
    },
    /// A file of the state folder can't be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The path of the file or folder.
        path: PathBuf,
        /// The error of the system.
        source: std::io::Error,
    },
    /// No afk has started on the state folder yet.
    #[error("afk has not started on {} yet: it has no journal", state.display())]
    Missing {
        /// The path of the state folder.
        state: PathBuf,
    },
    /// Another user could change the state folder, so that nothing in it can be trusted.
    #[error(transparent)]
    NotTrusted(#[from] TrustedFileError),
    /// SQLite reported an error, for example a full disk.
    #[error("access the journal {}: {source}", path.display())]
    Database {
        /// The path of the database.
        path: PathBuf,
        /// The error of SQLite.
        source: rusqlite::Error,
    },
    /// A newer afk has written the journal.
    #[error("the journal has schema {found}, and this afk supports {known}; use a newer afk")]
    TooNew {
        /// The version of the file.
        found: i64,
        /// The newest version that this program supports.
        known: i64,
    },
    /// Records that were durable are missing, so that issues which have run would run again.
    #[error("the journal in {} lacks records: {evidence}", state.display())]
    Incomplete {
        /// The path of the state folder.
        state: PathBuf,
        /// What the journal has, and what shows that there was more.
        evidence: String,
    },
    /// The state folder is a copy, so that its afk would work with the original's agents and workspaces.
    #[error("{} is a copy of {}, which is still there", state.display(), original.display())]
    Copied {
        /// The path of the copy.
        state: PathBuf,
        /// The path of the original.
        original: PathBuf,
    },
    /// A newer leader has taken over, so this process may not write any more.
    #[error("another afk leads in term {theirs}; the term of this one was {ours}")]
    Fenced {
        /// The term in the journal.
        theirs: u64,
        /// The term of this process.
        ours: u64,
    },
    /// A record can't be encoded or decoded.
    #[error("record {seq} of the journal can't be read: {why}; run `afk verify`")]
    Unreadable {
        /// The number of the record.
        seq: i64,
        /// The error of the JSON library.
        why: String,
    },
    /// The thread of the writer has ended, after a panic.
    #[error("the journal's writer has ended, so nothing can be recorded; restart afk")]
    WriterEnded,
}

/// A record as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JournalRecord {
    /// The number of the record: from 1, without gaps.
    pub seq: i64,
    /// The time of the event.
    pub at: Timestamp,
    /// The event as JSON.
    pub body: String,
    /// The hash over this record and the hash before it; see [`chain`].
    pub hash: Digest,
}

impl JournalRecord {
    /// Decodes the event.
    ///
    /// # Errors
    /// [`JournalError::Unreadable`] for an event that this program can't decode.
    pub fn event(&self) -> Result<Event, JournalError> {
        serde_json::from_str(&self.body)
            .map_err(|e| JournalError::Unreadable { seq: self.seq, why: e.to_string() })
    }
}

/// An open journal and the end of its chain.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    db: Connection,
    seq: i64,
    hash: Digest,
    /// The leader's term; `None` without replicas.
    term: Option<u64>,
    /// Names the last durable record while the journal is open; `None` for a leader or a reader. It
    /// goes after the database is closed.
    mark: Option<completeness::OpenMark>,
    /// Held while the journal is open; `None` for a leader or a reader.
    _lock: Option<lock::Lock>,
}

impl Journal {
    /// Opens or creates the journal of a state folder and takes the folder's lock.
    ///
    /// # Errors
    /// Another process holds it, or it is not writable, too new, damaged or incomplete, or the folder is
    /// a copy.
    pub fn open(state: &Path) -> Result<Self, JournalError> {
        trusted_file::create_folder(state)
            .map_err(|source| JournalError::Io { path: state.to_owned(), source })?;
        trusted_file::check_folder(state)?;
        let lock = lock::Lock::take(state)?;
        completeness::check(state)?;
        creation::create(state)?;
        let path = crate::config::paths::journal_in(state);
        let mut journal = Self::connect(&path, OpenFlags::default(), Some(lock))?;
        journal.query(|db| {
            // FULL makes a commit return only after the sync.
            db.execute_batch(
                "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA busy_timeout = 5000;",
            )
        })?;
        schema::migrate(&mut journal)?;
        place::claim(&journal, state)?;
        journal.find_end()?;
        if journal.seq == 0 {
            // The id goes into the database itself, so that the processes that it marks are found also
            // after the write-ahead log was lost. Where that fails, it is in the log as usual.
            let _ = journal.query(|db| db.query_row("PRAGMA wal_checkpoint", [], |_| Ok(())));
        }
        journal.mark = completeness::OpenMark::create(state, journal.seq);
        Ok(journal)
    }

    /// Opens the journal as the leader of a term. From then on a leader of an older term can't
    /// write. There is no file lock, which a leader that hangs would keep, and no write-ahead log,
    /// which works on one machine only.
    ///
    /// # Errors
    /// [`JournalError::Fenced`] after a newer leader, and the errors of [`Journal::open`].
    pub fn open_as_leader(state: &Path, term: u64) -> Result<Self, JournalError> {
        trusted_file::create_folder(state)
            .map_err(|source| JournalError::Io { path: state.to_owned(), source })?;
        trusted_file::check_folder(state)?;
        completeness::check(state)?;
        let path = crate::config::paths::journal_in(state);
        let mut journal = Self::connect(&path, OpenFlags::default(), None)?;
        journal.query(|db| {
            db.execute_batch(
                "PRAGMA busy_timeout = 5000; PRAGMA journal_mode = TRUNCATE; \
                 PRAGMA synchronous = FULL;",
            )
        })?;
        schema::migrate(&mut journal)?;
        let failed = |source| JournalError::Database { path: path.clone(), source };
        let behavior = rusqlite::TransactionBehavior::Immediate;
        let transaction = journal.db.transaction_with_behavior(behavior).map_err(failed)?;
        let theirs = term_in(&transaction).map_err(failed)?;
        if theirs > term {
            return Err(JournalError::Fenced { theirs, ours: term });
        }
        transaction
            .execute(
                "INSERT INTO meta (key, value) VALUES ('term', ?1) \
                 ON CONFLICT (key) DO UPDATE SET value = ?1",
                [term.to_string()],
            )
            .and_then(|_| transaction.commit())
            .map_err(failed)?;
        journal.term = Some(term);
        journal.find_end()?;
        Ok(journal)
    }

    /// The newest leader's term in a state folder's journal; 0 without a journal or a leader.
    #[must_use]
    pub fn newest_term(state: &Path) -> u64 {
        let path = crate::config::paths::journal_in(state);
        let opened = Self::connect(&path, OpenFlags::SQLITE_OPEN_READ_ONLY, None);
        opened.ok().and_then(|journal| journal.query(term_in).ok()).unwrap_or(0)
    }

    /// A journal in memory, for breakglass where the disk can't be written. It lives as long as
    /// this process.
    pub fn in_memory() -> Result<Self, JournalError> {
        let path = PathBuf::from(":memory:");
        let db = Connection::open_in_memory()
            .map_err(|source| JournalError::Database { path: path.clone(), source })?;
        let (seq, hash, term, mark) = (0, Digest::ZERO, None, None);
        let mut journal = Self { path, db, seq, hash, term, mark, _lock: None };
        schema::migrate(&mut journal)?;
        Ok(journal)
    }

    /// Opens a journal for reading, also while another process writes it.
    pub fn open_read_only(state: &Path) -> Result<Self, JournalError> {
        let path = crate::config::paths::journal_in(state);
        if matches!(path.try_exists(), Ok(false)) {
            return Err(JournalError::Missing { state: state.to_owned() });
        }
        let mut journal = Self::connect(&path, OpenFlags::SQLITE_OPEN_READ_ONLY, None)?;
        schema::check(&journal)?;
        journal.find_end()?;
        Ok(journal)
    }

    fn connect(
        path: &Path,
        flags: OpenFlags,
        lock: Option<lock::Lock>,
    ) -> Result<Self, JournalError> {
        if flags.contains(OpenFlags::SQLITE_OPEN_CREATE) {
            creation::create_private(path)?;
        }
        let db = Connection::open_with_flags(path, flags)
            .map_err(|source| JournalError::Database { path: path.to_owned(), source })?;
        let path = path.to_owned();
        let (seq, hash, term, mark) = (0, Digest::ZERO, None, None);
        Ok(Self { path, db, seq, hash, term, mark, _lock: lock })
    }

    fn query<T>(
        &self,
        run: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, JournalError> {
        run(&self.db).map_err(|source| JournalError::Database { path: self.path.clone(), source })
    }

    /// Reads the number and the hash of the last record.
    fn find_end(&mut self) -> Result<(), JournalError> {
        let end = self.query(|db| {
            db.query_row("SELECT seq, hash FROM events ORDER BY seq DESC LIMIT 1", [], |row| {
                Ok((row.get::<_, i64>(0)?, row.get::<_, [u8; 32]>(1)?))
            })
            .map(Some)
            .or_else(|e| if e == rusqlite::Error::QueryReturnedNoRows { Ok(None) } else { Err(e) })
        })?;
        if let Some((seq, hash)) = end {
            (self.seq, self.hash) = (seq, Digest::from_bytes(hash));
        }
        Ok(())
    }

    /// The number of the last record; 0 for an empty journal.
    #[must_use]
    pub const fn last(&self) -> i64 {
        self.seq
    }

    /// Appends a batch in one transaction. The batch is durable when this returns; after an error
    /// no part of it is stored.
    ///
    /// # Errors
    /// [`JournalError::Database`], for example for a full disk, or [`JournalError::Fenced`].
    pub fn append(&mut self, batch: &[(Timestamp, Event)]) -> Result<(), JournalError> {
        let (mut seq, mut hash) = (self.seq, self.hash);
        let failed = |source| JournalError::Database { path: self.path.clone(), source };
        let transaction = self.db.transaction().map_err(failed)?;
        if let Some(ours) = self.term {
            // The check is part of the transaction, so no other leader can take over in between.
            let theirs = term_in(&transaction).map_err(failed)?;
            if theirs != ours {
                return Err(JournalError::Fenced { theirs, ours });
            }
        }
        {
            let mut insert = transaction
                .prepare_cached("INSERT INTO events (seq, at, body, hash) VALUES (?, ?, ?, ?)")
                .map_err(failed)?;
            for (at, event) in batch {
                seq += 1;
                let body = serde_json::to_string(event)
                    .map_err(|e| JournalError::Unreadable { seq, why: e.to_string() })?;
                hash = chain::record_hash(&hash, seq, *at, &body);
                insert.execute(params![seq, at.0, body, hash.bytes()]).map_err(failed)?;
            }
        }
        transaction.commit().map_err(failed)?;
        (self.seq, self.hash) = (seq, hash);
        if let Some(mark) = &self.mark {
            mark.advance(seq);
        }
        Ok(())
    }

    /// Calls `each` with every record from number `from` on, in order, until it returns false.
    ///
    /// # Errors
    /// The journal can't be read, or `each` returned an error.
    pub fn read(
        &self,
        from: i64,
        mut each: impl FnMut(JournalRecord) -> Result<bool, JournalError>,
    ) -> Result<(), JournalError> {
        let failed = |source| JournalError::Database { path: self.path.clone(), source };
        let mut select = self
            .db
            .prepare_cached("SELECT seq, at, body, hash FROM events WHERE seq >= ? ORDER BY seq")
            .map_err(failed)?;
        let mut rows = select.query([from]).map_err(failed)?;
        while let Some(row) = rows.next().map_err(failed)? {
            let record = JournalRecord {
                seq: row.get(0).map_err(failed)?,
                at: Timestamp(row.get(1).map_err(failed)?),
                body: row.get(2).map_err(failed)?,
                hash: Digest::from_bytes(row.get(3).map_err(failed)?),
            };
            if !each(record)? {
                break;
            }
        }
        Ok(())
    }

    /// The fleet that results from applying every event.
    pub fn fold(&self) -> Result<Fleet, JournalError> {
        let mut fleet = Fleet::default();
        self.read(1, |record| {
            fleet.apply(record.at, &record.event()?);
            Ok(true)
        })?;
        Ok(fleet)
    }

    /// The hash of one record; `None` if there is no such record.
    pub(crate) fn hash_of(&self, seq: i64) -> Result<Option<Digest>, JournalError> {
        self.query(|db| {
            let found = db.query_row("SELECT hash FROM events WHERE seq = ?", [seq], |row| {
                Ok(Digest::from_bytes(row.get(0)?))
            });
            match found {
                Err(rusqlite::Error::QueryReturnedNoRows) => Ok(None),
                other => other.map(Some),
            }
        })
    }

    /// The random id of this journal; children are marked with it.
    pub fn id(&self) -> Result<String, JournalError> {
        self.query(|db| db.query_row("SELECT value FROM meta WHERE key = 'id'", [], |r| r.get(0)))
    }
}

/// The term of the last leader; 0 where the journal never had one.
fn term_in(db: &Connection) -> rusqlite::Result<u64> {
    let found = db
        .query_row("SELECT value FROM meta WHERE key = 'term'", [], |row| row.get::<_, String>(0));
    match found {
        Ok(text) => Ok(text.parse().unwrap_or(u64::MAX)),
        Err(rusqlite::Error::QueryReturnedNoRows) => Ok(0),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::model::id::Actor;

    #[test]
    fn append_is_refused_after_a_newer_leader() {
        let state = tempfile::tempdir().unwrap();
        let mut first = Journal::open_as_leader(state.path(), 1).unwrap();
        first.append(&[(Timestamp(1), kill(true))]).unwrap();
        assert_eq!(Journal::newest_term(state.path()), 1);
        let mut second = Journal::open_as_leader(state.path(), 2).unwrap();
        let fenced = first.append(&[(Timestamp(2), kill(false))]);
        assert!(matches!(fenced, Err(JournalError::Fenced { theirs: 2, ours: 1 })), "{fenced:?}");
        second.append(&[(Timestamp(3), kill(true))]).unwrap();
        assert!(matches!(
            Journal::open_as_leader(state.path(), 1),
            Err(JournalError::Fenced { theirs: 2, .. })
        ));
        drop((first, second));
        assert_eq!(chain::verify(&Journal::open(state.path()).unwrap()).unwrap(), Ok(2));
    }

    fn kill(on: bool) -> Event {
        Event::KillSwitch { on, by: Actor("ana".into()) }
    }

    #[test]
    fn batch_is_on_the_disk_before_it_is_answered() {
        let state = tempfile::tempdir().unwrap();
        let journal = Journal::open(state.path()).unwrap();
        let setting = |name: &str| journal.db.query_row(name, [], |row| row.get::<_, i64>(0));
        // SQLite's number of FULL, with which a commit ends after its sync.
        assert_eq!(setting("PRAGMA synchronous").unwrap(), 2);
    }

    #[test]
    fn appended_events_survive_a_restart() {
        let state = tempfile::tempdir().unwrap();
        let mut journal = Journal::open(state.path()).unwrap();
        let id = journal.id().unwrap();
        journal.append(&[(Timestamp(1), kill(true)), (Timestamp(2), kill(false))]).unwrap();
        journal.append(&[(Timestamp(3), kill(true))]).unwrap();
        drop(journal);
        let journal = Journal::open(state.path()).unwrap();
        assert_eq!((journal.last(), journal.id().unwrap()), (3, id));
        assert!(journal.fold().unwrap().operator_kill);
    }

    #[test]
    fn open_names_the_process_that_holds_the_lock() {
        let state = tempfile::tempdir().unwrap();
        let first = Journal::open(state.path()).unwrap();
        let said = Journal::open(state.path()).unwrap_err().to_string();
        assert!(said.ends_with(&format!("process {}", std::process::id())), "{said}");
        assert!(Journal::open_read_only(state.path()).is_ok());
        drop(first);
        assert!(Journal::open(state.path()).is_ok());
    }

    #[test]
    fn new_journal_is_for_its_owner_alone() {
        let states = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let mode_of = |path: PathBuf| {
            let permissions = std::fs::metadata(&path).unwrap().permissions();
            std::os::unix::fs::PermissionsExt::mode(&permissions) & 0o777
        };
        let mut ours = Journal::open(states[0].path()).unwrap();
        ours.append(&[(Timestamp(1), kill(true))]).unwrap();
        for name in ["journal.sqlite", "journal.sqlite-wal", "journal.sqlite-shm"] {
            assert_eq!(mode_of(states[0].path().join(name)), 0o600, "{name}");
        }
        let _leader = Journal::open_as_leader(states[1].path(), 1).unwrap();
        assert_eq!(mode_of(crate::config::paths::journal_in(states[1].path())), 0o600);
    }

    #[test]
    fn open_refuses_a_newer_schema() {
        let state = tempfile::tempdir().unwrap();
        let journal = Journal::open(state.path()).unwrap();
        journal.db.execute_batch("PRAGMA user_version = 99").unwrap();
        drop(journal);
        let said = Journal::open(state.path()).unwrap_err().to_string();
        assert!(said.contains("schema 99"), "{said}");
    }

    #[test]
    fn append_stores_nothing_after_an_error() {
        let state = tempfile::tempdir().unwrap();
        let mut journal = Journal::open(state.path()).unwrap();
        journal.append(&[(Timestamp(1), kill(true))]).unwrap();
        journal.db.execute_batch("PRAGMA max_page_count = 1").unwrap();
        let big = Event::Withdrawn {
            escalation: crate::core::model::id::EscalationId(1),
            why: "x".repeat(1 << 20),
        };
        let full = journal.append(&[(Timestamp(2), kill(false)), (Timestamp(2), big)]);
        assert!(matches!(full, Err(JournalError::Database { .. })));
        journal.db.execute_batch("PRAGMA max_page_count = 100000").unwrap();
        journal.append(&[(Timestamp(3), kill(true))]).unwrap();
        assert_eq!(journal.last(), 2);
        assert_eq!(chain::verify(&journal).unwrap(), Ok(2));
    }
}
