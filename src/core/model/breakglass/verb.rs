//! The verbs of a hypervisor, one use of a verb, and how it ended.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::model::digest::Digest;
use crate::model::id::Actor;
use crate::model::time::Timestamp;
use crate::model::untrusted::Untrusted;

/// What can be asked of the hypervisor; one bare word each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verb {
    /// What the monitor says.
    Status,
    /// What can be seen of it from the host.
    Forensics,
    /// Stop, kill if need be, start.
    Cycle,
    /// Power on.
    Start,
    /// Power off.
    Stop,
    /// Reboot in the same process.
    Reset,
}

impl Verb {
    /// All of them, the readers first, then recovery.
    pub const ALL: [Self; 6] =
        [Self::Status, Self::Forensics, Self::Cycle, Self::Start, Self::Stop, Self::Reset];

    /// The word that the host gets.
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

    /// Reads a word, whole.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|verb| verb.as_str() == word)
    }

    /// Whether it changes anything.
    #[must_use]
    pub const fn mutates(self) -> bool {
        !matches!(self, Self::Status | Self::Forensics)
    }

    /// What it does, said before it runs.
    #[must_use]
    pub const fn explains(self) -> &'static str {
        match self {
            Self::Status => {
                "what the monitor says; \"running\" never proves health: a guest frozen by stalled \
                 I/O reads \"running\""
            }
            Self::Forensics => {
                "what the host sees of the VM; up to two minutes; it changes nothing"
            }
            Self::Cycle => {
                "recovery: forensics, stop (and a kill where it does not stop), start; a fresh QEMU \
                 process, which applies staged configuration; up to 4 minutes"
            }
            Self::Start => "forensics, then power on",
            Self::Stop => "forensics, then power off at once, as if the plug were pulled",
            Self::Reset => {
                "forensics, then a reboot inside the same QEMU process: it does not cure stalled \
                 I/O and applies no staged configuration; cycle does"
            }
        }
    }
}

/// A verb's run, in this journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct VerbId(pub u64);

impl fmt::Display for VerbId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "v{}", self.0)
    }
}

/// How a verb ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "result")]
pub enum VerbResult {
    /// The host told an exit code.
    Exited {
        /// 0 is success; 2 refused, 75 another one is under way.
        code: u32,
    },
    /// It never began: nothing was changed.
    NotBegun {
        /// Why.
        why: Untrusted,
    },
    /// Nobody here knows: it may have been done, and may still go on.
    Unknown {
        /// Why.
        why: Untrusted,
    },
}

impl VerbResult {
    /// In a few words.
    #[must_use]
    pub fn summary(&self) -> String {
        match self {
            Self::Exited { code: 0 } => "exit 0".into(),
            Self::Exited { code: 2 } => "refused by the host (exit 2)".into(),
            Self::Exited { code: 75 } => "busy: another verb is under way (exit 75)".into(),
            Self::Exited { code } => format!("failed, exit {code}"),
            Self::NotBegun { why } => format!("did not begin: {}", why.clean_line()),
            Self::Unknown { why } => format!("UNKNOWN: {}", why.clean_line()),
        }
    }

    /// The host did it.
    #[must_use]
    pub const fn good(&self) -> bool {
        matches!(self, Self::Exited { code: 0 })
    }
}

/// What a verb left behind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerbEnd {
    /// How.
    pub result: VerbResult,
    /// What the VM reads, where it was told.
    pub reads: Option<Untrusted>,
    /// The host's name of the last mutating verb that it knows.
    pub request: Option<Untrusted>,
    /// What was kept of its output.
    pub capture: Option<Capture>,
}

/// Output that was kept, named by its content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capture {
    /// Its content's.
    pub digest: Digest,
    /// In bytes.
    pub size: u64,
    /// Whether the disk has it; memory alone otherwise.
    pub stored: bool,
    /// The output was longer than what is kept.
    pub cut: bool,
}

/// Why a verb was begun. Written as one string.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub enum VerbOrigin {
    /// The drill, which proves the way to the hypervisor.
    Drill,
    /// A status that afk reads after a mutating verb whose end is unknown.
    ReadBack,
    /// A client's request, with where the client is: `tty`, `cli`, `ssh 10.0.0.7`.
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

/// One use of a verb.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerbRun {
    /// Its number.
    pub id: VerbId,
    /// Which.
    pub verb: Verb,
    /// Who asked; `afk` for the drill and for what is read back.
    pub by: Actor,
    /// Why it was begun: a client's request, the drill, or a read-back.
    pub origin: VerbOrigin,
    /// Since when.
    pub began: Timestamp,
    /// Whether it is part of the drill.
    #[serde(default)]
    pub drill: bool,
    /// How and when it ended.
    pub end: Option<(Timestamp, VerbEnd)>,
}
