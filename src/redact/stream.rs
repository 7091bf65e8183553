//! Redacts an output that arrives in chunks, for the logs of commands.

use super::{Redactor, replaced, shapes};

/// The longest incomplete line that is held back, in bytes: the shape of a key is recognised in
/// whole lines.
const LINE: usize = 4096;
/// The longest private key that is dropped without its last line, in bytes.
const KEY_BLOCK: usize = 64 * 1024;
const BLOCK_BEGINS: &[u8] = b"-----BEGIN ";
const BLOCK_ENDS: &[u8] = b"-----END ";
const KEY: &[u8] = b"PRIVATE KEY";

/// Redacts chunk by chunk. It holds back an incomplete line of at most [`LINE`] bytes, and an end
/// that may be the beginning of a secret, which is shorter than the longest form of one.
#[derive(Debug, Default)]
pub(crate) struct StreamRedactor {
    redactor: Redactor,
    held: Vec<u8>,
    /// The bytes of a private key that are dropped so far; none outside of one.
    block: Option<usize>,
}

impl StreamRedactor {
    #[cfg(any(test, fuzzing))]
    pub(crate) fn with(redactor: Redactor) -> Self {
        Self { redactor, ..Self::default() }
    }

    /// Takes a chunk, and returns the clean bytes that are complete.
    pub(crate) fn push(&mut self, chunk: &[u8]) -> Vec<u8> {
        self.held.extend_from_slice(chunk);
        let needles = self.redactor.needles();
        let line = memchr::memrchr(b'\n', &self.held).map_or(0, |at| at + 1);
        let mut cut = if self.held.len() - line > LINE { self.held.len() } else { line };
        if cut == 0 {
            return Vec::new();
        }
        let pending = needles.pending(&self.held, 1).unwrap_or(self.held.len());
        cut = cut.min(pending);
        let found = needles.find(&self.held);
        if let Some(over) = found.iter().find(|f| f.range.start < cut && cut < f.range.end) {
            // A secret that continues behind the cut waits for its end. A row of secrets without
            // anything between them has no end, and is cut.
            cut = if over.range.len() > LINE { pending } else { over.range.start };
        }
        let rest = self.held.split_off(cut);
        let whole = std::mem::replace(&mut self.held, rest);
        let before = found.into_iter().map(|found| found.range).filter(|range| range.start < cut);
        let places = before.map(|range| range.start..range.end.min(cut));
        self.emit(&whole, places.collect())
    }

    /// Returns the rest at the end of the output.
    pub(crate) fn finish(&mut self) -> Vec<u8> {
        let whole = std::mem::take(&mut self.held);
        let places = self.redactor.needles().find(&whole);
        self.emit(&whole, places.into_iter().map(|found| found.range).collect())
    }

    fn emit(&mut self, whole: &[u8], mut places: Vec<std::ops::Range<usize>>) -> Vec<u8> {
        let mut from = 0;
        if let Some(dropped) = self.block {
            let end = memchr::memmem::find(whole, BLOCK_ENDS);
            from = end.map_or(whole.len(), |at| {
                memchr::memchr(b'\n', &whole[at..]).map_or(whole.len(), |newline| at + newline)
            });
            let dropped = dropped + from;
            self.block = (end.is_none() && dropped < KEY_BLOCK).then_some(dropped);
        }
        let begins = memchr::memmem::rfind(&whole[from..], BLOCK_BEGINS).map(|at| from + at);
        if let Some(begins) = begins {
            let open = memchr::memmem::find(&whole[begins..], BLOCK_ENDS).is_none();
            let line = whole[begins..].split(|byte| *byte == b'\n').next().unwrap_or_default();
            if open && memchr::memmem::find(line, KEY).is_some() {
                self.block = Some(whole.len() - begins);
            }
        }
        places.retain(|place| place.end > from);
        places
            .extend(shapes::wide(&whole[from..]).map(|range| range.start + from..range.end + from));
        for place in &mut places {
            *place = place.start.max(from) - from..place.end - from;
        }
        replaced(&whole[from..], places).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::redact::REDACTED;

    const SECRET: &str = "hunter2/hunter2+hunter2";

    /// Streams a text in chunks of a size, and returns the output.
    fn streamed(text: &str, size: usize) -> String {
        let mut stream = StreamRedactor::with(Redactor::new([SECRET.to_owned()]));
        let longest = stream.redactor.needles().longest();
        let mut out = Vec::new();
        for chunk in text.as_bytes().chunks(size) {
            out.extend(stream.push(chunk));
            assert!(stream.held.len() < LINE + longest + size, "{} are held", stream.held.len());
        }
        out.extend(stream.finish());
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn stream_redacts_the_same_for_every_chunk_size() {
        let (one, two) = SECRET.split_at(7);
        let text = format!(
            "begin\n{SECRET} and {SECRET}\n{one}\n{two}\nhunter\nhunter2 {}\n{}{SECRET}",
            SECRET.bytes().map(|b| format!("{b:02x}")).collect::<Vec<_>>().concat(),
            "x".repeat(10_000)
        );
        let clean = streamed(&text, text.len());
        assert!(!clean.contains(SECRET) && !clean.contains(two), "{clean}");
        assert_eq!(clean.matches(REDACTED).count(), 5);
        assert!(
            clean.starts_with("begin\n[redacted] and [redacted]\n[redacted]\nhunter\nhunter2 ")
        );
        for size in [1, 2, 3, 7, 64, 4096] {
            assert_eq!(streamed(&text, size), clean, "in chunks of {size}");
        }
    }

    #[test]
    fn stream_drops_a_private_key_and_goes_on_behind_it() {
        let body = "MIIEvgIBADANBgkqhkiG9w0BAQEFAASCBKgwggSkAgEAAoIBAQDZ0r8v2bQ0y1cG\n".repeat(9);
        let text = format!(
            "a\n-----BEGIN PRIVATE KEY-----\n{body}-----END PRIVATE KEY-----\nb\n-----BEGIN CERTIFICATE-----\nc\n"
        );
        for size in [1, 50, 100_000] {
            let clean = streamed(&text, size);
            assert!(!clean.contains("MIIE"), "{clean}");
            assert!(clean.ends_with("\nb\n-----BEGIN CERTIFICATE-----\nc\n"), "{clean}");
        }
    }

    #[test]
    fn stream_of_secrets_alone_is_bounded() {
        let clean = streamed(&SECRET.repeat(1000), 100);
        assert!(!clean.contains("hunter2"), "{clean}");
    }

    #[test]
    fn stream_passes_on_a_line_without_end() {
        let clean = streamed(&"y".repeat(100_000), 1000);
        assert_eq!(clean, "y".repeat(100_000));
    }
}
