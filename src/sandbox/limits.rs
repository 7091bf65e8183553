//! The limits of one program's processes.

use rustix::process::{Resource, Rlimit, setrlimit};

use super::WallError;

/// The most processes and threads of one program. Builds on large machines use some hundreds.
pub(super) const PROCESSES: u64 = 8192;

/// Limits this process and all that it starts. Must come after the user namespace: the kernel then
/// counts the processes of that namespace alone. A limit of its maker would hold for all processes of
/// the user together, so that a swarm of one program would stop every other one. Those of root it
/// doesn't count.
pub(super) fn set() -> Result<(), WallError> {
    let limit = |resource, value| {
        let limit = Rlimit { current: Some(value), maximum: Some(value) };
        match setrlimit(resource, limit) {
            // The limit is lower already.
            Ok(()) | Err(rustix::io::Errno::PERM) => Ok(()),
            Err(error) => Err(WallError::step("set limits")(error)),
        }
    };
    // A dump of memory may hold keys, and would lie in the workspace.
    limit(Resource::Core, 0)?;
    limit(Resource::Nproc, PROCESSES)
}
