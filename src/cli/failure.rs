//! From the errors of all rooms to the [`Failure`] of a command: the kind, which gives the exit code,
//! and the hint, which follows from the cause.

use std::error::Error;

use crate::breakglass::pins::PinError;
use crate::breakglass::ssh::ConnectError;
use crate::config::ConfigError;
use crate::error::{Failure, FailureKind, causes};
use crate::github::ApiError;
use crate::journal::JournalError;
use crate::network::NetworkError;
use crate::redact::{Redactor, without_credentials};
use crate::runtime::RuntimeError;
use crate::secrets::SecretError;

/// The operator's next step, from the deepest cause of an error that knows one.
pub(super) fn hint(error: &(dyn Error + 'static)) -> Option<String> {
    causes(error).filter_map(hint_of).last()
}

/// The failure that an error is, with the hint that fits its cause.
pub(super) fn explained(kind: FailureKind, error: impl Error + Send + Sync + 'static) -> Failure {
    let hint = hint(&error);
    let mut failure = Failure::from_error(kind, error);
    failure.hint = hint;
    failure
}

fn hint_of(cause: &(dyn Error + 'static)) -> Option<String> {
    let network = || cause.downcast_ref().map(NetworkError::hint);
    let secret = || cause.downcast_ref().map(SecretError::hint);
    let github = || cause.downcast_ref().map(ApiError::hint);
    let pins = || cause.downcast_ref().map(|_: &PinError| "`afk breakglass pin` makes them".into());
    let connect = || cause.downcast_ref::<ConnectError>().and_then(ConnectError::hint);
    network().or_else(secret).or_else(github).or_else(pins).or_else(connect)
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        let snippet = error.snippet().to_owned();
        let mut failure = Self::from_error(FailureKind::Configuration, error);
        // The line may be the one with a token in a remote's address: then it is not shown.
        let redactor = Redactor::default();
        let is_clean = without_credentials(&redactor.clean(&snippet)) == snippet;
        failure.excerpt = (is_clean && !snippet.is_empty()).then_some(snippet);
        failure
    }
}

impl From<JournalError> for Failure {
    fn from(error: JournalError) -> Self {
        let (kind, hint) = match &error {
            JournalError::Held { pid, .. } => (
                FailureKind::Busy,
                Some(format!(
                    "quit it where it runs, or end it with `kill {pid}`; its runs go on at the \
                     next start"
                )),
            ),
            JournalError::Incomplete { .. } | JournalError::Unreadable { .. } => {
                (FailureKind::System, Some(WAYS_FORWARD.to_owned()))
            }
            JournalError::Database { source, .. } if is_damage(source) => {
                (FailureKind::System, Some(WAYS_FORWARD.to_owned()))
            }
            JournalError::Missing { .. } => (FailureKind::Busy, Some(NOT_STARTED.to_owned())),
            JournalError::Copied { .. } => (FailureKind::System, Some(COPY.to_owned())),
            JournalError::Io { .. } | JournalError::Database { .. } => {
                (FailureKind::System, Some(STATE_FOLDER.to_owned()))
            }
            _ => (FailureKind::System, None),
        };
        let mut failure = Self::from_error(kind, error);
        failure.hint = hint;
        failure
    }
}

/// Whether the file itself is damaged: SQLite found it so, or a field of a record has another type.
fn is_damage(error: &rusqlite::Error) -> bool {
    use rusqlite::Error::{FromSqlConversionFailure, InvalidColumnType};
    use rusqlite::ErrorCode::{DatabaseCorrupt, NotADatabase};
    matches!(error.sqlite_error_code(), Some(DatabaseCorrupt | NotADatabase))
        || matches!(error, FromSqlConversionFailure(..) | InvalidColumnType(..))
}

/// The hint for a journal that has lost records, or whose records can't be read.
const WAYS_FORWARD: &str = "restore journal.sqlite, with its -wal, from a backup; or keep the \
                            records that are left with `afk journal salvage`; or begin with none \
                            with `afk journal begin-anew`. `afk breakglass` works meanwhile";
/// The hint where no afk has started yet.
const NOT_STARTED: &str = "`afk` or `afk up` starts it; --state names another state folder";
/// The hint for a copied state folder.
const COPY: &str = "start afk on the original, or move the original away; to make the copy an afk \
                    of its own, `afk journal begin-anew`";
/// The hint for a state folder that can't be read or written.
const STATE_FOLDER: &str = "see that the state folder can be written and its disk has room";

impl From<RuntimeError> for Failure {
    fn from(error: RuntimeError) -> Self {
        match error {
            RuntimeError::Journal(error) => error.into(),
            RuntimeError::NoTracker | RuntimeError::Services(_) => {
                Self::from_error(FailureKind::Configuration, error)
            }
            RuntimeError::Io { .. } => {
                Self::from_error(FailureKind::System, error).hint(STATE_FOLDER)
            }
        }
    }
}
