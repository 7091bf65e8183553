//! A pty with a terminal emulator behind it, so that tests read the screen as a person would.

use std::io::{Read, Write};
use std::path::Path;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use alacritty_terminal::event::VoidListener;
use alacritty_terminal::grid::Dimensions;
use alacritty_terminal::index::{Column, Line};
use alacritty_terminal::term::{Config, Term};
use alacritty_terminal::vte::ansi::Processor;
use portable_pty::{Child, CommandBuilder, MasterPty, PtySize, native_pty_system};

use super::AFK;

/// The longest wait for a screen.
const LIMIT: Duration = Duration::from_secs(60);

struct Size(u16, u16);

impl Dimensions for Size {
    fn total_lines(&self) -> usize {
        usize::from(self.1)
    }
    fn screen_lines(&self) -> usize {
        usize::from(self.1)
    }
    fn columns(&self) -> usize {
        usize::from(self.0)
    }
}

pub struct Terminal {
    master: Box<dyn MasterPty + Send>,
    writer: Box<dyn Write + Send>,
    pub child: Box<dyn Child + Send + Sync>,
    chunks: mpsc::Receiver<Vec<u8>>,
    term: Term<VoidListener>,
    parser: Processor,
    /// Every byte received so far.
    pub bytes: Vec<u8>,
}

fn size(columns: u16, rows: u16) -> PtySize {
    PtySize { rows, cols: columns, pixel_width: 0, pixel_height: 0 }
}

impl Terminal {
    /// Starts afk in a terminal of the given size.
    pub fn start(args: &[&str], columns: u16, rows: u16, dir: &Path) -> Self {
        Self::program(AFK, args, columns, rows, dir)
    }

    /// Starts a program in 120x30 with more environment variables.
    pub fn with_env(program: &str, args: &[&str], dir: &Path, env: &[(&str, &str)]) -> Self {
        Self::begin(program, args, (120, 30), dir, env)
    }

    /// Starts any program in a terminal of the given size.
    pub fn program(program: &str, args: &[&str], columns: u16, rows: u16, dir: &Path) -> Self {
        Self::begin(program, args, (columns, rows), dir, &[])
    }

    fn begin(
        program: &str,
        args: &[&str],
        (columns, rows): (u16, u16),
        dir: &Path,
        env: &[(&str, &str)],
    ) -> Self {
        let pair = native_pty_system().openpty(size(columns, rows)).unwrap();
        let mut command = CommandBuilder::new(program);
        command.args(args);
        command.cwd(dir);
        command.env("TERM", "xterm-256color");
        command.env_remove("NO_COLOR");
        for (name, value) in env {
            command.env(name, value);
        }
        let child = pair.slave.spawn_command(command).unwrap();
        drop(pair.slave);
        let mut reader = pair.master.try_clone_reader().unwrap();
        let writer = pair.master.take_writer().unwrap();
        let (tell, chunks) = mpsc::channel();
        std::thread::spawn(move || {
            let mut buffer = vec![0; 64 * 1024];
            while let Ok(read @ 1..) = reader.read(&mut buffer) {
                if tell.send(buffer[..read].to_vec()).is_err() {
                    break;
                }
            }
        });
        let term = Term::new(Config::default(), &Size(columns, rows), VoidListener);
        let master = pair.master;
        Self { master, writer, child, chunks, term, parser: Processor::new(), bytes: Vec::new() }
    }

    pub fn keys(&mut self, keys: &str) {
        self.writer.write_all(keys.as_bytes()).unwrap();
        self.writer.flush().unwrap();
    }

    pub fn resize(&mut self, columns: u16, rows: u16) {
        self.term.resize(Size(columns, rows));
        self.master.resize(size(columns, rows)).unwrap();
    }

    /// Reports a size to the program without resizing the emulator.
    pub fn claim(&mut self, columns: u16, rows: u16) {
        self.master.resize(size(columns, rows)).unwrap();
    }

    /// The screen as lines.
    pub fn lines(&self) -> Vec<String> {
        let grid = self.term.grid();
        (0..grid.screen_lines())
            .map(|row| {
                let line = Line(i32::try_from(row).unwrap());
                (0..grid.columns()).map(|column| grid[line][Column(column)].c).collect()
            })
            .collect()
    }

    pub fn text(&self) -> String {
        self.lines().join("\n")
    }

    fn take(&mut self, chunk: &[u8]) {
        self.bytes.extend_from_slice(chunk);
        // A terminal answers a query for its presence.
        for _ in chunk.windows(3).filter(|bytes| bytes == b"\x1b[c") {
            // The program may have ended.
            let _ = self.writer.write_all(b"\x1b[?62;22c").and_then(|()| self.writer.flush());
        }
        self.parser.advance(&mut self.term, chunk);
    }

    /// Waits until the screen fits; panics with the screen if it never does.
    pub fn until(&mut self, what: &str, fits: impl Fn(&str) -> bool) {
        let end = Instant::now() + LIMIT;
        while !fits(&self.text()) {
            let left = end.saturating_duration_since(Instant::now());
            match self.chunks.recv_timeout(left) {
                Ok(chunk) => self.take(&chunk),
                Err(error) => panic!("{what} did not come ({error}):\n{}", self.text()),
            }
        }
    }

    /// Waits for a screen for a limited time, and returns whether it came.
    pub fn comes(&mut self, within: Duration, fits: impl Fn(&str) -> bool) -> bool {
        let end = Instant::now() + within;
        while !fits(&self.text()) {
            let Some(left) = end.checked_duration_since(Instant::now()) else { return false };
            if let Ok(chunk) = self.chunks.recv_timeout(left) {
                self.take(&chunk);
            }
        }
        true
    }

    /// Reads the program's output until a condition outside of the terminal holds.
    pub fn read_until(&mut self, what: &str, fits: impl Fn() -> bool) {
        let end = Instant::now() + LIMIT;
        while !fits() {
            assert!(Instant::now() < end, "{what} did not come:\n{}", self.text());
            if let Ok(chunk) = self.chunks.recv_timeout(Duration::from_millis(20)) {
                self.take(&chunk);
            }
        }
    }

    pub fn shows(&mut self, text: &str) {
        self.until(text, |screen| screen.contains(text));
    }

    /// Waits until the card on the screen takes answers: keys that come with it are ignored.
    pub fn takes_answers(&mut self) {
        self.until("a card that takes answers", |screen| !screen.contains("answer keys wait"));
    }

    /// Counts the bytes that arrive within a time. Always waits for the whole time, since none
    /// should.
    pub fn bytes_within(&mut self, time: Duration) -> usize {
        let end = Instant::now() + time;
        let mut received = 0;
        while let Some(left) = end.checked_duration_since(Instant::now()) {
            match self.chunks.recv_timeout(left) {
                Ok(chunk) => {
                    received += chunk.len();
                    self.take(&chunk);
                }
                Err(_) => break,
            }
        }
        received
    }

    /// Waits for the next bytes.
    pub fn next_bytes(&mut self) {
        let chunk = self.chunks.recv_timeout(LIMIT).unwrap();
        self.take(&chunk);
    }

    /// The first line with the selection marker.
    pub fn selected(&self) -> Option<String> {
        self.lines()
            .into_iter()
            .find(|line| line.contains("│>"))
            .map(|line| line.chars().take(40).collect())
    }

    /// Waits for the program's end and returns its exit code.
    pub fn end(&mut self) -> u32 {
        loop {
            match self.chunks.recv_timeout(LIMIT) {
                Ok(chunk) => self.take(&chunk),
                Err(mpsc::RecvTimeoutError::Disconnected) => break,
                Err(mpsc::RecvTimeoutError::Timeout) => panic!("it did not end:\n{}", self.text()),
            }
        }
        self.child.wait().unwrap().exit_code()
    }
}

/// Starts afk in a terminal, waits for a text, and closes the terminal.
pub fn start_and_close(
    places: &[String],
    words: &[&str],
    shows: &str,
) -> Box<dyn Child + Send + Sync> {
    let pair = native_pty_system().openpty(size(80, 24)).unwrap();
    let mut command = CommandBuilder::new(AFK);
    command.args(places);
    command.args(words);
    command.env("TERM", "xterm-256color");
    let child = pair.slave.spawn_command(command).unwrap();
    drop(pair.slave);
    let mut reader = pair.master.try_clone_reader().unwrap();
    let (mut seen, mut buffer) = (Vec::new(), vec![0; 64 * 1024]);
    while !String::from_utf8_lossy(&seen).contains(shows) {
        let read = reader.read(&mut buffer).unwrap();
        seen.extend_from_slice(&buffer[..read]);
    }
    // The reader holds the last handle.
    child
}
