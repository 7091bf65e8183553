//! The journal: the append-only, hash-chained record of every event.
//!
//! SQLite in WAL mode with `synchronous = FULL`; one process owns it. A batch is one transaction,
//! so that all that waits shares one sync. Transcripts lie in files beside it ([`transcript`]).

pub mod chain;
pub mod lock;
mod schema;
pub mod transcript;
pub mod writer;

use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags, params};

use crate::core::fleet::Fleet;
use crate::core::model::digest::Digest;
use crate::core::model::event::Event;
use crate::core::model::time::Timestamp;

/// What can go wrong with a journal.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// Another process has it.
    #[error("another afk has {}: process {pid}", state.display())]
    Held {
        /// The state folder.
        state: PathBuf,
        /// Whose.
        pid: String,
    },
    /// The folder can't be written.
    #[error("{}: {source}", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The database refused.
    #[error("the journal {}: {source}", path.display())]
    Database {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: rusqlite::Error,
    },
    /// Written by a newer afk.
    #[error("the journal has schema {found}, and this afk knows {known}; use a newer afk")]
    TooNew {
        /// In the file.
        found: i64,
        /// In this program.
        known: i64,
    },
    /// Another afk leads.
    #[error("another afk leads, in term {theirs}; this one's was {ours}")]
    Fenced {
        /// In the journal.
        theirs: u64,
        /// This process's.
        ours: u64,
    },
    /// A record can't be read.
    #[error("record {seq} of the journal can't be read: {why}; run `afk verify`")]
    Unreadable {
        /// Which.
        seq: i64,
        /// Why.
        why: String,
    },
}

/// One record as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// From 1, without gaps.
    pub seq: i64,
    /// When.
    pub at: Timestamp,
    /// The event as JSON.
    pub body: String,
    /// The link of the chain.
    pub hash: Digest,
}

impl Record {
    /// The event.
    ///
    /// # Errors
    /// [`JournalError::Unreadable`].
    pub fn event(&self) -> Result<Event, JournalError> {
        serde_json::from_str(&self.body)
            .map_err(|e| JournalError::Unreadable { seq: self.seq, why: e.to_string() })
    }
}

/// An open journal.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    db: Connection,
    seq: i64,
    hash: Digest,
    /// The leader's term, where there are several.
    term: Option<u64>,
    // Held as long as the journal is open.
    _lock: Option<lock::Lock>,
}

impl Journal {
    /// Opens or makes the journal of a state folder and takes its lock.
    ///
    /// # Errors
    /// [`JournalError`]: held by another process, not writable, too new, or damaged.
    pub fn open(state: &Path) -> Result<Self, JournalError> {
        std::fs::create_dir_all(state)
            .map_err(|source| JournalError::Io { path: state.to_owned(), source })?;
        let lock = lock::Lock::take(state)?;
        let path = crate::config::paths::journal_in(state);
        let mut journal = Self::connect(&path, OpenFlags::default(), Some(lock))?;
        journal.query(|db| {
            // FULL: an answer is given only after the sync.
            db.execute_batch(
                "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA busy_timeout = 5000;",
            )
        })?;
        schema::bring_up(&mut journal)?;
        journal.find_end()?;
        Ok(journal)
    }

    /// Opens the journal as the leader of a term. It is not locked by its file, which a leader that
    /// hangs would keep: whoever has an older term can't write it any more. It has no write-ahead
    /// log, which works on one machine alone.
    ///
    /// # Errors
    /// [`JournalError`], also where a newer leader was here.
    pub fn open_led(state: &Path, term: u64) -> Result<Self, JournalError> {
        std::fs::create_dir_all(state)
            .map_err(|source| JournalError::Io { path: state.to_owned(), source })?;
        let path = crate::config::paths::journal_in(state);
        let mut journal = Self::connect(&path, OpenFlags::default(), None)?;
        journal.query(|db| {
            db.execute_batch(
                "PRAGMA busy_timeout = 5000; PRAGMA journal_mode = TRUNCATE; \
                 PRAGMA synchronous = FULL;",
            )
        })?;
        schema::bring_up(&mut journal)?;
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

    /// The newest term of a state folder's journal; 0 where there is none.
    #[must_use]
    pub fn newest_term(state: &Path) -> u64 {
        let path = crate::config::paths::journal_in(state);
        let opened = Self::connect(&path, OpenFlags::SQLITE_OPEN_READ_ONLY, None);
        opened.ok().and_then(|journal| journal.query(term_in).ok()).unwrap_or(0)
    }

    /// A journal that lasts as long as this process: for breakglass, where the disk can't be
    /// written.
    ///
    /// # Errors
    /// [`JournalError`].
    pub fn in_memory() -> Result<Self, JournalError> {
        let path = PathBuf::from(":memory:");
        let db = Connection::open_in_memory()
            .map_err(|source| JournalError::Database { path: path.clone(), source })?;
        let mut journal = Self { path, db, seq: 0, hash: Digest::ZERO, term: None, _lock: None };
        schema::bring_up(&mut journal)?;
        Ok(journal)
    }

    /// Opens a journal to look at it, also while another process writes it.
    ///
    /// # Errors
    /// [`JournalError`].
    pub fn open_read_only(state: &Path) -> Result<Self, JournalError> {
        let path = crate::config::paths::journal_in(state);
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
        let db = Connection::open_with_flags(path, flags)
            .map_err(|source| JournalError::Database { path: path.to_owned(), source })?;
        let path = path.to_owned();
        Ok(Self { path, db, seq: 0, hash: Digest::ZERO, term: None, _lock: lock })
    }

    fn query<T>(
        &self,
        ask: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, JournalError> {
        ask(&self.db).map_err(|source| JournalError::Database { path: self.path.clone(), source })
    }

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

    /// The number of the last record; 0 when there is none.
    #[must_use]
    pub const fn last(&self) -> i64 {
        self.seq
    }

    /// Appends a batch in one transaction. When it returns, the batch is on the disk; after an
    /// error none of it is.
    ///
    /// # Errors
    /// [`JournalError::Database`], for example a full disk.
    pub fn append(&mut self, batch: &[(Timestamp, Event)]) -> Result<(), JournalError> {
        let (mut seq, mut hash) = (self.seq, self.hash);
        let failed = |source| JournalError::Database { path: self.path.clone(), source };
        let transaction = self.db.transaction().map_err(failed)?;
        if let Some(ours) = self.term {
            // In the same transaction: nobody can take the lead in between.
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
                hash = chain::link(&hash, seq, *at, &body);
                insert.execute(params![seq, at.0, body, hash.bytes()]).map_err(failed)?;
            }
        }
        transaction.commit().map_err(failed)?;
        (self.seq, self.hash) = (seq, hash);
        Ok(())
    }

    /// Calls `each` with every record from `from` on, in order, until it says false.
    ///
    /// # Errors
    /// [`JournalError`], also that of `each`.
    pub fn read(
        &self,
        from: i64,
        mut each: impl FnMut(Record) -> Result<bool, JournalError>,
    ) -> Result<(), JournalError> {
        let failed = |source| JournalError::Database { path: self.path.clone(), source };
        let mut select = self
            .db
            .prepare_cached("SELECT seq, at, body, hash FROM events WHERE seq >= ? ORDER BY seq")
            .map_err(failed)?;
        let mut rows = select.query([from]).map_err(failed)?;
        while let Some(row) = rows.next().map_err(failed)? {
            let record = Record {
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

    /// The fleet as the journal tells it.
    ///
    /// # Errors
    /// [`JournalError`].
    pub fn fold(&self) -> Result<Fleet, JournalError> {
        let mut fleet = Fleet::default();
        self.read(1, |record| {
            fleet.apply(record.at, &record.event()?);
            Ok(true)
        })?;
        Ok(fleet)
    }

    /// A name of this journal that no other has: what children are marked with.
    ///
    /// # Errors
    /// [`JournalError`].
    pub fn id(&self) -> Result<String, JournalError> {
        self.query(|db| db.query_row("SELECT value FROM meta WHERE key = 'id'", [], |r| r.get(0)))
    }
}

/// The term of whoever leads; 0 where nobody ever did.
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
    fn who_led_before_can_write_no_more() {
        let state = tempfile::tempdir().unwrap();
        let mut first = Journal::open_led(state.path(), 1).unwrap();
        first.append(&[(Timestamp(1), kill(true))]).unwrap();
        assert_eq!(Journal::newest_term(state.path()), 1);
        let mut second = Journal::open_led(state.path(), 2).unwrap();
        let fenced = first.append(&[(Timestamp(2), kill(false))]);
        assert!(matches!(fenced, Err(JournalError::Fenced { theirs: 2, ours: 1 })), "{fenced:?}");
        second.append(&[(Timestamp(3), kill(true))]).unwrap();
        assert!(matches!(
            Journal::open_led(state.path(), 1),
            Err(JournalError::Fenced { theirs: 2, .. })
        ));
        drop((first, second));
        assert_eq!(chain::verify(&Journal::open(state.path()).unwrap()).unwrap(), Ok(2));
    }

    fn kill(on: bool) -> Event {
        Event::KillSwitch { on, by: Actor("ana".into()) }
    }

    #[test]
    fn what_was_appended_is_there_after_a_restart() {
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
    fn a_second_owner_is_told_who_has_it() {
        let state = tempfile::tempdir().unwrap();
        let first = Journal::open(state.path()).unwrap();
        let said = Journal::open(state.path()).unwrap_err().to_string();
        assert!(said.ends_with(&format!("process {}", std::process::id())), "{said}");
        assert!(Journal::open_read_only(state.path()).is_ok());
        drop(first);
        assert!(Journal::open(state.path()).is_ok());
    }

    #[test]
    fn a_newer_schema_is_refused() {
        let state = tempfile::tempdir().unwrap();
        let journal = Journal::open(state.path()).unwrap();
        journal.db.execute_batch("PRAGMA user_version = 99").unwrap();
        drop(journal);
        let said = Journal::open(state.path()).unwrap_err().to_string();
        assert!(said.contains("schema 99"), "{said}");
    }

    #[test]
    fn a_failed_append_leaves_nothing_behind() {
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
