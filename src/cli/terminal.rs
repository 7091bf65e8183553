//! The terminal of a command: lines to standard output and error, and questions to the user.

use std::io::{BufRead, IsTerminal, Read, Write};

use serde_json::Value;
use unicode_width::UnicodeWidthChar;

use crate::core::model::untrusted::clean;
use crate::error::{Failure, FailureKind};

/// Prints a line to standard output, without the characters that a terminal obeys. A reader that has gone, as in
/// `afk status | head`, is no error.
pub(super) fn print_line(line: &str) {
    let _ = writeln!(std::io::stdout().lock(), "{}", clean(line));
}

/// Prints a JSON value on one line.
pub(super) fn print_json(value: &Value) {
    print_json_text(&value.to_string());
}

/// Prints a value that is JSON already, in the lines that it has.
pub(super) fn print_json_text(json: &str) {
    print_line(&escaped(json));
}

/// A text in JSON in which only ASCII, letters and digits stand as they are: its strings come from outside, and
/// a character that a terminal obeys must not reach one.
fn escaped(json: &str) -> String {
    let mut text = String::new();
    for c in json.chars() {
        let is_shown = c.is_alphanumeric() && c.width() != Some(0);
        if (c.is_ascii() && c != '\u{7f}') || is_shown {
            text.push(c);
        } else {
            let mut units = [0; 2];
            text.extend(c.encode_utf16(&mut units).iter().map(|unit| format!("\\u{unit:04x}")));
        }
    }
    text
}

/// The longest text from standard input, in bytes: the running afk takes no longer line.
const INPUT_LIMIT: usize = 256 * 1024;

/// The text of an argument; `-` stands for standard input.
pub(super) fn text_or_input(text: String) -> Result<String, Failure> {
    if text != "-" {
        return Ok(text);
    }
    let mut text = String::new();
    std::io::stdin()
        .lock()
        .take(INPUT_LIMIT as u64 + 1)
        .read_to_string(&mut text)
        .map_err(|error| Failure::new(FailureKind::Usage, "read standard input").because(error))?;
    if text.len() > INPUT_LIMIT {
        let why = format!("the text is longer than {} KiB", INPUT_LIMIT / 1024);
        return Err(Failure::new(FailureKind::Usage, why));
    }
    Ok(text)
}

/// Prints a line to standard error, for remarks beside the output of a command, as [`print_line`] does.
pub(super) fn print_remark(line: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{}", clean(line));
}

/// Prints a question and reads the answer, without the spaces around it.
pub(super) fn ask(mut out: impl Write, question: &str) -> std::io::Result<String> {
    write!(out, "{question}").and_then(|()| out.flush())?;
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line)?;
    Ok(line.trim().to_owned())
}

/// Asks for a secret on standard error, without showing what is typed; none after Ctrl-C, an empty line
/// or the end of the input.
pub(super) fn ask_secret(question: &str) -> std::io::Result<Option<String>> {
    use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
    let input = std::io::stdin();
    let before = tcgetattr(&input)?;
    let mut quiet = before.clone();
    // Without the signal, Ctrl-C can't end this program with a terminal that shows no keys.
    quiet.local_modes.remove(LocalModes::ECHO | LocalModes::ISIG);
    tcsetattr(&input, OptionalActions::Flush, &quiet)?;
    let mut line = String::new();
    let read = write!(std::io::stderr(), "{question}")
        .and_then(|()| input.lock().take(INPUT_LIMIT as u64).read_line(&mut line));
    tcsetattr(&input, OptionalActions::Now, &before)?;
    print_remark("");
    read?;
    let secret = line.trim_end_matches(['\r', '\n']);
    let given = !secret.is_empty() && !secret.contains('\u{3}');
    Ok(given.then(|| secret.to_owned()))
}

/// Fails if standard output is not a terminal that can show a screen, with the commands that need none
/// as the hint.
pub(super) fn require(hint: &str) -> Result<(), Failure> {
    if std::io::stdout().is_terminal() {
        return crate::tui::check_terminal();
    }
    Err(Failure::new(FailureKind::Usage, "standard output is not a terminal").hint(hint))
}

/// The size of the terminal, or 80x24 if there is none.
pub(super) fn size() -> (u16, u16) {
    crossterm::terminal::size().unwrap_or((80, 24))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn json_keeps_its_texts_and_moves_no_cursor() {
        // The vowel sign is a letter without a column of its own.
        let flood = "\u{941}".repeat(20);
        let value =
            json!({ "text": format!("ä\u{9b}2J\u{202e}\u{7f}\u{1b}[2J\u{1f600}\n{flood}") });
        for text in [value.to_string(), format!("{value:#}")].map(|text| escaped(&text)) {
            // The guard of every line then has nothing to remove.
            assert!(clean(&text) == text && text.contains('ä'), "{text}");
            assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), value);
        }
    }
}
