//! What a person may request of breakglass, and why breakglass refuses.

use serde::{Deserialize, Serialize};

use super::verb::Verb;
use crate::model::digest::Digest;
use crate::model::id::Actor;
use crate::model::untrusted::Untrusted;

/// A question to breakglass.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "ask")]
pub enum BreakglassRequest {
    /// To be allowed to use it for a while; asked again it lasts longer.
    Arm {
        /// Why.
        reason: Untrusted,
        /// Also where somebody else is armed: they are not any more.
        #[serde(default)]
        take_over: bool,
    },
    /// To be allowed no longer.
    Disarm,
    /// A verb.
    Verb {
        /// Which.
        verb: Verb,
        /// For those that change something.
        #[serde(default)]
        confirm: Option<Confirmation>,
    },
    /// A shell.
    Shell {
        /// On which host.
        host: String,
    },
    /// The key of a host that was built anew is to be trusted.
    Trust {
        /// Which host's.
        host: String,
        /// The key, as in a `known_hosts` file.
        key: String,
        /// The fingerprint that was shown as the old one.
        old: Option<String>,
        /// The fingerprint that was shown as the new one.
        new: String,
    },
    /// An agent's opinion.
    Diagnose,
}

/// A fresh confirmation of a mutating verb.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Confirmation {
    /// The VM's name as it was typed.
    pub name: String,
    /// Of what was on the screen: [`super::BreakglassState::seen`].
    pub seen: Digest,
    /// The VM's name, typed a second time: where the rate would refuse.
    #[serde(default)]
    pub again: Option<String>,
}

impl BreakglassRequest {
    /// Its name in the record.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Arm { .. } => "arm breakglass",
            Self::Disarm => "disarm breakglass",
            Self::Verb { verb, .. } => verb.as_str(),
            Self::Shell { .. } => "shell",
            Self::Trust { .. } => "trust host key",
            Self::Diagnose => "diagnose",
        }
    }
}

/// Why breakglass refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case", tag = "no")]
pub enum BreakglassRefusal {
    /// No hypervisor and no VM.
    #[error("breakglass is not configured; see [breakglass] in docs/breakglass.md")]
    NotConfigured,
    /// Nobody armed it.
    #[error("breakglass is off: arm it first, with a reason")]
    NotArmed,
    /// Somebody else is armed.
    #[error("{by} is armed for {minutes} more min; take over to act yourself")]
    ArmedBy {
        /// Who.
        by: Actor,
        /// How long still.
        minutes: i64,
    },
    /// No reason.
    #[error("say why, in a few words")]
    NoReason,
    /// Not the VM's name.
    #[error("that is not the VM's name: type {vm} to confirm")]
    WrongName {
        /// What it is.
        vm: String,
    },
    /// No confirmation came with it.
    #[error("{} must be confirmed with the VM's name", verb.as_str())]
    Unconfirmed {
        /// What was asked.
        verb: Verb,
    },
    /// What was confirmed isn't what there is.
    #[error("what you confirmed has changed since; look again")]
    Stale,
    /// One at a time.
    #[error("{} by {by} is under way; one at a time", verb.as_str())]
    UnderWay {
        /// What is.
        verb: Verb,
        /// Whose.
        by: Actor,
    },
    /// Too many in ten minutes.
    #[error("{count} mutations in ten minutes; wait {minutes} min, or type {vm} a second time")]
    TooMany {
        /// How many there were.
        count: usize,
        /// Until the oldest counts no more.
        minutes: i64,
        /// What is to be typed.
        vm: String,
    },
    /// No such host.
    #[error("there is no host {host:?}")]
    NoHost {
        /// What was asked for.
        host: String,
    },
    /// The hypervisor's key is changed by hand only.
    #[error(
        "the hypervisor's key is pinned: `afk breakglass pin` changes it, after you compared it"
    )]
    Pinned,
    /// No agent is configured for it.
    #[error("no agent is configured for diagnosis: `agent` under [breakglass]")]
    NoAgent,
    /// It is being asked.
    #[error("a diagnosis is under way")]
    Diagnosing,
}
