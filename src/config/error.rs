//! The one error of this module, and the reader of TOML that produces most of them. The interface
//! reads themes and keymaps with the same [`parse`].

use std::path::PathBuf;

use crate::trusted_file::TrustedFileError;

/// A configuration that afk can't use: the place of the mistake, and how to correct it.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file is missing, or afk has no permission to read it.
    #[error("{}: can't be read: {source}", path.display())]
    Unreadable {
        /// The path that afk tried.
        path: PathBuf,
        /// The reason of the operating system.
        source: std::io::Error,
    },
    /// Another user could change the file, so that its content can't be trusted.
    #[error(transparent)]
    NotTrusted(TrustedFileError),
    /// The text isn't TOML, a key is unknown, or a value has the wrong type.
    #[error("{file}:{line}: {key}{message}")]
    Invalid {
        /// The file's name as the user gave it.
        file: String,
        /// Counted from 1; 0 if the parser gives no position.
        line: usize,
        /// The path of the key followed by `: `, or an empty string.
        key: String,
        /// The parser's message in a single line.
        message: String,
    },
    /// An environment variable, or a control file of that name, holds an unusable value.
    #[error("{name}={value:?}: {message}")]
    Environment {
        /// The variable, such as `AFK_KILL_SWITCH`.
        name: &'static str,
        /// The value that afk found.
        value: String,
        /// The values that are allowed.
        message: &'static str,
    },
    /// A value has the right type and makes no sense for its key.
    #[error("{key}: {message}")]
    Meaning {
        /// The path of the key, such as `repos."acme/web".branch`.
        key: String,
        /// The rule that the value breaks.
        message: String,
    },
}

impl From<TrustedFileError> for ConfigError {
    fn from(error: TrustedFileError) -> Self {
        match error {
            TrustedFileError::Io { path, source } => Self::Unreadable { path, source },
            other => Self::NotTrusted(other),
        }
    }
}

impl ConfigError {
    /// An error about the meaning of a single key.
    pub(super) fn meaning(key: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Meaning { key: key.into(), message: message.into() }
    }

    /// Puts the key below a section: `token` within `github` becomes `github.token`.
    pub(super) fn within(self, section: &str) -> Self {
        match self {
            Self::Meaning { key, message } => {
                Self::Meaning { key: format!("{section}.{key}"), message }
            }
            other => other,
        }
    }
}

/// Deserializes TOML, and puts the line and the path of the key into the error.
///
/// # Errors
/// Returns [`ConfigError::Invalid`] for a syntax error, an unknown key or a wrong type.
pub fn parse<T: serde::de::DeserializeOwned>(file: &str, text: &str) -> Result<T, ConfigError> {
    let line_of = |at: usize| text[..at.min(text.len())].matches('\n').count() + 1;
    let invalid = |key: String, error: &toml::de::Error| ConfigError::Invalid {
        file: file.to_owned(),
        line: error.span().map_or(0, |span| line_of(span.start)),
        key,
        message: crate::core::model::untrusted::clean_line(error.message()),
    };
    let value = toml::Deserializer::parse(text).map_err(|e| invalid(String::new(), &e))?;
    serde_path_to_error::deserialize(value).map_err(|error| {
        let path = error.path().to_string();
        let key = if path == "." { String::new() } else { format!("{path}: ") };
        invalid(key, error.inner())
    })
}
