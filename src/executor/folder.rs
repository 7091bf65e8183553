//! The folder through which afk and the worker of a turn communicate; it outlives both.
//!
//! ```text
//!  afk (kubernetes.rs)                     worker (worker.rs)
//!    ── task.json ────────────────────────>    the TurnSpec, written once
//!    ── controls.jsonl ───────────────────>    a TurnControl a line
//!    <──────────────────── events.jsonl ───    a WorkerMessage a line
//!    taken                                     the offset in events.jsonl that afk has read
//! ```

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::agent::{TurnControl, TurnSpec};
use crate::core::model::agent_event::{AgentEvent, TurnEnd};

/// The longest line that is read, in bytes; events are far shorter.
const LINE_LIMIT: u64 = 16 * 1024 * 1024;

/// A line from the worker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum WorkerMessage {
    /// The worker has started; `version` is the one of its afk.
    Begun {
        version: String,
    },
    Event(AgentEvent),
    /// The turn has ended; this is the last line.
    End(TurnEnd),
}

/// The folder of one turn; see the module.
#[derive(Debug, Clone)]
pub(crate) struct TurnFolder(PathBuf);

impl TurnFolder {
    /// Returns the folder of the turn `name` below `root`; creates nothing.
    pub(crate) fn new(root: &Path, name: &str) -> Self {
        Self(root.join(name))
    }

    pub(crate) const fn at(path: PathBuf) -> Self {
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Writes the task atomically, unless there is one already.
    pub(crate) fn write_task(&self, spec: &TurnSpec) -> io::Result<()> {
        let path = self.0.join("task.json");
        if path.exists() {
            return Ok(());
        }
        std::fs::create_dir_all(&self.0)?;
        let temporary = self.0.join("task.new");
        let mut file = File::create(&temporary)?;
        serde_json::to_writer(&mut file, spec)?;
        file.sync_all()?;
        std::fs::rename(temporary, path)
    }

    pub(crate) fn read_task(&self) -> io::Result<TurnSpec> {
        let file = File::open(self.0.join("task.json"))?;
        Ok(serde_json::from_reader(BufReader::new(file))?)
    }

    /// Appends a message of the worker.
    pub(crate) fn append_message(&self, message: &WorkerMessage) -> io::Result<()> {
        self.append_line("events.jsonl", message)
    }

    /// Appends a control for the worker.
    pub(crate) fn append_control(&self, control: &TurnControl) -> io::Result<()> {
        self.append_line("controls.jsonl", control)
    }

    fn append_line(&self, name: &str, line: &impl Serialize) -> io::Result<()> {
        let mut bytes = serde_json::to_vec(line)?;
        bytes.push(b'\n');
        let mut options = OpenOptions::new();
        options.create(true).append(true).open(self.0.join(name))?.write_all(&bytes)
    }

    /// All messages of the worker, from the first one on.
    pub(crate) fn messages(&self) -> JsonLines<WorkerMessage> {
        JsonLines::new(self.0.join("events.jsonl"), 0)
    }

    /// The messages after the position that [`Self::mark_read`] stored.
    pub(crate) fn unread_messages(&self) -> JsonLines<WorkerMessage> {
        let offset = std::fs::read_to_string(self.0.join("taken")).unwrap_or_default();
        JsonLines::new(self.0.join("events.jsonl"), offset.trim().parse().unwrap_or(0))
    }

    /// Stores the reader's position, so that a restarted afk doesn't emit its messages again.
    pub(crate) fn mark_read(&self, lines: &JsonLines<WorkerMessage>) -> io::Result<()> {
        let temporary = self.0.join("taken.new");
        std::fs::write(&temporary, lines.offset.to_string())?;
        std::fs::rename(temporary, self.0.join("taken"))
    }

    /// All controls for the worker, from the first one on.
    pub(crate) fn controls(&self) -> JsonLines<TurnControl> {
        JsonLines::new(self.0.join("controls.jsonl"), 0)
    }
}

/// Reads a growing file of JSON lines. An incomplete last line waits until its rest is written.
#[derive(Debug)]
pub(crate) struct JsonLines<T> {
    path: PathBuf,
    /// The position after the last complete line, in bytes.
    offset: u64,
    kind: std::marker::PhantomData<fn() -> T>,
}

impl<T: DeserializeOwned> JsonLines<T> {
    const fn new(path: PathBuf, offset: u64) -> Self {
        Self { path, offset, kind: std::marker::PhantomData }
    }

    /// Returns the next complete lines, at most `most`. Skips a line that is no valid JSON. A
    /// missing file counts as empty.
    pub(crate) fn next_batch(&mut self, most: usize) -> io::Result<Vec<T>> {
        let mut file = match File::open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        file.seek(SeekFrom::Start(self.offset))?;
        let mut reader = BufReader::new(file);
        let (mut all, mut line) = (Vec::new(), Vec::new());
        while all.len() < most {
            line.clear();
            let read = reader.by_ref().take(LINE_LIMIT).read_until(b'\n', &mut line)?;
            if line.last() != Some(&b'\n') && (read as u64) < LINE_LIMIT {
                break;
            }
            self.offset += read as u64;
            match serde_json::from_slice(&line) {
                Ok(value) => all.push(value),
                Err(error) => {
                    tracing::warn!(path = %self.path.display(), %error, "skip an unreadable line");
                }
            }
        }
        Ok(all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> WorkerMessage {
        WorkerMessage::Event(AgentEvent::Text { text: text.into() })
    }

    #[test]
    fn reader_skips_read_messages_and_waits_for_complete_lines() {
        let dir = tempfile::tempdir().unwrap();
        let folder = TurnFolder::new(dir.path(), "r1-t1");
        std::fs::create_dir_all(folder.path()).unwrap();
        assert_eq!(folder.unread_messages().next_batch(9).unwrap(), []);
        folder.append_message(&text("one")).unwrap();
        folder.append_message(&text("two")).unwrap();
        let mut unread = folder.unread_messages();
        assert_eq!(unread.next_batch(1).unwrap(), [text("one")]);
        folder.mark_read(&unread).unwrap();
        assert_eq!(folder.unread_messages().next_batch(9).unwrap(), [text("two")]);
        let path = folder.path().join("events.jsonl");
        let mut file = OpenOptions::new().append(true).open(path).unwrap();
        file.write_all(b"nonsense\n{\"end\":{\"end\":\"do").unwrap();
        let mut unread = folder.unread_messages();
        assert_eq!(unread.next_batch(9).unwrap(), [text("two")]);
        file.write_all(b"ne\"}}\n").unwrap();
        assert_eq!(unread.next_batch(9).unwrap(), [WorkerMessage::End(TurnEnd::Done)]);
        assert_eq!(folder.messages().next_batch(9).unwrap().len(), 3);
    }
}
