//! The journal's records about breakglass: the payload of
//! [`crate::model::event::Event::Breakglass`].

use serde::{Deserialize, Serialize};

use super::agent::{AgentCallId, AgentDecision, AgentGrant, AgentTerms, AgentTool};
use super::rules::BreakglassArming;
use super::shell::{OpenShell, Recording, ShellId};
use super::verb::{VerbEnd, VerbId, VerbRun};
use crate::model::id::Actor;
use crate::model::untrusted::Untrusted;

/// A recorded change of breakglass.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "what")]
pub enum BreakglassEvent {
    /// An operator armed breakglass for a while.
    Armed {
        /// The operator, the reason and the end of the arming.
        arming: BreakglassArming,
    },
    /// Breakglass is off again.
    Disarmed {
        /// The reason: an operator's request, a takeover or the time limit.
        why: String,
    },
    /// afk sent a verb to the host.
    Begun {
        /// The verb with its number and actor.
        run: VerbRun,
    },
    /// A verb ended, or its end stayed unknown.
    Ended {
        /// The number of the verb's run.
        verb: VerbId,
        /// The result and the output.
        end: VerbEnd,
    },
    /// An operator opened a shell on a host.
    Opened {
        /// The number of the shell.
        shell: ShellId,
        /// The host and the operator.
        of: OpenShell,
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
    /// A person accepted the new key of a rebuilt host.
    KeyTrusted {
        /// The host's name among the pins.
        host: String,
        /// The person who compared the fingerprints.
        by: Actor,
        /// The fingerprint before, where one was pinned.
        old: Option<String>,
        /// The fingerprint that is pinned now.
        new: String,
    },
    /// The drill passed: both of its verbs succeeded.
    Drilled,
    /// An operator asked an agent for a diagnosis.
    Diagnosing {
        /// The operator who asked.
        by: Actor,
    },
    /// The agent's diagnosis arrived.
    Diagnosed {
        /// The first line of the diagnosis.
        said: Untrusted,
    },
    /// An operator started a session of the breakglass agent.
    AgentStarted {
        /// What the operator allowed.
        terms: AgentTerms,
    },
    /// The breakglass agent called a tool.
    AgentCalled {
        /// The number of the call.
        call: AgentCallId,
        /// The tool and its arguments.
        tool: AgentTool,
        /// The decision about it.
        decision: AgentDecision,
    },
    /// An operator allowed a call.
    AgentAllowed {
        /// The number of the call.
        call: AgentCallId,
        /// The operator who allowed it.
        by: Actor,
        /// The kind of call that is allowed for the rest of the session.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        grant: Option<AgentGrant>,
    },
    /// A call began a verb.
    AgentBegan {
        /// The number of the call.
        call: AgentCallId,
        /// The verb that it began.
        verb: VerbId,
    },
    /// A call ended, or was refused.
    AgentCallEnded {
        /// The number of the call.
        call: AgentCallId,
        /// Whether the call succeeded; false for a refused one.
        ok: bool,
        /// The end in one line.
        said: Untrusted,
    },
    /// The session of the breakglass agent ended, with all of its calls.
    AgentEnded {
        /// The reason: the agent's own end, an operator's request or the end of the arming.
        why: Untrusted,
    },
}
