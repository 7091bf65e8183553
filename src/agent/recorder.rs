//! Records the lines between afk and an agent, redacted and bounded, for a later investigation.
//!
//! The turn loop appends every line in both directions; the file lies in the state folder
//! (`raw/RUN.jsonl`), one JSON object a line. A line waits when a string in it ends like the
//! beginning of a secret: agents stream their prose in pieces, so the next line may continue it.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::sync::LazyLock;

use regex::Regex;

use crate::core::model::time::Timestamp;
use crate::redact::{Redactor, Split, SplitGuard};

/// The largest file of one run, in bytes. When it is full, a last line says so and later lines are
/// lost.
const FILE_LIMIT: u64 = 64 * 1024 * 1024;
/// The most that is kept of one line, in bytes.
const LINE_LIMIT: usize = 64 * 1024;

#[derive(Debug)]
pub(crate) struct LineRecorder {
    file: BufWriter<File>,
    /// Bytes until the file is full.
    left: u64,
    redactor: Redactor,
    guard: SplitGuard<RecordedLine>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    ToAgent,
    FromAgent,
}

#[derive(Debug)]
struct RecordedLine {
    at: Timestamp,
    direction: Direction,
    text: String,
    /// The bytes behind [`LINE_LIMIT`].
    cut: usize,
}

/// A string of a JSON object with its key.
static STRINGS: LazyLock<Option<Regex>> = LazyLock::new(|| {
    // The pattern is constant, and a test uses it.
    Regex::new(r#""([^"\\]{1,64})"\s*:\s*"((?:[^"\\]|\\.)*)""#).ok()
});

impl Split for RecordedLine {
    /// The strings by their keys; a line that is no JSON is one text.
    fn parts(&mut self, change: &mut dyn FnMut(&str, &mut String)) {
        let from_agent = self.direction == Direction::FromAgent;
        let Some(strings) = STRINGS.as_ref().filter(|_| from_agent) else { return };
        if !self.text.starts_with('{') {
            return change("", &mut self.text);
        }
        let (mut out, mut done) = (String::with_capacity(self.text.len()), 0);
        for found in strings.captures_iter(&self.text) {
            let (Some(key), Some(value)) = (found.get(1), found.get(2)) else { continue };
            let mut text = value.as_str().to_owned();
            change(key.as_str(), &mut text);
            if text != value.as_str() {
                out.push_str(&self.text[done..value.start()]);
                out.push_str(&text);
                done = value.end();
            }
        }
        if done > 0 {
            out.push_str(&self.text[done..]);
            self.text = out;
        }
    }
}

impl LineRecorder {
    /// Opens a run's file for appending, with permissions for its owner only.
    pub(crate) fn open(path: &Path, redactor: Redactor) -> std::io::Result<Self> {
        use std::os::unix::fs::OpenOptionsExt;
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        let file = File::options().create(true).append(true).mode(0o600).open(path)?;
        let left = FILE_LIMIT.saturating_sub(file.metadata()?.len());
        let guard = SplitGuard::new(redactor.clone());
        Ok(Self { file: BufWriter::new(file), left, redactor, guard })
    }

    /// Appends a line. A failed write loses it without an error, because the transcript has the
    /// content.
    pub(crate) fn append(&mut self, at: Timestamp, direction: Direction, line: &[u8]) {
        if self.left == 0 {
            return;
        }
        let text = String::from_utf8_lossy(&line[..line.len().min(LINE_LIMIT)]);
        let cut = line.len().saturating_sub(LINE_LIMIT);
        let text = if cut > 0 {
            self.redactor.clean_cut(&text)
        } else {
            self.redactor.clean(&text).into_owned()
        };
        let complete = self.guard.push(RecordedLine { at, direction, text, cut });
        self.write(complete);
    }

    fn write(&mut self, lines: Vec<RecordedLine>) {
        for RecordedLine { at, direction, text, cut } in lines {
            let direction = match direction {
                Direction::ToAgent => "in",
                Direction::FromAgent => "out",
            };
            let record =
                serde_json::json!({ "t": at.0, "dir": direction, "text": text, "cut": cut });
            let mut bytes = record.to_string().into_bytes();
            bytes.push(b'\n');
            let length = bytes.len() as u64;
            if length > self.left {
                self.left = 0;
                bytes = b"{\"dir\":\"end\",\"text\":\"the record is full\"}\n".to_vec();
            } else {
                self.left -= length;
            }
            let _ = self.file.write_all(&bytes);
            if self.left == 0 {
                return;
            }
        }
    }

    /// Writes the buffered lines to the file, but for those that wait for the next one.
    pub(crate) fn flush(&mut self) {
        let _ = self.file.flush();
    }
}

impl Drop for LineRecorder {
    fn drop(&mut self) {
        let rest = self.guard.release();
        self.write(rest);
        self.flush();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recorder_redacts_secrets_and_bounds_lines() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("raw/r1.jsonl");
        let redactor = Redactor::new(["topsecret".to_owned()]);
        let mut recorder = LineRecorder::open(&path, redactor).unwrap();
        recorder.append(Timestamp(1), Direction::FromAgent, b"{\"key\":\"topsecret\"}");
        recorder.append(Timestamp(2), Direction::ToAgent, &vec![b'x'; 8 * 1024 * 1024]);
        recorder.flush();
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(!text.contains("topsecret") && text.contains("[redacted]"));
        assert!(text.len() < 80 * 1024 && text.lines().count() == 2);
        let last: serde_json::Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
        assert_eq!(last["cut"], 8 * 1024 * 1024 - LINE_LIMIT);
    }

    #[test]
    fn recorder_redacts_a_secret_in_the_pieces_of_a_stream() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("raw/r1.jsonl");
        let redactor = Redactor::new(["0123456789-topsecret".to_owned()]);
        let mut recorder = LineRecorder::open(&path, redactor).unwrap();
        for piece in ["it is 01234", "56789-", "topsec", "ret, and", "01234"] {
            let line = format!("{{\"type\":\"delta\",\"delta\":{{\"text\":\"{piece}\"}},\"n\":1}}");
            recorder.append(Timestamp(1), Direction::FromAgent, line.as_bytes());
        }
        drop(recorder);
        let text = std::fs::read_to_string(&path).unwrap();
        let piece = |line: &str| {
            let record: serde_json::Value = serde_json::from_str(line).unwrap();
            let line: serde_json::Value =
                serde_json::from_str(record["text"].as_str().unwrap()).unwrap();
            assert_eq!(line["n"], 1);
            line["delta"]["text"].as_str().unwrap().to_owned()
        };
        let pieces: Vec<String> = text.lines().map(piece).collect();
        let redacted = "[redacted]";
        assert_eq!(pieces, ["it is [redacted]", redacted, redacted, "[redacted], and", "01234"]);
    }
}
