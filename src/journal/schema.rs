//! The schema of the journal and its migrations.
//!
//! A migration never changes after its release. The schema's version is the number of migrations
//! that the file has seen, and SQLite stores it in `user_version`.

use super::{Journal, JournalError};

const MIGRATIONS: &[&str] = &[
    // 1
    "CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
     INSERT INTO meta (key, value) VALUES ('id', lower(hex(randomblob(8))));
     CREATE TABLE events (
         seq INTEGER PRIMARY KEY,
         at INTEGER NOT NULL,
         body TEXT NOT NULL,
         hash BLOB NOT NULL
     );
     CREATE TRIGGER append_only_update BEFORE UPDATE ON events
         BEGIN SELECT raise(ABORT, 'the journal is append-only'); END;
     CREATE TRIGGER append_only_delete BEFORE DELETE ON events
         BEGIN SELECT raise(ABORT, 'the journal is append-only'); END;",
];

/// The version that this program writes.
const VERSION: i64 = MIGRATIONS.len().cast_signed() as i64;

fn version_of(journal: &Journal) -> Result<i64, JournalError> {
    journal.query(|db| db.query_row("PRAGMA user_version", [], |row| row.get(0)))
}

/// Refuses a journal of a newer program, and returns the version of this one.
pub(super) fn check(journal: &Journal) -> Result<i64, JournalError> {
    match version_of(journal)? {
        found if found > VERSION => Err(JournalError::TooNew { found, known: VERSION }),
        found => Ok(found),
    }
}

/// Runs the missing migrations, each in a transaction of its own.
pub(super) fn migrate(journal: &mut Journal) -> Result<(), JournalError> {
    let from = check(journal)?;
    for (migration, version) in
        MIGRATIONS.iter().zip(1_i64..).skip(usize::try_from(from).unwrap_or(0))
    {
        let sql = format!("BEGIN IMMEDIATE; {migration} PRAGMA user_version = {version}; COMMIT;");
        journal.query(|db| db.execute_batch(&sql))?;
    }
    Ok(())
}
