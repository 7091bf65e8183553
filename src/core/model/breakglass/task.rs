//! What breakglass needs the runtime to do, and what the runtime reports back.

use super::shell::{Recording, ShellId};
use super::verb::{Verb, VerbEnd, VerbId};
use crate::model::id::Actor;
use crate::model::untrusted::Untrusted;

/// What the runtime is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BreakglassTask {
    /// Send a verb to the host, and tell how it ended.
    Verb {
        /// Its number.
        id: VerbId,
        /// Which.
        verb: Verb,
        /// The host's name of the last mutating verb that we know of.
        known: Option<Untrusted>,
    },
    /// Open a shell for a client that comes for it.
    Shell {
        /// Its number.
        id: ShellId,
        /// Where.
        host: String,
        /// Whose.
        by: Actor,
    },
    /// Close every shell.
    CloseShells {
        /// Why.
        why: String,
    },
    /// Pin a host's key.
    Trust {
        /// Which host's.
        host: String,
        /// The key, as in a `known_hosts` file.
        key: String,
    },
    /// Ask an agent what may be wrong.
    Diagnose,
}

/// What the runtime tells.
#[derive(Debug, Clone)]
pub enum BreakglassReport {
    /// A verb ended.
    Ended {
        /// Which.
        verb: VerbId,
        /// How.
        end: VerbEnd,
    },
    /// A shell is closed.
    Closed {
        /// Which.
        shell: ShellId,
        /// Why.
        why: Untrusted,
        /// What was kept of it.
        recording: Option<Recording>,
    },
    /// An agent said what may be wrong.
    Diagnosed {
        /// In full.
        text: Untrusted,
        /// The verb that it would use.
        proposes: Option<Verb>,
    },
}
