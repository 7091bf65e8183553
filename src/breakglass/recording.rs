//! Recordings of shells: asciicast v2, output and sizes. What is typed is not kept: it may be a
//! password.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::Instant;

use serde::Deserialize;
use serde_json::json;

/// Pieces that may wait for the disk; then the recording ends rather than the shell.
const WAITING: usize = 1024;
/// A line of a recording that is read back.
const LINE: u64 = 1024 * 1024;
/// The most that is read of a recording to be played.
const PLAYED: u64 = 64 * 1024 * 1024;

enum Piece {
    Out(Vec<u8>),
    Size(u16, u16),
}

/// A recording that is being made; a thread of its own waits for the disk.
#[derive(Debug)]
pub struct Recorder {
    pieces: Option<SyncSender<(f64, Piece)>>,
    thread: Option<JoinHandle<()>>,
    began: Instant,
    /// Why it ended before the shell did.
    pub failed: Option<String>,
}

/// The folder of recordings in a state folder.
#[must_use]
pub fn folder(state: &Path) -> PathBuf {
    state.join("breakglass/recordings")
}

impl Recorder {
    /// Begins a file that is not there yet.
    ///
    /// # Errors
    /// Where it can't be made.
    pub fn begin(path: &Path, size: (u16, u16), at_seconds: i64, most: u64) -> io::Result<Self> {
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
        let (pieces, queue) = sync_channel::<(f64, Piece)>(WAITING);
        let thread = std::thread::Builder::new().name("recording".into()).spawn(move || {
            let mut text = Text::default();
            let mut written = 0;
            while let Ok((at, piece)) = queue.recv() {
                let (kind, data) = match piece {
                    Piece::Out(bytes) => ("o", text.take(&bytes)),
                    Piece::Size(columns, rows) => ("r", format!("{columns}x{rows}")),
                };
                let mut line = json!([at, kind, data]).to_string();
                written += line.len() as u64 + 1;
                let full = written > most;
                if full {
                    line = json!([at, "o", "\r\n[the recording ends here: it is full]\r\n"])
                        .to_string();
                }
                // A disk that is full ends the recording and not the shell.
                let ok = writeln!(file, "{line}").and_then(|()| file.flush());
                if full || ok.is_err() {
                    break;
                }
            }
        })?;
        Ok(Self { pieces: Some(pieces), thread: Some(thread), began: Instant::now(), failed: None })
    }

    fn add(&mut self, piece: Piece) {
        let at = (self.began.elapsed().as_secs_f64() * 1e6).round() / 1e6;
        let Some(pieces) = &self.pieces else { return };
        match pieces.try_send((at, piece)) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => {
                self.failed = Some("the disk did not keep up".into());
                self.pieces = None;
            }
            Err(TrySendError::Disconnected(_)) => {
                self.failed = Some("it is full, or the disk is".into());
                self.pieces = None;
            }
        }
    }

    /// Adds what the terminal got.
    pub fn output(&mut self, bytes: &[u8]) {
        self.add(Piece::Out(bytes.to_vec()));
    }

    /// Adds a change of size.
    pub fn size(&mut self, columns: u16, rows: u16) {
        self.add(Piece::Size(columns, rows));
    }

    /// Ends it; how long it is, in milliseconds.
    #[must_use]
    pub fn end(mut self) -> i64 {
        self.pieces.take();
        if let Some(thread) = self.thread.take() {
            // A panic in it was reported by its hook.
            let _ = thread.join();
        }
        i64::try_from(self.began.elapsed().as_millis()).unwrap_or(i64::MAX)
    }
}

/// Bytes as text: a character that comes in two pieces is one.
#[derive(Debug, Default)]
struct Text {
    rest: Vec<u8>,
}

impl Text {
    fn take(&mut self, bytes: &[u8]) -> String {
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

/// One step of a recording.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// The terminal got this.
    Out(Vec<u8>),
    /// It had this size from then on.
    Size(u16, u16),
}

/// A recording to be played.
#[derive(Debug, Clone, PartialEq)]
pub struct Played {
    /// Columns and rows at first.
    pub size: (u16, u16),
    /// What happened, with when, in milliseconds from the beginning.
    pub steps: Vec<(u64, Step)>,
    /// It was longer than what is read.
    pub cut: bool,
}

#[derive(Deserialize)]
struct Head {
    version: u32,
    width: u16,
    height: u16,
}

/// Reads a recording; a line that can't be read ends it.
///
/// # Errors
/// A line for a person.
pub fn read(path: &Path) -> Result<Played, String> {
    use std::io::{BufRead, Read};
    let wrong = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let file = File::open(path).map_err(|error| wrong(&error))?;
    let size = file.metadata().map_or(0, |meta| meta.len());
    let mut file = io::BufReader::new(file.take(PLAYED));
    let mut line = String::new();
    file.by_ref().take(LINE).read_line(&mut line).map_err(|error| wrong(&error))?;
    let head: Head = serde_json::from_str(&line).map_err(|error| wrong(&error))?;
    if head.version != 2 {
        return Err(wrong(&"is no asciicast of version 2"));
    }
    let clamped = |columns: u16, rows: u16| (columns.clamp(2, 500), rows.clamp(1, 300));
    let mut steps = Vec::new();
    loop {
        line.clear();
        match file.by_ref().take(LINE).read_line(&mut line) {
            Ok(0) | Err(_) => break,
            Ok(_) => {}
        }
        let Ok((at, kind, data)) = serde_json::from_str::<(f64, String, String)>(&line) else {
            break;
        };
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // Bounded on both sides.
        let at = (at.clamp(0.0, 1e9) * 1000.0) as u64;
        match kind.as_str() {
            "o" => steps.push((at, Step::Out(data.into_bytes()))),
            "r" => {
                let size = data
                    .split_once('x')
                    .and_then(|(c, r)| Some((c.parse().ok()?, r.parse().ok()?)));
                let Some((columns, rows)) = size else { continue };
                let (columns, rows) = clamped(columns, rows);
                steps.push((at, Step::Size(columns, rows)));
            }
            _ => {}
        }
    }
    Ok(Played { size: clamped(head.width, head.height), steps, cut: size > PLAYED })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_recorded_is_played() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b.cast");
        let mut recorder = Recorder::begin(&path, (80, 24), 1_700_000_000, 1 << 20).unwrap();
        // A character in two pieces.
        recorder.output(b"a\x1b[1m\xc3");
        recorder.output(b"\xa9\xff");
        recorder.size(100, 30);
        assert!(recorder.end() >= 0);
        let played = read(&path).unwrap();
        assert_eq!(played.size, (80, 24));
        let steps: Vec<Step> = played.steps.into_iter().map(|(_, step)| step).collect();
        assert_eq!(
            steps,
            [
                Step::Out(b"a\x1b[1m".to_vec()),
                Step::Out("é\u{fffd}".as_bytes().to_vec()),
                Step::Size(100, 30)
            ]
        );
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.starts_with('{') && text.lines().count() == 4, "{text}");
    }

    #[test]
    fn a_recording_has_a_bound_and_says_so() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.cast");
        let mut recorder = Recorder::begin(&path, (80, 24), 0, 2_000).unwrap();
        for _ in 0..100 {
            recorder.output(&[b'x'; 100]);
        }
        assert!(recorder.end() >= 0);
        assert!(std::fs::metadata(&path).unwrap().len() < 2_500);
        let played = read(&path).unwrap();
        let Some((_, Step::Out(last))) = played.steps.last() else { panic!("no end") };
        assert!(String::from_utf8_lossy(last).contains("it is full"));
    }
}
