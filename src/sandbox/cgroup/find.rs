//! Finds the folder that afk may divide into control groups.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, access};

use super::{CgroupChoice, CgroupError, LEAF, read};

/// systemd sets this attribute to `1` on what it delegates.
const DELEGATED: &str = "user.delegate";

/// A folder that may be divided.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct DivisibleFolder {
    pub folder: PathBuf,
    /// Whether the process that asks is in the folder itself, which must become empty.
    pub holds_process: bool,
}

/// Finds the folder for a process: this one if `pid` is none. Nothing is changed.
pub(super) fn find(
    choice: &CgroupChoice,
    pid: Option<i32>,
) -> Result<DivisibleFolder, CgroupError> {
    match choice {
        CgroupChoice::Off => Err(CgroupError::Off),
        CgroupChoice::Folder(folder) => {
            // Version 1 has no such file.
            if !folder.join("cgroup.controllers").exists() {
                return Err(CgroupError::NoGroup(folder.clone()));
            }
            let holds_process = own_folder(pid).is_ok_and(|own| is_same(&own, folder));
            Ok(DivisibleFolder { folder: folder.clone(), holds_process })
        }
        CgroupChoice::Delegated => {
            let own = own_folder(pid)?;
            let user = user(pid);
            // systemd has put us into a leaf already, or an earlier call has.
            let above = own.parent().filter(|_| own.ends_with(LEAF));
            if let Some(above) = above.filter(|above| is_delegated(above, user)) {
                return Ok(DivisibleFolder { folder: above.to_owned(), holds_process: false });
            }
            if !is_delegated(&own, user) {
                return Err(CgroupError::NotDelegated(own));
            }
            // A terminal's own group belongs to its user as well, and its shell stays in it.
            if !is_marked(&own) && holds_others(&own, pid)? {
                return Err(CgroupError::Shared(own));
            }
            Ok(DivisibleFolder { folder: own, holds_process: true })
        }
    }
}

/// The folder of a process's control group.
fn own_folder(pid: Option<i32>) -> Result<PathBuf, CgroupError> {
    let name = pid.map_or_else(|| "self".to_owned(), |pid| pid.to_string());
    let read = |file: &str| std::fs::read_to_string(file).map_err(|_| CgroupError::NoVersion2);
    let groups = read(&format!("/proc/{name}/cgroup"))?;
    let mounts = read("/proc/self/mountinfo")?;
    locate(&groups, &mounts).ok_or(CgroupError::NoVersion2)
}

/// The folder of a control group, from `/proc/PID/cgroup` and the list of mounts.
fn locate(groups: &str, mounts: &str) -> Option<PathBuf> {
    let path = groups.lines().find_map(|line| line.strip_prefix("0::"))?;
    let below = |line: &str| {
        let (place, kind) = line.split_once(" - ")?;
        if kind.split(' ').next() != Some("cgroup2") {
            return None;
        }
        let mut fields = place.split(' ').skip(3);
        let (root, mounted) = (fields.next()?, fields.next()?);
        // A group outside of the mount, or of our namespace, can't be reached.
        let inner = Path::new(path).strip_prefix(root).ok()?;
        let leaves = inner.components().any(|part| part == std::path::Component::ParentDir);
        let mounted = super::super::root::unescape(mounted);
        // The empty path would only add a slash.
        let whole = inner.as_os_str().is_empty();
        (!leaves).then(|| if whole { mounted } else { mounted.join(inner) })
    };
    mounts.lines().find_map(below)
}

fn is_same(one: &Path, other: &Path) -> bool {
    let id = |path: &Path| path.metadata().map(|meta| (meta.dev(), meta.ino())).ok();
    id(one).is_some_and(|found| id(other) == Some(found))
}

/// The user of a process: of this one if `pid` is none.
fn user(pid: Option<i32>) -> u32 {
    let own = rustix::process::geteuid().as_raw();
    let meta = pid.and_then(|pid| Path::new("/proc").join(pid.to_string()).metadata().ok());
    meta.map_or(own, |meta| meta.uid())
}

/// Whether a user was given a folder to divide. Most folders belong to root, so that the owner says
/// nothing about root.
fn is_delegated(folder: &Path, user: u32) -> bool {
    let owned = || folder.metadata().is_ok_and(|meta| meta.uid() == user);
    // What another user may write can't be asked.
    let writable = |path: &Path| {
        user != rustix::process::geteuid().as_raw() || access(path, Access::WRITE_OK).is_ok()
    };
    (is_marked(folder) || (user != 0 && owned()))
        && writable(folder)
        && writable(&folder.join("cgroup.procs"))
}

fn is_marked(folder: &Path) -> bool {
    let mut value = [0; 8];
    rustix::fs::getxattr(folder, DELEGATED, &mut value).is_ok_and(|length| value[..length] == *b"1")
}

fn holds_others(folder: &Path, pid: Option<i32>) -> Result<bool, CgroupError> {
    let own = pid.map_or_else(|| std::process::id().to_string(), |pid| pid.to_string());
    let inside = read(&folder.join("cgroup.procs"))?;
    Ok(inside.lines().any(|line| line != own))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
39 31 0:36 / /sys/fs/cgroup/pids rw,relatime - cgroup cgroup rw,pids
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
";
    const UNIFIED: &str =
        "29 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";

    #[test]
    fn own_group_is_found_below_its_mount() {
        let unit = "0::/system.slice/afk.service\n";
        for (mounts, folder) in [
            (UNIFIED, "/sys/fs/cgroup/system.slice/afk.service"),
            (HYBRID, "/sys/fs/cgroup/unified/system.slice/afk.service"),
        ] {
            assert_eq!(locate(unit, mounts), Some(folder.into()));
            let both = format!("9:name=systemd:/x\n4:memory:/y\n{unit}");
            assert_eq!(locate(&both, mounts), Some(folder.into()));
        }
        assert_eq!(locate("0::/\n", HYBRID), Some("/sys/fs/cgroup/unified".into()));
    }

    #[test]
    fn group_outside_of_the_mount_is_not_found() {
        let part = "41 31 0:38 /a/b /mnt/my\\040groups rw - cgroup2 cgroup2 rw\n";
        assert_eq!(locate("0::/a/b/c\n", part), Some("/mnt/my groups/c".into()));
        assert_eq!(locate("0::/a/x\n", part), None);
        assert_eq!(locate("0::/../x\n", UNIFIED), None);
        assert_eq!(locate("4:memory:/x\n", UNIFIED), None, "version 1 alone");
        assert_eq!(locate("0::/x\n", ""), None, "not mounted");
    }
}
