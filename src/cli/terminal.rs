//! The terminal of a command: lines to standard output and error, and questions to the user.

use std::io::{BufRead, IsTerminal, Write};

use crate::error::{Failure, FailureKind};

/// Prints a line to standard output. A reader that has gone, as in `afk status | head`, is no error.
pub(super) fn print_line(line: &str) {
    let _ = writeln!(std::io::stdout().lock(), "{line}");
}

/// Prints a line to standard error, for remarks beside the output of a command.
pub(super) fn print_remark(line: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}

/// Prints a question and reads the answer, without the spaces around it.
pub(super) fn ask(mut out: impl Write, question: &str) -> std::io::Result<String> {
    write!(out, "{question}").and_then(|()| out.flush())?;
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line)?;
    Ok(line.trim().to_owned())
}

/// Fails if standard output is not a terminal, with the commands that need none as the hint.
pub(super) fn require(hint: &str) -> Result<(), Failure> {
    if std::io::stdout().is_terminal() {
        return Ok(());
    }
    Err(Failure::new(FailureKind::Usage, "standard output is not a terminal").hint(hint))
}

/// The size of the terminal, or 80x24 if there is none.
pub(super) fn size() -> (u16, u16) {
    crossterm::terminal::size().unwrap_or((80, 24))
}
