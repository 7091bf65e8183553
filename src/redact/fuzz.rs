//! A fuzz target for the removal of secrets.

use super::stream::StreamRedactor;
use super::{Redactor, assignments, names_a_secret};

/// A secret as a service issues it.
const SECRET: &str = "kX9-fuzz-Qv27LmZp40Tr";

/// Redacts an output in pieces and as a whole: the secret is in neither.
pub(crate) fn stream(data: &[u8]) {
    let redactor = || Redactor::new([SECRET.to_owned()]);
    let has_secret = |text: &[u8]| memchr::memmem::find(text, SECRET.as_bytes()).is_some();
    let whole = redactor().clean_bytes(data).into_owned();
    assert!(!has_secret(&whole), "the secret is left");
    let text = String::from_utf8_lossy(data);
    assert!(!has_secret(redactor().clean(&text).as_bytes()), "the secret is left in a text");
    let cut = redactor().clean_cut(&text);
    assert!(!has_secret(cut.as_bytes()), "the secret is left in a text that was cut");
    for size in [1, 7, 4096] {
        let mut stream = StreamRedactor::with(redactor());
        let mut out = Vec::new();
        for piece in data.chunks(size) {
            out.extend(stream.push(piece));
        }
        out.extend(stream.finish());
        assert!(!has_secret(&out), "the secret is left in pieces of {size} bytes");
    }
    for (name, range) in assignments(data) {
        assert!(data.get(range).is_some(), "{name} is outside of the text");
        let _ = names_a_secret(&name);
    }
    for found in redactor().revealed(data) {
        let _ = format!("{found:?}");
    }
}
