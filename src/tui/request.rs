//! Requests of the cockpit to its session: everything beyond the state of the screen.

use std::path::PathBuf;

use super::review::ReviewComment;
use crate::core::model::command;
use crate::core::model::digest::Digest;
use crate::core::model::id::RunId;
use crate::journal::history::Moment;

/// One request; `session` carries it out, with `fetch` for those that take time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Request {
    /// Send a command to the fleet.
    Command(command::Command),
    Quit,
    /// Stop this process like any other job of the shell, until `fg`.
    Suspend,
    /// Run a shell of this machine in a folder, in the cockpit's place.
    Shell(PathBuf),
    /// Fetch a run's diff and show it.
    Diff(RunId),
    /// Send these comments on a run's diff; they are kept until the fleet has accepted the command.
    Review(RunId, Vec<ReviewComment>, command::Command),
    /// Fetch the diffs of two runs and compare the runs.
    Compare(RunId, RunId),
    /// Read what happened since the operator last looked.
    Brief,
    /// Read what each run did over the last hours.
    Timeline,
    /// Read the journal, to show the past.
    TimeTravel,
    /// Fold the fleet at a moment of the past.
    Past(Moment),
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

impl Request {
    /// Whether the fleet answers it, once, by accepting or refusing a command.
    pub(crate) const fn is_command(&self) -> bool {
        matches!(self, Self::Command(_) | Self::Review(..))
    }

    /// Whether the request concerns the screen alone, so that it is right also while the screen shows the
    /// past.
    pub(crate) const fn is_of_screen(&self) -> bool {
        matches!(
            self,
            Self::Quit
                | Self::Suspend
                | Self::Copy(_)
                | Self::Mouse(_)
                | Self::Redraw
                | Self::Past(_)
        )
    }
}
