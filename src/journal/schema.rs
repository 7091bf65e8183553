//! The schema and its steps. A step is never changed once it has been released; the number of
//! steps is the schema's version, kept in `user_version`.

use super::{Journal, JournalError};

const STEPS: &[&str] = &[
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
const KNOWN: i64 = STEPS.len().cast_signed() as i64;

fn found(journal: &Journal) -> Result<i64, JournalError> {
    journal.query(|db| db.query_row("PRAGMA user_version", [], |row| row.get(0)))
}

/// Refuses a journal of a newer program.
pub fn check(journal: &Journal) -> Result<i64, JournalError> {
    match found(journal)? {
        found if found > KNOWN => Err(JournalError::TooNew { found, known: KNOWN }),
        found => Ok(found),
    }
}

/// Takes the steps that are missing, each in a transaction of its own.
pub fn bring_up(journal: &mut Journal) -> Result<(), JournalError> {
    let from = check(journal)?;
    for (step, version) in STEPS.iter().zip(1_i64..).skip(usize::try_from(from).unwrap_or(0)) {
        let sql = format!("BEGIN IMMEDIATE; {step} PRAGMA user_version = {version}; COMMIT;");
        journal.query(|db| db.execute_batch(&sql))?;
    }
    Ok(())
}
