//! The journal's records about breakglass: part of [`crate::model::event::Event`].

use serde::{Deserialize, Serialize};

use super::rules::BreakglassArming;
use super::shell::{OpenShell, Recording, ShellId};
use super::verb::{VerbEnd, VerbId, VerbRun};
use crate::model::id::Actor;
use crate::model::untrusted::Untrusted;

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "what")]
pub enum BreakglassEvent {
    /// Somebody may use it for a while.
    Armed {
        /// Who, why and until when.
        arming: BreakglassArming,
    },
    /// Nobody may any more.
    Disarmed {
        /// Why.
        why: String,
    },
    /// A verb is sent to the host.
    Begun {
        /// Which.
        run: VerbRun,
    },
    /// It ended.
    Ended {
        /// Which.
        verb: VerbId,
        /// How.
        end: VerbEnd,
    },
    /// A shell is opened.
    Opened {
        /// Its number.
        shell: ShellId,
        /// Where, and whose.
        of: OpenShell,
    },
    /// It is closed.
    Closed {
        /// Which.
        shell: ShellId,
        /// Why.
        why: Untrusted,
        /// What was kept of it.
        recording: Option<Recording>,
    },
    /// A person accepted the key of a host that was built anew.
    KeyTrusted {
        /// Which host's.
        host: String,
        /// Who.
        by: Actor,
        /// The fingerprint before, where there was one.
        old: Option<String>,
        /// The fingerprint now.
        new: String,
    },
    /// Both verbs of the drill were good.
    Drilled,
    /// An agent was asked what may be wrong.
    Diagnosing {
        /// By whom.
        by: Actor,
    },
    /// It answered.
    Diagnosed {
        /// What, from its first line.
        said: Untrusted,
    },
}
