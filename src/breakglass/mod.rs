//! The way to a wedged VM: SSH to the hypervisor's forced command and to the VM itself. Nothing
//! here needs a tracker, a cluster, a model, a name server or the journal.

pub mod host;
pub mod pins;
pub mod recording;
pub mod shell;
pub mod ssh;
pub mod store;
pub mod verb;
