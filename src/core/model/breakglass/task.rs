//! The work that the core asks the runtime to do for breakglass, and the reports that come back.
//!
//! [`crate::step`] emits a [`BreakglassTask`] inside `Effect::Breakglass`; the runtime answers with
//! a [`BreakglassReport`] inside `Input::Breakglass`.

use super::agent::{AgentCallId, AgentTerms, AgentTool};
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
        /// The session of the agent that calls the verb, whose stop holds back a verb that is not yet
        /// sent.
        agent: Option<ShellId>,
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
    /// Start a session of the breakglass agent.
    StartAgent {
        /// What the operator allowed.
        terms: AgentTerms,
        /// The operator's words to the agent.
        task: Untrusted,
        /// The reason of the arming.
        reason: Untrusted,
    },
    /// Run a command for the breakglass agent, and hand it the output.
    AgentCommand {
        /// The number of the session.
        session: ShellId,
        /// The number of the call.
        call: AgentCallId,
        /// The host's name in the configuration.
        host: String,
        /// The whole command, for a shell.
        command: Untrusted,
    },
    /// Answer a call of the breakglass agent.
    AgentReply {
        /// The number of the session.
        session: ShellId,
        /// The number of the call.
        call: AgentCallId,
        /// Whether the call succeeded.
        ok: bool,
        /// The answer, before the output of `verb`.
        text: String,
        /// The verb whose output belongs to the answer.
        verb: Option<VerbId>,
    },
    /// Stop the breakglass agent and its command at once.
    StopAgent {
        /// The number of the session.
        session: ShellId,
        /// The reason, for the recording.
        why: String,
    },
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
    /// An operator's key or token was removed, or demoted to a viewer's.
    Revoked {
        /// The name that the operator acts under.
        actor: Actor,
    },
    /// An agent returned its diagnosis.
    Diagnosed {
        /// The diagnosis in full.
        text: Untrusted,
        /// The verb that the agent proposes, where it proposes one.
        proposes: Option<Verb>,
    },
    /// The breakglass agent called a tool and waits.
    AgentCalled {
        /// The number of the session.
        session: ShellId,
        /// The number of the call.
        call: AgentCallId,
        /// The tool and its arguments.
        tool: AgentTool,
    },
    /// The breakglass agent no longer waits for a call.
    AgentWithdrew {
        /// The number of the session.
        session: ShellId,
        /// The number of the call.
        call: AgentCallId,
    },
    /// A command of the breakglass agent ended.
    AgentCommandEnded {
        /// The number of the session.
        session: ShellId,
        /// The number of the call.
        call: AgentCallId,
        /// Whether it ended with exit code 0.
        ok: bool,
        /// The end in one line.
        said: Untrusted,
    },
    /// The breakglass agent has ended.
    AgentEnded {
        /// The number of the session.
        session: ShellId,
        /// The reason for the end, in one line.
        why: Untrusted,
        /// The recording of the session, where one was stored.
        recording: Option<Recording>,
    },
}
