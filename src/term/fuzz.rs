//! Fuzz targets for terminals: the bytes of programs in a pane, and those of the terminals of operators.

use super::emulator::{Emulator, MAX_REPLY, is_harmless};
use super::event::{InputParser, TerminalEvent};
use super::filter::{MARKS, OutputFilter};
use super::key::Key;
use super::split::PASTE;

/// Filters and emulates the output of a program: only harmless bytes pass, and only harmless replies go
/// back, however the output is cut.
pub(crate) fn output(data: &[u8]) {
    let (mut filter, mut passed) = (OutputFilter::default(), Vec::new());
    filter.filter(data, &mut passed);
    let (mut filter, mut pieces) = (OutputFilter::default(), Vec::new());
    for byte in data {
        filter.filter(&[*byte], &mut pieces);
    }
    assert_eq!(passed, pieces, "the filter depends on how the output is cut");
    assert!(passed.len() <= 3 * data.len() + 16, "{} of {} bytes", passed.len(), data.len());
    assert_harmless(&passed);
    let mut terminal = Emulator::new((20, 6));
    for piece in data.chunks(64) {
        let reply = terminal.feed(piece);
        assert!(reply.len() <= MAX_REPLY, "{} bytes of reply", reply.len());
        for one in reply.split_inclusive(u8::is_ascii_alphabetic) {
            assert!(is_harmless(one), "the reply {} goes back", one.escape_ascii());
        }
    }
    let marks = terminal.most_marks();
    assert!(marks <= MARKS, "a cell has {marks} marks");
    terminal.resize((7, 3));
    terminal.scroll(2);
    terminal.search("a", true);
    let text = terminal.text(0, 2);
    assert!(!text.contains(|c: char| c.is_control() && c != '\n' && c != '\t'), "{text:?}");
    assert!(!terminal.title().unwrap_or_default().contains(char::is_control));
}

/// Only a title passes of the strings, and marks only behind the character that they belong to.
fn assert_harmless(passed: &[u8]) {
    let text = String::from_utf8_lossy(passed);
    let mut parts = text.split('\u{1b}');
    let mut left = 0;
    for c in parts.next().unwrap_or_default().chars() {
        left = match unicode_width::UnicodeWidthChar::width(c) {
            Some(0) => {
                assert!(left > 0, "a mark too many passed");
                left - 1
            }
            Some(_) => MARKS,
            None => 0,
        };
    }
    for part in parts {
        assert!(!part.starts_with(['P', '_', '^', 'X']), "the string {part:?} passed");
        assert!(!part.starts_with(']') || part.starts_with("]2;"), "the command {part:?} passed");
        let parameters = part.strip_prefix('[').unwrap_or_default();
        let end = parameters.find(|c: char| ('@'..='~').contains(&c)).unwrap_or(0);
        for number in parameters[..end].split(|c: char| !c.is_ascii_digit()) {
            assert!(number.len() <= 4, "the parameter {number} passed");
        }
    }
    let is_other = |c: char| c.is_control() && !('\u{7}'..='\u{f}').contains(&c);
    let ends = ['\u{1b}', '\u{18}', '\u{1a}'];
    assert!(!text.contains(|c| is_other(c) && !ends.contains(&c)), "a control passed");
}

/// Reads the bytes of an operator's terminal: each ends in a bounded number of events, and the name of
/// each key reads back.
pub(crate) fn input(data: &[u8]) {
    let mut parser = InputParser::default();
    let mut events = Vec::new();
    for piece in data.chunks(48) {
        events.extend(parser.parse(piece, true));
    }
    events.extend(parser.parse(&[], false));
    assert!(events.len() <= 2 * data.len() + 8, "{} events of {}", events.len(), data.len());
    for event in events {
        match event {
            TerminalEvent::Input(crossterm::event::Event::Paste(text)) => {
                assert!(text.len() <= 3 * PASTE, "a paste of {} bytes", text.len());
            }
            TerminalEvent::Input(crossterm::event::Event::Key(key)) => {
                let key = Key::from(key);
                let name = key.to_string();
                let read = Key::parse(&name);
                // No keymap can name a key without a name.
                let is_named = name != "<?>";
                assert!(read.is_none_or(|read| read == key) || !is_named, "{name} is another key");
            }
            _ => {}
        }
    }
}
