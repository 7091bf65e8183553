//! The one protocol for clients that are not in the runtime's process: JSON lines over a Unix
//! socket in the state folder. First a snapshot, then what became durable since; commands back.
//!
//! The folder is 0700 and the socket 0600, and the peer's user is checked: who gets in is the
//! same user. What a client may do is decided by the core, from the role that the server gave it.

pub mod client;
mod console;
mod line;
pub mod server;

use std::collections::BTreeMap;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::core::fleet::breakglass::BreakglassState;
use crate::core::model::breakglass::{ShellId, VerbId};
use crate::core::model::command::{Command, Reply, Role};
use crate::core::model::event::Event;
use crate::core::model::id::{Actor, RunId};
use crate::core::model::time::Timestamp;
use crate::notify::terminal::TerminalNotice;
use crate::runtime::breakglass::console::ShellEnd;
use crate::runtime::breakglass::verb_output::VerbOutput;
use crate::runtime::client::Attached;
use crate::runtime::{Snapshot, WatcherHealth, WorktreeStats};

/// The protocol's version. Another one is refused with both named, never guessed at.
pub const VERSION: u32 = 2;

/// Longest line from a client, in bytes.
pub const ASK_LIMIT: usize = 1024 * 1024;
/// Longest line to a client, in bytes.
pub const TELL_LIMIT: usize = 512 * 1024 * 1024;

/// The socket of a state folder.
#[must_use]
pub fn path(state: &Path) -> PathBuf {
    state.join("afk.sock")
}

/// Whether a socket is one that we may talk to: no link, and ours. Somebody else's is refused.
///
/// # Errors
/// Why not; not found where there is none.
pub fn check(path: &Path) -> io::Result<()> {
    let found = std::fs::symlink_metadata(path)?;
    let ours = rustix::process::getuid().as_raw();
    if !found.file_type().is_socket() || found.uid() != ours {
        let why = format!("{} is no socket of this user's: it was planted", path.display());
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, why));
    }
    Ok(())
}

/// A line from a client. The first is always `Hello`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FromClient {
    /// Who it is.
    Hello(Hello),
    /// A command.
    Act {
        /// Names the answer.
        id: u64,
        /// What.
        action: Command,
    },
    /// A run's diff is wanted.
    Diff {
        /// Names the answer.
        id: u64,
        /// Which run's.
        run: RunId,
    },
    /// Its terminal has another size.
    Size {
        /// Columns.
        columns: u16,
        /// Rows.
        rows: u16,
    },
    /// From now on this connection is a shell: keys and sizes go to it, and its output comes back.
    Console {
        /// Which was allowed.
        shell: ShellId,
    },
    /// Typed into the shell of this connection; base64.
    Typed(String),
    /// The runtime is to end; its runs go on at the next start.
    Stop,
}

/// What a client says of itself.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Hello {
    /// Its protocol's version.
    pub version: u32,
    /// Its program's version.
    pub program: String,
    /// The name that its actions are recorded under.
    pub actor: Actor,
    /// What it wants to be; it may be given less, never more.
    pub role: Role,
    /// From where: `socket`, `cli`, `dash`.
    pub origin: String,
    /// Columns and rows.
    pub size: (u16, u16),
    /// It only asks and does not look: no snapshot is sent to it.
    #[serde(default)]
    pub blind: bool,
    /// The runtime is to make room, whatever version the client has: the one wish that every
    /// version understands.
    #[serde(default)]
    pub make_room: bool,
}

/// A line to a client.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ToClient {
    /// It was let in.
    Welcome {
        /// The server's program's version.
        program: String,
        /// What it may be.
        role: Role,
    },
    /// It was not.
    Refused {
        /// Why, and what to do.
        why: String,
    },
    /// Everything, as it is now. Also sent again to a client that fell behind.
    Snapshot(Box<Snapshot>),
    /// What became durable since.
    Events {
        /// The journal's number of the last of them.
        last: i64,
        /// In order.
        events: Vec<(Timestamp, Event)>,
    },
    /// What is known beside the fleet changed.
    Aside {
        /// Runs' worktrees.
        worktrees: Vec<(RunId, WorktreeStats)>,
        /// What is wrong outside of runs.
        problems: Vec<String>,
        /// Who is attached.
        clients: Vec<Attached>,
        /// The watchers of clusters.
        watchers: BTreeMap<String, WatcherHealth>,
        /// What breakglass verbs write.
        live: BTreeMap<VerbId, VerbOutput>,
        /// Breakglass as it is, where the journal can't be written.
        unwritten: Option<Box<BreakglassState>>,
    },
    /// Output of the shell of this connection; base64.
    Output(String),
    /// That shell is over; the connection ends.
    ShellEnded(ShellEnd),
    /// Transcripts have grown; their text stays in the state folder.
    Transcribed,
    /// A notice.
    Notice(TerminalNotice),
    /// The answer to a command.
    Reply {
        /// Which.
        id: u64,
        /// How.
        reply: Box<Reply>,
    },
    /// A diff, or why there is none.
    Diff {
        /// Which.
        id: u64,
        /// The text.
        diff: Result<String, String>,
    },
}
