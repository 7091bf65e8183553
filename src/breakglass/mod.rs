//! Reaches a VM that hangs: over SSH, by the hypervisor's forced command or by a shell on the VM.
//!
//! Nothing here needs a tracker, a cluster, a model, a name server or the journal, so that it works
//! when these don't. `runtime::breakglass` decides who may do what, and calls this module.
//!
//! ```text
//! runtime::breakglass ─► verb ──► ssh (checks the pin) ─► hypervisor: afk-pve (installed by host)
//!                     │   └► store: what a verb wrote, by its digest
//!                     └► shell ─► ssh ─► VM or hypervisor
//!                         └► recording: output and sizes, as asciicast
//! ```

pub mod host;
pub mod pins;
pub mod recording;
pub mod shell;
pub mod ssh;
pub mod store;
pub mod verb;
