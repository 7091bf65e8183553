//! The anchor: heads of the hash chain in a file outside of the state folder, each under an HMAC. Without
//! it, a program that can write the state folder can cut the journal's end off, or write all of it anew
//! with a chain that holds; with it, `afk verify` names the records in question.
//!
//! ```text
//! writer (thread) ─ head after each batch ─▶ Anchoring (thread) ─ every 2 s at most ─▶ anchor file
//! `afk verify`, each start ─ compare ◀── anchor file, key, journal
//! ```
//!
//! The key must be out of reach for everybody who is not trusted with the journal, and so must the file:
//! an old copy of it would hide what came after.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use ring::hmac;
use serde::{Deserialize, Serialize};

use super::{Journal, JournalError};
use crate::core::model::digest::Digest;
use crate::error::chain;
use crate::lock::LockExt;
use crate::trusted_file::{self, TrustedFileError};

/// The shortest time between two heads.
const INTERVAL: Duration = Duration::from_secs(2);
/// The heads that the file keeps. Each older one is implied by the chain up to a newer one.
const HEADS: usize = 256;
/// The least number of characters of a key.
const SHORTEST_KEY: usize = 16;

/// Why a journal and its anchor differ, or can't be compared.
#[derive(Debug, thiserror::Error)]
pub enum AnchorError {
    /// The key could be guessed.
    #[error("the anchor's key has fewer than {SHORTEST_KEY} characters")]
    ShortKey,
    /// Who can write the state folder could write the anchor, too.
    #[error("the anchor {} lies in the state folder, which it is to prove", path.display())]
    InState {
        /// The path as configured.
        path: PathBuf,
    },
    /// The file can't be read, or others can change it.
    #[error("read the journal's anchor")]
    Unreadable(#[from] TrustedFileError),
    /// The file can't be written.
    #[error("write the journal's anchor {}", path.display())]
    Unwritable {
        /// The path as configured.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// The journal itself can't be read.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// A line is damaged, or was written without the key.
    #[error("line {line} of the anchor was not written with this key")]
    Forged {
        /// The number of the line, from 1.
        line: usize,
    },
    /// The file was written for another journal.
    #[error("the anchor belongs to another journal: this one was replaced as a whole")]
    OtherJournal,
    /// The end of the journal was cut off.
    #[error("records {} to {anchored} are missing: the journal ends at record {last}", last + 1)]
    Truncated {
        /// The last record of the journal.
        last: i64,
        /// The last record that was anchored.
        anchored: i64,
    },
    /// Records were written anew.
    #[error("records {} to {to} were rewritten: they differ from what was anchored", after + 1)]
    Rewritten {
        /// The last record that is as it was anchored; 0 for none.
        after: i64,
        /// The first anchored record that differs.
        to: i64,
    },
}

/// A head of the chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Head {
    seq: i64,
    hash: Digest,
}

/// A line of the file.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct AnchoredHead {
    journal: String,
    seq: i64,
    hash: Digest,
    mac: Digest,
}

/// The anchor of one journal.
pub(crate) struct Anchor {
    path: PathBuf,
    key: hmac::Key,
    journal: String,
    heads: Vec<AnchoredHead>,
}

impl Anchor {
    /// Reads the anchor of a journal and compares the two. A file that doesn't exist yet has no heads.
    pub(crate) fn open(
        path: &Path,
        key: &str,
        state: &Path,
        journal: &Journal,
    ) -> Result<Self, AnchorError> {
        if key.trim().chars().count() < SHORTEST_KEY {
            return Err(AnchorError::ShortKey);
        }
        if path.starts_with(state) {
            return Err(AnchorError::InState { path: path.to_owned() });
        }
        let text = match trusted_file::read(path) {
            Err(error) if error.is_missing() => String::new(),
            other => other?,
        };
        let key = hmac::Key::new(hmac::HMAC_SHA256, key.trim().as_bytes());
        let mut anchor =
            Self { path: path.to_owned(), key, journal: journal.id()?, heads: Vec::new() };
        for (line, text) in (1..).zip(text.lines()) {
            let head: AnchoredHead =
                serde_json::from_str(text).map_err(|_| AnchorError::Forged { line })?;
            let message = message(&head.journal, head.seq, &head.hash);
            hmac::verify(&anchor.key, &message, head.mac.bytes())
                .map_err(|_| AnchorError::Forged { line })?;
            anchor.heads.push(head);
        }
        anchor.compare(journal)?;
        Ok(anchor)
    }

    /// The last record that was anchored; 0 for none.
    pub(crate) fn last(&self) -> i64 {
        self.heads.last().map_or(0, |head| head.seq)
    }

    fn compare(&self, journal: &Journal) -> Result<(), AnchorError> {
        let mut after = 0;
        for head in &self.heads {
            if head.journal != self.journal {
                return Err(AnchorError::OtherJournal);
            }
            match journal.hash_of(head.seq)? {
                Some(hash) if hash == head.hash => after = head.seq,
                Some(_) => return Err(AnchorError::Rewritten { after, to: head.seq }),
                None => {
                    let (last, anchored) = (journal.last(), self.last());
                    return Err(AnchorError::Truncated { last, anchored });
                }
            }
        }
        Ok(())
    }

    fn add(&mut self, Head { seq, hash }: Head) -> Result<(), AnchorError> {
        let journal = self.journal.clone();
        let tag = hmac::sign(&self.key, &message(&journal, seq, &hash));
        let mac: [u8; 32] = tag.as_ref().try_into().unwrap_or_default();
        self.heads.push(AnchoredHead { journal, seq, hash, mac: Digest::from_bytes(mac) });
        let most = self.heads.len().saturating_sub(HEADS);
        self.heads.drain(..most);
        self.write().map_err(|source| AnchorError::Unwritable { path: self.path.clone(), source })
    }

    /// Replaces the file as a whole, so that no crash leaves half a line.
    fn write(&self) -> io::Result<()> {
        let mut text = String::new();
        for head in &self.heads {
            text.push_str(&serde_json::to_string(head)?);
            text.push('\n');
        }
        let new = self.path.with_extension("new");
        match std::fs::remove_file(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        // Creates the file, so that no link that somebody put there is followed.
        let mut file = File::options().write(true).create_new(true).mode(0o600).open(&new)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&new, &self.path)
    }
}

fn message(journal: &str, seq: i64, hash: &Digest) -> Vec<u8> {
    [b"afk journal head\0", journal.as_bytes(), &[0], &seq.to_be_bytes(), hash.bytes()].concat()
}

/// Writes heads on a thread of its own, so that a slow disk delays no batch.
pub(super) struct Anchoring {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    /// The newest head that is not anchored yet, and whether the writer has ended.
    next: Mutex<(Option<Head>, bool)>,
    changed: Condvar,
}

impl Anchoring {
    pub(super) fn start(mut anchor: Anchor) -> io::Result<Self> {
        let shared = Arc::<Shared>::default();
        let here = shared.clone();
        let thread = std::thread::Builder::new().name("anchor".into()).spawn(move || {
            while let Some(head) = here.wait() {
                if let Err(error) = anchor.add(head) {
                    tracing::error!(error = %chain(&error), "the journal is not anchored");
                }
            }
        })?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Has the head of a journal anchored, once its turn has come.
    pub(super) fn anchor(&self, journal: &Journal) {
        let head = Head { seq: journal.seq, hash: journal.hash };
        self.shared.next.locked().0 = Some(head);
        self.shared.changed.notify_one();
    }
}

impl Shared {
    /// Waits for the interval and then for a head; `None` at the end, after the last head.
    fn wait(&self) -> Option<Head> {
        let next = self.next.locked();
        let pause = self.changed.wait_timeout_while(next, INTERVAL, |(_, ended)| !*ended);
        let (next, _) = pause.unwrap_or_else(PoisonError::into_inner);
        let waits = |(head, ended): &mut (Option<Head>, bool)| head.is_none() && !*ended;
        let mut next = self.changed.wait_while(next, waits).unwrap_or_else(PoisonError::into_inner);
        next.0.take()
    }
}

impl Drop for Anchoring {
    fn drop(&mut self) {
        self.shared.next.locked().1 = true;
        self.shared.changed.notify_one();
        if let Some(thread) = self.thread.take() {
            // The panic hook has reported a panic of the thread.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::model::event::Event;
    use crate::core::model::id::Actor;
    use crate::core::model::time::Timestamp;

    const KEY: &str = "a key of many characters";

    fn append(journal: &mut Journal, count: i64) {
        let event = |n| Event::Capacity { permits: 1, by: Actor(format!("ana{n}")) };
        let batch: Vec<_> = (0..count).map(|n| (Timestamp(n), event(n))).collect();
        journal.append(&batch).unwrap();
    }

    struct Place {
        folder: tempfile::TempDir,
        journal: Journal,
    }

    impl Place {
        /// A journal with five records, anchored at the second and at the last one.
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let mut journal = Journal::open(&folder.path().join("state")).unwrap();
            append(&mut journal, 2);
            let mut anchor = Anchor::open(&file(&folder), KEY, &state(&folder), &journal).unwrap();
            anchor.add(Head { seq: journal.seq, hash: journal.hash }).unwrap();
            append(&mut journal, 3);
            let anchoring = Anchoring::start(anchor).unwrap();
            anchoring.anchor(&journal);
            // The end waits for no interval.
            drop(anchoring);
            Self { folder, journal }
        }

        fn harm(&mut self, sql: &str) {
            let free = "DROP TRIGGER append_only_update; DROP TRIGGER append_only_delete;";
            self.journal.db.execute_batch(&format!("{free} {sql}")).unwrap();
            self.journal.seq = 0;
            self.journal.find_end().unwrap();
        }

        fn compare(&self, key: &str) -> Result<i64, String> {
            Anchor::open(&file(&self.folder), key, &state(&self.folder), &self.journal)
                .map(|anchor| anchor.last())
                .map_err(|error| error.to_string())
        }
    }

    fn file(folder: &tempfile::TempDir) -> PathBuf {
        folder.path().join("anchor")
    }

    fn state(folder: &tempfile::TempDir) -> PathBuf {
        folder.path().join("state")
    }

    #[test]
    fn untouched_journal_agrees_with_its_anchor() {
        let mut place = Place::new();
        assert_eq!(place.compare(KEY), Ok(5));
        append(&mut place.journal, 4);
        assert_eq!(place.compare(KEY), Ok(5));
    }

    #[test]
    fn truncated_journal_shows_its_missing_records() {
        let mut place = Place::new();
        place.harm("DELETE FROM events WHERE seq > 3");
        // The chain alone holds.
        assert_eq!(super::super::chain::verify(&place.journal).unwrap(), Ok(3));
        let why = "records 4 to 5 are missing: the journal ends at record 3";
        assert_eq!(place.compare(KEY), Err(why.into()));
    }

    #[test]
    fn rewritten_journal_shows_the_records_that_differ() {
        let mut place = Place::new();
        place.harm("DELETE FROM events WHERE seq > 3");
        // Another end with a chain that holds.
        append(&mut place.journal, 7);
        assert_eq!(super::super::chain::verify(&place.journal).unwrap(), Ok(10));
        let why = "records 3 to 5 were rewritten: they differ from what was anchored";
        assert_eq!(place.compare(KEY), Err(why.into()));
    }

    #[test]
    fn anchor_is_bound_to_its_key_and_journal_and_place() {
        let mut place = Place::new();
        let forged = "line 1 of the anchor was not written with this key";
        assert_eq!(place.compare("another key of many characters"), Err(forged.into()));
        assert!(place.compare("short").unwrap_err().contains("fewer than 16 characters"));
        let inside = Anchor::open(
            &state(&place.folder).join("anchor"),
            KEY,
            &state(&place.folder),
            &place.journal,
        );
        assert!(matches!(inside.map(|_| ()), Err(AnchorError::InState { .. })));
        let text = std::fs::read_to_string(file(&place.folder)).unwrap();
        std::fs::write(file(&place.folder), text.replace("\"seq\":5", "\"seq\":4")).unwrap();
        assert_eq!(place.compare(KEY), Err(forged.replace('1', "2")));
        std::fs::write(file(&place.folder), text).unwrap();
        place.harm("UPDATE meta SET value = 'other' WHERE key = 'id'");
        assert!(place.compare(KEY).unwrap_err().contains("another journal"));
    }

    #[test]
    fn anchor_keeps_a_bounded_number_of_heads() {
        let mut place = Place::new();
        let mut anchor =
            Anchor::open(&file(&place.folder), KEY, &state(&place.folder), &place.journal).unwrap();
        append(&mut place.journal, 1);
        let head = Head { seq: place.journal.seq, hash: place.journal.hash };
        for _ in 0..HEADS + 10 {
            anchor.heads.push(AnchoredHead { ..anchor.heads[0].clone() });
        }
        anchor.add(head).unwrap();
        let text = std::fs::read_to_string(file(&place.folder)).unwrap();
        assert_eq!(text.lines().count(), HEADS);
        assert_eq!(place.compare(KEY), Ok(6));
    }
}
