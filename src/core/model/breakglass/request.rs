//! The requests that a person makes of breakglass, and the reasons for which breakglass refuses.
//!
//! A client sends a [`BreakglassRequest`] inside `Command::Breakglass`; the reply carries a
//! [`BreakglassRefusal`] where a rule forbids it.

use serde::{Deserialize, Serialize};

use super::verb::Verb;
use crate::model::digest::Digest;
use crate::model::id::Actor;
use crate::model::plural::plural;
use crate::model::untrusted::Untrusted;

/// A request to breakglass from an operator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "ask")]
pub enum BreakglassRequest {
    /// Arms breakglass for a while; a repeated request extends it.
    Arm {
        /// The operator's reason, kept in the journal.
        reason: Untrusted,
        /// Whether to disarm another operator who is armed now.
        #[serde(default)]
        take_over: bool,
    },
    /// Disarms breakglass before its time is over.
    Disarm,
    /// Sends a verb to the hypervisor.
    Verb {
        /// The verb to send.
        verb: Verb,
        /// The confirmation, required for a mutating verb.
        #[serde(default)]
        confirm: Option<Confirmation>,
    },
    /// Opens a shell on a host.
    Shell {
        /// The host's name in the configuration.
        host: String,
    },
    /// Pins the new key of a rebuilt host.
    Trust {
        /// The host's name among the pins.
        host: String,
        /// The key, as in a `known_hosts` file.
        key: String,
        /// The old fingerprint that the person was shown.
        old: Option<String>,
        /// The new fingerprint that the person was shown.
        new: String,
    },
    /// Asks an agent for a diagnosis.
    Diagnose,
    /// Starts a session of the breakglass agent at the configured level, within the arming.
    StartAgent {
        /// The operator's words to the agent; may be empty.
        #[serde(default)]
        task: Untrusted,
        /// The mutating verbs that it may begin by itself, at the level `act`.
        #[serde(default)]
        mutations: usize,
    },
    /// Stops the breakglass agent at once. A verb that it began continues on the host.
    StopAgent,
}

/// An operator's confirmation of a mutating verb, typed just before it runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Confirmation {
    /// The VM's name as the operator typed it.
    pub name: String,
    /// The digest of the state that was on the screen; see `BreakglassState::seen`.
    pub seen: Digest,
    /// The VM's name typed a second time, which overrides the rate limit.
    #[serde(default)]
    pub again: Option<String>,
}

impl BreakglassRequest {
    /// The request's name in records.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Arm { .. } => "arm breakglass",
            Self::Disarm => "disarm breakglass",
            Self::Verb { verb, .. } => verb.as_str(),
            Self::Shell { .. } => "shell",
            Self::Trust { .. } => "trust host key",
            Self::Diagnose => "diagnose",
            Self::StartAgent { .. } => "start the breakglass agent",
            Self::StopAgent => "stop the breakglass agent",
        }
    }
}

/// A rule of breakglass that refused a request; nothing changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case", tag = "no")]
pub enum BreakglassRefusal {
    /// The configuration names no hypervisor and no VM.
    #[error("breakglass is not configured; see [breakglass] in docs/breakglass.md")]
    NotConfigured,
    /// Breakglass is not armed, and the request needs it.
    #[error("breakglass is off: arm it first, with a reason")]
    NotArmed,
    /// Another operator has armed breakglass.
    #[error("{by} has armed it for another {minutes} min; take over to act yourself")]
    ArmedBy {
        /// The operator who is armed.
        by: Actor,
        /// The rest of the arming, in minutes.
        minutes: i64,
    },
    /// The request to arm gave no reason.
    #[error("give a reason in a few words")]
    NoReason,
    /// The confirmation names another VM.
    #[error("the name is not the VM's: type {vm} to confirm")]
    WrongName {
        /// The VM's name, which confirms.
        vm: String,
    },
    /// A mutating verb came without a confirmation.
    #[error("confirm {} with the VM's name", verb.as_str())]
    Unconfirmed {
        /// The verb that was requested.
        verb: Verb,
    },
    /// The state changed after the operator confirmed it.
    #[error("the state has changed since you confirmed it; check it again")]
    Stale,
    /// Another verb still runs; breakglass runs one at a time.
    #[error("{} by {by} is still running; breakglass runs one verb at a time", verb.as_str())]
    UnderWay {
        /// The verb that still runs.
        verb: Verb,
        /// The operator who began it.
        by: Actor,
    },
    /// The rate limit for mutating verbs is reached.
    #[error("{} in ten minutes; wait {minutes} min, or type {vm} a second time", plural(*count, "mutating verb"))]
    TooMany {
        /// The number of mutating verbs within the window.
        count: usize,
        /// The wait until the oldest of them leaves the window, in minutes.
        minutes: i64,
        /// The VM's name, which overrides the limit when typed twice.
        vm: String,
    },
    /// The configuration has no such host.
    #[error("no host is called {host:?}")]
    NoHost {
        /// The name that was requested.
        host: String,
    },
    /// Only the command line changes the hypervisor's pinned key.
    #[error("the hypervisor's key is pinned: compare the new one, then run `afk breakglass pin`")]
    Pinned,
    /// The configuration names no agent for a diagnosis.
    #[error("no agent is configured for a diagnosis: set `agent` under [breakglass]")]
    NoAgent,
    /// An agent already works on a diagnosis.
    #[error("a diagnosis is already under way")]
    Diagnosing,
    /// The configuration allows an agent no more than to read.
    #[error("the configuration lets no agent act: set `level` under [breakglass.agent]")]
    NoAgentLevel,
    /// A session of the breakglass agent is already under way.
    #[error("the breakglass agent already works; stop it first")]
    AgentWorks,
    /// No session of the breakglass agent is under way.
    #[error("no breakglass agent works now")]
    NoAgentWorks,
    /// More mutating verbs were asked for than the configuration lets an agent begin.
    #[error("the agent may begin at most {}; see `mutations` under [breakglass.agent]", plural(*most, "mutating verb"))]
    TooManyForAgent {
        /// The most that the configuration allows.
        most: usize,
    },
}
