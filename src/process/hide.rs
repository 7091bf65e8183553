//! Hides files and folders from the program that the launcher becomes.
//!
//! The launcher enters a mount namespace and mounts something empty over each path. Without the
//! privilege to mount, it enters a user namespace first, which grants it.
//!
//! A program can still ask a service manager or cron, which run outside this namespace, to start
//! another program of the same user: docs/breakglass.md explains when afk needs a user of its own.

use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{getegid, geteuid};

/// Hides those of the paths that exist; without any, no namespace is entered.
///
/// # Errors
/// The cause in one line. The program must not be started then.
pub(super) fn hide(paths: &[PathBuf]) -> Result<(), String> {
    let existing: Vec<&PathBuf> = paths.iter().filter(|path| path.exists()).collect();
    if existing.is_empty() {
        return Ok(());
    }
    let folder = std::env::current_dir();
    enter_namespace()?;
    let none: Option<&str> = None;
    let failed = |path: &Path, error: Errno| format!("mount over {}: {error}", path.display());
    let slash = Path::new("/");
    mount(none, slash, none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)
        .map_err(|error| failed(slash, error))?;
    for path in existing {
        if path.is_dir() {
            let flags = MsFlags::MS_RDONLY | MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
            mount(Some("tmpfs"), path.as_path(), Some("tmpfs"), flags, Some("size=4k,mode=500"))
        } else {
            mount(Some("/dev/null"), path.as_path(), none, MsFlags::MS_BIND, none)
        }
        .map_err(|error| failed(path, error))?;
    }
    // Our working directory was opened before the mounts and still leads below them: open it again.
    if let Ok(folder) = folder {
        std::env::set_current_dir(folder).map_err(|error| error.to_string())?;
    }
    Ok(())
}

/// Enters a new mount namespace.
fn enter_namespace() -> Result<(), String> {
    let (user, group) = (geteuid(), getegid());
    match unshare(CloneFlags::CLONE_NEWNS) {
        Ok(()) => return Ok(()),
        Err(Errno::EPERM) => {}
        Err(error) => return Err(format!("can't enter a mount namespace: {error}")),
    }
    unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS)
        .map_err(|error| format!("can't enter a user namespace: {error}"))?;
    let write = |file: &str, text: String| {
        std::fs::write(format!("/proc/self/{file}"), text)
            .map_err(|error| format!("/proc/self/{file}: {error}"))
    };
    write("uid_map", format!("{user} {user} 1"))?;
    write("setgroups", "deny".into())?;
    write("gid_map", format!("{group} {group} 1"))
}
