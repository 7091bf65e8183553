//! The vocabulary of breakglass, which regains control of a wedged VM while its hypervisor is
//! healthy.
//!
//! ```text
//! operator → BreakglassRequest → step → BreakglassTask → runtime → hypervisor
//!                              ← BreakglassEvent ← BreakglassReport ←
//! ```
//!
//! A person decides everything: nothing here depends on a model, a tracker, a cluster or a name
//! server, since each of these may be down together with the VM.

mod event;
mod request;
mod rules;
mod shell;
mod task;
mod verb;

pub use event::BreakglassEvent;
pub use request::{BreakglassRefusal, BreakglassRequest, Confirmation};
pub(crate) use rules::WINDOW;
pub use rules::{BreakglassArming, BreakglassRules};
pub use shell::{OpenShell, Recording, ShellId};
pub use task::{BreakglassReport, BreakglassTask};
pub use verb::{Capture, Verb, VerbEnd, VerbId, VerbOrigin, VerbResult, VerbRun};
