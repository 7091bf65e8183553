//! Encodes keys and pasted text as the bytes that a remote program expects from a terminal.

use alacritty_terminal::term::TermMode;
use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

/// The bytes of a key in the terminal mode that the program chose; empty for a key without bytes.
#[must_use]
pub(crate) fn key(event: &KeyEvent, mode: TermMode) -> Vec<u8> {
    let modifiers = event.modifiers;
    let alt = modifiers.contains(KeyModifiers::ALT);
    let mut bytes = match event.code {
        KeyCode::Char(c) if modifiers.contains(KeyModifiers::CONTROL) => match control(c) {
            Some(byte) => vec![byte],
            None => c.to_string().into_bytes(),
        },
        KeyCode::Char(c) => c.to_string().into_bytes(),
        KeyCode::Enter => b"\r".to_vec(),
        KeyCode::Tab if modifiers.contains(KeyModifiers::SHIFT) => b"\x1b[Z".to_vec(),
        KeyCode::BackTab => b"\x1b[Z".to_vec(),
        KeyCode::Tab => b"\t".to_vec(),
        KeyCode::Backspace => b"\x7f".to_vec(),
        KeyCode::Esc => b"\x1b".to_vec(),
        code => return special(code, modifiers, mode),
    };
    if alt {
        bytes.insert(0, 0x1b);
    }
    bytes
}

/// Pasted text, with line breaks as Enter. In bracketed-paste mode it is wrapped, and its escapes
/// are removed so that it can't end the wrapping itself.
#[must_use]
pub(crate) fn paste(text: &str, mode: TermMode) -> Vec<u8> {
    let text = text.replace("\r\n", "\r").replace('\n', "\r");
    if mode.contains(TermMode::BRACKETED_PASTE) {
        let inner = text.replace('\u{1b}', "");
        format!("\u{1b}[200~{inner}\u{1b}[201~").into_bytes()
    } else {
        text.into_bytes()
    }
}

/// The control byte of a character; crossterm reports 0x1c to 0x1f as digits.
fn control(c: char) -> Option<u8> {
    Some(match c.to_ascii_lowercase() {
        c @ 'a'..='z' => c as u8 - b'a' + 1,
        ' ' | '@' | '2' => 0,
        '[' | '3' => 0x1b,
        '\\' | '4' => 0x1c,
        ']' | '5' => 0x1d,
        '^' | '6' => 0x1e,
        '_' | '/' | '7' => 0x1f,
        '?' | '8' => 0x7f,
        _ => return None,
    })
}

fn special(code: KeyCode, modifiers: KeyModifiers, mode: TermMode) -> Vec<u8> {
    let modifier_code = 1
        + u8::from(modifiers.contains(KeyModifiers::SHIFT))
        + 2 * u8::from(modifiers.contains(KeyModifiers::ALT))
        + 4 * u8::from(modifiers.contains(KeyModifiers::CONTROL));
    let letter = |letter: char| {
        if modifier_code > 1 {
            format!("\u{1b}[1;{modifier_code}{letter}")
        } else if mode.contains(TermMode::APP_CURSOR) {
            format!("\u{1b}O{letter}")
        } else {
            format!("\u{1b}[{letter}")
        }
    };
    let number = |number: u8| {
        if modifier_code > 1 {
            format!("\u{1b}[{number};{modifier_code}~")
        } else {
            format!("\u{1b}[{number}~")
        }
    };
    match code {
        KeyCode::Up => letter('A'),
        KeyCode::Down => letter('B'),
        KeyCode::Right => letter('C'),
        KeyCode::Left => letter('D'),
        KeyCode::Home => letter('H'),
        KeyCode::End => letter('F'),
        KeyCode::Insert => number(2),
        KeyCode::Delete => number(3),
        KeyCode::PageUp => number(5),
        KeyCode::PageDown => number(6),
        KeyCode::F(n @ 1..=4) => {
            let last = char::from(b'P' + n - 1);
            if modifier_code > 1 {
                format!("\u{1b}[1;{modifier_code}{last}")
            } else {
                format!("\u{1b}O{last}")
            }
        }
        KeyCode::F(n @ 5..=12) => number([15, 17, 18, 19, 20, 21, 23, 24][usize::from(n - 5)]),
        _ => String::new(),
    }
    .into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_encodes_as_xterm_does() {
        let (none, app) = (TermMode::empty(), TermMode::APP_CURSOR);
        let bytes = |code, modifiers, mode| key(&KeyEvent::new(code, modifiers), mode);
        let plain = KeyModifiers::NONE;
        let ctrl = KeyModifiers::CONTROL;
        for (code, modifiers, mode, wanted) in [
            (KeyCode::Char('é'), plain, none, "é"),
            (KeyCode::Char('c'), ctrl, none, "\u{3}"),
            (KeyCode::Char('5'), ctrl, none, "\u{1d}"),
            (KeyCode::Char('x'), KeyModifiers::ALT, none, "\u{1b}x"),
            (KeyCode::Enter, plain, none, "\r"),
            (KeyCode::Backspace, plain, none, "\u{7f}"),
            (KeyCode::BackTab, KeyModifiers::SHIFT, none, "\u{1b}[Z"),
            (KeyCode::Up, plain, none, "\u{1b}[A"),
            (KeyCode::Up, plain, app, "\u{1b}OA"),
            (KeyCode::Up, ctrl, app, "\u{1b}[1;5A"),
            (KeyCode::PageUp, plain, none, "\u{1b}[5~"),
            (KeyCode::F(1), plain, none, "\u{1b}OP"),
            (KeyCode::F(12), plain, none, "\u{1b}[24~"),
            (KeyCode::Delete, KeyModifiers::SHIFT, none, "\u{1b}[3;2~"),
        ] {
            assert_eq!(bytes(code, modifiers, mode), wanted.as_bytes(), "{code:?} {modifiers:?}");
        }
    }

    #[test]
    fn paste_removes_escapes_inside_its_brackets() {
        assert_eq!(paste("a\nb", TermMode::empty()), b"a\rb");
        let wrapped = paste("a\u{1b}[201~rm\n", TermMode::BRACKETED_PASTE);
        assert_eq!(wrapped, b"\x1b[200~a[201~rm\r\x1b[201~");
    }
}
