//! Terminals in the pane: shells on hosts, and recordings of shells.

use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use crate::breakglass::recording::{Asciicast, RecordedEvent};
use crate::breakglass::shell::ToShell;
use crate::core::model::breakglass::ShellId;
use crate::runtime::breakglass::console::ShellEnd;
use crate::term::emulator::Emulator;

/// A pause in a recording that is longer is cut to this.
const PAUSE: u64 = 2_000;
/// Fastest that a recording is played.
const FASTEST: u32 = 64;

/// One terminal.
#[derive(Debug)]
pub struct Terminal {
    /// The host, or the recording's file.
    pub name: String,
    /// What is on it.
    pub emulator: Emulator,
    /// What is behind it.
    pub behind: Behind,
    /// Where copying begins, as a row of the terminal.
    pub mark: Option<u16>,
    /// The row that is chosen, while it is looked through.
    pub row: u16,
    /// What was searched for last.
    pub needle: Option<String>,
}

/// What is behind a terminal.
#[derive(Debug)]
pub enum Behind {
    /// A shell.
    Shell {
        /// Its number.
        id: ShellId,
        /// What is typed; the shell ends when it is dropped.
        to: Option<mpsc::Sender<ToShell>>,
        /// Keys go to it, and not to the cockpit.
        typing: bool,
        /// Why it is over.
        ended: Option<ShellEnd>,
    },
    /// A recording.
    Replay(Replay),
}

/// A recording as it is played.
#[derive(Debug)]
pub struct Replay {
    played: Asciicast,
    next: usize,
    /// In milliseconds from its beginning.
    pub position: u64,
    /// How many times as fast as it was.
    pub speed: u32,
    /// It goes on by itself.
    pub playing: bool,
    since: Option<Instant>,
}

impl Replay {
    /// From its beginning.
    #[must_use]
    pub const fn new(played: Asciicast) -> Self {
        Self { played, next: 0, position: 0, speed: 1, playing: true, since: None }
    }

    /// How long it is, in milliseconds.
    #[must_use]
    pub fn length(&self) -> u64 {
        self.played.events.last().map_or(0, |(at, _)| *at)
    }

    /// When something is to be drawn; none while it stands.
    #[must_use]
    pub fn due(&self, now: Instant) -> Option<Instant> {
        let (at, _) = self.played.events.get(self.next).filter(|_| self.playing)?;
        let wait = at.saturating_sub(self.position).min(PAUSE) / u64::from(self.speed);
        Some(self.since.unwrap_or(now) + Duration::from_millis(wait))
    }

    /// Goes on to where it should be now.
    pub fn advance(&mut self, now: Instant, emulator: &mut Emulator) {
        if !self.playing {
            return;
        }
        let passed = now.saturating_duration_since(self.since.unwrap_or(now));
        let passed = u64::try_from(passed.as_millis()).unwrap_or(u64::MAX);
        self.since = Some(now);
        let mut to = self.position.saturating_add(passed.saturating_mul(u64::from(self.speed)));
        if let Some((at, _)) = self.played.events.get(self.next)
            && at.saturating_sub(self.position) > PAUSE
            && to + PAUSE >= *at - (at - self.position - PAUSE)
        {
            // A long pause is over sooner.
            to = to.max(self.position) + (at - self.position - PAUSE);
        }
        self.show(to, emulator);
        self.playing = self.next < self.played.events.len();
    }

    /// Pauses, or goes on; from its end it begins again.
    pub fn pause(&mut self, now: Instant, emulator: &mut Emulator) {
        if self.next >= self.played.events.len() {
            self.seek(0, emulator);
        }
        self.playing = !self.playing || self.next == 0;
        self.since = self.playing.then_some(now);
    }

    /// Plays faster, or slower.
    pub fn hasten(&mut self, faster: bool) {
        self.speed = if faster { (self.speed * 2).min(FASTEST) } else { (self.speed / 2).max(1) };
    }

    /// Goes to a time of it.
    pub fn seek(&mut self, to: u64, emulator: &mut Emulator) {
        if to < self.position || self.next == 0 {
            *emulator = Emulator::new(self.played.size);
            (self.next, self.position) = (0, 0);
        }
        self.show(to.min(self.length()), emulator);
    }

    fn show(&mut self, to: u64, emulator: &mut Emulator) {
        while let Some((at, step)) = self.played.events.get(self.next) {
            if *at > to {
                break;
            }
            match step {
                // A recording is asked nothing: its answers go nowhere.
                RecordedEvent::Output(bytes) => drop(emulator.feed(bytes)),
                RecordedEvent::Resize(columns, rows) => drop(emulator.resize((*columns, *rows))),
            }
            self.next += 1;
        }
        self.position = to.min(self.length());
    }
}

impl Terminal {
    /// A shell that was opened.
    #[must_use]
    pub fn shell(host: String, id: ShellId, to: mpsc::Sender<ToShell>, size: (u16, u16)) -> Self {
        let emulator = Emulator::new(size);
        let (columns, rows) = emulator.size();
        // The first thing that it is told; there is room.
        let _ = to.try_send(ToShell::Size(columns, rows));
        let behind = Behind::Shell { id, to: Some(to), typing: true, ended: None };
        Self { name: host, emulator, behind, mark: None, row: 0, needle: None }
    }

    /// A recording.
    #[must_use]
    pub fn replay(name: String, played: Asciicast) -> Self {
        let emulator = Emulator::new(played.size);
        let behind = Behind::Replay(Replay::new(played));
        Self { name, emulator, behind, mark: None, row: 0, needle: None }
    }

    /// Keys go to a shell.
    #[must_use]
    pub const fn typing(&self) -> bool {
        matches!(self.behind, Behind::Shell { typing: true, ended: None, .. })
    }

    /// Types into the shell; false where the link does not take it.
    #[must_use]
    pub fn send(&mut self, bytes: Vec<u8>) -> bool {
        self.emulator.bottom();
        match &self.behind {
            Behind::Shell { to: Some(to), .. } => to.try_send(ToShell::Bytes(bytes)).is_ok(),
            _ => false,
        }
    }

    /// Takes output, and answers what may be answered.
    pub fn feed(&mut self, bytes: &[u8]) {
        let replies = self.emulator.feed(bytes);
        if let (false, Behind::Shell { to: Some(to), .. }) = (replies.is_empty(), &self.behind) {
            // A program that asks and does not read gets no answer.
            let _ = to.try_send(ToShell::Bytes(replies));
        }
    }

    /// The shell is over.
    pub fn end(&mut self, end: ShellEnd) {
        if let Behind::Shell { to, typing, ended, .. } = &mut self.behind {
            (*to, *typing, *ended) = (None, false, Some(end));
        }
    }

    /// Fits it to its place; a recording keeps its own size.
    pub fn fit(&mut self, size: (u16, u16)) {
        if let Behind::Shell { to, .. } = &self.behind
            && self.emulator.resize(size)
        {
            self.mark = None;
            let (columns, rows) = self.emulator.size();
            if let Some(to) = to {
                // Told again with the next change, if there was no room.
                let _ = to.try_send(ToShell::Size(columns, rows));
            }
        }
        self.row = self.row.min(self.emulator.size().1.saturating_sub(1));
    }

    /// In the pane's title.
    #[must_use]
    pub fn title(&self, leave: &str) -> String {
        let called = self.emulator.title().map(|title| format!(" · {title}")).unwrap_or_default();
        let up = match self.emulator.behind() {
            0 => String::new(),
            lines => format!(" · {lines} lines up"),
        };
        match &self.behind {
            Behind::Shell { ended: Some(_), .. } => format!("shell on {} · ENDED{up}", self.name),
            Behind::Shell { typing: true, .. } => {
                format!("shell on {} · {leave} leaves it{called}", self.name)
            }
            Behind::Shell { .. } => format!("shell on {} · it goes on{up}{called}", self.name),
            Behind::Replay(replay) => format!(
                "recording {} · {} of {} s · {}{up}",
                self.name,
                replay.position / 1000,
                replay.length() / 1000,
                if replay.playing { format!("{}x", replay.speed) } else { "stands".into() },
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn played() -> Asciicast {
        let out = |text: &str| RecordedEvent::Output(text.as_bytes().to_vec());
        let events = vec![
            (100, out("one\r\n")),
            (500, RecordedEvent::Resize(40, 5)),
            (600, out("two\r\n")),
            (60_000, out("three\r\n")),
        ];
        Asciicast { size: (20, 4), events, cut: false }
    }

    fn text(terminal: &Terminal) -> String {
        terminal.emulator.text(0, 3)
    }

    #[test]
    fn a_recording_is_played_paused_and_sought() {
        let mut terminal = Terminal::replay("x".into(), played());
        let start = Instant::now();
        let after = |ms| start + Duration::from_millis(ms);
        let Terminal { emulator, behind: Behind::Replay(replay), .. } = &mut terminal else {
            panic!()
        };
        replay.advance(start, emulator);
        assert_eq!(replay.due(start), Some(after(100)));
        replay.advance(after(100), emulator);
        replay.hasten(true);
        replay.advance(after(400), emulator);
        assert_eq!((replay.position, emulator.size()), (700, (40, 5)));
        // The minute of silence is two seconds.
        let due = replay.due(after(400)).unwrap();
        assert!(due <= after(1_500), "{:?}", due - start);
        replay.advance(due, emulator);
        replay.advance(due + Duration::from_secs(2), emulator);
        assert!(!replay.playing && replay.due(due).is_none());
        assert!(text(&terminal).contains("three"));
        let Terminal { emulator, behind: Behind::Replay(replay), .. } = &mut terminal else {
            panic!()
        };
        replay.seek(300, emulator);
        assert!(text(&terminal).contains("one") && !text(&terminal).contains("two"));
        let Terminal { emulator, behind: Behind::Replay(replay), .. } = &mut terminal else {
            panic!()
        };
        replay.seek(u64::MAX, emulator);
        replay.pause(start, emulator);
        assert!(replay.playing && replay.position == 0);
    }

    #[test]
    fn a_shell_is_told_its_size_its_keys_and_its_end() {
        let (to, mut typed) = mpsc::channel(8);
        let mut terminal = Terminal::shell("devvm".into(), ShellId(1), to, (80, 24));
        assert_eq!(typed.try_recv(), Ok(ToShell::Size(80, 24)));
        assert!(terminal.typing() && terminal.send(b"ls\r".to_vec()));
        assert_eq!(typed.try_recv(), Ok(ToShell::Bytes(b"ls\r".to_vec())));
        terminal.feed(b"\x1b[6n");
        assert_eq!(typed.try_recv(), Ok(ToShell::Bytes(b"\x1b[1;1R".to_vec())));
        terminal.fit((100, 30));
        terminal.fit((100, 30));
        assert_eq!(typed.try_recv(), Ok(ToShell::Size(100, 30)));
        assert!(typed.try_recv().is_err());
        terminal.end(ShellEnd { why: "link lost".into(), key: None });
        assert!(!terminal.typing() && !terminal.send(b"x".to_vec()));
        assert!(terminal.title("<C-]>").contains("ENDED"));
    }
}
