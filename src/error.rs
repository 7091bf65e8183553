//! How a failure is told to a person: what happened, and what to do.

use std::fmt;

/// What kind of failure it is; gives the exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The command did its work and the answer is no: a check failed, an outcome isn't reached.
    No,
    /// The command line or the input is wrong.
    Usage,
    /// The configuration is wrong or missing.
    Configuration,
    /// Another afk has the state, or none runs where one is needed.
    Busy,
    /// The machine: a disk, a permission, a program that isn't there.
    System,
}

impl Kind {
    /// The exit code; docs/commands.md lists them.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::No => 1,
            Self::Usage => 2,
            Self::Configuration => 3,
            Self::Busy => 4,
            Self::System => 5,
        }
    }
}

/// A failure as a person reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What kind.
    pub kind: Kind,
    /// What happened, to what, in a line.
    pub message: String,
    /// What to do.
    pub hint: Option<String>,
}

impl Failure {
    /// A failure without a hint.
    #[must_use]
    pub fn new(kind: Kind, error: impl fmt::Display) -> Self {
        Self {
            kind,
            message: crate::core::model::untrusted::clean_line(&error.to_string()),
            hint: None,
        }
    }

    /// The same with what to do.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "afk: {}", self.message)?;
        match &self.hint {
            Some(hint) => write!(f, "\nhint: {hint}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Failure {}

impl From<crate::config::ConfigError> for Failure {
    fn from(error: crate::config::ConfigError) -> Self {
        Self::new(Kind::Configuration, error)
    }
}

impl From<crate::journal::JournalError> for Failure {
    fn from(error: crate::journal::JournalError) -> Self {
        use crate::journal::JournalError;
        let kind = match error {
            JournalError::Held { .. } => Kind::Busy,
            _ => Kind::System,
        };
        let hint = match &error {
            JournalError::Held { pid, .. } => Some(format!(
                "quit it where it runs, or end it with `kill {pid}`; its runs go on at the next start"
            )),
            JournalError::Io { .. } | JournalError::Database { .. } => {
                Some("see that the state folder can be written and its disk has room".to_owned())
            }
            _ => None,
        };
        Self { hint, ..Self::new(kind, error) }
    }
}

impl From<crate::runtime::RuntimeError> for Failure {
    fn from(error: crate::runtime::RuntimeError) -> Self {
        use crate::runtime::RuntimeError;
        match error {
            RuntimeError::Journal(error) => error.into(),
            RuntimeError::NoTracker | RuntimeError::Services(_) => {
                Self::new(Kind::Configuration, error)
            }
            RuntimeError::Io { .. } => Self::new(Kind::System, error)
                .hint("see that the state folder can be written and its disk has room"),
        }
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::new(Kind::System, error)
    }
}
