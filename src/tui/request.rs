//! Requests of the cockpit to its session: everything beyond the state of the screen.

use std::path::PathBuf;

use crate::core::model::command;
use crate::core::model::digest::Digest;
use crate::core::model::id::RunId;

/// One request; `session` carries it out, with `fetch` for those that take time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Request {
    /// Send a command to the fleet.
    Command(command::Command),
    Quit,
    /// Run a shell of this machine in a folder, in the cockpit's place.
    Shell(PathBuf),
    /// Fetch a run's diff and show it.
    Diff(RunId),
    /// Open a breakglass shell on a host.
    OpenShell(String),
    /// Show the stored output of a verb.
    Capture(Digest),
    /// Show the differences between two captures, the older one first.
    CaptureDiff(Digest, Digest),
    /// Play a recording of a shell, by its file name.
    Replay(String),
    /// Put a text into the terminal's clipboard.
    Copy(String),
    /// Start or stop taking mouse events.
    Mouse(bool),
    /// Redraw the whole screen.
    Redraw,
}
