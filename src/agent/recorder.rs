//! Records the lines between afk and an agent, redacted and bounded, for a later investigation.
//!
//! The turn loop appends every line in both directions; the file lies in the state folder
//! (`raw/RUN.jsonl`), one JSON object a line.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use super::redact::Redactor;
use crate::core::model::time::Timestamp;

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
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Direction {
    ToAgent,
    FromAgent,
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
        Ok(Self { file: BufWriter::new(file), left, redactor })
    }

    /// Appends a line. A failed write loses it without an error, because the transcript has the
    /// content.
    pub(crate) fn append(&mut self, at: Timestamp, direction: Direction, line: &[u8]) {
        if self.left == 0 {
            return;
        }
        let text = String::from_utf8_lossy(&line[..line.len().min(LINE_LIMIT)]);
        let cut = line.len().saturating_sub(LINE_LIMIT);
        let direction = match direction {
            Direction::ToAgent => "in",
            Direction::FromAgent => "out",
        };
        let record = serde_json::json!({
            "t": at.0, "dir": direction, "text": self.redactor.clean(&text), "cut": cut,
        });
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
    }

    /// Writes the buffered lines to the file.
    pub(crate) fn flush(&mut self) {
        let _ = self.file.flush();
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
}
