//! Shells that breakglass opens on hosts, and the recordings of their output.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::model::id::Actor;
use crate::model::time::Timestamp;

/// A shell's number in this journal; shown as `s2`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ShellId(pub u64);

impl fmt::Display for ShellId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s{}", self.0)
    }
}

/// A shell that is open now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenShell {
    /// The host on which it runs.
    pub host: String,
    /// The operator who opened it.
    pub by: Actor,
    /// The time at which it was opened.
    pub since: Timestamp,
}

/// The stored output of a shell that has closed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recording {
    /// The number of the recorded shell.
    pub shell: ShellId,
    /// The host on which it ran.
    pub host: String,
    /// The operator who opened it.
    pub by: Actor,
    /// The time at which the shell began.
    pub at: Timestamp,
    /// The shell's duration in milliseconds.
    pub ms: i64,
    /// The file's name in the folder of recordings.
    pub file: String,
}
