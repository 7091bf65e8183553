//! The lines between us and an agent as they came, for forensics: redacted, and bounded.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use super::redact::Redactor;
use crate::core::model::time::Timestamp;

/// Largest file of one run, in bytes; then only what concerns the end is lost, and it says so.
const LARGEST: u64 = 64 * 1024 * 1024;
/// The most of one line that is kept, in bytes.
const LINE: usize = 64 * 1024;

/// Appends lines; see the module.
#[derive(Debug)]
pub struct Record {
    file: BufWriter<File>,
    left: u64,
    redactor: Redactor,
}

/// Which way a line went.
#[derive(Debug, Clone, Copy)]
pub enum Way {
    /// To the agent.
    In,
    /// From it.
    Out,
}

impl Record {
    /// Opens a run's file for appending, readable by its owner alone.
    ///
    /// # Errors
    /// As the file system says.
    pub fn open(path: &Path, redactor: Redactor) -> std::io::Result<Self> {
        use std::os::unix::fs::OpenOptionsExt;
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        let file = File::options().create(true).append(true).mode(0o600).open(path)?;
        let left = LARGEST.saturating_sub(file.metadata()?.len());
        Ok(Self { file: BufWriter::new(file), left, redactor })
    }

    /// Appends a line. What can't be written is lost: the transcript has what matters.
    pub fn line(&mut self, at: Timestamp, way: Way, line: &[u8]) {
        if self.left == 0 {
            return;
        }
        let text = String::from_utf8_lossy(&line[..line.len().min(LINE)]);
        let cut = line.len().saturating_sub(LINE);
        let way = match way {
            Way::In => "in",
            Way::Out => "out",
        };
        let record = serde_json::json!({
            "t": at.0, "dir": way, "text": self.redactor.clean(&text), "cut": cut,
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

    /// Hands what is buffered to the file system.
    pub fn flush(&mut self) {
        let _ = self.file.flush();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_kept_without_secrets_and_within_bounds() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("raw/r1.jsonl");
        let redactor = Redactor::new(["topsecret".to_owned()]);
        let mut record = Record::open(&path, redactor).unwrap();
        record.line(Timestamp(1), Way::Out, b"{\"key\":\"topsecret\"}");
        record.line(Timestamp(2), Way::In, &vec![b'x'; 8 * 1024 * 1024]);
        record.flush();
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(!text.contains("topsecret") && text.contains("[redacted]"));
        assert!(text.len() < 80 * 1024 && text.lines().count() == 2);
        let last: serde_json::Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
        assert_eq!(last["cut"], 8 * 1024 * 1024 - LINE);
    }
}
