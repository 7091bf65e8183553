//! Splits the bytes of a terminal into keystrokes, control sequences and pastes.
//!
//! [`event`](super::event) parses each piece on its own. A sequence whose end never arrives must not
//! hold back the keys after it: a person who types escape and then `]` begins a string of the
//! terminal's protocol without an end. So every incomplete sequence ends after a timeout, and none is
//! kept beyond a bound.
//!
//! ```text
//! bytes ─▶ Splitter::split ─▶ Piece::Text      typed characters, also with Alt
//!                         ├─▶ Piece::Escape    the key itself
//!                         ├─▶ Piece::Alt       a key that could have begun a sequence
//!                         ├─▶ Piece::Sequence  one complete control sequence
//!                         ├─▶ Piece::Report    one complete string of an OSC
//!                         └─▶ Piece::Paste     the text between the two marks of a paste
//! ```

use std::time::{Duration, Instant};

/// The most bytes of a control sequence that are kept; a longer one is dropped to its end.
const SEQUENCE: usize = 256;
/// The most bytes of one paste that are kept; the rest is dropped.
pub(super) const PASTE: usize = 1024 * 1024;
/// The longest pause inside a paste. A slow link splits a paste, so this is far above the timeout of
/// a key.
pub(super) const PASTE_PAUSE: Duration = Duration::from_secs(3);
/// How long the rest of a sequence that was cut is recognized. A slow link cuts anywhere.
const LATE: Duration = Duration::from_secs(3);
/// The marks around a paste.
const PASTE_BEGIN: &[u8] = b"\x1b[200~";
const PASTE_END: &[u8] = b"\x1b[201~";
/// The begin of an operating system command.
const OSC: &[u8] = b"\x1b]";
/// The begin of the answer to the question for the background.
const ANSWER: &[u8] = b"\x1b]11;rgb";

/// A part of the input that can be parsed without the bytes after it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Piece {
    /// Bytes outside of sequences: characters, control characters, or an escape in front of one.
    /// The last character may be incomplete.
    Text(Vec<u8>),
    /// The escape key.
    Escape,
    /// Alt with a character that also begins sequences: `[`, `O`, `]`, `P`, `_`, `^` or `X`.
    Alt(u8),
    /// A control sequence from its escape to its last byte.
    Sequence(Vec<u8>),
    /// The text of an operating system command: the answer to a question of ours.
    Report(Vec<u8>),
    /// The text of a paste.
    Paste(Vec<u8>),
}

#[derive(Debug, Default)]
enum State {
    #[default]
    Ground,
    /// Behind an escape.
    Escape,
    /// Behind `ESC O`: one more byte completes the key.
    ShortKey,
    /// Inside a control sequence, with its bytes from the escape on.
    Sequence(Vec<u8>),
    /// Inside a control sequence that is too long.
    Dropped,
    /// Inside a string (OSC, DCS, APC, PM, SOS). The text of an OSC is kept up to the bound, others are
    /// only skipped.
    Skipped {
        /// The character behind the escape.
        kind: u8,
        /// No byte of the string has arrived yet.
        empty: bool,
        /// The text so far, of an OSC.
        text: Vec<u8>,
        /// The last byte was an escape, which a backslash makes the end of the string.
        escape: bool,
    },
    Pasted {
        text: Vec<u8>,
        /// Bytes over the bound, which still have to be compared with the mark at the end.
        tail: Vec<u8>,
        since: Instant,
    },
}

/// Splits the bytes of one terminal; see the module.
#[derive(Debug, Default)]
pub(super) struct Splitter {
    state: State,
    out: Vec<Piece>,
    /// The begin of a sequence that ended by the timeout, and when: its rest must not be read as keys.
    cut: Option<(Vec<u8>, Instant)>,
}

impl Splitter {
    /// Takes bytes in pieces of any length. `more` is false once nothing has followed for a while:
    /// an incomplete sequence then ends.
    pub fn split(&mut self, bytes: &[u8], more: bool, now: Instant) -> Vec<Piece> {
        if let State::Pasted { since, .. } = &mut self.state {
            if now.saturating_duration_since(*since) > PASTE_PAUSE {
                self.end_paste();
            } else {
                *since = now;
            }
        }
        if let Some((begin, at)) = self.cut.take_if(|_| !bytes.is_empty())
            && now.saturating_duration_since(at) <= LATE
            && continues(&begin, bytes)
            && matches!(self.state, State::Ground)
        {
            self.state = match begin.strip_prefix(OSC) {
                Some(text) => {
                    let escape = text.ends_with(b"\x1b");
                    let text = text.strip_suffix(b"\x1b").unwrap_or(text).to_vec();
                    State::Skipped { kind: b']', empty: text.is_empty(), text, escape }
                }
                None if begin.len() > 1 => State::Sequence(begin),
                None => State::Escape,
            };
        }
        for byte in bytes {
            let state = std::mem::take(&mut self.state);
            self.state = self.step(state, *byte, now);
        }
        if !more {
            self.end_sequence(now);
        }
        std::mem::take(&mut self.out)
    }

    fn step(&mut self, state: State, byte: u8, now: Instant) -> State {
        match state {
            State::Ground => self.ground(byte),
            State::Escape => match byte {
                b'[' => State::Sequence(b"\x1b[".to_vec()),
                b'O' => State::ShortKey,
                b']' | b'P' | b'_' | b'^' | b'X' => {
                    State::Skipped { kind: byte, empty: true, text: Vec::new(), escape: false }
                }
                // Of two escapes the first is a key, and the second may begin a sequence.
                0x1b => {
                    self.out.push(Piece::Escape);
                    State::Escape
                }
                _ => {
                    self.text(&[0x1b, byte]);
                    State::Ground
                }
            },
            State::ShortKey if byte == 0x1b => {
                self.out.push(Piece::Alt(b'O'));
                State::Escape
            }
            State::ShortKey => {
                self.out.push(Piece::Sequence(vec![0x1b, b'O', byte]));
                State::Ground
            }
            State::Sequence(mut inner) => match byte {
                0x1b => State::Escape,
                0x20..=0x7e => {
                    inner.push(byte);
                    self.sequence(inner, now)
                }
                // The three bytes of an old mouse report can be any.
                _ if is_old_mouse(&inner) => {
                    inner.push(byte);
                    self.sequence(inner, now)
                }
                // No control character and nothing beyond ASCII occurs in a sequence.
                _ => self.ground(byte),
            },
            State::Dropped => match byte {
                0x1b => State::Escape,
                0x40..=0x7e | 0x18 | 0x1a => State::Ground,
                _ => State::Dropped,
            },
            State::Skipped { kind, escape, mut text, .. } => match byte {
                b'\\' if escape => self.report(kind, text),
                0x07 => self.report(kind, text),
                0x18 | 0x1a => State::Ground,
                _ => {
                    if kind == b']' && byte != 0x1b && text.len() < SEQUENCE {
                        text.push(byte);
                    }
                    State::Skipped { kind, empty: false, text, escape: byte == 0x1b }
                }
            },
            State::Pasted { mut text, mut tail, since } => {
                let kept = if text.len() < PASTE { &mut text } else { &mut tail };
                kept.push(byte);
                // Only the length of the mark is needed of what is over the bound.
                if tail.len() > 2 * PASTE_END.len() {
                    tail.drain(..PASTE_END.len());
                }
                self.state = State::Pasted { text, tail, since };
                if self.paste_ends() {
                    self.end_paste();
                }
                std::mem::take(&mut self.state)
            }
        }
    }

    /// Hands out the text of an OSC; a longer one is nothing that was asked for.
    fn report(&mut self, kind: u8, text: Vec<u8>) -> State {
        if kind == b']' && text.len() < SEQUENCE {
            self.out.push(Piece::Report(text));
        }
        State::Ground
    }

    fn ground(&mut self, byte: u8) -> State {
        if byte == 0x1b {
            return State::Escape;
        }
        self.text(&[byte]);
        State::Ground
    }

    /// Continues with a sequence that has just got a byte.
    fn sequence(&mut self, inner: Vec<u8>, now: Instant) -> State {
        if inner == PASTE_BEGIN {
            return State::Pasted { text: Vec::new(), tail: Vec::new(), since: now };
        }
        let last = inner.last().copied().unwrap_or_default();
        let complete = match inner.get(2) {
            // Function keys of the Linux console: `ESC [ [ A`.
            Some(b'[') => inner.len() == 4,
            Some(b'M') => inner.len() == 6,
            _ => inner.len() > 2 && (0x40..=0x7e).contains(&last),
        };
        if complete {
            self.out.push(Piece::Sequence(inner));
            State::Ground
        } else if inner.len() >= SEQUENCE {
            State::Dropped
        } else {
            State::Sequence(inner)
        }
    }

    /// Ends an incomplete sequence. One that holds only its first character is that key with Alt. The
    /// rest is dropped, since the start of a terminal's report must not be read as keys.
    fn end_sequence(&mut self, now: Instant) {
        match &self.state {
            State::Escape => self.cut = Some((vec![0x1b], now)),
            State::Sequence(inner) => self.cut = Some((inner.clone(), now)),
            State::Skipped { kind: b']', text, escape, .. } => {
                let end: &[u8] = if *escape { b"\x1b" } else { b"" };
                self.cut = Some(([OSC, text.as_slice(), end].concat(), now));
            }
            _ => {}
        }
        match std::mem::take(&mut self.state) {
            State::Escape => self.out.push(Piece::Escape),
            State::ShortKey => self.out.push(Piece::Alt(b'O')),
            State::Sequence(inner) if inner.len() == 2 => self.out.push(Piece::Alt(b'[')),
            State::Skipped { kind, empty: true, .. } => self.out.push(Piece::Alt(kind)),
            pasted @ State::Pasted { .. } => self.state = pasted,
            _ => {}
        }
    }

    fn paste_ends(&self) -> bool {
        let State::Pasted { text, tail, .. } = &self.state else { return false };
        if tail.len() >= PASTE_END.len() {
            return tail.ends_with(PASTE_END);
        }
        let split = PASTE_END.len() - tail.len();
        tail.ends_with(&PASTE_END[split..]) && text.ends_with(&PASTE_END[..split])
    }

    /// Hands the paste out, without the mark at its end.
    fn end_paste(&mut self) {
        let ends = self.paste_ends();
        if let State::Pasted { mut text, tail, .. } = std::mem::take(&mut self.state) {
            if ends {
                text.truncate(text.len() - PASTE_END.len().saturating_sub(tail.len()));
            }
            self.out.push(Piece::Paste(text));
        }
    }

    fn text(&mut self, bytes: &[u8]) {
        match self.out.last_mut() {
            Some(Piece::Text(text)) => text.extend_from_slice(bytes),
            _ => self.out.push(Piece::Text(bytes.to_vec())),
        }
    }
}

/// Whether bytes are the rest of a sequence that began with `begin` and was cut. A single byte is a
/// typed key, unless it completes the mark of a paste.
fn continues(begin: &[u8], bytes: &[u8]) -> bool {
    if begin.starts_with(OSC) || bytes.starts_with(b"]11;rgb") {
        return continues_answer(&[begin, bytes].concat());
    }
    if PASTE_BEGIN.strip_prefix(begin).is_some_and(|rest| bytes.starts_with(rest)) {
        return true;
    }
    let [first, _, ..] = bytes else { return false };
    match begin.len() {
        1 => matches!(first, b'[' | b'O'),
        _ => matches!(first, 0x30..=0x3f),
    }
}

/// Whether bytes begin like the answer to the question for the background, with at least a colour's begin
/// or its end: nobody types that.
fn continues_answer(bytes: &[u8]) -> bool {
    let Some(text) = bytes.strip_prefix(ANSWER) else { return false };
    let text = text.strip_prefix(b"a").unwrap_or(text);
    let colour =
        text.iter().take_while(|byte| matches!(byte, b':' | b'/') || byte.is_ascii_hexdigit());
    matches!(&text[colour.count()..], [] | [0x07, ..] | [0x1b] | [0x1b, b'\\', ..])
}

fn is_old_mouse(inner: &[u8]) -> bool {
    inner.starts_with(b"\x1b[M")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(splitter: &mut Splitter, bytes: &[u8], more: bool) -> Vec<Piece> {
        splitter.split(bytes, more, Instant::now())
    }

    #[test]
    fn split_gives_the_same_pieces_for_any_packets() {
        let bytes = b"a\x1b[5~\x1bOP\x1bx\x1b]11;rgb:0/0/0\x1b\\\x1bP1$r\x07\x1b[200~two\nlines\x1b[201~\x1b[M !!z";
        let whole = split(&mut Splitter::default(), bytes, true);
        assert!(whole.contains(&Piece::Paste(b"two\nlines".to_vec())), "{whole:?}");
        let mut text = Vec::new();
        let mut others = Vec::new();
        let mut splitter = Splitter::default();
        for byte in bytes {
            for piece in split(&mut splitter, &[*byte], true) {
                match piece {
                    Piece::Text(part) => text.extend(part),
                    piece => others.push(piece),
                }
            }
        }
        assert_eq!(text, b"a\x1bxz");
        let (_, expected): (Vec<_>, Vec<_>) =
            whole.into_iter().partition(|piece| matches!(piece, Piece::Text(_)));
        assert_eq!(others, expected);
    }

    #[test]
    fn rest_of_a_sequence_that_a_slow_link_cut_is_no_key() {
        let whole = b"\x1b[200~xylophone\ny\n\x1b[201~";
        for at in 1..PASTE_BEGIN.len() {
            let (mut splitter, begun) = (Splitter::default(), Instant::now());
            assert_eq!(splitter.split(&whole[..at], true, begun), []);
            splitter.split(b"", false, begun + Duration::from_millis(30));
            let rest = splitter.split(&whole[at..], true, begun + Duration::from_millis(60));
            assert_eq!(rest, [Piece::Paste(b"xylophone\ny\n".to_vec())], "cut at {at}");
        }
        for (begin, rest) in [("\x1b", "[A"), ("\x1b", "[<64;10;20M"), ("\x1b[<6", "4;1;1M")] {
            let (mut splitter, begun) = (Splitter::default(), Instant::now());
            splitter.split(begin.as_bytes(), false, begun);
            let pieces = splitter.split(rest.as_bytes(), true, begun);
            assert_eq!(pieces, [Piece::Sequence(format!("{begin}{rest}").into_bytes())]);
        }
        // Typed keys after an escape stay keys.
        for typed in ["[", "q", "5", "qq"] {
            let (mut splitter, begun) = (Splitter::default(), Instant::now());
            splitter.split(b"\x1b", false, begun);
            let pieces = splitter.split(typed.as_bytes(), true, begun);
            assert_eq!(pieces, [Piece::Text(typed.into())], "{typed}");
        }
    }

    #[test]
    fn endless_sequences_and_pastes_stay_within_their_bounds() {
        let mut splitter = Splitter::default();
        split(&mut splitter, &[b"\x1b[".to_vec(), vec![b'1'; 1_000_000]].concat(), true);
        assert!(matches!(splitter.state, State::Dropped));
        assert_eq!(split(&mut splitter, b"mq", true), [Piece::Text(b"q".to_vec())]);
        let paste = [PASTE_BEGIN.to_vec(), vec![b'x'; 3 * PASTE], PASTE_END.to_vec()].concat();
        let pieces = split(&mut splitter, &[paste, b"q".to_vec()].concat(), true);
        assert_eq!(pieces, [Piece::Paste(vec![b'x'; PASTE]), Piece::Text(b"q".to_vec())]);
        // The mark at the end lies across the bound.
        let paste = [PASTE_BEGIN.to_vec(), vec![b'x'; PASTE - 2], PASTE_END.to_vec()].concat();
        let pieces = split(&mut splitter, &paste, true);
        assert_eq!(pieces, [Piece::Paste(vec![b'x'; PASTE - 2])]);
    }

    #[test]
    fn paste_without_an_end_gives_the_keys_back_after_a_pause() {
        let mut splitter = Splitter::default();
        let begun = Instant::now();
        assert_eq!(splitter.split(b"\x1b[200~half", true, begun), []);
        let later = begun + PASTE_PAUSE / 2;
        assert_eq!(splitter.split(b" more", false, later), []);
        let pieces = splitter.split(b"q", true, later + PASTE_PAUSE * 2);
        assert_eq!(pieces, [Piece::Paste(b"half more".to_vec()), Piece::Text(b"q".to_vec())]);
    }
}
