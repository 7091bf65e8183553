//! Records shells as asciicast v2, and reads the recordings back for a replay.
//!
//! A recording holds the output and the sizes of the terminal. It leaves out typed bytes, which may
//! be a password.

use std::fs::File;
use std::io::{self, BufRead as _, BufWriter, Read as _, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::Instant;

use serde::Deserialize;
use serde_json::json;

/// The most events that wait for the disk; on overflow the recording ends and the shell goes on.
const QUEUE: usize = 1024;
/// The longest line that is read back, in bytes.
const MAX_LINE: u64 = 1024 * 1024;
/// The most bytes that are read back of a recording.
const MAX_READ: u64 = 64 * 1024 * 1024;

/// Writes a recording; a thread of its own waits for the disk.
#[derive(Debug)]
pub struct Recorder {
    events: Option<SyncSender<(f64, RecordedEvent)>>,
    thread: Option<JoinHandle<()>>,
    began: Instant,
    /// Why the recording ended before the shell did.
    pub failed: Option<String>,
}

/// The folder of recordings in a state folder.
#[must_use]
pub(crate) fn folder(state: &Path) -> PathBuf {
    state.join("breakglass/recordings")
}

impl Recorder {
    /// Creates the file, which must not exist yet. `at_seconds` is the Unix time of the start, and
    /// `max_bytes` bounds the file.
    ///
    /// # Errors
    /// The file can't be created.
    pub fn begin(
        path: &Path,
        size: (u16, u16),
        at_seconds: i64,
        max_bytes: u64,
    ) -> io::Result<Self> {
        if let Some(folder) = path.parent() {
            super::store::private_folder(folder)?;
        }
        let file = File::options().write(true).create_new(true).mode(0o600).open(path)?;
        let mut file = BufWriter::new(file);
        let head = json!({
            "version": 2, "width": size.0, "height": size.1, "timestamp": at_seconds,
            "env": {"TERM": "xterm-256color"},
        });
        writeln!(file, "{head}")?;
        file.flush()?;
        let (events, queue) = sync_channel::<(f64, RecordedEvent)>(QUEUE);
        let thread = std::thread::Builder::new().name("recording".into()).spawn(move || {
            let mut decoder = Utf8Decoder::default();
            let mut written = 0;
            while let Ok((at, event)) = queue.recv() {
                let (kind, data) = match event {
                    RecordedEvent::Output(bytes) => ("o", decoder.decode(&bytes)),
                    RecordedEvent::Resize(columns, rows) => ("r", format!("{columns}x{rows}")),
                };
                let mut line = json!([at, kind, data]).to_string();
                written += line.len() as u64 + 1;
                let full = written > max_bytes;
                if full {
                    line = json!([at, "o", "\r\n[the recording ends here: it is full]\r\n"])
                        .to_string();
                }
                // A full disk ends the recording and not the shell.
                let ok = writeln!(file, "{line}").and_then(|()| file.flush());
                if full || ok.is_err() {
                    break;
                }
            }
        })?;
        Ok(Self { events: Some(events), thread: Some(thread), began: Instant::now(), failed: None })
    }

    fn add(&mut self, event: RecordedEvent) {
        let at = (self.began.elapsed().as_secs_f64() * 1e6).round() / 1e6;
        let Some(events) = &self.events else { return };
        match events.try_send((at, event)) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => {
                self.failed = Some("the disk is too slow".into());
                self.events = None;
            }
            Err(TrySendError::Disconnected(_)) => {
                self.failed = Some("the recording or the disk is full".into());
                self.events = None;
            }
        }
    }

    /// Adds bytes that the terminal received.
    pub fn output(&mut self, bytes: &[u8]) {
        self.add(RecordedEvent::Output(bytes.to_vec()));
    }

    /// Adds a new size of the terminal.
    pub fn resize(&mut self, columns: u16, rows: u16) {
        self.add(RecordedEvent::Resize(columns, rows));
    }

    /// Ends the recording and returns its length in milliseconds.
    #[must_use]
    pub fn end(mut self) -> i64 {
        self.events.take();
        if let Some(thread) = self.thread.take() {
            // The panic hook has reported a panic of the thread.
            let _ = thread.join();
        }
        i64::try_from(self.began.elapsed().as_millis()).unwrap_or(i64::MAX)
    }
}

/// Decodes UTF-8 in pieces, which may split a character; replaces invalid bytes.
#[derive(Debug, Default)]
struct Utf8Decoder {
    /// The bytes of a character that is not complete yet.
    rest: Vec<u8>,
}

impl Utf8Decoder {
    fn decode(&mut self, bytes: &[u8]) -> String {
        self.rest.extend_from_slice(bytes);
        let whole = match std::str::from_utf8(&self.rest) {
            Ok(_) => self.rest.len(),
            Err(error) if error.error_len().is_none() => error.valid_up_to(),
            Err(_) => self.rest.len(),
        };
        let rest = self.rest.split_off(whole);
        let text = String::from_utf8_lossy(&self.rest).into_owned();
        self.rest = rest;
        text
    }
}

/// An event of a recorded terminal.
#[derive(Debug, Clone, PartialEq)]
pub enum RecordedEvent {
    /// Bytes that the terminal received.
    Output(Vec<u8>),
    /// The new columns and rows of the terminal.
    Resize(u16, u16),
}

/// A recording in memory, for a replay.
#[derive(Debug, Clone, PartialEq)]
pub struct Asciicast {
    /// The columns and rows at the start.
    pub size: (u16, u16),
    /// The events with their times, in milliseconds from the start.
    pub events: Vec<(u64, RecordedEvent)>,
    /// Whether the file was longer than the part that was read.
    pub cut: bool,
}

/// The first line of an asciicast file.
#[derive(Deserialize)]
struct CastHeader {
    version: u32,
    width: u16,
    height: u16,
}

/// Reads a recording up to the first invalid line.
///
/// # Errors
/// One line for a person.
pub(crate) fn read(path: &Path) -> Result<Asciicast, String> {
    let failed = |error: &dyn std::fmt::Display| format!("read {}: {error}", path.display());
    let file = File::open(path).map_err(|error| failed(&error))?;
    let size = file.metadata().map_or(0, |meta| meta.len());
    let read = parse(io::BufReader::new(file.take(MAX_READ))).map_err(|error| failed(&error))?;
    Ok(Asciicast { cut: size > MAX_READ, ..read })
}

/// A recording up to the first invalid line.
pub(super) fn parse(mut file: impl io::BufRead) -> io::Result<Asciicast> {
    let mut line = String::new();
    file.by_ref().take(MAX_LINE).read_line(&mut line)?;
    let header: CastHeader = serde_json::from_str(&line)?;
    if header.version != 2 {
        return Err(io::Error::other("not an asciicast of version 2"));
    }
    let clamp_size = |columns: u16, rows: u16| (columns.clamp(2, 500), rows.clamp(1, 300));
    let mut events = Vec::new();
    loop {
        line.clear();
        match file.by_ref().take(MAX_LINE).read_line(&mut line) {
            Ok(0) | Err(_) => break,
            Ok(_) => {}
        }
        let Ok((at, kind, data)) = serde_json::from_str::<(f64, String, String)>(&line) else {
            break;
        };
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "the value is bounded on both sides"
        )]
        let at = (at.clamp(0.0, 1e9) * 1000.0) as u64;
        match kind.as_str() {
            "o" => events.push((at, RecordedEvent::Output(data.into_bytes()))),
            "r" => {
                let size = data
                    .split_once('x')
                    .and_then(|(c, r)| Some((c.parse().ok()?, r.parse().ok()?)));
                let Some((columns, rows)) = size else { continue };
                let (columns, rows) = clamp_size(columns, rows);
                events.push((at, RecordedEvent::Resize(columns, rows)));
            }
            _ => {}
        }
    }
    Ok(Asciicast { size: clamp_size(header.width, header.height), events, cut: false })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn read_returns_the_recorded_events() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b.cast");
        let mut recorder = Recorder::begin(&path, (80, 24), 1_700_000_000, 1 << 20).unwrap();
        // The pieces split a character.
        recorder.output(b"a\x1b[1m\xc3");
        recorder.output(b"\xa9\xff");
        recorder.resize(100, 30);
        assert!(recorder.end() >= 0);
        let recording = read(&path).unwrap();
        assert_eq!(recording.size, (80, 24));
        let events: Vec<RecordedEvent> =
            recording.events.into_iter().map(|(_, event)| event).collect();
        assert_eq!(
            events,
            [
                RecordedEvent::Output(b"a\x1b[1m".to_vec()),
                RecordedEvent::Output("é\u{fffd}".as_bytes().to_vec()),
                RecordedEvent::Resize(100, 30)
            ]
        );
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.starts_with('{') && text.lines().count() == 4, "{text}");
    }

    #[test]
    fn recording_ends_at_its_bound_with_a_notice() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.cast");
        let mut recorder = Recorder::begin(&path, (80, 24), 0, 2_000).unwrap();
        for _ in 0..100 {
            recorder.output(&[b'x'; 100]);
        }
        assert!(recorder.end() >= 0);
        assert!(std::fs::metadata(&path).unwrap().len() < 2_500);
        let recording = read(&path).unwrap();
        let Some((_, RecordedEvent::Output(last))) = recording.events.last() else {
            panic!("no end")
        };
        assert!(String::from_utf8_lossy(last).contains("it is full"));
    }
}
