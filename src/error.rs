//! Failures as an operator reads them: what happened to what, why, and what to do next.
//!
//! Libraries and adapters return typed errors that keep their causes ([`std::error::Error::source`]).
//! [`chain`] is the one way to print such an error. A command ends with a [`Failure`], which `main`
//! prints as one line and a hint, or hands to color-eyre where nobody foresaw it:
//!
//! ```text
//! io::Error → JournalError, TrackerError, NetworkError, … ─ chain() → log, notice, problem, doctor
//!                         └→ Failure { kind, message, cause, hint } → main → stderr, exit code
//! ```

use std::error::Error;
use std::fmt;
use std::sync::Arc;

use crate::core::model::untrusted::{clean, clean_line};

/// What kind of failure ended a command; gives the exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureKind {
    /// The command did its work and the answer is no: a check failed, an outcome isn't reached.
    Negative,
    /// The command line or the input is wrong.
    Usage,
    /// The configuration is wrong or missing.
    Configuration,
    /// Another afk holds the state, or none runs where one is needed.
    Busy,
    /// The machine failed: a disk, a permission, a missing program.
    System,
    /// No command foresaw this error: `main` prints the whole report of color-eyre.
    Unexpected,
}

impl FailureKind {
    /// The exit code; docs/commands.md lists them.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Negative => 1,
            Self::Usage => 2,
            Self::Configuration => 3,
            Self::Busy => 4,
            Self::System | Self::Unexpected => 5,
        }
    }
}

/// Why a command ended without success, as an operator reads it.
#[derive(Debug, Clone)]
pub struct Failure {
    /// The kind, which gives the exit code.
    pub kind: FailureKind,
    message: FailureMessage,
    /// The lines of a file that the failure is about; printed between message and hint.
    pub excerpt: Option<String>,
    /// What the operator can do; printed on a line of its own.
    pub hint: Option<String>,
}

/// The first line of a failure, and the cause below it.
#[derive(Debug, Clone)]
enum FailureMessage {
    Text { text: String, cause: Option<Arc<dyn Error + Send + Sync>> },
    Error(Arc<dyn Error + Send + Sync>),
}

impl Failure {
    /// A failure with a message of its own, and neither a cause nor a hint.
    #[must_use]
    pub fn new(kind: FailureKind, message: impl fmt::Display) -> Self {
        let text = clean_line(&message.to_string());
        Self {
            kind,
            message: FailureMessage::Text { text, cause: None },
            excerpt: None,
            hint: None,
        }
    }

    /// A failure that is an error: its message and its causes are the error's.
    #[must_use]
    pub fn from_error(kind: FailureKind, error: impl Error + Send + Sync + 'static) -> Self {
        Self { kind, message: FailureMessage::Error(Arc::new(error)), excerpt: None, hint: None }
    }

    /// Adds the cause of a failure that has a message of its own.
    #[must_use]
    pub fn because(self, cause: impl Error + Send + Sync + 'static) -> Self {
        let text = self.to_string();
        Self { message: FailureMessage::Text { text, cause: Some(Arc::new(cause)) }, ..self }
    }

    /// Adds what the operator can do.
    #[must_use]
    pub fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }

    /// What a terminal shows: one line with every cause, and the excerpt and the hint below it.
    #[must_use]
    pub fn report(&self) -> String {
        let mut report = format!("afk: {}", chain(self));
        if let Some(excerpt) = &self.excerpt {
            report.push_str(&format!("\n{excerpt}"));
        }
        if let Some(hint) = &self.hint {
            report.push_str(&format!("\nhint: {hint}"));
        }
        clean(&report)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.message {
            FailureMessage::Text { text, .. } => f.write_str(text),
            FailureMessage::Error(error) => f.write_str(&clean_line(&error.to_string())),
        }
    }
}

impl Error for Failure {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match &self.message {
            FailureMessage::Text { cause, .. } => cause.as_deref().map(|cause| cause as _),
            FailureMessage::Error(error) => error.source(),
        }
    }
}

/// An error and its causes, from the outermost to the root.
pub fn causes<'e>(
    error: &'e (dyn Error + 'static),
) -> impl Iterator<Item = &'e (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error: &&(dyn Error + 'static)| Error::source(*error))
}

/// An error with its causes in one clean line, joined by `: `. A cause that the text before it
/// ends with already is not repeated, and an error of the operating system loses its number:
/// `connect to http://127.0.0.1:1: connection refused`.
#[must_use]
pub fn chain(error: &(dyn Error + 'static)) -> String {
    let mut line = String::new();
    for cause in causes(error) {
        let whole = cause.to_string();
        let short = short(cause, &whole);
        if let Some(before) = line.strip_suffix(whole.as_str()).map(str::len) {
            line.truncate(before);
            line.push_str(&short);
        } else if !line.ends_with(&short) {
            if !line.is_empty() {
                line.push_str(": ");
            }
            line.push_str(&short);
        }
    }
    clean_line(&line)
}

/// The text of one cause: `Connection refused (os error 111)` becomes `connection refused`.
fn short(cause: &(dyn Error + 'static), whole: &str) -> String {
    let code = cause.downcast_ref::<std::io::Error>().and_then(std::io::Error::raw_os_error);
    let number = code.map(|code| format!(" (os error {code})"));
    let Some(text) = number.and_then(|number| whole.strip_suffix(number.as_str())) else {
        return whole.to_owned();
    };
    let mut letters = text.chars();
    let first = letters.next().map(|letter| letter.to_ascii_lowercase());
    first.into_iter().chain(letters).collect()
}

/// An error of I/O that a command passes on without a word of its own.
impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::from_error(FailureKind::Unexpected, error)
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("open the journal")]
    struct Outer(#[source] Middle);

    #[derive(Debug, thiserror::Error)]
    #[error("{path}: {source}")]
    struct Middle {
        path: &'static str,
        source: io::Error,
    }

    fn outer() -> Outer {
        // ECONNREFUSED and its text, as Linux has them.
        Outer(Middle { path: "/run/db", source: io::Error::from_raw_os_error(111) })
    }

    #[test]
    fn chain_prints_each_cause_once() {
        assert_eq!(chain(&outer()), "open the journal: /run/db: connection refused");
        assert_eq!(chain(&io::Error::from_raw_os_error(13)), "permission denied");
        assert_eq!(chain(&io::Error::other("it is odd")), "it is odd");
    }

    #[test]
    fn chain_is_one_clean_line() {
        let dirty = io::Error::other("two\nlines\u{1b}[31m");
        assert_eq!(chain(&dirty), "two lines");
    }

    #[test]
    fn failure_reports_causes_and_hint() {
        let failure = Failure::from_error(FailureKind::System, outer()).hint("look there");
        assert_eq!(
            failure.report(),
            "afk: open the journal: /run/db: connection refused\nhint: look there"
        );
        let failure = Failure::new(FailureKind::Usage, "read the key").because(outer().0);
        assert_eq!(failure.report(), "afk: read the key: /run/db: connection refused");
        assert_eq!(failure.kind.code(), 2);
    }

    #[test]
    fn report_keeps_its_lines_and_moves_no_cursor() {
        let mut failure = Failure::new(FailureKind::Usage, "read it").hint("edit \u{9b}2Jit");
        failure.excerpt = Some("1 | a = \u{1b}[2Jb".into());
        assert_eq!(failure.report(), "afk: read it\n1 | a = b\nhint: edit it");
    }

    #[test]
    fn color_eyre_reports_every_cause_of_an_unexpected_failure() {
        let failure = Failure::from_error(FailureKind::Unexpected, outer());
        let report = format!("{:?}", color_eyre::Report::new(failure));
        for cause in ["open the journal", "/run/db: Connection refused", "os error 111"] {
            assert!(report.contains(cause), "{cause} is not in {report}");
        }
    }
}
