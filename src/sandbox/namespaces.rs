//! The namespaces of a program: its own users, mounts, System V objects, host name and, where its
//! policy says so, network.

use nix::sched::{CloneFlags, unshare};
use nix::unistd::{getegid, geteuid};

use super::{NetworkPolicy, Sandbox, WallError, limits};

/// Enters the namespaces. The PID namespace holds the children of this process, not itself.
pub(super) fn enter(sandbox: &Sandbox) -> Result<(), WallError> {
    let (user, group) = (geteuid(), getegid());
    let mut flags = CloneFlags::CLONE_NEWUSER
        | CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWUTS;
    if !sandbox.leaves_children {
        flags |= CloneFlags::CLONE_NEWPID;
    }
    if sandbox.network != NetworkPolicy::Full {
        flags |= CloneFlags::CLONE_NEWNET;
    }
    unshare(flags).map_err(WallError::step("enter namespaces"))?;
    let write = |file: &str, text: String| {
        std::fs::write(format!("/proc/self/{file}"), text)
            .map_err(WallError::step(format!("write /proc/self/{file}")))
    };
    // The program keeps the number of its user; no other user exists for it.
    write("uid_map", format!("{user} {user} 1"))?;
    write("setgroups", "deny".into())?;
    write("gid_map", format!("{group} {group} 1"))?;
    limits::set()
}
