//! Parses the bytes that a terminal sends into events, for the local terminal and for remote ones.
//!
//! `local` and `serve::ssh` feed an `InputParser` and give the session a stream of
//! [`TerminalEvent`]s. Sizes arrive beside the bytes, by SIGWINCH or by an SSH request.

use std::time::Duration;

use crossterm::event::{
    Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers, MouseButton, MouseEvent, MouseEventKind,
};
use futures::stream::BoxStream;
use termina::event as source;

/// How long a lone escape byte at the end of the input may be the start of a key.
pub(crate) const ESCAPE_TIMEOUT: Duration = Duration::from_millis(25);
/// The largest terminal, in columns and rows. A remote peer chooses its size, and our buffers grow
/// with it.
const MAX_SIZE: (u16, u16) = (500, 300);

/// Clamps the size that a remote peer reports to at least 1x1 and at most [`MAX_SIZE`].
#[must_use]
pub(crate) fn clamp_size(columns: u32, rows: u32) -> (u16, u16) {
    let clamp =
        |count: u32, most: u16| u16::try_from(count.clamp(1, u32::from(most))).unwrap_or(most);
    (clamp(columns, MAX_SIZE.0), clamp(rows, MAX_SIZE.1))
}

/// Asks for the primary device attributes. Every terminal answers them, after it has shown the
/// bytes before: the answer proves that a frame has crossed the whole link.
pub(crate) const PROBE: &[u8] = b"\x1b[c";

/// An event of a terminal, local or remote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TerminalEvent {
    /// A key, a paste, the mouse or a new size.
    Input(Event),
    /// The terminal answered the probe that followed a frame, so it has shown that frame.
    ProbeAnswered,
}

/// The events of a terminal until it is closed.
pub type TerminalEvents = BoxStream<'static, TerminalEvent>;

/// Parses a terminal's bytes, in pieces of any length.
#[derive(Debug, Default)]
pub(crate) struct InputParser {
    parser: termina::Parser,
    /// Whether the last piece ended with an escape byte, which may be a key or the start of one.
    escape: bool,
}

impl InputParser {
    /// Parses a piece. `more` says that more bytes may follow soon, so that a lone escape at the
    /// end may be the start of a key.
    pub fn parse(&mut self, bytes: &[u8], more: bool) -> Vec<TerminalEvent> {
        // The answer to a probe can follow a typed escape at once: of two escapes the first is a
        // key.
        if let Some(at) = bytes.windows(4).position(|part| part == b"\x1b\x1b[?") {
            let mut events = self.parse(&bytes[..=at], true);
            events.extend(self.parse(&bytes[at + 1..], more));
            return events;
        }
        if self.escape && bytes.first() == Some(&0x1b) {
            self.parser.parse(b"", false);
        }
        self.escape = bytes.last() == Some(&0x1b);
        self.parser.parse(bytes, more);
        let mut events = Vec::new();
        while let Some(event) = self.parser.pop() {
            events.extend(translate(event));
        }
        events
    }
}

fn translate(event: termina::Event) -> Option<TerminalEvent> {
    Some(match event {
        termina::Event::Key(key) => TerminalEvent::Input(Event::Key(self::key(key)?)),
        termina::Event::Mouse(mouse) => TerminalEvent::Input(Event::Mouse(self::mouse(mouse)?)),
        termina::Event::Paste(text) => TerminalEvent::Input(Event::Paste(text)),
        // The probe is the only request that we send.
        termina::Event::Csi(_) => TerminalEvent::ProbeAnswered,
        _ => return None,
    })
}

fn modifiers(modifiers: source::Modifiers) -> KeyModifiers {
    [
        (source::Modifiers::SHIFT, KeyModifiers::SHIFT),
        (source::Modifiers::ALT, KeyModifiers::ALT),
        (source::Modifiers::CONTROL, KeyModifiers::CONTROL),
        (source::Modifiers::SUPER, KeyModifiers::SUPER),
    ]
    .into_iter()
    .filter(|(theirs, _)| modifiers.contains(*theirs))
    .fold(KeyModifiers::NONE, |all, (_, ours)| all | ours)
}

fn key(key: source::KeyEvent) -> Option<KeyEvent> {
    let code = match key.code {
        source::KeyCode::Char(c) => KeyCode::Char(c),
        source::KeyCode::Enter => KeyCode::Enter,
        source::KeyCode::Backspace => KeyCode::Backspace,
        source::KeyCode::Tab => KeyCode::Tab,
        source::KeyCode::BackTab => KeyCode::BackTab,
        source::KeyCode::Escape => KeyCode::Esc,
        source::KeyCode::Left => KeyCode::Left,
        source::KeyCode::Right => KeyCode::Right,
        source::KeyCode::Up => KeyCode::Up,
        source::KeyCode::Down => KeyCode::Down,
        source::KeyCode::Home => KeyCode::Home,
        source::KeyCode::End => KeyCode::End,
        source::KeyCode::PageUp => KeyCode::PageUp,
        source::KeyCode::PageDown => KeyCode::PageDown,
        source::KeyCode::Insert => KeyCode::Insert,
        source::KeyCode::Delete => KeyCode::Delete,
        source::KeyCode::Function(number) => KeyCode::F(number),
        _ => return None,
    };
    let kind = match key.kind {
        source::KeyEventKind::Press => KeyEventKind::Press,
        source::KeyEventKind::Repeat => KeyEventKind::Repeat,
        source::KeyEventKind::Release => KeyEventKind::Release,
    };
    Some(KeyEvent::new_with_kind(code, modifiers(key.modifiers), kind))
}

fn mouse(mouse: source::MouseEvent) -> Option<MouseEvent> {
    let button = |button: source::MouseButton| match button {
        source::MouseButton::Left => MouseButton::Left,
        source::MouseButton::Right => MouseButton::Right,
        source::MouseButton::Middle => MouseButton::Middle,
    };
    let kind = match mouse.kind {
        source::MouseEventKind::Down(which) => MouseEventKind::Down(button(which)),
        source::MouseEventKind::Up(which) => MouseEventKind::Up(button(which)),
        source::MouseEventKind::ScrollDown => MouseEventKind::ScrollDown,
        source::MouseEventKind::ScrollUp => MouseEventKind::ScrollUp,
        _ => return None,
    };
    let modifiers = modifiers(mouse.modifiers);
    Some(MouseEvent { kind, column: mouse.column, row: mouse.row, modifiers })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn codes(parser: &mut InputParser, sent: &[u8], more: bool) -> Vec<KeyCode> {
        let key = |event| match event {
            TerminalEvent::Input(Event::Key(key)) => Some(key.code),
            _ => None,
        };
        parser.parse(sent, more).into_iter().filter_map(key).collect()
    }

    #[test]
    fn parser_joins_keys_that_are_split_between_packets() {
        let mut parser = InputParser::default();
        assert_eq!(codes(&mut parser, b"a\x1b", true), [KeyCode::Char('a')]);
        assert_eq!(codes(&mut parser, b"[", true), []);
        assert_eq!(codes(&mut parser, b"5~\r", true), [KeyCode::PageUp, KeyCode::Enter]);
        // A lone escape is a key once nothing follows.
        assert_eq!(codes(&mut parser, b"\x1b", true), []);
        assert_eq!(codes(&mut parser, b"", false), [KeyCode::Esc]);
        assert_eq!(parser.parse(b"\x1b[?62;22c", true), [TerminalEvent::ProbeAnswered]);
        // An answer to a probe follows a typed escape.
        assert_eq!(codes(&mut parser, b"\x1b", true), []);
        let events = parser.parse(b"\x1b[?62;22c", true);
        assert_eq!(parser.parse(b"\x1b\x1b[?62;22c", true), events);
        let escape = Event::Key(KeyEvent::new(KeyCode::Esc, KeyModifiers::NONE));
        assert_eq!(events, [TerminalEvent::Input(escape), TerminalEvent::ProbeAnswered]);
    }

    #[test]
    fn clamp_size_keeps_sizes_within_bounds() {
        assert_eq!(clamp_size(65_535, 65_535), MAX_SIZE);
        assert_eq!(clamp_size(0, 0), (1, 1));
        assert_eq!(clamp_size(80, 24), (80, 24));
        assert_eq!(clamp_size(u32::MAX, 24).0, 500);
    }
}
