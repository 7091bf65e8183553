//! Parses the bytes that a terminal sends into events, for the local terminal and for remote ones.
//!
//! `local` and `serve::ssh` feed an `InputParser` and give the session a stream of
//! [`TerminalEvent`]s. Sizes arrive beside the bytes, by SIGWINCH or by an SSH request.

use std::time::{Duration, Instant};

use crossterm::event::{
    Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers, MouseButton, MouseEvent, MouseEventKind,
};
use futures::stream::BoxStream;
use termina::event as source;

use super::split::{Piece, Splitter};

/// How long an escape, or an incomplete sequence, at the end of the input may be the start of a key.
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

/// Parses a terminal's bytes, in packets of any length.
#[derive(Debug, Default)]
pub(crate) struct InputParser {
    splitter: Splitter,
    /// Parses text; between two packets it holds at most the start of one character.
    text: termina::Parser,
}

impl InputParser {
    /// Parses a packet. `more` says that more bytes may follow soon, so that an escape at the end may
    /// be the start of a key.
    pub fn parse(&mut self, bytes: &[u8], more: bool) -> Vec<TerminalEvent> {
        let mut events = Vec::new();
        for piece in self.splitter.split(bytes, more, Instant::now()) {
            match piece {
                Piece::Text(text) => {
                    self.text.parse(&text, true);
                    drain(&mut self.text, &mut events);
                }
                Piece::Escape => events.push(typed(KeyCode::Esc, KeyModifiers::NONE)),
                Piece::Alt(character) => {
                    let character = char::from(character);
                    let shift = if character.is_uppercase() {
                        KeyModifiers::SHIFT
                    } else {
                        KeyModifiers::NONE
                    };
                    events.push(typed(KeyCode::Char(character), KeyModifiers::ALT | shift));
                }
                Piece::Sequence(sequence) => {
                    // A parser of its own: it keeps a sequence that it does not know, and would wait
                    // for the end of it.
                    let mut parser = termina::Parser::default();
                    parser.parse(&sequence, false);
                    drain(&mut parser, &mut events);
                }
                Piece::Paste(text) => {
                    let text = String::from_utf8_lossy(&text).into_owned();
                    events.push(TerminalEvent::Input(Event::Paste(text)));
                }
            }
        }
        events
    }
}

fn drain(parser: &mut termina::Parser, events: &mut Vec<TerminalEvent>) {
    while let Some(event) = parser.pop() {
        events.extend(translate(event));
    }
}

fn typed(code: KeyCode, modifiers: KeyModifiers) -> TerminalEvent {
    TerminalEvent::Input(Event::Key(KeyEvent::new(code, modifiers)))
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
    fn escape_with_a_character_never_holds_back_the_keys_after_it() {
        for character in ['[', 'O', ']', 'P', '_', '^', 'X', '\\', 'a', '?'] {
            let mut parser = InputParser::default();
            let sent = format!("\x1b{character}");
            let mut events = parser.parse(sent.as_bytes(), true);
            events.extend(parser.parse(b"", false));
            let shift =
                if character.is_uppercase() { KeyModifiers::SHIFT } else { KeyModifiers::NONE };
            let alt = typed(KeyCode::Char(character), KeyModifiers::ALT | shift);
            assert_eq!(events, [alt], "{character}");
            assert_eq!(codes(&mut parser, b"q", true), [KeyCode::Char('q')], "{character}");
        }
    }

    #[test]
    fn incomplete_and_unknown_sequences_end() {
        for sent in [
            "\x1b]11;rgb:00",
            "\x1bP1$r",
            "\x1b_G",
            "\x1b[?5",
            "\x1b[?5z",
            "\x1b[>1z",
            "\x1b[<0;1",
            "\x1b[M",
            "\x1b[[",
            "\x1b[1;",
            "\x1bOz",
        ] {
            let mut parser = InputParser::default();
            assert_eq!(codes(&mut parser, sent.as_bytes(), true), [], "{sent:?}");
            assert_eq!(codes(&mut parser, b"", false), [], "{sent:?}");
            assert_eq!(codes(&mut parser, b"q", true), [KeyCode::Char('q')], "{sent:?}");
        }
        // Reports of a terminal are no keys, however their bytes are divided.
        let mut parser = InputParser::default();
        assert_eq!(
            codes(&mut parser, b"\x1b]11;rgb:y/y/y\x07\x1bP>|tmux y\x1b\\q", true),
            [KeyCode::Char('q')]
        );
    }

    #[test]
    fn parser_reads_pastes_function_keys_and_characters_beyond_ascii() {
        let mut parser = InputParser::default();
        let events = parser.parse("\x1b[200~ü\x1b[A\r\x1b[201~".as_bytes(), true);
        assert_eq!(events, [TerminalEvent::Input(Event::Paste("ü\x1b[A\r".into()))]);
        let keys = "\x1bOA\x1b[1;5C\x1b[[A\x1b[Zü\x1b\x1b[B";
        let expected = [
            KeyCode::Up,
            KeyCode::Right,
            KeyCode::F(1),
            KeyCode::BackTab,
            KeyCode::Char('ü'),
            KeyCode::Esc,
            KeyCode::Down,
        ];
        assert_eq!(codes(&mut parser, keys.as_bytes(), true), expected);
        let mut halves = Vec::new();
        for byte in "ü\x1bö".as_bytes() {
            halves.extend(codes(&mut parser, &[*byte], true));
        }
        assert_eq!(halves, [KeyCode::Char('ü'), KeyCode::Char('ö')]);
        assert!(matches!(
            parser.parse(b"\x1b[<0;5;6M", true)[..],
            [TerminalEvent::Input(Event::Mouse(MouseEvent { column: 4, row: 5, .. }))]
        ));
    }

    #[test]
    fn clamp_size_keeps_sizes_within_bounds() {
        assert_eq!(clamp_size(65_535, 65_535), MAX_SIZE);
        assert_eq!(clamp_size(0, 0), (1, 1));
        assert_eq!(clamp_size(80, 24), (80, 24));
        assert_eq!(clamp_size(u32::MAX, 24).0, 500);
    }
}
