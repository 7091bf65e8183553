//! Shells on hosts, and what is kept of their output.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::model::id::Actor;
use crate::model::time::Timestamp;

/// A shell, in this journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ShellId(pub u64);

impl fmt::Display for ShellId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s{}", self.0)
    }
}

/// One shell that is open.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenShell {
    /// Where.
    pub host: String,
    /// Whose.
    pub by: Actor,
    /// Since when.
    pub since: Timestamp,
}

/// The output of a shell that was kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recording {
    /// Of which shell.
    pub shell: ShellId,
    /// On which host.
    pub host: String,
    /// Whose.
    pub by: Actor,
    /// When it began.
    pub at: Timestamp,
    /// How long, in milliseconds.
    pub ms: i64,
    /// The file's name in the folder of recordings.
    pub file: String,
}
