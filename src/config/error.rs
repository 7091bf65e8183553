//! The one error of this module, and the reader of TOML that produces most of them. The interface
//! reads themes and keymaps with the same [`parse`].

use std::path::PathBuf;

use super::place::ConfigPlace;
use super::ranges::REFERENCE;
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
    #[error("{place}: {key}{message}")]
    Invalid {
        /// The place that the parser names.
        place: Box<ConfigPlace>,
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
    #[error("{}{key}: {message}", before(place.as_deref()))]
    Meaning {
        /// The place of the value; none where it comes from the environment.
        place: Option<Box<ConfigPlace>>,
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
    pub(crate) fn meaning(key: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Meaning { place: None, key: key.into(), message: message.into() }
    }

    /// Adds the place of the key in the text of a file. A key that the text lacks is named alone: its
    /// value comes from somewhere else.
    pub(super) fn located(self, file: &str, text: &str) -> Self {
        match self {
            Self::Meaning { place: None, key, message } => {
                let place = ConfigPlace::of_key(file, text, &key);
                let place =
                    if message == REFERENCE { place.map(ConfigPlace::hidden) } else { place };
                Self::Meaning { place: place.map(Box::new), key, message }
            }
            other => other,
        }
    }

    /// Adds the file, where no place in it is known.
    pub(super) fn in_file(self, file: &str) -> Self {
        match self {
            Self::Meaning { place: None, key, message } => {
                Self::Meaning { place: Some(Box::new(ConfigPlace::of_file(file))), key, message }
            }
            other => other,
        }
    }

    /// The line of the file with a mark below the wrong value; empty where none is known.
    #[must_use]
    pub fn snippet(&self) -> &str {
        match self {
            Self::Invalid { place, .. } => place.snippet(),
            Self::Meaning { place: Some(place), .. } => place.snippet(),
            _ => "",
        }
    }

    /// Puts the key below a section: `token` within `github` becomes `github.token`.
    pub(super) fn within(self, section: &str) -> Self {
        match self {
            Self::Meaning { place, key, message } => {
                Self::Meaning { place, key: format!("{section}.{key}"), message }
            }
            other => other,
        }
    }
}

fn before(place: Option<&ConfigPlace>) -> String {
    place.map(|place| format!("{place}: ")).unwrap_or_default()
}

/// Deserializes TOML, and puts the place and the path of the key into the error.
///
/// # Errors
/// Returns [`ConfigError::Invalid`] for a syntax error, an unknown key or a wrong type.
pub fn parse<T: serde::de::DeserializeOwned>(file: &str, text: &str) -> Result<T, ConfigError> {
    let invalid = |path: &str, error: &toml::de::Error| {
        let by_key = || ConfigPlace::of_key(file, text, path);
        let place = match error.span() {
            // The parser names the whole list.
            Some(_) if path.ends_with(']') => by_key(),
            Some(span) => Some(ConfigPlace::of_span(file, text, span)),
            // A value that decides between kinds is read before its place is known.
            None => by_key(),
        };
        let mut message = crate::core::model::untrusted::clean_line(error.message());
        if let Some(known) = near(&message) {
            message.push_str(&format!("; did you mean `{known}`?"));
        }
        ConfigError::Invalid {
            place: Box::new(place.unwrap_or_else(|| ConfigPlace::of_file(file))),
            key: if path.is_empty() { String::new() } else { format!("{path}: ") },
            message,
        }
    };
    let value = toml::Deserializer::parse(text).map_err(|error| invalid("", &error))?;
    serde_path_to_error::deserialize(value).map_err(|error| {
        let path = error.path().to_string();
        invalid(if path == "." { "" } else { &path }, error.inner())
    })
}

/// The known word that an unknown one was probably meant to be, by serde's message.
fn near(message: &str) -> Option<&str> {
    if !message.starts_with("unknown ") {
        return None;
    }
    let mut words = message.split('`').skip(1).step_by(2);
    let wrong = words.next()?;
    let best = words.map(|known| (distance(wrong, known), known)).min()?;
    (best.0 <= 2.max(wrong.chars().count() / 3)).then_some(best.1)
}

/// The number of characters to add, remove or replace (Levenshtein's distance).
fn distance(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (at, c) in from.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], at + 1);
        for (column, other) in to.iter().enumerate() {
            let replaced = diagonal + usize::from(c != *other);
            diagonal = row[column + 1];
            row[column + 1] = replaced.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[to.len()]
}
