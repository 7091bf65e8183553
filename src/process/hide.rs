//! Hides files and folders from the program that this process becomes: a mount namespace of its own,
//! in which something empty lies over each of them. Without the right to mount, a user namespace
//! gives it.
//!
//! A program of the same user that asks somebody outside of its tree (a service manager, cron) to
//! start another is not held by this: docs/breakglass.md tells when a user of its own is needed.

use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{getegid, geteuid};

/// Hides what is there of these paths; nothing is done where there is nothing to hide.
///
/// # Errors
/// Why it can't be done, in a line; the program must not be started then.
pub fn hide(paths: &[PathBuf]) -> Result<(), String> {
    let there: Vec<&PathBuf> = paths.iter().filter(|path| path.exists()).collect();
    if there.is_empty() {
        return Ok(());
    }
    let folder = std::env::current_dir();
    namespace()?;
    let none: Option<&str> = None;
    let failed = |what: &Path, error: Errno| format!("{}: {error}", what.display());
    let slash = Path::new("/");
    mount(none, slash, none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)
        .map_err(|error| failed(slash, error))?;
    for path in there {
        if path.is_dir() {
            let flags = MsFlags::MS_RDONLY | MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
            mount(Some("tmpfs"), path.as_path(), Some("tmpfs"), flags, Some("size=4k,mode=500"))
        } else {
            mount(Some("/dev/null"), path.as_path(), none, MsFlags::MS_BIND, none)
        }
        .map_err(|error| failed(path, error))?;
    }
    // What was opened before still leads to what lies below.
    if let Ok(folder) = folder {
        std::env::set_current_dir(folder).map_err(|error| error.to_string())?;
    }
    Ok(())
}

/// Goes into a mount namespace of its own.
fn namespace() -> Result<(), String> {
    let (user, group) = (geteuid(), getegid());
    match unshare(CloneFlags::CLONE_NEWNS) {
        Ok(()) => return Ok(()),
        Err(Errno::EPERM) => {}
        Err(error) => return Err(format!("no mount namespace: {error}")),
    }
    unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS)
        .map_err(|error| format!("no user namespace: {error}"))?;
    let write = |file: &str, text: String| {
        std::fs::write(format!("/proc/self/{file}"), text)
            .map_err(|error| format!("/proc/self/{file}: {error}"))
    };
    write("uid_map", format!("{user} {user} 1"))?;
    write("setgroups", "deny".into())?;
    write("gid_map", format!("{group} {group} 1"))
}
