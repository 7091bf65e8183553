//! Transcripts: one file of JSON lines for each run, appended while the run is active and read in
//! windows.
//!
//! The runtime writes through a [`Store`]. The transcript pane and the HTTP service read through a
//! [`Reader`], which keeps the offset of every 64th record and leaves the text on the disk.

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

/// A line of a transcript.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TranscriptEntry {
    /// The time at which afk received the event.
    pub at: Timestamp,
    /// The number of the run's turn; 0 outside of turns.
    pub turn: u32,
    /// The agent's event, or one of afk's own about the turn.
    pub event: AgentEvent,
}

/// The size of a run's transcript, in bytes, from which on the agent's own text is no longer kept. Long
/// turns of real agents write a few MiB. Readers index a whole file at once, so this also bounds how
/// long a pane takes to open.
const AGENT_LIMIT: u64 = 64 * 1024 * 1024;
/// The size from which on nothing is kept. The room above [`AGENT_LIMIT`] is for prompts, answers, ends
/// and remarks of later turns.
const WHOLE_LIMIT: u64 = 72 * 1024 * 1024;

/// Writes the transcripts of a state folder; keeps the files of active runs open.
#[derive(Debug)]
pub struct Store {
    folder: PathBuf,
    /// Readers end before the first entry after this time; none for the present.
    until: Option<Timestamp>,
    open: Mutex<HashMap<RunId, OpenTranscript>>,
}

/// The file of a run, with the number of its bytes.
#[derive(Debug)]
struct OpenTranscript {
    file: File,
    size: u64,
}

impl OpenTranscript {
    /// Appends entries in one write, and once a remark where the text of the agent ends.
    fn append(&mut self, entries: &[TranscriptEntry]) -> io::Result<()> {
        let mut bytes = Vec::with_capacity(entries.len() * 128);
        for entry in entries {
            let size = self.size + bytes.len() as u64;
            if size >= WHOLE_LIMIT || (size >= AGENT_LIMIT && is_text_of_agent(&entry.event)) {
                continue;
            }
            write_line(&mut bytes, entry)?;
            let after = self.size + bytes.len() as u64;
            let remark = if size < AGENT_LIMIT && after >= AGENT_LIMIT {
                "the transcript of this run is full: afk cuts the agent's text here, and the run goes on"
            } else if size < WHOLE_LIMIT && after >= WHOLE_LIMIT {
                "the transcript of this run ends here, and the run goes on"
            } else {
                continue;
            };
            let event = AgentEvent::Notice { text: remark.into() };
            write_line(&mut bytes, &TranscriptEntry { at: entry.at, turn: entry.turn, event })?;
        }
        self.file.write_all(&bytes)?;
        self.size += bytes.len() as u64;
        Ok(())
    }
}

fn write_line(bytes: &mut Vec<u8>, entry: &TranscriptEntry) -> io::Result<()> {
    serde_json::to_writer(&mut *bytes, entry)?;
    bytes.push(b'\n');
    Ok(())
}

/// Whether an agent can write such events as fast as it likes; the others are bounded elsewhere, or
/// are what a person looks for in a long transcript.
const fn is_text_of_agent(event: &AgentEvent) -> bool {
    !matches!(
        event,
        AgentEvent::Prompt { .. }
            | AgentEvent::Steered { .. }
            | AgentEvent::Resolved { .. }
            | AgentEvent::Notice { .. }
            | AgentEvent::Usage(_)
            | AgentEvent::Exited { .. }
            | AgentEvent::TurnEnd(_)
    )
}

impl Store {
    /// Opens the transcripts of a state folder, and creates their folder where it is missing.
    ///
    /// # Errors
    /// The folder can't be created.
    pub fn open(state: &Path) -> io::Result<Self> {
        let folder = state.join("transcripts");
        std::fs::create_dir_all(&folder)?;
        Ok(Self { folder, until: None, open: Mutex::default() })
    }

    /// The same transcripts as they were at a time, to read.
    pub(crate) fn as_of(&self, until: Timestamp) -> Self {
        Self { folder: self.folder.clone(), until: Some(until), open: Mutex::default() }
    }

    /// The state folder that holds the transcripts.
    #[must_use]
    pub fn state(&self) -> &Path {
        self.folder.parent().unwrap_or(Path::new("."))
    }

    /// The path of a run's transcript.
    #[must_use]
    pub fn path(&self, run: RunId) -> PathBuf {
        self.folder.join(format!("{run}.jsonl"))
    }

    /// Appends entries in one write, without a sync. Once a transcript is full, a remark ends it; the
    /// entries before stay.
    ///
    /// # Errors
    /// The file can't be written.
    pub fn append(&self, run: RunId, entries: &[TranscriptEntry]) -> io::Result<()> {
        let mut open = self.open.locked();
        let transcript = match open.entry(run) {
            std::collections::hash_map::Entry::Occupied(known) => known.into_mut(),
            std::collections::hash_map::Entry::Vacant(new) => {
                let mut file = OpenOptions::new()
                    .create(true)
                    .append(true)
                    .read(true)
                    .open(self.folder.join(format!("{run}.jsonl")))?;
                end_torn_line(&mut file)?;
                let size = file.metadata()?.len();
                new.insert(OpenTranscript { file, size })
            }
        };
        transcript.append(entries)
    }

    /// Closes a run's file after its last entry.
    pub fn close(&self, run: RunId) {
        self.open.locked().remove(&run);
    }

    /// A reader of a run's transcript, which is empty while the file does not exist.
    #[must_use]
    pub fn reader(&self, run: RunId) -> Reader {
        Reader { until: self.until, ..Reader::new(self.path(run)) }
    }
}

/// Ends a line that a crash has cut, so that the next entry starts on a line of its own.
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

/// The number of records between two known offsets.
const STRIDE: usize = 64;
/// The bytes that are read at once.
const CHUNK: usize = 256 * 1024;

/// Reads windows of a transcript, also while it grows.
#[derive(Debug)]
pub struct Reader {
    path: PathBuf,
    /// Records after this time are not read; none for the present.
    until: Option<Timestamp>,
    /// The offsets of records 0, 64, 128, …
    marks: Vec<u64>,
    /// The records of the file.
    indexed: usize,
    /// The records that can be read: all, unless `until` excludes later ones.
    records: usize,
    /// The offset behind the last complete record.
    end: u64,
}

impl Reader {
    /// A reader of the transcript at a path; call [`Reader::refresh`] to read it.
    #[must_use]
    pub const fn new(path: PathBuf) -> Self {
        Self { path, until: None, marks: Vec::new(), indexed: 0, records: 0, end: 0 }
    }

    /// The number of records as of the last refresh.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.records
    }

    /// Whether no record was there at the last refresh.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.records == 0
    }

    /// Indexes the records that were appended since the last refresh; returns whether there are
    /// any.
    ///
    /// # Errors
    /// The file exists and can't be read.
    pub fn refresh(&mut self) -> io::Result<bool> {
        let mut file = match File::open(&self.path) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(e) => return Err(e),
        };
        // A cockpit asks before each frame, and seldom is there anything new.
        let new = file.metadata()?.len().saturating_sub(self.end);
        if new == 0 {
            return Ok(false);
        }
        file.seek(SeekFrom::Start(self.end))?;
        let before = self.indexed;
        let mut buffer = vec![0; usize::try_from(new).map_or(CHUNK, |new| new.min(CHUNK))];
        let mut at = self.end;
        loop {
            let read = file.read(&mut buffer)?;
            if read == 0 {
                break;
            }
            for newline in memchr::memchr_iter(b'\n', &buffer[..read]) {
                if self.indexed.is_multiple_of(STRIDE) {
                    self.marks.push(self.end);
                }
                self.indexed += 1;
                self.end = at + newline as u64 + 1;
            }
            at += read as u64;
        }
        if self.indexed == before {
            return Ok(false);
        }
        self.records = self.indexed;
        if let Some(until) = self.until {
            self.records = self.first_after(until)?;
        }
        Ok(true)
    }

    /// The number of the first record after a time. Records are in the order of their times.
    fn first_after(&self, until: Timestamp) -> io::Result<usize> {
        let (mut low, mut high) = (0, self.indexed);
        while low < high {
            let middle = low + (high - low) / 2;
            let is_later = self.read(middle, 1)?.first().is_none_or(|entry| entry.at > until);
            if is_later {
                high = middle;
            } else {
                low = middle + 1;
            }
        }
        Ok(low)
    }

    /// Reads up to `count` records from number `from` on. A line that can't be decoded becomes a
    /// raw event.
    ///
    /// # Errors
    /// The file can't be read.
    pub fn read(&self, from: usize, count: usize) -> io::Result<Vec<TranscriptEntry>> {
        let mut entries = Vec::new();
        self.lines_from(from, |_, line| {
            entries.push(parse(line));
            entries.len() < count
        })?;
        entries.truncate(count);
        Ok(entries)
    }

    /// Calls `each` with the number and the bytes of every record from `from` on, until it returns
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

    /// The first record from `from` on, or `backwards` the last one up to it, whose event contains
    /// `needle`. Ignores ASCII case.
    ///
    /// # Errors
    /// The file can't be read.
    pub fn search(&self, needle: &str, from: usize, backwards: bool) -> io::Result<Option<usize>> {
        let Some(needle) = Needle::new(needle)? else { return Ok(None) };
        let mut found = None;
        if !backwards {
            self.lines_from(from, |number, line| {
                if needle.is_in(line) {
                    found = Some(number);
                }
                found.is_none()
            })?;
            return Ok(found);
        }
        let mut block = from.min(self.records.saturating_sub(1)) / STRIDE;
        loop {
            self.lines_from(block * STRIDE, |number, line| {
                if number <= from && needle.is_in(line) {
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

pub(super) fn parse(line: &[u8]) -> TranscriptEntry {
    serde_json::from_slice(line).unwrap_or_else(|_| TranscriptEntry {
        at: Timestamp(0),
        turn: 0,
        event: AgentEvent::Raw { line: String::from_utf8_lossy(line).into_owned().into() },
    })
}

/// Letters from the most to the least frequent one in text. A search scans for the rarest byte of
/// its needle, the anchor.
const FREQUENT: &[u8] = b" etaoinsrhldcumfpgwybvkxjqz";

/// A text to search for, ignoring ASCII case.
struct Needle {
    bytes: Vec<u8>,
    /// The index of the rarest byte.
    anchor: usize,
    event_field: memchr::memmem::Finder<'static>,
}

impl Needle {
    /// `None` for an empty needle.
    fn new(text: &str) -> io::Result<Option<Self>> {
        // The search runs over the JSON lines, so the needle is escaped as JSON.
        let quoted = serde_json::to_string(&text.to_ascii_lowercase())?.into_bytes();
        let bytes = quoted[1..quoted.len() - 1].to_vec();
        let rarity = |byte: &u8| FREQUENT.iter().position(|b| b == byte).unwrap_or(usize::MAX);
        let anchor = (0..bytes.len()).max_by_key(|at| rarity(&bytes[*at]));
        // Hits before the event are in the names of fields and not in the agent's text.
        let event_field = memchr::memmem::Finder::new(b"\"event\":");
        Ok(anchor.map(|anchor| Self { bytes, anchor, event_field }))
    }

    fn is_in(&self, line: &[u8]) -> bool {
        let text = self.event_field.find(line).map_or(line, |at| &line[at + 8..]);
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
    use crate::core::model::agent_event::TurnEnd;

    fn text(n: usize) -> TranscriptEntry {
        let event = AgentEvent::Text { text: format!("line {n} of \"many\"").into() };
        TranscriptEntry { at: Timestamp(n.cast_signed() as i64), turn: 1, event }
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
    fn read_returns_windows_at_any_offset() {
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
    fn search_finds_records_in_both_directions() {
        let (_state, _store, reader) = store(1000);
        assert_eq!(reader.search("LINE 700", 0, false).unwrap(), Some(700));
        assert_eq!(reader.search("line 700", 701, false).unwrap(), None);
        assert_eq!(reader.search("line 7", 650, true).unwrap(), Some(79));
        assert_eq!(reader.search("\"many\"", 3, false).unwrap(), Some(3));
        assert_eq!(reader.search("turn", 0, false).unwrap(), None);
        assert_eq!(reader.search("", 0, false).unwrap(), None);
    }

    #[test]
    fn past_ends_before_the_first_later_record() {
        let (_state, store, _) = store(300);
        let last = |until: i64| {
            let mut reader = store.as_of(Timestamp(until)).reader(RunId(1));
            reader.refresh().unwrap();
            (reader.len(), reader.read(0, 999).unwrap().len())
        };
        let all = store.reader(RunId(1)).read(0, 1).unwrap();
        assert!(all.is_empty(), "a reader that was not refreshed");
        let mut reader = store.reader(RunId(1));
        reader.refresh().unwrap();
        let times: Vec<i64> = reader.read(0, 999).unwrap().iter().map(|entry| entry.at.0).collect();
        for until in [-1, times[0], times[63], times[64], times[299], times[299] + 1] {
            let expected = times.iter().filter(|at| **at <= until).count();
            assert_eq!(last(until), (expected, expected), "{until}");
        }
    }

    #[test]
    fn torn_line_costs_one_record() {
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
    fn transcript_of_gigabytes_ends_with_one_remark_and_keeps_its_beginning() {
        let (state, store, _) = store(3);
        let entry = |event| TranscriptEntry { at: Timestamp(1), turn: 1, event };
        let flood = entry(AgentEvent::Text { text: "x".repeat(256 * 1024).into() });
        for _ in 0..300 {
            store.append(RunId(1), std::slice::from_ref(&flood)).unwrap();
        }
        let size = || store.path(RunId(1)).metadata().unwrap().len();
        assert!(size() < AGENT_LIMIT + 512 * 1024, "{} bytes", size());
        let remarks = |text: &str| {
            let file = std::fs::read_to_string(store.path(RunId(1))).unwrap();
            file.lines().filter(|line| line.contains(text)).count()
        };
        assert_eq!(remarks("is full"), 1);
        // A later life of afk, and a later turn, add their ends but no more text.
        store.close(RunId(1));
        store.append(RunId(1), &[flood.clone(), entry(AgentEvent::SteerTaken)]).unwrap();
        store.append(RunId(1), &[entry(AgentEvent::TurnEnd(TurnEnd::Done))]).unwrap();
        let mut reader = store.reader(RunId(1));
        reader.refresh().unwrap();
        assert_eq!(reader.read(0, 3).unwrap(), [text(0), text(1), text(2)]);
        let last = reader.read(reader.len() - 1, 1).unwrap();
        assert_eq!(last[0].event, AgentEvent::TurnEnd(TurnEnd::Done));
        // A hundred thousand remarks end too.
        let remark = entry(AgentEvent::Notice { text: "y".repeat(200).into() });
        for _ in 0..100 {
            store.append(RunId(1), &vec![remark.clone(); 1000]).unwrap();
        }
        assert!(size() < WHOLE_LIMIT + 64 * 1024, "{} bytes", size());
        assert_eq!((remarks("is full"), remarks("ends here")), (1, 1));
        // Another run is not concerned.
        store.append(RunId(2), std::slice::from_ref(&flood)).unwrap();
        assert!(store.path(RunId(2)).metadata().unwrap().len() > 256 * 1024);
        drop(state);
    }

    #[test]
    fn missing_file_reads_as_an_empty_transcript() {
        let state = tempfile::tempdir().unwrap();
        let mut reader = Store::open(state.path()).unwrap().reader(RunId(7));
        assert!(!reader.refresh().unwrap() && reader.is_empty());
    }
}
