//! Reaches a VM that hangs: over SSH, by the hypervisor's forced command or by a shell on the VM.
//!
//! Nothing here needs a tracker, a cluster, a model, a name server or the journal, so that it works
//! when these don't. `runtime::breakglass` decides who may do what, and calls this module.
//!
//! ```text
//! runtime::breakglass ─► verb ──► ssh (checks the pin) ─► hypervisor: afk-pve (installed by host)
//!                     │           └► login: key_file, or an ssh-agent
//!                     │   └► store: what a verb wrote, by its digest
//!                     ├► command ─► ssh ─► VM: one command of the breakglass agent
//!                     └► shell ─► ssh ─► VM or hypervisor
//!                         └► recording: output and sizes, as asciicast
//! ```

pub(crate) mod command;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
pub mod host;
pub(crate) mod key_file;
pub mod link;
mod login;
pub mod pins;
pub mod recording;
pub mod shell;
pub mod ssh;
pub mod store;
pub mod verb;
