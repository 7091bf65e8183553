//! The vocabulary of breakglass: regaining control of a wedged VM while its hypervisor is healthy.
//! A person decides; nothing here asks a model, a tracker, a cluster or a name server.

mod event;
mod request;
mod rules;
mod shell;
mod task;
mod verb;

pub use event::BreakglassEvent;
pub use request::{BreakglassRefusal, BreakglassRequest, Confirmation};
pub use rules::{BreakglassArming, BreakglassRules, WINDOW};
pub use shell::{OpenShell, Recording, ShellId};
pub use task::{BreakglassReport, BreakglassTask};
pub use verb::{Capture, Verb, VerbEnd, VerbId, VerbOrigin, VerbResult, VerbRun};
