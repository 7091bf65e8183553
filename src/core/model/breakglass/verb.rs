//! The verbs of a hypervisor, one use of a verb, and how it ended. A verb whose end nobody observed
//! is `Unknown`, never a success or a failure.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::model::digest::Digest;
use crate::model::id::Actor;
use crate::model::time::Timestamp;
use crate::model::untrusted::Untrusted;

/// A command that the hypervisor's host script accepts; each is one bare word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verb {
    /// Reads the state from QEMU's monitor.
    Status,
    /// Collects what the host can see of the VM.
    Forensics,
    /// Stops the VM, kills it if necessary, and starts it.
    Cycle,
    /// Powers the VM on.
    Start,
    /// Powers the VM off at once.
    Stop,
    /// Reboots inside the same QEMU process.
    Reset,
}

impl Verb {
    /// Every verb: the two readers first, then recovery.
    pub const ALL: [Self; 6] =
        [Self::Status, Self::Forensics, Self::Cycle, Self::Start, Self::Stop, Self::Reset];

    /// The word that afk sends to the host.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Status => "status",
            Self::Forensics => "forensics",
            Self::Cycle => "cycle",
            Self::Start => "start",
            Self::Stop => "stop",
            Self::Reset => "reset",
        }
    }

    /// Parses a verb's exact word.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|verb| verb.as_str() == word)
    }

    /// Whether the verb changes the VM.
    #[must_use]
    pub const fn mutates(self) -> bool {
        !matches!(self, Self::Status | Self::Forensics)
    }

    /// The state that the VM reads once the verb has done its work; none for a verb after which several
    /// are right.
    #[must_use]
    pub const fn leaves(self) -> Option<&'static str> {
        match self {
            Self::Cycle | Self::Start => Some("running"),
            Self::Stop => Some("stopped"),
            Self::Status | Self::Forensics | Self::Reset => None,
        }
    }

    /// The verb's effect, shown before an operator confirms it.
    #[must_use]
    pub const fn explains(self) -> &'static str {
        match self {
            Self::Status => {
                "read QEMU's monitor; \"running\" never proves health: a guest frozen by stalled \
                 I/O reads \"running\""
            }
            Self::Forensics => {
                "collect what the hypervisor sees of the VM; starts, stops and resets nothing"
            }
            Self::Cycle => {
                "recovery: forensics, stop (a kill if the VM does not stop), start; a fresh QEMU \
                 process, which applies staged configuration; up to 4 minutes"
            }
            Self::Start => "forensics, then power on",
            Self::Stop => "forensics, then power off at once, as if the plug were pulled",
            Self::Reset => {
                "forensics, then a reboot inside the same QEMU process; it does not fix stalled \
                 I/O and applies no staged configuration; cycle does"
            }
        }
    }
}

/// The number of one use of a verb in this journal; shown as `v3`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct VerbId(pub u64);

impl fmt::Display for VerbId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "v{}", self.0)
    }
}

/// How one use of a verb ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "result")]
pub enum VerbResult {
    /// The host script exited with a code.
    Exited {
        /// 0 is success; 2 is a refusal; 75 means that another verb is running.
        code: u32,
    },
    /// The verb never reached the hypervisor, and nothing changed.
    NotBegun {
        /// The reason, with its causes.
        why: Untrusted,
    },
    /// The connection was lost: the verb may have taken effect, and may still be running.
    Unknown {
        /// The reason, with its causes.
        why: Untrusted,
    },
}

impl VerbResult {
    /// The result in a few words.
    #[must_use]
    pub fn summary(&self) -> String {
        match self {
            Self::Exited { code: 0 } => "exit code 0".into(),
            Self::Exited { code: 2 } => "refused by the hypervisor (exit code 2)".into(),
            Self::Exited { code: 75 } => "busy: another verb is running (exit code 75)".into(),
            Self::Exited { code: 71 } => {
                "failed: qm reported success, and the VM did not follow (exit code 71)".into()
            }
            Self::Exited { code } => format!("failed, exit code {code}"),
            Self::NotBegun { why } => format!("did not begin: {}", why.clean_line()),
            Self::Unknown { why } => format!("UNKNOWN: {}", why.clean_line()),
        }
    }

    /// Whether the host reports success.
    #[must_use]
    pub const fn good(&self) -> bool {
        matches!(self, Self::Exited { code: 0 })
    }
}

/// The end of a verb's use and what it returned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerbEnd {
    /// How the verb ended.
    pub result: VerbResult,
    /// The VM's state as the monitor reads it, where the host reported it.
    pub reads: Option<Untrusted>,
    /// The host's identifier of the latest mutating verb, where the host reported it.
    pub request: Option<Untrusted>,
    /// The stored output, where there was any.
    pub capture: Option<Capture>,
    /// The host's warnings: a lock, HA, a cluster without quorum, a process that can't die.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<Untrusted>,
}

impl VerbEnd {
    /// The end of a verb of which only the result is known.
    #[must_use]
    pub const fn of(result: VerbResult) -> Self {
        Self { result, reads: None, request: None, capture: None, warnings: Vec::new() }
    }

    /// The result in a few words, with the host's warnings.
    #[must_use]
    pub fn summary(&self) -> String {
        let mut text = self.result.summary();
        for warning in &self.warnings {
            text.push_str("; ");
            text.push_str(&warning.clean_line());
        }
        text
    }
}

/// Stored output, addressed by its content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capture {
    /// The SHA-256 of the content.
    pub digest: Digest,
    /// The size in bytes.
    pub size: u64,
    /// Whether the output is on disk; otherwise it is only in memory.
    pub stored: bool,
    /// Whether the output was longer than the store's limit.
    pub cut: bool,
}

/// Why a verb was begun. Serialized as one string.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub enum VerbOrigin {
    /// The drill, which proves the way to the hypervisor.
    Drill,
    /// A status that afk reads after a mutating verb whose end is unknown.
    ReadBack,
    /// A client's request, with the client's location: `tty`, `cli`, `ssh 10.0.0.7`.
    Client(String),
}

impl VerbOrigin {
    /// The text that records and the screen show.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Drill => "drill",
            Self::ReadBack => "read back",
            Self::Client(origin) => origin,
        }
    }
}

impl From<String> for VerbOrigin {
    fn from(text: String) -> Self {
        match text.as_str() {
            "drill" => Self::Drill,
            "read back" => Self::ReadBack,
            _ => Self::Client(text),
        }
    }
}

impl From<VerbOrigin> for String {
    fn from(origin: VerbOrigin) -> Self {
        origin.as_str().to_owned()
    }
}

/// One use of a verb, from its request to its end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerbRun {
    /// The number of this use.
    pub id: VerbId,
    /// The verb that was sent.
    pub verb: Verb,
    /// The operator who requested it; `afk` for the drill and for a read-back.
    pub by: Actor,
    /// Why it was begun: a client's request, the drill, or a read-back.
    pub origin: VerbOrigin,
    /// The time at which it was sent.
    pub began: Timestamp,
    /// Whether this use is part of the drill.
    #[serde(default)]
    pub drill: bool,
    /// The time and manner of its end, once known.
    pub end: Option<(Timestamp, VerbEnd)>,
}
