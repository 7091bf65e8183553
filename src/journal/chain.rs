//! The hash chain: each record's hash covers the one before it, so that no record can be changed,
//! dropped or put in unseen.

use super::{Journal, JournalError};
use crate::core::model::digest::Digest;
use crate::core::model::time::Timestamp;

/// The hash of a record.
#[must_use]
pub fn link(previous: &Digest, seq: i64, at: Timestamp, body: &str) -> Digest {
    Digest::of(&[previous.bytes(), &seq.to_be_bytes(), &at.0.to_be_bytes(), body.as_bytes()])
}

/// The first place at which the chain does not hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// A record is missing.
    #[error("record {expected} is missing: {found} comes after {}", expected - 1)]
    Gap {
        /// Its number.
        expected: i64,
        /// What is there instead.
        found: i64,
    },
    /// A record isn't what was written.
    #[error("record {seq} is not what was written: its hash does not follow from record {}", seq - 1)]
    Changed {
        /// Its number.
        seq: i64,
    },
}

/// Walks the whole chain: the count of its records, or the first broken link.
///
/// # Errors
/// [`JournalError`] where the journal can't be read at all.
pub fn verify(journal: &Journal) -> Result<Result<i64, Broken>, JournalError> {
    let (mut hash, mut seq, mut broken) = (Digest::ZERO, 0, None);
    journal.read(0, |record| {
        seq += 1;
        if record.seq != seq {
            broken = Some(Broken::Gap { expected: seq, found: record.seq });
        } else if record.hash != link(&hash, seq, record.at, &record.body) {
            broken = Some(Broken::Changed { seq });
        }
        hash = record.hash;
        Ok(broken.is_none())
    })?;
    Ok(broken.map_or(Ok(seq), Err))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::model::event::Event;
    use crate::core::model::id::Actor;

    fn three(state: &std::path::Path) -> Journal {
        let mut journal = Journal::open(state).unwrap();
        let by = || Actor("ana".into());
        let batch: Vec<_> =
            (1..=3).map(|n| (Timestamp(n), Event::Capacity { permits: 1, by: by() })).collect();
        journal.append(&batch).unwrap();
        journal
    }

    #[test]
    fn the_first_broken_link_is_named() {
        for (harm, found) in [
            ("SELECT 1 FROM meta", Ok(3)),
            (
                "UPDATE events SET body = replace(body, 'ana', 'eve') WHERE seq = 2",
                Err(Broken::Changed { seq: 2 }),
            ),
            ("UPDATE events SET at = 9 WHERE seq = 3", Err(Broken::Changed { seq: 3 })),
            ("DELETE FROM events WHERE seq = 1", Err(Broken::Gap { expected: 1, found: 2 })),
        ] {
            let state = tempfile::tempdir().unwrap();
            let journal = three(state.path());
            if found.is_err() {
                journal
                    .db
                    .execute_batch(
                        "DROP TRIGGER append_only_update; DROP TRIGGER append_only_delete",
                    )
                    .unwrap();
            }
            journal.db.execute_batch(harm).unwrap();
            assert_eq!(verify(&journal).unwrap(), found, "{harm}");
        }
    }

    #[test]
    fn the_database_itself_refuses_to_rewrite() {
        let state = tempfile::tempdir().unwrap();
        let journal = three(state.path());
        for harm in ["UPDATE events SET at = 0", "DELETE FROM events"] {
            let said = journal.db.execute_batch(harm).unwrap_err().to_string();
            assert!(said.contains("append-only"), "{said}");
        }
    }
}
