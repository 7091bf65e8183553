//! Identifiers as newtypes, so that the compiler keeps a run's number apart from an issue's.
//! Parsing is the only way to build those that come from outside, so that a [`Repo`] is safe to
//! show and to pass to git.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The text is not a valid identifier.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// The text is not `owner/name` in `[A-Za-z0-9._-]`.
    #[error("{0:?} is not a repository name of the form owner/name")]
    Repo(String),
    /// The text is not `owner/name#number`.
    #[error("{0:?} is not an issue of the form owner/name#number")]
    Issue(String),
}

/// A repository, `owner/name`. Its only characters are `[A-Za-z0-9._-]`, and neither half is `.` or
/// `..` or begins with `-`, so it can be shown, and passed to git, as it is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Repo(String);

impl Repo {
    /// Parses `owner/name`.
    ///
    /// # Errors
    /// [`IdError::Repo`] for any other form.
    pub fn parse(text: &str) -> Result<Self, IdError> {
        let half = |s: &str| {
            !s.is_empty()
                && s.len() <= 100
                && s != "."
                && s != ".."
                && !s.starts_with('-')
                && s.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
        };
        match text.split_once('/') {
            Some((owner, name)) if half(owner) && half(name) => Ok(Self(text.to_owned())),
            _ => Err(IdError::Repo(text.chars().take(80).collect())),
        }
    }

    /// The whole name, `owner/name`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The part after the slash.
    #[must_use]
    pub fn name(&self) -> &str {
        self.0.split_once('/').map_or(self.0.as_str(), |(_, name)| name)
    }
}

impl TryFrom<String> for Repo {
    type Error = IdError;
    fn try_from(text: String) -> Result<Self, IdError> {
        Self::parse(&text)
    }
}

impl From<Repo> for String {
    fn from(repo: Repo) -> Self {
        repo.0
    }
}

impl fmt::Display for Repo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One issue of one repository; shown as `owner/name#number`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct IssueKey {
    /// The repository that the issue belongs to.
    pub repo: Repo,
    /// Its number there, from 1.
    pub number: u64,
}

impl IssueKey {
    /// Parses `owner/name#number`.
    ///
    /// # Errors
    /// [`IdError`] for any other form.
    pub fn parse(text: &str) -> Result<Self, IdError> {
        let bad = || IdError::Issue(text.chars().take(80).collect());
        let (repo, number) = text.split_once('#').ok_or_else(bad)?;
        let number = number.parse::<u64>().ok().filter(|n| *n > 0).ok_or_else(bad)?;
        Ok(Self { repo: Repo::parse(repo)?, number })
    }
}

impl TryFrom<String> for IssueKey {
    type Error = IdError;
    fn try_from(text: String) -> Result<Self, IdError> {
        Self::parse(&text)
    }
}

impl From<IssueKey> for String {
    fn from(key: IssueKey) -> Self {
        key.to_string()
    }
}

impl fmt::Display for IssueKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}#{}", self.repo, self.number)
    }
}

/// A run's number, counted over the life of a journal; shown as `r7`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RunId(pub u64);

impl RunId {
    /// Parses `r7` or a bare `7`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        text.strip_prefix('r').unwrap_or(text).parse().ok().map(Self)
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "r{}", self.0)
    }
}

/// An escalation's number; shown as `e3`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct EscalationId(pub u64);

impl fmt::Display for EscalationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "e{}", self.0)
    }
}

/// An outbox entry's number; shown as `o12`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct OutboxId(pub u64);

impl fmt::Display for OutboxId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "o{}", self.0)
    }
}

/// The full name of a git commit, in hex.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Sha(pub String);

impl Sha {
    /// The first eight digits, as people write a commit.
    #[must_use]
    pub fn short(&self) -> &str {
        self.0.get(..8).unwrap_or(&self.0)
    }
}

impl fmt::Display for Sha {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The author of an action: a login, a key's name, or `afk` itself.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Actor(pub String);

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&crate::model::untrusted::clean_line(&self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repo_accepts_only_two_plain_halves() {
        for good in ["acme/widget", "a/b", "A-1._x/y.z"] {
            assert_eq!(Repo::parse(good).unwrap().as_str(), good);
        }
        for bad in
            ["", "acme", "acme/", "/x", "../x", "a/..", "a/b/c", "a b/c", "-x/y", "a/é", "a/\u{1b}"]
        {
            assert!(Repo::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn issue_key_parses_its_own_text() {
        let key = IssueKey::parse("acme/widget#12").unwrap();
        assert_eq!(IssueKey::parse(&key.to_string()).unwrap(), key);
        for bad in ["acme/widget", "acme/widget#", "acme/widget#0", "acme/widget#-1", "#3"] {
            assert!(IssueKey::parse(bad).is_err(), "{bad:?}");
        }
    }
}
