//! The work that the core asks the runtime to do for breakglass, and the reports that come back.
//!
//! [`crate::step`] emits a [`BreakglassTask`] inside `Effect::Breakglass`; the runtime answers with
//! a [`BreakglassReport`] inside `Input::Breakglass`.

use super::shell::{Recording, ShellId};
use super::verb::{Verb, VerbEnd, VerbId};
use crate::model::id::Actor;
use crate::model::untrusted::Untrusted;

/// Work for the runtime on behalf of breakglass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BreakglassTask {
    /// Send a verb to the host, and report its end.
    Verb {
        /// The number of the verb's run.
        id: VerbId,
        /// The verb to send.
        verb: Verb,
        /// The host's identifier of the latest mutating verb that afk knows of; a different one in
        /// the reply shows that another client acted.
        known: Option<Untrusted>,
    },
    /// Open a shell and keep it for the client that asked for it.
    Shell {
        /// The number of the shell.
        id: ShellId,
        /// The host's name in the configuration.
        host: String,
        /// The operator who opens it.
        by: Actor,
    },
    /// Close every open shell.
    CloseShells {
        /// The reason, which each client is shown.
        why: String,
    },
    /// Pin a host's key in the file of pins.
    Trust {
        /// The host's name among the pins.
        host: String,
        /// The key, as in a `known_hosts` file.
        key: String,
    },
    /// Ask the configured agent for a diagnosis.
    Diagnose,
}

/// The runtime's report about a breakglass task.
#[derive(Debug, Clone)]
pub enum BreakglassReport {
    /// A verb ended, or its end stays unknown.
    Ended {
        /// The number of the verb's run.
        verb: VerbId,
        /// The result and the output.
        end: VerbEnd,
    },
    /// A shell was closed.
    Closed {
        /// The number of the shell.
        shell: ShellId,
        /// The reason for the close.
        why: Untrusted,
        /// The recording of its output, where one was stored.
        recording: Option<Recording>,
    },
    /// An agent returned its diagnosis.
    Diagnosed {
        /// The diagnosis in full.
        text: Untrusted,
        /// The verb that the agent proposes, where it proposes one.
        proposes: Option<Verb>,
    },
}
