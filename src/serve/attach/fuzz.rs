//! Fuzz targets for the lines between a cockpit and the runtime.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::client::apply;
use super::protocol::{FromClient, ToClient};
use crate::core::query::invariant;
use crate::runtime::Snapshot;

/// Reads the lines of a client: each is written and read again as the same.
pub(crate) fn request(data: &[u8]) {
    for line in data.split(|byte| *byte == b'\n') {
        let Ok(request) = serde_json::from_slice::<FromClient>(line) else { continue };
        assert_reads_back(&request);
    }
}

/// Reads the lines of a server, and applies them to the snapshot of a client.
pub(crate) fn response(data: &[u8]) {
    let mut snapshot = Snapshot::default();
    for line in data.split(|byte| *byte == b'\n') {
        let Ok(response) = serde_json::from_slice::<ToClient>(line) else { continue };
        assert_reads_back(&response);
        apply(&mut snapshot, response);
    }
    assert_reads_back(&snapshot);
    let _ = (invariant::check(&snapshot.fleet), snapshot.breakglass());
}

/// Writes a value, reads it and writes it again: both texts are the same.
fn assert_reads_back<T: Serialize + DeserializeOwned>(value: &T) {
    let write = |value: &T| serde_json::to_string(value).unwrap_or_default();
    let written = write(value);
    match serde_json::from_str::<T>(&written) {
        Ok(read) => assert_eq!(write(&read), written, "the line reads back as another one"),
        Err(error) => panic!("{written} does not read back: {error}"),
    }
}
