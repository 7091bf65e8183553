//! What of a remote program's bytes reaches the emulator: strings and parameters are bounded, what
//! is only good for an attack is dropped, and what is left means the same.

use unicode_width::UnicodeWidthChar;

/// A title; anything longer is dropped to its end.
const STRING: usize = 4096;
/// A control sequence.
const SEQUENCE: usize = 256;
/// The most that a parameter may be: a repeat count of 65,535 is minutes of work.
const PARAMETER: u32 = 1000;
/// Combining marks on one character.
const MARKS: usize = 8;

#[derive(Debug, Default)]
enum State {
    #[default]
    Ground,
    Escape,
    /// An escape with something between.
    Between,
    Sequence(Vec<u8>),
    /// Too long: dropped to its end.
    Dropped,
    /// Inside a string: an OSC that is kept, or one that is dropped (none).
    Text(Option<Vec<u8>>),
    /// The same behind an escape: its end, or the next thing.
    TextEscape(Option<Vec<u8>>),
}

/// See the module.
#[derive(Debug, Default)]
pub struct Gate {
    state: State,
    /// A character that has not come whole.
    character: Vec<u8>,
    marks: usize,
}

impl Gate {
    /// Adds to `out` what may pass of `bytes`.
    pub fn pass(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        for byte in bytes {
            self.state = self.step(*byte, out);
        }
    }

    fn step(&mut self, byte: u8, out: &mut Vec<u8>) -> State {
        match std::mem::take(&mut self.state) {
            State::Ground => self.ground(byte, out),
            State::Escape => match byte {
                b'[' => State::Sequence(Vec::new()),
                b']' => State::Text(Some(Vec::new())),
                b'P' | b'_' | b'^' | b'X' => State::Text(None),
                0x20..=0x2f => {
                    out.extend([0x1b, byte]);
                    State::Between
                }
                0x1b => State::Escape,
                0x18 | 0x1a => State::Ground,
                0x30..=0x7e => {
                    out.extend([0x1b, byte]);
                    State::Ground
                }
                _ => {
                    self.control(byte, out);
                    State::Escape
                }
            },
            State::Between => match byte {
                0x1b => State::Escape,
                0x20..=0x2f => {
                    out.push(byte);
                    State::Between
                }
                0x30..=0x7e | 0x18 | 0x1a => {
                    out.push(byte);
                    State::Ground
                }
                _ => {
                    self.control(byte, out);
                    State::Between
                }
            },
            State::Sequence(mut inner) => match byte {
                0x40..=0x7e => {
                    sequence(&inner, byte, out);
                    State::Ground
                }
                0x1b => State::Escape,
                0x18 | 0x1a => State::Ground,
                0x20..=0x3f if inner.len() < SEQUENCE => {
                    inner.push(byte);
                    State::Sequence(inner)
                }
                0x20..=0x3f => State::Dropped,
                _ => {
                    self.control(byte, out);
                    State::Sequence(inner)
                }
            },
            State::Dropped => match byte {
                0x40..=0x7e | 0x18 | 0x1a => State::Ground,
                0x1b => State::Escape,
                _ => State::Dropped,
            },
            State::Text(kept) => match byte {
                0x07 => {
                    string(kept.as_deref(), out);
                    State::Ground
                }
                0x1b => State::TextEscape(kept),
                0x18 | 0x1a => State::Ground,
                _ => State::Text(kept.filter(|inner| inner.len() < STRING).map(|mut inner| {
                    inner.push(byte);
                    inner
                })),
            },
            State::TextEscape(kept) => {
                if byte == b'\\' {
                    string(kept.as_deref(), out);
                    return State::Ground;
                }
                // Cut short by another escape.
                self.state = State::Escape;
                self.step(byte, out)
            }
        }
    }

    fn ground(&mut self, byte: u8, out: &mut Vec<u8>) -> State {
        if self.character.is_empty() && byte < 0x80 {
            return match byte {
                0x1b => State::Escape,
                0x20..=0x7e => {
                    self.marks = 0;
                    out.push(byte);
                    State::Ground
                }
                _ => {
                    self.control(byte, out);
                    State::Ground
                }
            };
        }
        self.character.push(byte);
        match std::str::from_utf8(&self.character) {
            Ok(text) => {
                let c = text.chars().next().unwrap_or('\u{fffd}');
                self.emit(c, out);
                self.character.clear();
            }
            Err(error) if error.error_len().is_none() => {}
            Err(_) => {
                let broken = self.character.len() > 1;
                self.character.clear();
                self.emit('\u{fffd}', out);
                // What broke it begins something of its own.
                if broken {
                    return self.ground(byte, out);
                }
            }
        }
        State::Ground
    }

    fn emit(&mut self, c: char, out: &mut Vec<u8>) {
        // Controls in eight bits: some emulators obey them.
        if ('\u{80}'..='\u{9f}').contains(&c) {
            return;
        }
        if c.width() == Some(0) {
            self.marks += 1;
            if self.marks > MARKS {
                return;
            }
        } else {
            self.marks = 0;
        }
        out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
    }

    fn control(&mut self, byte: u8, out: &mut Vec<u8>) {
        self.marks = 0;
        if matches!(byte, 0x07..=0x0f) {
            out.push(byte);
        }
    }
}

/// A control sequence with its parameters clamped. Private modes are names and no counts.
fn sequence(inner: &[u8], last: u8, out: &mut Vec<u8>) {
    let names = inner.first().is_some_and(|byte| (0x3c..=0x3f).contains(byte));
    out.extend([0x1b, b'[']);
    let mut number: Option<u32> = None;
    for byte in inner {
        if byte.is_ascii_digit() {
            let digit = u32::from(byte - b'0');
            number = Some(number.unwrap_or(0).saturating_mul(10).saturating_add(digit));
            continue;
        }
        flush(&mut number, names, out);
        out.push(*byte);
    }
    flush(&mut number, names, out);
    out.push(last);
}

fn flush(number: &mut Option<u32>, names: bool, out: &mut Vec<u8>) {
    if let Some(number) = number.take() {
        let most = if names { 9999 } else { PARAMETER };
        out.extend_from_slice(number.min(most).to_string().as_bytes());
    }
}

/// Titles pass; the clipboard, links, palettes and everything else do not.
fn string(kept: Option<&[u8]>, out: &mut Vec<u8>) {
    let Some(inner) = kept else { return };
    if inner.starts_with(b"0;") || inner.starts_with(b"2;") {
        out.extend_from_slice(b"\x1b]2;");
        let text = String::from_utf8_lossy(&inner[2..]);
        out.extend_from_slice(crate::core::model::untrusted::clean_line(&text).as_bytes());
        out.push(0x07);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passed(bytes: &[u8]) -> String {
        let (mut gate, mut out) = (Gate::default(), Vec::new());
        gate.pass(bytes, &mut out);
        // In pieces it means the same.
        let (mut gate, mut pieces) = (Gate::default(), Vec::new());
        for byte in bytes {
            gate.pass(&[*byte], &mut pieces);
        }
        assert_eq!(out, pieces);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn what_programs_need_passes_as_it_is() {
        for text in [
            "plain é 日本 👍\r\n\t\u{8}",
            "\u{1b}[1;31mred\u{1b}[m\u{1b}[38;2;255;128;0mx",
            "\u{1b}[?1049h\u{1b}[?2004h\u{1b}[2J\u{1b}[10;20H\u{1b}[5;20r",
            "\u{1b}(B\u{1b})0\u{1b}7\u{1b}8\u{1b}=\u{1b}>\u{1b}M\u{1b}c",
            "\u{1b}[6n\u{1b}[c\u{1b}[>c\u{1b}[2 q",
            "e\u{301}",
        ] {
            assert_eq!(passed(text.as_bytes()), text, "{text:?}");
        }
    }

    #[test]
    fn counts_are_clamped_and_modes_are_not() {
        assert_eq!(passed(b"x\x1b[65535b"), "x\x1b[1000b");
        assert_eq!(passed(b"\x1b[99999999999999999;5H"), "\x1b[1000;5H");
        assert_eq!(passed(b"\x1b[?2026h"), "\x1b[?2026h");
        let long = [b"\x1b[".as_slice(), &[b'1'; 5000], b"mtext"].concat();
        assert_eq!(passed(&long), "text");
    }

    #[test]
    fn strings_are_dropped_but_titles() {
        assert_eq!(passed(b"\x1b]0;a title\x07b"), "\x1b]2;a title\x07b");
        assert_eq!(passed("\u{1b}]2;a\u{9}b\u{1b}\\c".as_bytes()), "\x1b]2;a b\x07c");
        for dropped in [
            "\u{1b}]52;c;aGk=\u{7}",
            "\u{1b}]8;;http://x\u{1b}\\",
            "\u{1b}]4;1;red\u{7}",
            "\u{1b}P1$r0m\u{1b}\\",
            "\u{1b}_apc\u{1b}\\",
            "\u{1b}^pm\u{1b}\\",
            "\u{1b}Xsos\u{1b}\\",
        ] {
            assert_eq!(passed(format!("a{dropped}b").as_bytes()), "ab", "{dropped:?}");
        }
        // One without an end holds nothing and ends with the next escape.
        let open = [b"\x1b]0;".as_slice(), &vec![b'x'; 100_000], b"\x1b[1mb"].concat();
        assert_eq!(passed(&open), "\x1b[1mb");
    }

    #[test]
    fn marks_and_broken_characters_are_bounded() {
        let marks = format!("a{}b", "\u{301}".repeat(500));
        assert_eq!(passed(marks.as_bytes()), format!("a{}b", "\u{301}".repeat(MARKS)));
        assert_eq!(passed(b"a\xff\xfeb\xc3\x1b[1mc"), "a\u{fffd}\u{fffd}b\u{fffd}\x1b[1mc");
        // Controls in eight bits, whole and as bytes.
        assert_eq!(passed("a\u{9b}31mb".as_bytes()), "a31mb");
        assert_eq!(passed(b"a\x9d0;x\x07"), "a\u{fffd}0;x\x07");
        assert_eq!(passed(b"a\0\x05\x7fb"), "ab");
    }
}
