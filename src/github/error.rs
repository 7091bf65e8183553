//! Why GitHub's API did not do what a caller asked, and what the operator can do about it.

use serde_json::Value;

use super::transport::GitHubResponse;
use crate::core::model::untrusted::clean_line;
use crate::network::NetworkError;
use crate::secrets::SecretError;

/// Why a request to GitHub failed.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// GitHub refuses the request, and repeating it can't help.
    #[error("GitHub answered {status} to {request}: {message}")]
    Refused {
        /// The status code of HTTP.
        status: u16,
        /// The method and path, or the path alone for a read.
        request: String,
        /// The message in GitHub's answer, cleaned and cut at 300 characters.
        message: String,
    },
    /// A rate limit is reached: every caller with this token waits.
    #[error("GitHub's rate limit is reached; the next request is sent in {seconds} s")]
    Limited {
        /// How long the wait still takes.
        seconds: u64,
    },
    /// No usable answer came, also after several attempts.
    #[error("GitHub request {request} failed")]
    Failed {
        /// The path that was read.
        request: String,
        /// What ended the last attempt.
        #[source]
        cause: CallError,
    },
    /// The answer to a write was lost: GitHub may have carried it out, so the caller reads back.
    #[error("GitHub may have carried out {request}")]
    Unknown {
        /// The method and path of the write.
        request: String,
        /// What happened to the answer.
        #[source]
        cause: CallError,
    },
    /// GitHub refuses the token, also after it was read again.
    #[error("GitHub refuses the token: {0}")]
    Token(String),
    /// The token, or the private key of the App, can't be read or used.
    #[error("the credential of [github] can't be used")]
    Credential(#[source] CredentialError),
}

/// Why the token, or the private key of the App, can't be used.
#[derive(Debug, thiserror::Error)]
pub enum CredentialError {
    /// The place of the secret gives none.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// The private key of the App signs nothing; the text says why.
    #[error("the private key of the App {0}")]
    Key(String),
}

/// Why one call brought no usable answer.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The server was not reached, or the connection broke.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// The answer is cut off, too long, not JSON, or an error of the server.
    #[error("{0}")]
    Answer(String),
}

impl ApiError {
    /// The status code of a refusal.
    #[must_use]
    pub const fn status(&self) -> Option<u16> {
        match self {
            Self::Refused { status, .. } => Some(*status),
            _ => None,
        }
    }

    /// Whether the failure concerns every request with this token.
    #[must_use]
    pub const fn concerns_the_token(&self) -> bool {
        matches!(self, Self::Limited { .. } | Self::Token(_) | Self::Credential(_))
    }

    /// The operator's next step, which follows from the failure.
    #[must_use]
    pub fn hint(&self) -> String {
        match self {
            Self::Limited { .. } => "wait: afk goes on by itself when the limit ends".into(),
            Self::Failed { cause: CallError::Network(error), .. }
            | Self::Unknown { cause: CallError::Network(error), .. } => error.hint(),
            Self::Failed { .. } | Self::Unknown { .. } => {
                "check `api` under [github]: the server there does not answer as GitHub does".into()
            }
            Self::Refused { .. } => {
                "check the permissions of the token, and `api` under [github]".into()
            }
            Self::Token(_) => {
                "replace the token that [github] names: it has expired or was revoked".into()
            }
            Self::Credential(CredentialError::Secret(error)) => error.hint(),
            Self::Credential(CredentialError::Key(_)) => {
                "put the App's private key in PEM where `key` under [github.app] points".into()
            }
        }
    }

    /// No usable answer came to a read.
    pub(super) fn failed(request: &str, cause: impl Into<CallError>) -> Self {
        Self::Failed { request: clean_line(request), cause: cause.into() }
    }

    /// GitHub refused the request with `response`.
    pub(super) fn refused(request: &str, response: &GitHubResponse) -> Self {
        let status = response.answer.status;
        Self::Refused { status, request: clean_line(request), message: message(&response.body) }
    }
}

impl From<String> for CallError {
    fn from(text: String) -> Self {
        Self::Answer(clean_line(&text))
    }
}

impl From<&str> for CallError {
    fn from(text: &str) -> Self {
        Self::Answer(clean_line(text))
    }
}

impl From<serde_json::Error> for CallError {
    fn from(error: serde_json::Error) -> Self {
        Self::Answer(clean_line(&format!("the answer is not the expected JSON: {error}")))
    }
}

/// The message in the body of an error, cleaned.
pub(super) fn message(body: &[u8]) -> String {
    let value = serde_json::from_slice::<Value>(body).unwrap_or_default();
    let text: String = value["message"].as_str().unwrap_or_default().chars().take(300).collect();
    clean_line(&text)
}
