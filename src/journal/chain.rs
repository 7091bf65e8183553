//! The hash chain: each record's hash covers the hash before it, so that a changed, missing or
//! inserted record shows. `afk verify` walks it.

use super::{Journal, JournalError};
use crate::core::model::digest::Digest;
use crate::core::model::time::Timestamp;

/// The hash of a record whose predecessor has the hash `previous`.
#[must_use]
pub(super) fn record_hash(previous: &Digest, seq: i64, at: Timestamp, body: &str) -> Digest {
    Digest::of(&[previous.bytes(), &seq.to_be_bytes(), &at.0.to_be_bytes(), body.as_bytes()])
}

/// The first record at which the chain is broken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChainBreak {
    /// A number is missing in the sequence.
    #[error("record {expected} is missing: {found} comes after {}", expected - 1)]
    Gap {
        /// The number of the missing record.
        expected: i64,
        /// The number of the record in its place.
        found: i64,
    },
    /// The hash of a record does not follow from its content and its predecessor.
    #[error("record {seq} was changed: its hash does not follow from record {}", seq - 1)]
    Changed {
        /// The number of the changed record.
        seq: i64,
    },
}

/// Walks the whole chain, and returns the number of its records or its first break.
///
/// # Errors
/// The journal can't be read at all.
pub fn verify(journal: &Journal) -> Result<Result<i64, ChainBreak>, JournalError> {
    let (mut hash, mut seq, mut broken) = (Digest::ZERO, 0, None);
    journal.read(0, |record| {
        seq += 1;
        if record.seq != seq {
            broken = Some(ChainBreak::Gap { expected: seq, found: record.seq });
        } else if record.hash != record_hash(&hash, seq, record.at, &record.body) {
            broken = Some(ChainBreak::Changed { seq });
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
    fn verify_names_the_first_break() {
        for (harm, found) in [
            ("SELECT 1 FROM meta", Ok(3)),
            (
                "UPDATE events SET body = replace(body, 'ana', 'eve') WHERE seq = 2",
                Err(ChainBreak::Changed { seq: 2 }),
            ),
            ("UPDATE events SET at = 9 WHERE seq = 3", Err(ChainBreak::Changed { seq: 3 })),
            ("DELETE FROM events WHERE seq = 1", Err(ChainBreak::Gap { expected: 1, found: 2 })),
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
    fn database_refuses_to_change_a_record() {
        let state = tempfile::tempdir().unwrap();
        let journal = three(state.path());
        for harm in ["UPDATE events SET at = 0", "DELETE FROM events"] {
            let said = journal.db.execute_batch(harm).unwrap_err().to_string();
            assert!(said.contains("append-only"), "{said}");
        }
    }
}
