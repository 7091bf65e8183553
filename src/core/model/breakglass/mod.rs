//! The vocabulary of breakglass, which regains control of a wedged VM while its hypervisor is
//! healthy.
//!
//! ```text
//! operator → BreakglassRequest → step → BreakglassTask → runtime → hypervisor
//!                              ← BreakglassEvent ← BreakglassReport ←
//! ```
//!
//! A person decides everything, or has allowed an agent to ([`AgentSession`]): nothing in a person's own
//! path depends on a model, a tracker, a cluster or a name server, since each of these may be down
//! together with the VM.

mod agent;
mod event;
mod request;
mod rules;
mod shell;
mod task;
mod verb;

pub use agent::{
    AgentCall, AgentCallId, AgentDecision, AgentGrant, AgentLevel, AgentRules, AgentSession,
    AgentTerms, AgentTool, OPEN_CALLS, REFUSED_TEXT,
};
pub use event::BreakglassEvent;
pub use request::{BreakglassRefusal, BreakglassRequest, Confirmation};
pub(crate) use rules::WINDOW;
pub use rules::{BreakglassArming, BreakglassRules};
pub use shell::{OpenShell, Recording, ShellId};
pub use task::{BreakglassReport, BreakglassTask};
pub use verb::{Capture, Verb, VerbEnd, VerbId, VerbOrigin, VerbResult, VerbRun};
