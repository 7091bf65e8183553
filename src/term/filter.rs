//! Filters the bytes of a remote program before they reach the emulator.
//!
//! The filter bounds strings and parameters and drops the sequences that only an attack needs (the
//! clipboard, palettes, links, device strings). All other bytes pass with their meaning unchanged.
//! It works in pieces of any length.

use unicode_width::UnicodeWidthChar;

/// The most bytes of a title; a longer string is dropped to its end.
const STRING: usize = 4096;
/// The most bytes of a control sequence; a longer one is dropped to its end.
const SEQUENCE: usize = 256;
/// The largest parameter: a repeat count of 65,535 would cost minutes of work.
const PARAMETER: u32 = 1000;
/// The most combining marks on one character.
pub(super) const MARKS: usize = 8;

#[derive(Debug, Default)]
enum FilterState {
    #[default]
    Ground,
    Escape,
    /// An escape sequence with intermediate bytes.
    Intermediate,
    Sequence(Vec<u8>),
    /// Inside a control sequence that is too long: it is dropped to its end.
    Dropped,
    /// Inside a string: an OSC with its bytes so far, or `None` for a string that is dropped.
    Text(Option<Vec<u8>>),
    /// Inside a string and behind an escape, which ends the string or begins a sequence.
    TextEscape(Option<Vec<u8>>),
}

/// Filters the output of one program.
#[derive(Debug, Default)]
pub(super) struct OutputFilter {
    state: FilterState,
    /// The bytes of a character that is not complete yet.
    character: Vec<u8>,
    /// How many combining marks may follow. The emulator puts a mark on the cell left of the cursor, so
    /// that marks may follow only a printed character, which has just made that cell new.
    marks_left: usize,
    /// Whether the last character that passed is a mark, which a repeat count would multiply.
    ends_in_mark: bool,
    /// Whether lines may not wrap. A wide character then doesn't fit into the last column, and the cell
    /// there keeps its marks.
    no_wrap: bool,
}

impl OutputFilter {
    /// Appends the bytes that may pass to `out`.
    pub fn filter(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        for byte in bytes {
            self.state = self.step(*byte, out);
        }
    }

    fn step(&mut self, byte: u8, out: &mut Vec<u8>) -> FilterState {
        match std::mem::take(&mut self.state) {
            FilterState::Ground => self.ground(byte, out),
            FilterState::Escape => match byte {
                b'[' => FilterState::Sequence(Vec::new()),
                b']' => FilterState::Text(Some(Vec::new())),
                b'P' | b'_' | b'^' | b'X' => FilterState::Text(None),
                0x20..=0x2f => {
                    out.extend([0x1b, byte]);
                    FilterState::Intermediate
                }
                0x1b => FilterState::Escape,
                0x18 | 0x1a => FilterState::Ground,
                0x30..=0x7e => {
                    // A reset.
                    self.no_wrap &= byte != b'c';
                    out.extend([0x1b, byte]);
                    FilterState::Ground
                }
                _ => {
                    self.control(byte, out);
                    FilterState::Escape
                }
            },
            FilterState::Intermediate => match byte {
                0x1b => FilterState::Escape,
                0x20..=0x2f => {
                    out.push(byte);
                    FilterState::Intermediate
                }
                0x30..=0x7e | 0x18 | 0x1a => {
                    out.push(byte);
                    FilterState::Ground
                }
                _ => {
                    self.control(byte, out);
                    FilterState::Intermediate
                }
            },
            FilterState::Sequence(mut inner) => match byte {
                0x40..=0x7e => {
                    self.sequence(&inner, byte, out);
                    FilterState::Ground
                }
                0x1b => FilterState::Escape,
                0x18 | 0x1a => FilterState::Ground,
                0x20..=0x3f if inner.len() < SEQUENCE => {
                    inner.push(byte);
                    FilterState::Sequence(inner)
                }
                0x20..=0x3f => FilterState::Dropped,
                _ => {
                    self.control(byte, out);
                    FilterState::Sequence(inner)
                }
            },
            FilterState::Dropped => match byte {
                0x40..=0x7e | 0x18 | 0x1a => FilterState::Ground,
                0x1b => FilterState::Escape,
                _ => FilterState::Dropped,
            },
            FilterState::Text(kept) => match byte {
                0x07 => {
                    write_string(kept.as_deref(), out);
                    FilterState::Ground
                }
                0x1b => FilterState::TextEscape(kept),
                0x18 | 0x1a => FilterState::Ground,
                _ => {
                    FilterState::Text(kept.filter(|inner| inner.len() < STRING).map(|mut inner| {
                        inner.push(byte);
                        inner
                    }))
                }
            },
            FilterState::TextEscape(kept) => {
                if byte == b'\\' {
                    write_string(kept.as_deref(), out);
                    return FilterState::Ground;
                }
                // Another escape cuts the string short.
                self.state = FilterState::Escape;
                self.step(byte, out)
            }
        }
    }

    fn ground(&mut self, byte: u8, out: &mut Vec<u8>) -> FilterState {
        if self.character.is_empty() && byte < 0x80 {
            return match byte {
                0x1b => {
                    self.marks_left = 0;
                    FilterState::Escape
                }
                0x20..=0x7e => {
                    (self.marks_left, self.ends_in_mark) = (MARKS, false);
                    out.push(byte);
                    FilterState::Ground
                }
                _ => {
                    self.control(byte, out);
                    FilterState::Ground
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
                // The byte that broke the character starts the next one.
                if broken {
                    return self.ground(byte, out);
                }
            }
        }
        FilterState::Ground
    }

    fn emit(&mut self, c: char, out: &mut Vec<u8>) {
        // Some emulators obey these eight-bit controls.
        if ('\u{80}'..='\u{9f}').contains(&c) {
            return;
        }
        let width = c.width();
        self.marks_left = match width {
            Some(0) => match self.marks_left.checked_sub(1) {
                Some(left) => left,
                None => return,
            },
            Some(2..) if self.no_wrap => 0,
            _ => MARKS,
        };
        self.ends_in_mark = width == Some(0);
        out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
    }

    fn control(&mut self, byte: u8, out: &mut Vec<u8>) {
        self.marks_left = 0;
        if matches!(byte, 0x07..=0x0f) {
            out.push(byte);
        }
    }

    fn sequence(&mut self, inner: &[u8], last: u8, out: &mut Vec<u8>) {
        match last {
            b'b' if self.ends_in_mark => return,
            b'h' if inner == b"?7" => self.no_wrap = false,
            // An emulator may read the parameters in another way: any 7 counts here.
            b'l' => self.no_wrap |= has_parameter(inner, 7),
            _ => {}
        }
        write_sequence(inner, last, out);
    }
}

/// Whether one of the numbers in a control sequence is `wanted`.
fn has_parameter(inner: &[u8], wanted: u32) -> bool {
    let numbers = inner.split(|byte| !byte.is_ascii_digit());
    numbers
        .filter_map(|digits| std::str::from_utf8(digits).ok()?.parse().ok())
        .any(|n: u32| n == wanted)
}

/// Writes a control sequence with its parameters clamped. The parameters of private modes name a
/// mode and count nothing.
fn write_sequence(inner: &[u8], last: u8, out: &mut Vec<u8>) {
    let names = inner.first().is_some_and(|byte| (0x3c..=0x3f).contains(byte));
    out.extend([0x1b, b'[']);
    let mut number: Option<u32> = None;
    for byte in inner {
        if byte.is_ascii_digit() {
            let digit = u32::from(byte - b'0');
            number = Some(number.unwrap_or(0).saturating_mul(10).saturating_add(digit));
            continue;
        }
        write_parameter(&mut number, names, out);
        out.push(*byte);
    }
    write_parameter(&mut number, names, out);
    out.push(last);
}

fn write_parameter(number: &mut Option<u32>, names: bool, out: &mut Vec<u8>) {
    if let Some(number) = number.take() {
        let most = if names { 9999 } else { PARAMETER };
        out.extend_from_slice(number.min(most).to_string().as_bytes());
    }
}

/// Writes a title; drops the clipboard, links, palettes and all other strings.
fn write_string(kept: Option<&[u8]>, out: &mut Vec<u8>) {
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
        let (mut filter, mut out) = (OutputFilter::default(), Vec::new());
        filter.filter(bytes, &mut out);
        // Single bytes must give the same result.
        let (mut filter, mut pieces) = (OutputFilter::default(), Vec::new());
        for byte in bytes {
            filter.filter(&[*byte], &mut pieces);
        }
        assert_eq!(out, pieces);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn filter_passes_the_sequences_that_programs_need() {
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
    fn filter_clamps_counts_but_no_modes() {
        assert_eq!(passed(b"x\x1b[65535b"), "x\x1b[1000b");
        assert_eq!(passed(b"\x1b[99999999999999999;5H"), "\x1b[1000;5H");
        assert_eq!(passed(b"\x1b[?2026h"), "\x1b[?2026h");
        let long = [b"\x1b[".as_slice(), &[b'1'; 5000], b"mtext"].concat();
        assert_eq!(passed(&long), "text");
    }

    #[test]
    fn filter_drops_all_strings_but_titles() {
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
        // A string without an end is bounded, and the next escape ends it.
        let open = [b"\x1b]0;".as_slice(), &vec![b'x'; 100_000], b"\x1b[1mb"].concat();
        assert_eq!(passed(&open), "\x1b[1mb");
    }

    #[test]
    fn filter_bounds_marks_and_replaces_broken_characters() {
        let marks = format!("a{}b", "\u{301}".repeat(500));
        assert_eq!(passed(marks.as_bytes()), format!("a{}b", "\u{301}".repeat(MARKS)));
        assert_eq!(passed("\u{301}a".as_bytes()), "a");
        for (control, left) in [
            ("\0", ""),
            ("\u{7}", "\u{7}"),
            ("\u{e}", "\u{e}"),
            ("\r", "\r"),
            ("\u{8}", "\u{8}"),
            ("\n", "\n"),
            ("\u{1b}[H", "\u{1b}[H"),
            ("\u{1b}8", "\u{1b}8"),
            ("\u{1b}]0;x\u{7}", "\u{1b}]2;x\u{7}"),
            ("\u{1b}]52;;x\u{7}", ""),
            ("\u{1b}Pq\u{1b}\\", ""),
        ] {
            let marks = format!("a{}", format!("{control}{}", "\u{301}".repeat(8)).repeat(9));
            let kept = format!("a{}", left.repeat(9));
            assert_eq!(passed(marks.as_bytes()), kept, "{control:?}");
        }
        // A repeat count repeats a character and no mark.
        assert_eq!(passed("a\u{1b}[9b".as_bytes()), "a\u{1b}[9b");
        for after in ["", "\u{1b}[m", "\r"] {
            let text = format!("a\u{301}{after}\u{1b}[9bb");
            assert_eq!(passed(text.as_bytes()), format!("a\u{301}{after}b"), "{after:?}");
        }
        assert_eq!(passed(b"a\xff\xfeb\xc3\x1b[1mc"), "a\u{fffd}\u{fffd}b\u{fffd}\x1b[1mc");
        // Without wrapping, a wide character may not have been printed.
        for (modes, kept) in [
            ("\u{1b}[?7l", ""),
            ("\u{1b}[?25;7l", ""),
            ("\u{1b}[?7l\u{1b}[?0:7h", ""),
            ("\u{1b}[?7l\u{1b}[?7h", "\u{301}"),
            ("\u{1b}[?7l\u{1b}c", "\u{301}"),
            ("\u{1b}[?25l", "\u{301}"),
        ] {
            let text = format!("{modes}日\u{301}a\u{301}");
            let kept = format!("{modes}日{kept}a\u{301}");
            assert_eq!(passed(text.as_bytes()), kept, "{modes:?}");
        }
        // Eight-bit controls, as characters and as raw bytes.
        assert_eq!(passed("a\u{9b}31mb".as_bytes()), "a31mb");
        assert_eq!(passed(b"a\x9d0;x\x07"), "a\u{fffd}0;x\x07");
        assert_eq!(passed(b"a\0\x05\x7fb"), "ab");
    }
}
