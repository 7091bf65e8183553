//! A terminal in the pane: a shell on a host, or a recording of one.

use std::time::{Duration, Instant};

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::Line;
use tokio::sync::mpsc;

use super::replay::Replay;
use crate::breakglass::link::LinkState;
use crate::breakglass::recording::Asciicast;
use crate::breakglass::shell::ToShell;
use crate::core::model::breakglass::ShellId;
use crate::core::model::plural::plural;
use crate::core::model::untrusted::clean_line;
use crate::runtime::breakglass::console::ShellEnd;
use crate::term::emulator::Emulator;
use crate::term::encode;
use crate::tui::component::Scene;
use crate::tui::motion::Motion;
use crate::tui::theme::Tone;
use crate::tui::widgets::lines;
use crate::tui::widgets::text::fit;

/// The most bytes of replies to a shell's queries in each [`ANSWER_PERIOD`]. A program asks a few times
/// when it starts. A host that asks in a flood and reads nothing would else fill the link with replies,
/// so that no key reaches it, and get all of them typed into its next prompt.
const ANSWERS: usize = 4096;
const ANSWER_PERIOD: Duration = Duration::from_secs(1);

/// Bytes of pasted text that are sent to a shell at once.
const PASTE: usize = 16 * 1024;

/// The replies to queries that may still be sent in this period.
#[derive(Debug)]
struct AnswerBudget {
    left: usize,
    since: Instant,
}

impl AnswerBudget {
    fn new(now: Instant) -> Self {
        Self { left: ANSWERS, since: now }
    }

    /// Takes `bytes` from the budget; false where it is used up.
    fn take(&mut self, bytes: usize, now: Instant) -> bool {
        if now.saturating_duration_since(self.since) >= ANSWER_PERIOD {
            *self = Self::new(now);
        }
        let fits = bytes <= self.left;
        if fits {
            self.left -= bytes;
        }
        fits
    }
}

/// A screen with its source, in the place of the rows.
#[derive(Debug)]
pub(super) struct Terminal {
    /// The host, or the recording's file.
    pub(super) name: String,
    pub(super) emulator: Emulator,
    pub(super) behind: Behind,
    /// The row of the terminal where copying begins.
    pub(super) mark: Option<u16>,
    /// The chosen row, while the operator looks through the output.
    row: u16,
    /// The text of the last search.
    pub(super) needle: Option<String>,
    answers: AnswerBudget,
}

/// The source of a terminal's output.
#[derive(Debug)]
pub(super) enum Behind {
    Shell {
        id: ShellId,
        /// Sends typed bytes; the shell ends when this is dropped.
        to: Option<mpsc::Sender<ToShell>>,
        /// Keys go to the shell, and not to the cockpit.
        typing: bool,
        /// Why the shell ended.
        ended: Option<ShellEnd>,
        /// The link to the host, and since when it is like this.
        link: (LinkState, Instant),
        /// Pasted lines that wait for a yes.
        pasted: Option<String>,
    },
    Replay(Replay),
}

impl Terminal {
    /// A shell that has just been opened; it has the keys.
    pub(super) fn shell(
        host: String,
        id: ShellId,
        to: mpsc::Sender<ToShell>,
        size: (u16, u16),
    ) -> Self {
        let emulator = Emulator::new(size);
        let (columns, rows) = emulator.size();
        // The channel is new: it has room.
        let _ = to.try_send(ToShell::Size(columns, rows));
        let link = (LinkState::Live, Instant::now());
        let behind =
            Behind::Shell { id, to: Some(to), typing: true, ended: None, link, pasted: None };
        let answers = AnswerBudget::new(Instant::now());
        Self { name: host, emulator, behind, mark: None, row: 0, needle: None, answers }
    }

    /// A recording, played from its beginning.
    pub(super) fn replay(name: String, played: Asciicast) -> Self {
        let emulator = Emulator::new(played.size);
        let behind = Behind::Replay(Replay::new(played));
        let answers = AnswerBudget::new(Instant::now());
        Self { name, emulator, behind, mark: None, row: 0, needle: None, answers }
    }

    /// Whether keys go to the shell.
    pub(super) const fn typing(&self) -> bool {
        matches!(self.behind, Behind::Shell { typing: true, ended: None, .. })
    }

    /// Types into the shell. False: the link is busy and takes nothing now.
    pub(super) fn send(&mut self, bytes: Vec<u8>) -> bool {
        self.emulator.bottom();
        match &self.behind {
            Behind::Shell { to: Some(to), .. } => to.try_send(ToShell::Bytes(bytes)).is_ok(),
            _ => false,
        }
    }

    /// Shows output, and sends the emulator's answers to queries back.
    pub(super) fn feed(&mut self, bytes: &[u8]) {
        let replies = self.emulator.feed(bytes);
        let Behind::Shell { to: Some(to), .. } = &self.behind else { return };
        if replies.is_empty() || !self.answers.take(replies.len(), Instant::now()) {
            return;
        }
        // Keys always find room, also where a host asks and does not read.
        if to.capacity() > to.max_capacity() / 2 {
            let _ = to.try_send(ToShell::Bytes(replies));
        }
    }

    /// Marks the shell as ended.
    pub(super) fn end(&mut self, end: ShellEnd) {
        if let Behind::Shell { to, typing, ended, .. } = &mut self.behind {
            (*to, *typing, *ended) = (None, false, Some(end));
        }
    }

    /// Notes a change of the link.
    pub(super) fn set_link(&mut self, state: LinkState) {
        if let Behind::Shell { link, .. } = &mut self.behind {
            *link = (state, Instant::now());
        }
    }

    /// When the line about the link changes by itself: it counts the seconds of a silence.
    pub(super) fn link_due(&self, now: Instant) -> Option<Instant> {
        let Behind::Shell { link: (LinkState::Silent { .. }, since), ended: None, .. } =
            &self.behind
        else {
            return None;
        };
        let seconds = now.saturating_duration_since(*since).as_secs();
        Some(*since + Duration::from_secs(seconds + 1))
    }

    /// Pastes text into the shell. False: the link is busy, and a part was not sent.
    pub(super) fn paste(&mut self, text: &str) -> bool {
        let bytes = encode::paste(text, self.emulator.mode());
        bytes.chunks(PASTE).all(|piece| self.send(piece.to_vec()))
    }

    /// Keeps pasted lines until the operator says yes.
    pub(super) fn hold_paste(&mut self, text: String) {
        if let Behind::Shell { pasted, .. } = &mut self.behind {
            *pasted = Some(text);
        }
    }

    /// Takes the pasted lines that wait.
    pub(super) fn take_paste(&mut self) -> Option<String> {
        match &mut self.behind {
            Behind::Shell { pasted, .. } => pasted.take(),
            Behind::Replay(_) => None,
        }
    }

    /// The line about the link below the screen: none while the host answers.
    fn link_line(&self, scene: &Scene<'_>, leave: &str) -> Option<(String, Tone)> {
        let Behind::Shell { link: (state, since), ended: None, .. } = &self.behind else {
            return None;
        };
        match state {
            LinkState::Live => None,
            LinkState::Opening(step) => {
                let step = clean_line(step);
                Some((format!(" {step}; {leave} leaves "), Tone::Accent))
            }
            LinkState::Silent { seconds } => {
                let more = scene.instant.saturating_duration_since(*since).as_secs();
                let seconds = seconds.saturating_add(more);
                let waited = plural(seconds, "second");
                Some((
                    format!(" NO ANSWER from {} for {waited}; {leave} leaves ", self.name),
                    Tone::Alarm,
                ))
            }
        }
    }

    /// Fits a shell to its place; a recording keeps its own size.
    pub(super) fn fit(&mut self, size: (u16, u16)) {
        if let Behind::Shell { to, .. } = &self.behind
            && self.emulator.resize(size)
        {
            self.mark = None;
            let (columns, rows) = self.emulator.size();
            if let Some(to) = to {
                // Where there is no room, the next change of size is sent.
                let _ = to.try_send(ToShell::Size(columns, rows));
            }
        }
        self.row = self.row.min(self.emulator.size().1.saturating_sub(1));
    }

    /// The title of the pane while it shows this terminal; `leave` is the key that leaves a shell.
    pub(super) fn title(&self, leave: &str) -> String {
        let called = self.emulator.title().map(|title| format!(" · {title}")).unwrap_or_default();
        let up = match self.emulator.behind() {
            0 => String::new(),
            lines => format!(" · {} up", plural(lines, "line")),
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
                if replay.playing { format!("{}x", replay.speed) } else { "paused".into() },
            ),
        }
    }

    /// Moves the chosen row of a shell, and scrolls at the edges; jumps in a recording.
    pub(super) fn go(&mut self, motion: Motion, page: usize) {
        if let Behind::Replay(replay) = &mut self.behind {
            return replay.go(motion, &mut self.emulator);
        }
        let page = i32::try_from(page).unwrap_or(i32::MAX);
        match motion {
            Motion::Next => self.move_row(1),
            Motion::Previous => self.move_row(-1),
            Motion::PageDown => self.emulator.scroll(-page),
            Motion::PageUp => self.emulator.scroll(page),
            Motion::Top => self.emulator.top(),
            Motion::Bottom => self.emulator.bottom(),
        }
    }

    fn move_row(&mut self, by: i32) {
        let last = i32::from(self.emulator.size().1.saturating_sub(1));
        let to = i32::from(self.row) + by;
        let within = to.clamp(0, last);
        self.row = u16::try_from(within).unwrap_or(0);
        if to == within {
            return;
        }
        let before = self.emulator.behind();
        self.emulator.scroll(within - to);
        // The mark stays with its text.
        let moved =
            i64::try_from(self.emulator.behind()).unwrap_or(0) - i64::try_from(before).unwrap_or(0);
        self.mark = self.mark.map(|mark| {
            u16::try_from((i64::from(mark) + moved).clamp(0, i64::from(last))).unwrap_or(0)
        });
    }

    /// Takes the keys away from a shell, to look through its output.
    pub(super) fn leave(&mut self) {
        if let Behind::Shell { typing, .. } = &mut self.behind {
            *typing = false;
            self.row = self.emulator.size().1.saturating_sub(1);
        }
    }

    /// Starts to mark rows at the chosen one, or forgets the mark.
    pub(super) fn toggle_mark(&mut self) {
        self.mark = if self.mark.is_some() { None } else { Some(self.row) };
    }

    /// The marked rows, or the chosen one.
    pub(super) fn marked(&self) -> String {
        self.emulator.text(self.mark.unwrap_or(self.row), self.row)
    }

    /// Draws the screen of the terminal, its cursor while it has the keys, and the state of the link.
    /// `resume` is the key that returns to the shell, and `leave` the keys that leave it.
    pub(super) fn draw(
        &self,
        frame: &mut Frame<'_>,
        area: Rect,
        scene: &Scene<'_>,
        (resume, leave): (&str, &str),
    ) {
        let theme = scene.theme;
        let browsed = !self.typing() && matches!(self.behind, Behind::Shell { .. });
        let marked = browsed.then(|| (self.mark.unwrap_or(self.row), self.row));
        self.emulator.paint(frame.buffer_mut(), area, theme.coloured(), marked);
        if self.typing()
            && !scene.covered
            && let Some(cursor) = self.emulator.cursor(area)
        {
            frame.set_cursor_position(cursor);
        }
        let line = if let Behind::Shell { ended: Some(end), .. } = &self.behind {
            Some((format!(" {}; {resume} reconnects ", end.why.clean_line()), Tone::Alarm))
        } else {
            self.link_line(scene, leave)
        };
        if let Some((text, tone)) = line {
            let text = fit(&text, usize::from(area.width), theme.marks.cut);
            let spot = Rect { y: area.bottom().saturating_sub(1), height: 1, ..area };
            lines::draw(frame, spot, [Line::styled(text, theme.style(tone))]);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;
    use crate::breakglass::recording::RecordedEvent;

    fn played() -> Asciicast {
        let out = |text: &str| RecordedEvent::Output(text.as_bytes().to_vec());
        let steps = vec![
            (100, out("one\r\n")),
            (500, RecordedEvent::Resize(40, 5)),
            (600, out("two\r\n")),
            (60_000, out("three\r\n")),
        ];
        Asciicast { size: (20, 4), events: steps, cut: false }
    }

    fn text(terminal: &Terminal) -> String {
        terminal.emulator.text(0, 3)
    }

    #[test]
    fn recording_plays_pauses_and_seeks() {
        let mut terminal = Terminal::replay("x".into(), played());
        let start = Instant::now();
        let after = |ms| start + Duration::from_millis(ms);
        let Terminal { emulator, behind: Behind::Replay(replay), .. } = &mut terminal else {
            panic!()
        };
        replay.advance(start, emulator);
        assert_eq!(replay.due(start), Some(after(100)));
        replay.advance(after(100), emulator);
        replay.faster();
        replay.advance(after(400), emulator);
        assert_eq!((replay.position, emulator.size()), (700, (40, 5)));
        // The minute of silence takes two seconds.
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
    fn shell_receives_its_size_keys_and_end() {
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
