//! Fuzz targets for the records of the journal and the lines of transcripts.

use serde::Deserialize;

use super::transcript;
use crate::core::fleet::Fleet;
use crate::core::model::event::Event;
use crate::core::model::time::Timestamp;
use crate::core::query::invariant;

/// A record without its number and its hash.
#[derive(Debug, Deserialize)]
struct FuzzedRecord {
    at: i64,
    event: Event,
}

/// Folds records, one a line: each event reads back, and so does the fleet that they fold to.
pub(crate) fn records(data: &[u8]) {
    let mut fleet = Fleet::default();
    for line in data.split(|byte| *byte == b'\n') {
        let Ok(FuzzedRecord { at, event }) = serde_json::from_slice(line) else { continue };
        let written = serde_json::to_string(&event);
        let read = written.and_then(|text| serde_json::from_str::<Event>(&text));
        assert!(read.is_ok_and(|read| read == event), "{event:?} does not read back");
        fleet.apply(Timestamp(at), &event);
    }
    let _ = invariant::check(&fleet);
    let written = serde_json::to_string(&fleet);
    let read = written.and_then(|text| serde_json::from_str::<Fleet>(&text));
    assert!(read.is_ok_and(|read| read == fleet), "the fleet does not read back");
}

/// Reads a transcript: a line that is no entry is kept as text.
pub(crate) fn transcript(data: &[u8]) {
    for line in data.split(|byte| *byte == b'\n') {
        let entry = transcript::parse(line);
        let written = serde_json::to_vec(&entry).unwrap_or_default();
        assert_eq!(transcript::parse(&written), entry, "the entry does not read back");
    }
}
