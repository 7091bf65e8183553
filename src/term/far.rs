//! Bytes of a terminal as events, wherever it is.

use crossterm::event::{
    Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers, MouseButton, MouseEvent, MouseEventKind,
};
use futures::stream::BoxStream;
use termina::event as far;

/// How long a lone escape may be the begin of a key.
pub const ESCAPE: std::time::Duration = std::time::Duration::from_millis(25);

/// Largest size of a far terminal: it is told by the other side, and everything is allocated by it.
pub const LARGEST: (u16, u16) = (500, 300);

/// A size that somebody told, within bounds.
#[must_use]
pub fn clamped(columns: u32, rows: u32) -> (u16, u16) {
    let clamp =
        |told: u32, most: u16| u16::try_from(told.clamp(1, u32::from(most))).unwrap_or(most);
    (clamp(columns, LARGEST.0), clamp(rows, LARGEST.1))
}

/// Asks the terminal whether it is there: it answers once it has shown all that came before, so
/// the answer says that a frame has gone over the whole link (primary device attributes, which
/// every terminal answers).
pub const ARE_YOU_THERE: &[u8] = b"\x1b[c";

/// What a far terminal sends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    /// A key, a paste, the mouse, another size.
    Event(Event),
    /// It has shown what was sent before [`ARE_YOU_THERE`].
    Taken,
}

/// What a far terminal sends, until it is gone.
pub type Events = BoxStream<'static, Told>;

/// Understands bytes; see the module.
#[derive(Debug, Default)]
pub struct Bytes {
    parser: termina::Parser,
    /// The last bytes ended with an escape, which may be a key or the begin of one.
    escape: bool,
}

impl Bytes {
    /// Takes bytes in. With `more`, a lone escape at the end may be the begin of a key.
    pub fn take(&mut self, bytes: &[u8], more: bool) -> Vec<Told> {
        // The terminal's own answer can follow a typed escape at once: two in a row are two.
        if let Some(at) = bytes.windows(4).position(|part| part == b"\x1b\x1b[?") {
            let mut told = self.take(&bytes[..=at], true);
            told.extend(self.take(&bytes[at + 1..], more));
            return told;
        }
        if self.escape && bytes.first() == Some(&0x1b) {
            self.parser.parse(b"", false);
        }
        self.escape = bytes.last() == Some(&0x1b);
        self.parser.parse(bytes, more);
        let mut events = Vec::new();
        while let Some(event) = self.parser.pop() {
            events.extend(translated(event));
        }
        events
    }
}

fn translated(event: termina::Event) -> Option<Told> {
    Some(match event {
        termina::Event::Key(key) => Told::Event(Event::Key(self::key(key)?)),
        termina::Event::Mouse(mouse) => Told::Event(Event::Mouse(self::mouse(mouse)?)),
        termina::Event::Paste(text) => Told::Event(Event::Paste(text)),
        // Nothing else is asked of it.
        termina::Event::Csi(_) => Told::Taken,
        _ => return None,
    })
}

fn modifiers(told: far::Modifiers) -> KeyModifiers {
    [
        (far::Modifiers::SHIFT, KeyModifiers::SHIFT),
        (far::Modifiers::ALT, KeyModifiers::ALT),
        (far::Modifiers::CONTROL, KeyModifiers::CONTROL),
        (far::Modifiers::SUPER, KeyModifiers::SUPER),
    ]
    .into_iter()
    .filter(|(theirs, _)| told.contains(*theirs))
    .fold(KeyModifiers::NONE, |all, (_, ours)| all | ours)
}

fn key(key: far::KeyEvent) -> Option<KeyEvent> {
    let code = match key.code {
        far::KeyCode::Char(c) => KeyCode::Char(c),
        far::KeyCode::Enter => KeyCode::Enter,
        far::KeyCode::Backspace => KeyCode::Backspace,
        far::KeyCode::Tab => KeyCode::Tab,
        far::KeyCode::BackTab => KeyCode::BackTab,
        far::KeyCode::Escape => KeyCode::Esc,
        far::KeyCode::Left => KeyCode::Left,
        far::KeyCode::Right => KeyCode::Right,
        far::KeyCode::Up => KeyCode::Up,
        far::KeyCode::Down => KeyCode::Down,
        far::KeyCode::Home => KeyCode::Home,
        far::KeyCode::End => KeyCode::End,
        far::KeyCode::PageUp => KeyCode::PageUp,
        far::KeyCode::PageDown => KeyCode::PageDown,
        far::KeyCode::Insert => KeyCode::Insert,
        far::KeyCode::Delete => KeyCode::Delete,
        far::KeyCode::Function(number) => KeyCode::F(number),
        _ => return None,
    };
    let kind = match key.kind {
        far::KeyEventKind::Press => KeyEventKind::Press,
        far::KeyEventKind::Repeat => KeyEventKind::Repeat,
        far::KeyEventKind::Release => KeyEventKind::Release,
    };
    Some(KeyEvent::new_with_kind(code, modifiers(key.modifiers), kind))
}

fn mouse(mouse: far::MouseEvent) -> Option<MouseEvent> {
    let button = |button: far::MouseButton| match button {
        far::MouseButton::Left => MouseButton::Left,
        far::MouseButton::Right => MouseButton::Right,
        far::MouseButton::Middle => MouseButton::Middle,
    };
    let kind = match mouse.kind {
        far::MouseEventKind::Down(which) => MouseEventKind::Down(button(which)),
        far::MouseEventKind::Up(which) => MouseEventKind::Up(button(which)),
        far::MouseEventKind::ScrollDown => MouseEventKind::ScrollDown,
        far::MouseEventKind::ScrollUp => MouseEventKind::ScrollUp,
        _ => return None,
    };
    let modifiers = modifiers(mouse.modifiers);
    Some(MouseEvent { kind, column: mouse.column, row: mouse.row, modifiers })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn codes(bytes: &mut Bytes, sent: &[u8], more: bool) -> Vec<KeyCode> {
        let key = |told| match told {
            Told::Event(Event::Key(key)) => Some(key.code),
            _ => None,
        };
        bytes.take(sent, more).into_iter().filter_map(key).collect()
    }

    #[test]
    fn keys_that_are_split_between_packets_are_whole() {
        let mut bytes = Bytes::default();
        assert_eq!(codes(&mut bytes, b"a\x1b", true), [KeyCode::Char('a')]);
        assert_eq!(codes(&mut bytes, b"[", true), []);
        assert_eq!(codes(&mut bytes, b"5~\r", true), [KeyCode::PageUp, KeyCode::Enter]);
        // A lone escape is one once nothing more comes.
        assert_eq!(codes(&mut bytes, b"\x1b", true), []);
        assert_eq!(codes(&mut bytes, b"", false), [KeyCode::Esc]);
        assert_eq!(bytes.take(b"\x1b[?62;22c", true), [Told::Taken]);
        // An answer of the terminal right behind a typed escape.
        assert_eq!(codes(&mut bytes, b"\x1b", true), []);
        let told = bytes.take(b"\x1b[?62;22c", true);
        assert_eq!(bytes.take(b"\x1b\x1b[?62;22c", true), told);
        let escape = Event::Key(KeyEvent::new(KeyCode::Esc, KeyModifiers::NONE));
        assert_eq!(told, [Told::Event(escape), Told::Taken]);
    }

    #[test]
    fn a_size_is_never_more_than_can_be_drawn() {
        assert_eq!(clamped(65_535, 65_535), LARGEST);
        assert_eq!(clamped(0, 0), (1, 1));
        assert_eq!(clamped(80, 24), (80, 24));
        assert_eq!(clamped(u32::MAX, 24).0, 500);
    }
}
