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

/// Asks for the colour of the background (OSC 11). Terminals that don't know it drop it.
pub(crate) const BACKGROUND: &[u8] = b"\x1b]11;?\x1b\\";

/// An event of a terminal, local or remote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TerminalEvent {
    /// A key, a paste, the mouse or a new size.
    Input(Event),
    /// The terminal answered the probe that followed a frame, so it has shown that frame.
    ProbeAnswered,
    /// The terminal's background, in red, green and blue.
    Background(u8, u8, u8),
}

/// The events of a terminal until it is closed.
pub type TerminalEvents = BoxStream<'static, TerminalEvent>;

/// Parses a terminal's bytes, in packets of any length.
#[derive(Debug, Default)]
pub(crate) struct InputParser {
    splitter: Splitter,
    /// Parses text; between two packets it holds at most the start of one character.
    text: termina::Parser,
    /// When the last bytes of a burst of several lines came.
    burst: Option<Instant>,
}

/// The characters in one packet from which on nobody typed them: a paste of a terminal that doesn't
/// mark pastes.
const BURST: usize = 24;
/// How long the packets after a burst belong to it.
const BURST_PAUSE: Duration = Duration::from_millis(60);

impl InputParser {
    /// Parses a packet. `more` says that more bytes may follow soon, so that an escape at the end may
    /// be the start of a key.
    pub fn parse(&mut self, bytes: &[u8], more: bool) -> Vec<TerminalEvent> {
        let mut events = Vec::new();
        for piece in self.splitter.split(bytes, more, Instant::now()) {
            let follows = self.follows_a_burst();
            match piece {
                Piece::Text(text) if self.is_burst(&text) => {
                    let (text, enter) =
                        if follows { (&*text, false) } else { without_enter(&text) };
                    let text = String::from_utf8_lossy(text).into_owned();
                    events.push(TerminalEvent::Input(Event::Paste(text)));
                    if enter {
                        events.push(typed(KeyCode::Enter, KeyModifiers::NONE));
                    }
                }
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
                Piece::Report(text) => {
                    let answer = std::str::from_utf8(&text).ok().and_then(background);
                    events.extend(answer.map(|(r, g, b)| TerminalEvent::Background(r, g, b)));
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

impl InputParser {
    fn follows_a_burst(&self) -> bool {
        self.burst.is_some_and(|at| at.elapsed() <= BURST_PAUSE)
    }

    /// Whether a text came faster than anybody types: many different characters at once, or more of the
    /// same burst. A held key repeats one character.
    fn is_burst(&mut self, text: &[u8]) -> bool {
        let follows = self.follows_a_burst();
        let plain = |byte: &u8| !byte.is_ascii_control() || matches!(byte, b'\r' | b'\n' | b'\t');
        let mixed = text.iter().any(|byte| Some(byte) != text.first());
        let is_burst = text.iter().all(plain) && (follows || (text.len() >= BURST && mixed));
        // One line is what a program types for somebody: the keys behind it are keys.
        let has_lines = without_enter(text).0.iter().any(|byte| matches!(byte, b'\r' | b'\n'));
        self.burst = (is_burst && (follows || has_lines)).then(Instant::now);
        is_burst
    }
}

/// A line and the Enter behind it: a program that types for somebody sends both at once. The line breaks
/// of a longer text are no keys.
fn without_enter(text: &[u8]) -> (&[u8], bool) {
    match text.split_last() {
        Some((b'\r', line)) if !line.iter().any(|byte| matches!(byte, b'\r' | b'\n')) => {
            (line, true)
        }
        _ => (text, false),
    }
}

/// Reads `11;rgb:RRRR/GGGG/BBBB`, the answer to [`BACKGROUND`], with one to four digits a part.
fn background(report: &str) -> Option<(u8, u8, u8)> {
    let colour = report.strip_prefix("11;")?;
    let mut parts =
        colour.strip_prefix("rgb:").or_else(|| colour.strip_prefix("rgba:"))?.split('/');
    let mut part = || {
        let digits = parts.next().filter(|digits| (1..=4).contains(&digits.len()))?;
        let value = u32::from_str_radix(digits, 16).ok()?;
        u8::try_from(value * 255 / ((1 << (4 * digits.len())) - 1)).ok()
    };
    Some((part()?, part()?, part()?))
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
    fn unmarked_paste_is_no_typing() {
        let pasted = |events: &[TerminalEvent]| {
            events.iter().all(|event| matches!(event, TerminalEvent::Input(Event::Paste(_))))
        };
        let mut parser = InputParser::default();
        let first = parser.parse(&b"xylophone\ry\ra\r".repeat(200), true);
        assert!(!first.is_empty() && pasted(&first), "{first:?}");
        // Its last packet is short.
        let last = parser.parse(b"ya\r", true);
        assert!(!last.is_empty() && pasted(&last), "{last:?}");
        // A line of a program that types and the Enter behind it, and a held key, are keys.
        let mut parser = InputParser::default();
        assert_eq!(codes(&mut parser, b"look at the first test again\r", true), [KeyCode::Enter]);
        let mut parser = InputParser::default();
        assert_eq!(codes(&mut parser, b"look at the first test again", true), []);
        assert_eq!(codes(&mut parser, b"\r", true), [KeyCode::Enter]);
        let mut parser = InputParser::default();
        assert_eq!(codes(&mut parser, &[b'j'; 100], true).len(), 100);
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
    fn background_of_the_terminal_is_read_and_never_typed() {
        for (sent, colour) in [
            ("\x1b]11;rgb:fdfd/f6f6/e3e3\x1b\\", (0xfd, 0xf6, 0xe3)),
            ("\x1b]11;rgb:00/2b/36\x07", (0x00, 0x2b, 0x36)),
            ("\x1b]11;rgba:f/0/f/f\x07", (255, 0, 255)),
        ] {
            let answer = TerminalEvent::Background(colour.0, colour.1, colour.2);
            assert_eq!(
                InputParser::default().parse(sent.as_bytes(), true),
                std::slice::from_ref(&answer)
            );
            // A slow link cuts anywhere; what comes late is no key, too.
            for at in 1..sent.len() {
                let mut parser = InputParser::default();
                let mut events = parser.parse(&sent.as_bytes()[..at], true);
                events.extend(parser.parse(b"", false));
                events.extend(parser.parse(&sent.as_bytes()[at..], true));
                events.extend(parser.parse(b"", false));
                let typed = events.iter().filter(|event| {
                    !matches!(
                        event,
                        TerminalEvent::Input(Event::Key(
                            KeyEvent { code: KeyCode::Esc, .. }
                                | KeyEvent { modifiers: KeyModifiers::ALT, .. }
                        ))
                    )
                });
                let typed: Vec<&TerminalEvent> = typed.collect();
                assert!(typed.iter().all(|event| **event == answer), "{sent:?} at {at}: {typed:?}");
            }
        }
        for wrong in ["11;rgb:00/00", "11;rgb:00000/0/0", "10;rgb:0/0/0", "11;?", "11;rgb:x/0/0"] {
            let sent = format!("\x1b]{wrong}\x07");
            assert_eq!(InputParser::default().parse(sent.as_bytes(), true), [], "{wrong}");
        }
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
