//! Transcripts: one file of JSON lines a run, appended while it runs and read by windows.
//!
//! A reader holds the offset of every 64th record, 8 bytes each; the text stays on the disk.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use serde::{Deserialize, Serialize};

use crate::core::model::agent_event::AgentEvent;
use crate::core::model::id::RunId;
use crate::core::model::time::Timestamp;
use crate::lock::LockExt;

/// One line of a transcript.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// When.
    pub at: Timestamp,
    /// In which turn of the run; 0 outside of turns.
    pub turn: u32,
    /// What.
    pub event: AgentEvent,
}

/// The transcripts of a state folder.
#[derive(Debug)]
pub struct Store {
    folder: PathBuf,
    open: Mutex<HashMap<RunId, File>>,
}

impl Store {
    /// The store of a state folder, made where it is missing.
    ///
    /// # Errors
    /// Where the folder can't be made.
    pub fn open(state: &Path) -> io::Result<Self> {
        let folder = state.join("transcripts");
        std::fs::create_dir_all(&folder)?;
        Ok(Self { folder, open: Mutex::default() })
    }

    /// The state folder that it is in.
    #[must_use]
    pub fn state(&self) -> &Path {
        self.folder.parent().unwrap_or(Path::new("."))
    }

    /// The file of a run.
    #[must_use]
    pub fn path(&self, run: RunId) -> PathBuf {
        self.folder.join(format!("{run}.jsonl"))
    }

    /// Appends entries in one write.
    ///
    /// # Errors
    /// Where the file can't be written.
    pub fn append(&self, run: RunId, entries: &[Entry]) -> io::Result<()> {
        let mut bytes = Vec::with_capacity(entries.len() * 128);
        for entry in entries {
            serde_json::to_writer(&mut bytes, entry)?;
            bytes.push(b'\n');
        }
        let mut open = self.open.locked();
        let file = match open.entry(run) {
            std::collections::hash_map::Entry::Occupied(known) => known.into_mut(),
            std::collections::hash_map::Entry::Vacant(new) => {
                let mut file = OpenOptions::new()
                    .create(true)
                    .append(true)
                    .read(true)
                    .open(self.folder.join(format!("{run}.jsonl")))?;
                end_torn_line(&mut file)?;
                new.insert(file)
            }
        };
        file.write_all(&bytes)
    }

    /// Closes a run's file, once nothing more is written to it.
    pub fn close(&self, run: RunId) {
        self.open.locked().remove(&run);
    }

    /// A reader of a run's transcript; of an empty one where there is no file yet.
    #[must_use]
    pub fn reader(&self, run: RunId) -> Reader {
        Reader::new(self.path(run))
    }
}

/// A write that was cut by a crash must not run into the next one.
fn end_torn_line(file: &mut File) -> io::Result<()> {
    if file.seek(SeekFrom::End(0))? > 0 {
        file.seek(SeekFrom::End(-1))?;
        let mut last = [0];
        file.read_exact(&mut last)?;
        if last != *b"\n" {
            file.write_all(b"\n")?;
        }
    }
    Ok(())
}

/// Records between two known offsets.
const STRIDE: usize = 64;

/// A window onto a transcript, also one that grows.
#[derive(Debug)]
pub struct Reader {
    path: PathBuf,
    /// Offset of record 0, 64, 128, …
    marks: Vec<u64>,
    records: usize,
    /// Up to where the file was read; always the end of a record.
    end: u64,
}

impl Reader {
    /// Reads a file; see [`Store::reader`].
    #[must_use]
    pub const fn new(path: PathBuf) -> Self {
        Self { path, marks: Vec::new(), records: 0, end: 0 }
    }

    /// How many records are known.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.records
    }

    /// No record is known.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.records == 0
    }

    /// Takes in what was appended since; true where something was.
    ///
    /// # Errors
    /// Where the file is there and can't be read.
    pub fn refresh(&mut self) -> io::Result<bool> {
        let mut file = match File::open(&self.path) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(e) => return Err(e),
        };
        file.seek(SeekFrom::Start(self.end))?;
        let before = self.records;
        let mut buffer = vec![0; 256 * 1024];
        let mut at = self.end;
        loop {
            let read = file.read(&mut buffer)?;
            if read == 0 {
                break;
            }
            for newline in memchr::memchr_iter(b'\n', &buffer[..read]) {
                if self.records.is_multiple_of(STRIDE) {
                    self.marks.push(self.end);
                }
                self.records += 1;
                self.end = at + newline as u64 + 1;
            }
            at += read as u64;
        }
        Ok(self.records != before)
    }

    /// Up to `count` records from `from` on. A line that can't be read is shown as raw.
    ///
    /// # Errors
    /// Where the file can't be read.
    pub fn read(&self, from: usize, count: usize) -> io::Result<Vec<Entry>> {
        let mut entries = Vec::new();
        self.lines_from(from, |_, line| {
            entries.push(parse(line));
            entries.len() < count
        })?;
        entries.truncate(count);
        Ok(entries)
    }

    /// Calls `each` with the number and the bytes of every record from `from` on, until it says
    /// false.
    fn lines_from(
        &self,
        from: usize,
        mut each: impl FnMut(usize, &[u8]) -> bool,
    ) -> io::Result<()> {
        if from >= self.records {
            return Ok(());
        }
        let mut file = File::open(&self.path)?;
        file.seek(SeekFrom::Start(self.marks[from / STRIDE]))?;
        let mut lines = BufReader::with_capacity(64 * 1024, file);
        let mut line = Vec::new();
        for number in from / STRIDE * STRIDE..self.records {
            line.clear();
            if lines.read_until(b'\n', &mut line)? == 0 {
                break;
            }
            if number >= from && !each(number, line.strip_suffix(b"\n").unwrap_or(&line)) {
                break;
            }
        }
        Ok(())
    }

    /// The first record at or after `from` (or at or before it, backwards) that has `needle` in
    /// its text, without regard to ASCII case.
    ///
    /// # Errors
    /// Where the file can't be read.
    pub fn search(&self, needle: &str, from: usize, backwards: bool) -> io::Result<Option<usize>> {
        let Some(needle) = Needle::new(needle)? else { return Ok(None) };
        let mut found = None;
        if !backwards {
            self.lines_from(from, |number, line| {
                if needle.hits(line) {
                    found = Some(number);
                }
                found.is_none()
            })?;
            return Ok(found);
        }
        let mut block = from.min(self.records.saturating_sub(1)) / STRIDE;
        loop {
            self.lines_from(block * STRIDE, |number, line| {
                if number <= from && needle.hits(line) {
                    found = Some(number);
                }
                number < from && number + 1 < (block + 1) * STRIDE
            })?;
            if found.is_some() || block == 0 {
                return Ok(found);
            }
            block -= 1;
        }
    }
}

fn parse(line: &[u8]) -> Entry {
    serde_json::from_slice(line).unwrap_or_else(|_| Entry {
        at: Timestamp(0),
        turn: 0,
        event: AgentEvent::Raw { line: String::from_utf8_lossy(line).into_owned().into() },
    })
}

/// Letters from the most to the least frequent in text: the last one in a needle is the anchor
/// that is looked for.
const FREQUENT: &[u8] = b" etaoinsrhldcumfpgwybvkxjqz";

/// A needle, without regard to ASCII case.
struct Needle {
    bytes: Vec<u8>,
    anchor: usize,
    text: memchr::memmem::Finder<'static>,
}

impl Needle {
    /// None for an empty one.
    fn new(text: &str) -> io::Result<Option<Self>> {
        // It is looked for in the JSON as it lies there, so it is escaped as JSON is.
        let quoted = serde_json::to_string(&text.to_ascii_lowercase())?.into_bytes();
        let bytes = quoted[1..quoted.len() - 1].to_vec();
        let rarity = |byte: &u8| FREQUENT.iter().position(|b| b == byte).unwrap_or(usize::MAX);
        let anchor = (0..bytes.len()).max_by_key(|at| rarity(&bytes[*at]));
        // The text comes after the event's type; names of fields are no text of the agent's.
        let text = memchr::memmem::Finder::new(b"\"event\":");
        Ok(anchor.map(|anchor| Self { bytes, anchor, text }))
    }

    fn hits(&self, line: &[u8]) -> bool {
        let text = self.text.find(line).map_or(line, |at| &line[at + 8..]);
        let lower = self.bytes[self.anchor];
        memchr::memchr2_iter(lower, lower.to_ascii_uppercase(), text).any(|at| {
            at.checked_sub(self.anchor)
                .and_then(|from| text.get(from..from + self.bytes.len()))
                .is_some_and(|part| part.eq_ignore_ascii_case(&self.bytes))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(n: usize) -> Entry {
        let event = AgentEvent::Text { text: format!("line {n} of \"many\"").into() };
        Entry { at: Timestamp(n.cast_signed() as i64), turn: 1, event }
    }

    fn store(entries: usize) -> (tempfile::TempDir, Store, Reader) {
        let state = tempfile::tempdir().unwrap();
        let store = Store::open(state.path()).unwrap();
        let all: Vec<_> = (0..entries).map(text).collect();
        store.append(RunId(1), &all).unwrap();
        let mut reader = store.reader(RunId(1));
        reader.refresh().unwrap();
        (state, store, reader)
    }

    #[test]
    fn windows_are_read_where_they_lie() {
        let (_state, store, mut reader) = store(1000);
        assert_eq!(reader.len(), 1000);
        for from in [0, 1, 63, 64, 65, 500, 998] {
            assert_eq!(reader.read(from, 2).unwrap(), [text(from), text(from + 1)]);
        }
        assert_eq!(reader.read(999, 5).unwrap(), [text(999)]);
        assert_eq!(reader.read(1000, 5).unwrap(), []);
        assert!(!reader.refresh().unwrap());
        store.append(RunId(1), &[text(1000)]).unwrap();
        assert!(reader.refresh().unwrap());
        assert_eq!(reader.read(1000, 1).unwrap(), [text(1000)]);
    }

    #[test]
    fn search_goes_both_ways() {
        let (_state, _store, reader) = store(1000);
        assert_eq!(reader.search("LINE 700", 0, false).unwrap(), Some(700));
        assert_eq!(reader.search("line 700", 701, false).unwrap(), None);
        assert_eq!(reader.search("line 7", 650, true).unwrap(), Some(79));
        assert_eq!(reader.search("\"many\"", 3, false).unwrap(), Some(3));
        assert_eq!(reader.search("turn", 0, false).unwrap(), None);
        assert_eq!(reader.search("", 0, false).unwrap(), None);
    }

    #[test]
    fn a_torn_line_costs_one_record() {
        let (state, store, _) = store(2);
        store.close(RunId(1));
        let mut file = OpenOptions::new().append(true).open(store.path(RunId(1))).unwrap();
        file.write_all(b"{\"at\":3,\"tu").unwrap();
        let store = Store::open(state.path()).unwrap();
        store.append(RunId(1), &[text(9)]).unwrap();
        let mut reader = store.reader(RunId(1));
        reader.refresh().unwrap();
        let entries = reader.read(0, 9).unwrap();
        assert_eq!(entries.len(), 4);
        assert!(matches!(entries[2].event, AgentEvent::Raw { .. }));
        assert_eq!(entries[3], text(9));
    }

    #[test]
    fn no_file_is_an_empty_transcript() {
        let state = tempfile::tempdir().unwrap();
        let mut reader = Store::open(state.path()).unwrap().reader(RunId(7));
        assert!(!reader.refresh().unwrap() && reader.is_empty());
    }
}
