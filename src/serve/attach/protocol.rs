//! The lines of the protocol, and its version. Renaming a variant or a field in Rust must keep its
//! serialized name: an older client may be connected to a newer server.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::breakglass::key_file::Passphrase;
use crate::breakglass::link::LinkState;
use crate::core::fleet::breakglass::BreakglassState;
use crate::core::model::breakglass::{ShellId, VerbId};
use crate::core::model::command::{Command, CommandEnvelope, Reply, Role};
use crate::core::model::event::Event;
use crate::core::model::id::{Actor, RunId};
use crate::core::model::time::Timestamp;
use crate::notify::terminal::TerminalNotice;
use crate::runtime::breakglass::console::ShellEnd;
use crate::runtime::breakglass::verb_output::VerbOutput;
use crate::runtime::client::Attached;
use crate::runtime::{Snapshot, WatcherHealth, WorktreeStats};

/// The version of the protocol. A server refuses any other version and names both.
pub const VERSION: u32 = 3;

/// The longest line from a client, in bytes.
pub(super) const REQUEST_LIMIT: usize = 1024 * 1024;
/// The longest line to a client, in bytes: a snapshot of a large fleet fits.
pub(super) const RESPONSE_LIMIT: usize = 512 * 1024 * 1024;

/// A line from a client to the server. The first line is always `Hello`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum FromClient {
    Hello(Hello),
    /// Executes a command; the server answers with a `Reply` of the same id.
    Act {
        id: u64,
        action: Command,
    },
    /// Requests the diff of a run's worktree; the server answers with a `Diff` of the same id.
    Diff {
        id: u64,
        run: RunId,
    },
    /// Reports a new size of the client's terminal.
    Size {
        columns: u16,
        rows: u16,
    },
    /// Turns this connection into a shell: from now on it carries keys and sizes to the shell, and
    /// the shell's output back.
    Console {
        shell: ShellId,
    },
    /// Decrypts the key files of breakglass that the passphrase fits; the server answers with a `Locked` of
    /// the same id.
    Unlock {
        id: u64,
        passphrase: Option<Passphrase>,
    },
    /// Bytes for the shell of this connection, in base64.
    Typed(String),
    /// Ends the runtime; its runs continue at the next start.
    Stop,
}

/// The first line of a client: who it is, and what it wants of the connection.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Hello {
    /// The version of the client's protocol.
    pub version: u32,
    /// The version of the client's program, for messages.
    pub program: String,
    /// The name that the client's actions are recorded under.
    pub actor: Actor,
    /// The role that the client asks for.
    pub role: Role,
    /// The origin of the client's commands: `tty`, `cli` or `dash`.
    pub origin: String,
    /// The columns and rows of the client's terminal.
    pub size: (u16, u16),
    /// Only sends requests: the server sends no snapshots and doesn't list the client as attached.
    #[serde(default, rename = "blind")]
    pub requests_only: bool,
    /// Asks the runtime to drain and end, so that another program can take over. Every version of
    /// the protocol understands this field.
    #[serde(default)]
    pub make_room: bool,
}

impl Hello {
    /// A command of this client.
    pub(super) fn command(&self, id: u64, action: Command) -> CommandEnvelope {
        CommandEnvelope {
            id,
            actor: self.actor.clone(),
            role: self.role,
            origin: self.origin.clone(),
            command: action,
        }
    }
}

/// A line from the server to a client.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum ToClient {
    /// Accepts the client's hello.
    Welcome {
        /// The version of the server's program.
        program: String,
        role: Role,
    },
    /// Rejects the client's hello; the connection ends.
    Refused {
        /// The reason, and what the user can do.
        why: String,
    },
    /// The whole state; the server sends it first, and again to a client that fell behind.
    Snapshot(Box<Snapshot>),
    /// The events that became durable since the last such line.
    Events {
        /// The journal's number of the last event.
        last: i64,
        events: Vec<(Timestamp, Event)>,
    },
    /// The state that a snapshot holds beside the fleet, after each change of it.
    #[serde(rename = "aside")]
    SideState {
        worktrees: Vec<(RunId, WorktreeStats)>,
        /// How far the tasks of runs are.
        #[serde(default)]
        progress: BTreeMap<RunId, String>,
        /// Problems that concern no single run.
        problems: Vec<String>,
        clients: Vec<Attached>,
        /// The watchers of clusters, by their names.
        watchers: BTreeMap<String, WatcherHealth>,
        /// The output of breakglass verbs that run.
        live: BTreeMap<VerbId, VerbOutput>,
        /// The state of breakglass, while the journal can't be written.
        unwritten: Option<Box<BreakglassState>>,
    },
    /// Output of the shell of this connection, in base64.
    Output(String),
    /// The link of that shell has changed.
    ShellLink(LinkState),
    /// The end of that shell; the connection ends.
    ShellEnded(ShellEnd),
    /// Transcripts have grown; a client reads their text from the state folder.
    #[serde(rename = "transcribed")]
    TranscriptsGrew,
    Notice(TerminalNotice),
    /// The answer to an `Act`.
    Reply {
        id: u64,
        reply: Box<Reply>,
    },
    /// The answer to a `Diff`: the text, or why there is none.
    Diff {
        id: u64,
        diff: Result<String, String>,
    },
    /// The answer to an `Unlock`: the key files that are still locked, or why none can be decrypted.
    Locked {
        id: u64,
        keys: Result<Vec<PathBuf>, String>,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn serialized_names_survive_renames_in_rust() {
        let text = |value: &serde_json::Value| value.to_string();
        let hello = Hello {
            version: VERSION,
            program: "1".into(),
            actor: Actor("ana".into()),
            role: Role::Viewer,
            origin: "tty".into(),
            size: (80, 24),
            requests_only: true,
            make_room: false,
        };
        let hello = serde_json::to_value(FromClient::Hello(hello)).unwrap();
        assert_eq!(hello["hello"]["blind"], true, "{}", text(&hello));
        let grew = serde_json::to_value(ToClient::TranscriptsGrew).unwrap();
        assert_eq!(grew, "transcribed");
    }
}
